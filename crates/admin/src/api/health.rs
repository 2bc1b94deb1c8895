//! For whoever runs the instance.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::{Parts, ProblemDocument, Readiness};

/// The process runs. Touches nothing.
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, description = "it lives", body = String)))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// The data port can answer: 200 with `ok` or `degraded` and the parts; 503 while starting or draining.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses(
    (status = 200, description = "it answers", body = Readiness),
    (status = 503, description = "it is starting or draining", body = Readiness)
))]
pub(super) async fn readyz(State(parts): State<Parts>) -> Response {
    readiness(&parts)
}

/// The same as `/readyz`, for tools that ask here.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses(
    (status = 200, description = "it answers", body = Readiness),
    (status = 503, description = "it is starting or draining", body = Readiness)
))]
pub(super) async fn healthz(State(parts): State<Parts>) -> Response {
    readiness(&parts)
}

fn readiness(parts: &Parts) -> Response {
    let readiness = parts.status.readiness();
    let status = if readiness.status.answers() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

/// All metrics, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text"),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn metrics(State(parts): State<Parts>) -> Response {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], parts.metrics.text()).into_response()
}
