//! Questions about money.

use axum::extract::{FromRequestParts, State};

use super::blocking;
use crate::{CostAnswer, CostQuestion, Parts, Problem, ProblemDocument};

/// A query whose rejection is a problem document.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(super) struct Query<T>(pub(super) T);

/// Bill, base, savings and what has no price, by any names and over any time, from the log.
#[utoipa::path(get, path = "/api/v1/costs", tag = "costs", params(CostQuestion), responses(
    (status = 200, description = "the answer", body = CostAnswer),
    (status = 400, description = "a parameter that does not exist", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 422, description = "a question that cannot be read, or is too large", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 503, description = "the log is off, or too many questions at a time", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn ask(State(parts): State<Parts>, Query(question): Query<CostQuestion>) -> Result<axum::Json<CostAnswer>, Problem> {
    blocking(move || parts.costs.ask(&question)).await.map(axum::Json)
}
