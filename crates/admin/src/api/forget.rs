//! Forgetting tenants.

use axum::extract::State;

use super::Json;
use crate::{ForgetReport, ForgetRequest, Parts, Problem, ProblemDocument};

/// Removes everything of a tenant: from the cache, L2, the log and its journal, statistics and totals. Where that takes long the answer comes
/// before it is finished: ask again.
#[utoipa::path(post, path = "/api/v1/forget", tag = "cache", request_body = ForgetRequest, responses(
    (status = 200, description = "what was removed", body = ForgetReport),
    (status = 400, description = "no tenant", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 422, description = "not such a request", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn forget(State(parts): State<Parts>, Json(request): Json<ForgetRequest>) -> Result<axum::Json<ForgetReport>, Problem> {
    if request.tenant.is_empty() {
        return Err(Problem::bad_request("name the tenant as the log does"));
    }
    Ok(axum::Json(parts.forget.forget(request.tenant).await))
}
