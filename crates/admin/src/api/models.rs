//! Predictors.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Json, Path, blocking};
use crate::{
    AliasState, CandidateInfo, DriftInfo, ModelDetail, ModelEvent, ModelInstance, ModelList, ModelOrder, ModelVersion, Parts, Problem,
    ProblemDocument,
};

/// Where an alias shall point.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Promotion {
    /// The version.
    version: u32,
    /// Who orders it.
    #[serde(default)]
    by: Option<String>,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
    /// Also a version that was rolled back before.
    #[serde(default)]
    force: bool,
}

/// Which alias shall go back.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rollback {
    /// The alias; `champion` when absent.
    #[serde(default = "champion")]
    alias: String,
    /// Who orders it.
    #[serde(default)]
    by: Option<String>,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

fn champion() -> String {
    "champion".to_owned()
}

/// All versions on disk, aliases, and what is in memory.
#[utoipa::path(get, path = "/api/v1/models", tag = "models", responses(
    (status = 200, description = "all versions", body = ModelList),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn list(State(parts): State<Parts>) -> Result<axum::Json<ModelList>, Problem> {
    blocking(move || parts.models.list(None)).await.map(axum::Json)
}

/// The versions of one kind.
#[utoipa::path(get, path = "/api/v1/models/{kind}/versions", tag = "models",
    params(("kind" = String, Path, description = "`ttl`, `strategy`, `prefetch` or `cost`")),
    responses(
        (status = 200, description = "its versions", body = ModelList),
        (status = 404, description = "no such kind", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn versions(State(parts): State<Parts>, Path(kind): Path<String>) -> Result<axum::Json<ModelList>, Problem> {
    blocking(move || parts.models.list(Some(&kind))).await.map(axum::Json)
}

/// One version with its manifest.
#[utoipa::path(get, path = "/api/v1/models/{kind}/versions/{version}", tag = "models",
    params(("kind" = String, Path, description = "the kind"), ("version" = u32, Path, description = "the version")),
    responses(
        (status = 200, description = "the version", body = ModelDetail),
        (status = 404, description = "no such version", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(parts): State<Parts>,
    Path((kind, version)): Path<(String, u32)>,
) -> Result<axum::Json<ModelDetail>, Problem> {
    blocking(move || parts.models.show(&kind, version)).await.map(axum::Json)
}

/// Loads a version with all its checks; it does not decide yet.
#[utoipa::path(post, path = "/api/v1/models/{kind}/versions/{version}/load", tag = "models",
    params(("kind" = String, Path, description = "the kind"), ("version" = u32, Path, description = "the version")),
    responses(
        (status = 200, description = "it is good", body = ModelVersion),
        (status = 404, description = "no such version", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "it failed a check", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn load(
    State(parts): State<Parts>,
    Path((kind, version)): Path<(String, u32)>,
) -> Result<axum::Json<ModelVersion>, Problem> {
    blocking(move || parts.models.load(&kind, version)).await.map(axum::Json)
}

/// Moves an alias to a version that has passed all checks; no request waits.
#[utoipa::path(put, path = "/api/v1/models/{kind}/aliases/{alias}", tag = "models", request_body = Promotion,
    params(("kind" = String, Path, description = "the kind"), ("alias" = String, Path, description = "`champion`, `challenger` or `shadow`")),
    responses(
        (status = 200, description = "the alias now", body = AliasState),
        (status = 404, description = "no such version or alias", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "it failed a check, or was rolled back before and is not forced; the alias stays", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn promote(
    State(parts): State<Parts>,
    Path((kind, alias)): Path<(String, String)>,
    Json(promotion): Json<Promotion>,
) -> Result<axum::Json<AliasState>, Problem> {
    let Promotion { version, by, reason, force } = promotion;
    blocking(move || parts.models.promote(&kind, &alias, version, &ModelOrder { by, reason, force })).await.map(axum::Json)
}

/// Moves an alias back to the version it had before.
#[utoipa::path(post, path = "/api/v1/models/{kind}/rollback", tag = "models", request_body = Rollback,
    params(("kind" = String, Path, description = "the kind")),
    responses(
        (status = 200, description = "the alias now", body = AliasState),
        (status = 404, description = "no such alias", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "there is no version to go back to", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn rollback(
    State(parts): State<Parts>,
    Path(kind): Path<String>,
    Json(rollback): Json<Rollback>,
) -> Result<axum::Json<AliasState>, Problem> {
    let Rollback { alias, by, reason } = rollback;
    blocking(move || parts.models.rollback(&kind, &alias, &ModelOrder { by, reason, force: false })).await.map(axum::Json)
}

/// Takes an alias away: a challenger that is no longer wanted.
#[utoipa::path(delete, path = "/api/v1/models/{kind}/aliases/{alias}", tag = "models", request_body = ModelOrder,
    params(("kind" = String, Path, description = "the kind"), ("alias" = String, Path, description = "`challenger` or `shadow`")),
    responses(
        (status = 200, description = "the aliases that are left", body = [AliasState]),
        (status = 404, description = "no such alias, or it names nothing", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "the champion is rolled back, not taken away", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn clear(
    State(parts): State<Parts>,
    Path((kind, alias)): Path<(String, String)>,
    Json(order): Json<ModelOrder>,
) -> Result<axum::Json<Vec<AliasState>>, Problem> {
    blocking(move || parts.models.clear(&kind, &alias, &order)).await.map(axum::Json)
}

/// Who moved which alias, when and why; newest first.
#[utoipa::path(get, path = "/api/v1/models/history", tag = "models", responses(
    (status = 200, description = "all changes that are known", body = [ModelEvent]),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn history(State(parts): State<Parts>) -> Result<axum::Json<Vec<ModelEvent>>, Problem> {
    blocking(move || Ok(parts.models.history())).await.map(axum::Json)
}

/// What decides in each instance that shares an object store of predictors, and which do not follow an alias.
#[utoipa::path(get, path = "/api/v1/models/instances", tag = "models", responses(
    (status = 200, description = "all that were heard of within a week; none without [models.store]", body = [ModelInstance]),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 500, description = "the store cannot be reached", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn instances(State(parts): State<Parts>) -> Result<axum::Json<Vec<ModelInstance>>, Problem> {
    blocking(move || parts.models.instances()).await.map(axum::Json)
}

/// Versions beside the champion: how they are scored, and whether they decide for some keys.
#[utoipa::path(get, path = "/api/v1/models/candidates", tag = "models", responses(
    (status = 200, description = "challenger and shadow, where there are any", body = [CandidateInfo]),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn candidates(State(parts): State<Parts>) -> axum::Json<Vec<CandidateInfo>> {
    axum::Json(parts.models.candidates())
}

/// How forecasts have come true, and how far features have moved.
#[utoipa::path(get, path = "/api/v1/models/drift", tag = "models", responses(
    (status = 200, description = "routes and features", body = DriftInfo),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn drift(State(parts): State<Parts>) -> axum::Json<DriftInfo> {
    axum::Json(parts.models.drift())
}
