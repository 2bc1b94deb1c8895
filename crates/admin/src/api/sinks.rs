//! Sinks of the log.

use axum::extract::State;

use crate::{Parts, ProblemDocument, SinkInfo};

/// The places that the log is shipped to: what is there, what waits, what went wrong last.
#[utoipa::path(get, path = "/api/v1/sinks", tag = "views", responses(
    (status = 200, description = "the sinks", body = Vec<SinkInfo>),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn list(State(parts): State<Parts>) -> axum::Json<Vec<SinkInfo>> {
    axum::Json(parts.sinks.sinks())
}
