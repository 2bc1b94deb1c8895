//! The cache.

use axum::extract::State;

use super::{Json, blocking};
use crate::{CacheStats, Parts, Problem, ProblemDocument, PurgeReport, PurgeRequest, WarmReport, WarmRequest};

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

/// Most targets of one order.
const MOST_TARGETS: usize = 1_000;

/// Fetches answers into the cache, within a limit of money. Takes some seconds at most; what was not come to is ordered again.
#[utoipa::path(post, path = "/api/v1/cache/warm", tag = "cache", request_body = WarmRequest, responses(
    (status = 200, description = "what became of the targets", body = WarmReport),
    (status = 400, description = "too many targets", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 404, description = "no such route", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 422, description = "cannot be carried out, or is no order", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn warm(State(parts): State<Parts>, Json(request): Json<WarmRequest>) -> Result<axum::Json<WarmReport>, Problem> {
    if request.targets.is_empty() || request.targets.len() > MOST_TARGETS {
        return Err(Problem::bad_request("name 1 to 1,000 targets; send more of them in parts"));
    }
    Ok(axum::Json(parts.cache.warm(request).await?))
}
