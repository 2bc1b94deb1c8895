//! The switch that stops all automation.

use axum::extract::State;

use super::{Json, blocking};
use crate::{FreezeInfo, FreezeRequest, Parts, Problem, ProblemDocument};

/// Whether automation is frozen, and why.
#[utoipa::path(get, path = "/api/v1/freeze", tag = "models", responses(
    (status = 200, description = "whether it is", body = FreezeInfo),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn show(State(parts): State<Parts>) -> axum::Json<FreezeInfo> {
    axum::Json(parts.freeze.frozen())
}

/// Stop all automation at once: nothing is promoted, let on, switched off or tuned by itself. Safeguards go on.
#[utoipa::path(post, path = "/api/v1/freeze/on", tag = "models", request_body = FreezeRequest, responses(
    (status = 200, description = "it is frozen", body = FreezeInfo),
    (status = 422, description = "no reason, or no order", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 500, description = "in force, but not written down: a restart ends it", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn on(State(parts): State<Parts>, Json(request): Json<FreezeRequest>) -> Result<axum::Json<FreezeInfo>, Problem> {
    blocking(move || parts.freeze.freeze(true, &request)).await.map(axum::Json)
}

/// Let automation go on.
#[utoipa::path(post, path = "/api/v1/freeze/off", tag = "models", request_body = FreezeRequest, responses(
    (status = 200, description = "it goes on", body = FreezeInfo),
    (status = 404, description = "it was not frozen", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 422, description = "no reason, or no order", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 500, description = "ended, but not written down: a restart brings it back", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn off(State(parts): State<Parts>, Json(request): Json<FreezeRequest>) -> Result<axum::Json<FreezeInfo>, Problem> {
    blocking(move || parts.freeze.freeze(false, &request)).await.map(axum::Json)
}
