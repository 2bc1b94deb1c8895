//! Budgets.

use axum::extract::State;
use farthing_types::Money;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Json, Path, Query};
use crate::{BudgetsView, CounterRow, Parts, Problem, ProblemDocument, RaiseRequest, RefusalView};

/// All budgets with their counters.
#[utoipa::path(get, path = "/api/v1/budgets", tag = "budgets", responses(
    (status = 200, description = "the budgets", body = BudgetsView),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn list(State(parts): State<Parts>) -> axum::Json<BudgetsView> {
    axum::Json(parts.budgets.budgets())
}

/// Which refusals are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Of this request.
    request: Option<String>,
    /// By this budget.
    budget: Option<String>,
}

/// Requests that budgets have held back lately, the latest first; at most 256 are remembered.
#[utoipa::path(get, path = "/api/v1/budgets/refusals", tag = "budgets", params(Wanted), responses(
    (status = 200, description = "the refusals", body = Vec<RefusalView>),
    (status = 400, description = "unknown parameters", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn refusals(State(parts): State<Parts>, Query(wanted): Query<Wanted>) -> axum::Json<Vec<RefusalView>> {
    axum::Json(parts.budgets.refusals(wanted.request.as_deref(), wanted.budget.as_deref()))
}

/// Adds money to a budget for some time.
#[utoipa::path(post, path = "/api/v1/budgets/{name}/raise", tag = "budgets", params(("name" = String, Path, description = "the budget")),
    request_body = RaiseRequest, responses(
    (status = 200, description = "the counter as it is now", body = CounterRow),
    (status = 400, description = "nothing to add", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 404, description = "no such budget", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 422, description = "cannot be carried out, or is no order", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn raise(
    State(parts): State<Parts>,
    Path(name): Path<String>,
    Json(request): Json<RaiseRequest>,
) -> Result<axum::Json<CounterRow>, Problem> {
    if request.by_usd <= Money::ZERO {
        return Err(Problem::bad_request("by_usd: say how many dollars to add, more than 0"));
    }
    Ok(axum::Json(parts.budgets.raise(name, request).await?))
}

/// Waits no longer for an instance that shares budgets, and has not told what it spent since Redis lost its data: what others have seen and
/// nobody accounts for counts as spent.
#[utoipa::path(post, path = "/api/v1/budgets/members/{name}/write-off", tag = "budgets", params(("name" = String, Path, description = "name or id of the instance")), responses(
    (status = 200, description = "the budgets as they are now", body = BudgetsView),
    (status = 422, description = "nobody waits for it", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 500, description = "Redis does not answer", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn write_off(State(parts): State<Parts>, Path(name): Path<String>) -> Result<axum::Json<BudgetsView>, Problem> {
    parts.budgets.write_off(name).await?;
    Ok(axum::Json(parts.budgets.budgets()))
}
