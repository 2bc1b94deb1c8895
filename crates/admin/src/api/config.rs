//! The configuration, and who changed what.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Json, Query, blocking};
use crate::{ChangeNote, ConfigInfo, ConfigQuestion, ConfigReport, Parts, Problem, ProblemDocument};

/// Changes that are told where nobody says how many.
const USUAL: usize = 50;
/// The most that are told.
const MOST: usize = 10_000;

/// Which configuration is in force, since when, and what became of others.
#[utoipa::path(get, path = "/api/v1/config", tag = "config", responses(
    (status = 200, description = "the configuration", body = ConfigInfo),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn show(State(parts): State<Parts>) -> axum::Json<ConfigInfo> {
    axum::Json(parts.config.config())
}

/// Read the configuration again and put it in force: all of it, or, when anything is wrong or needs a restart, nothing.
#[utoipa::path(post, path = "/api/v1/config/reload", tag = "config", responses(
    (status = 200, description = "what has changed", body = ConfigReport),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 422, description = "something is wrong in it, or needs a restart; the one before is in force", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 503, description = "there is no configuration to read again", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn reload(State(parts): State<Parts>) -> Result<axum::Json<ConfigReport>, Problem> {
    blocking(move || parts.config.reload()).await.map(axum::Json)
}

/// What another configuration would change, and what of it needs a restart. Changes nothing.
#[utoipa::path(post, path = "/api/v1/config/diff", tag = "config", request_body = ConfigQuestion, responses(
    (status = 200, description = "what would change", body = ConfigReport),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 422, description = "something is wrong in it", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 503, description = "there is no configuration to read again", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn diff(State(parts): State<Parts>, Json(question): Json<ConfigQuestion>) -> Result<axum::Json<ConfigReport>, Problem> {
    blocking(move || parts.config.diff(&question)).await.map(axum::Json)
}

/// How many changes are told.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Latest {
    /// So many of the latest at most; 50 where it is not said.
    last: Option<usize>,
}

/// Who changed what and when, the last change last.
#[utoipa::path(get, path = "/api/v1/audit", tag = "config", params(Latest), responses(
    (status = 200, description = "the changes", body = [ChangeNote]),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 503, description = "nothing is kept: there is no state_dir", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn audit(State(parts): State<Parts>, Query(latest): Query<Latest>) -> Result<axum::Json<Vec<ChangeNote>>, Problem> {
    let most = latest.last.unwrap_or(USUAL).min(MOST);
    blocking(move || parts.audit.changes(most)).await.map(axum::Json)
}
