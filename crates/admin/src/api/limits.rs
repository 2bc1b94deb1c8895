//! Limits.

use axum::extract::State;

use crate::{LimitsView, Parts, ProblemDocument};

/// All limits with their busiest counters, and what is under way.
#[utoipa::path(get, path = "/api/v1/limits", tag = "limits", responses(
    (status = 200, description = "the limits", body = LimitsView),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn list(State(parts): State<Parts>) -> axum::Json<LimitsView> {
    axum::Json(parts.limits.limits())
}
