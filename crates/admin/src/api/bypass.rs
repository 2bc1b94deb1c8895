//! The bypass switch.

use axum::extract::State;

use super::{Json, blocking};
use crate::{BypassInfo, BypassRequest, Parts, Problem, ProblemDocument};

/// What passes by now, and why.
#[utoipa::path(get, path = "/api/v1/bypass", tag = "bypass", responses(
    (status = 200, description = "what passes by", body = Vec<BypassInfo>),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn show(State(parts): State<Parts>) -> axum::Json<Vec<BypassInfo>> {
    axum::Json(parts.bypass.bypasses())
}

/// Let everything pass by at once, of all routes or of one, for a time or until it is switched off.
#[utoipa::path(post, path = "/api/v1/bypass/on", tag = "bypass", request_body = BypassRequest, responses(
    (status = 200, description = "what passes by now", body = Vec<BypassInfo>),
    (status = 404, description = "no such route", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 422, description = "no reason, no time, or no order", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 500, description = "in force, but not written down: a restart ends it", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn on(State(parts): State<Parts>, Json(request): Json<BypassRequest>) -> Result<axum::Json<Vec<BypassInfo>>, Problem> {
    blocking(move || parts.bypass.bypass_on(&request)).await.map(axum::Json)
}

/// End the bypass of a route, or every one.
#[utoipa::path(post, path = "/api/v1/bypass/off", tag = "bypass", request_body = BypassRequest, responses(
    (status = 200, description = "what passes by now", body = Vec<BypassInfo>),
    (status = 404, description = "no such route, or nothing passes by", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 422, description = "no reason, or no order", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 500, description = "ended, but not written down: a restart brings it back", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn off(State(parts): State<Parts>, Json(request): Json<BypassRequest>) -> Result<axum::Json<Vec<BypassInfo>>, Problem> {
    blocking(move || parts.bypass.bypass_off(&request)).await.map(axum::Json)
}
