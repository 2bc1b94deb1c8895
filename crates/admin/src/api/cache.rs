//! The cache.

use axum::extract::State;

use super::{Json, blocking};
use crate::{CacheStats, Parts, Problem, ProblemDocument, PurgeReport, PurgeRequest};

/// Figures of the cache.
#[utoipa::path(get, path = "/api/v1/cache/stats", tag = "cache", responses(
    (status = 200, description = "the figures", body = CacheStats),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn stats(State(parts): State<Parts>) -> axum::Json<CacheStats> {
    axum::Json(parts.cache.stats())
}

/// Purges entries; answers under way can not bring them back.
#[utoipa::path(post, path = "/api/v1/cache/purge", tag = "cache", request_body = PurgeRequest, responses(
    (status = 200, description = "what was purged", body = PurgeReport),
    (status = 400, description = "names nothing", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 404, description = "no such route", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 422, description = "not a purge request", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn purge(State(parts): State<Parts>, Json(request): Json<PurgeRequest>) -> Result<axum::Json<PurgeReport>, Problem> {
    if !request.names_something() {
        return Err(Problem::bad_request("name what to purge: tags, keys, prefix, route, tenant, or \"all\": true"));
    }
    blocking(move || parts.cache.purge(&request)).await.map(axum::Json)
}
