//! Alerts about money, and where the month will end.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::blocking;
use super::costs::Query;
use crate::{AlertInfo, ControlError, MonthForecast, Parts, Problem, ProblemDocument};

/// The alerts that are kept, newest first, with what became of them.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "costs", responses(
    (status = 200, description = "the alerts", body = [AlertInfo]),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn list(State(parts): State<Parts>) -> axum::Json<Vec<AlertInfo>> {
    axum::Json(parts.alerts.alerts())
}

/// Whose month.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// A tenant; everything when absent.
    tenant: Option<String>,
}

/// What the running month will have cost.
#[utoipa::path(get, path = "/api/v1/costs/forecast", tag = "costs", params(Whose), responses(
    (status = 200, description = "the forecast", body = MonthForecast),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 404, description = "less than two weeks are known", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn forecast(State(parts): State<Parts>, Query(whose): Query<Whose>) -> Result<axum::Json<MonthForecast>, Problem> {
    let unknown = "less than two weeks of spend are known, or there is no such tenant: no forecast yet";
    let work = move || parts.alerts.month(whose.tenant.as_deref()).ok_or_else(|| ControlError::NotFound(unknown.to_owned()));
    blocking(work).await.map(axum::Json)
}
