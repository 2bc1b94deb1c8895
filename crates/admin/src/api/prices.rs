//! Prices in force.

use axum::extract::State;

use super::blocking;
use crate::views::prices::PricesReport;
use crate::{Parts, Problem, ProblemDocument};

/// Prices in force, and what they do not cover.
#[utoipa::path(get, path = "/api/v1/prices", tag = "views", responses(
    (status = 200, description = "the prices", body = PricesReport),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn show(State(parts): State<Parts>) -> axum::Json<PricesReport> {
    axum::Json(parts.prices.prices())
}

/// Read the prices of configuration and imported files again: all of them, or, when anything is wrong, none.
#[utoipa::path(post, path = "/api/v1/prices/reload", tag = "views", responses(
    (status = 200, description = "the prices now", body = PricesReport),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 422, description = "something is wrong in them; the old ones stay in force", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 503, description = "there is no configuration to read again", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn reload(State(parts): State<Parts>) -> Result<axum::Json<PricesReport>, Problem> {
    blocking(move || parts.prices.reload()).await.map(axum::Json)
}
