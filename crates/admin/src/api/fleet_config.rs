//! The configuration that a fleet keeps.

use axum::Extension;
use axum::extract::State;
use http::HeaderMap;

use super::{Json, Path, blocking};
use crate::guard::Right;
use crate::{
    ConfigPush, ConfigPushed, ConfigRollback, ConfigText, ConfigVersion, FleetConfig, OrderedBy, Parts, Problem, ProblemDocument, audit,
};

/// Which configuration the fleet keeps, and what each instance goes by.
#[utoipa::path(get, path = "/api/v1/config/fleet", tag = "config", responses(
    (status = 200, description = "how it stands", body = FleetConfig),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 503, description = "this instance goes by its own file alone", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn standing(State(parts): State<Parts>) -> Result<axum::Json<FleetConfig>, Problem> {
    Ok(axum::Json(parts.fleet_config.standing()?))
}

/// The versions that the fleet still keeps, the latest first.
#[utoipa::path(get, path = "/api/v1/config/versions", tag = "config", responses(
    (status = 200, description = "the versions", body = [ConfigVersion]),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 503, description = "the fleet's Redis does not answer", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn versions(State(parts): State<Parts>) -> Result<axum::Json<Vec<ConfigVersion>>, Problem> {
    blocking(move || parts.fleet_config.versions()).await.map(axum::Json)
}

/// One version with its text.
#[utoipa::path(get, path = "/api/v1/config/versions/{version}", tag = "config", params(("version" = u64, Path, description = "Its number")), responses(
    (status = 200, description = "the version", body = ConfigText),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 404, description = "it is not there, or not any more", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 503, description = "the fleet's Redis does not answer", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn version(State(parts): State<Parts>, Path(version): Path<u64>) -> Result<axum::Json<ConfigText>, Problem> {
    blocking(move || parts.fleet_config.version(version)).await.map(axum::Json)
}

/// Judge a configuration and give it to the whole fleet, in place of the version that it was made from.
#[utoipa::path(post, path = "/api/v1/config/push", tag = "config", request_body = ConfigPush, responses(
    (status = 200, description = "what became of it", body = ConfigPushed),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 409, description = "the fleet has another version by now; nothing was pushed", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 422, description = "something is wrong in it, or needs a restart; nothing was pushed", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 503, description = "the fleet's Redis does not answer", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn push(
    State(parts): State<Parts>,
    Extension(right): Extension<Right>,
    headers: HeaderMap,
    Json(order): Json<ConfigPush>,
) -> Result<axum::Json<ConfigPushed>, Problem> {
    let by = who(&right, &headers);
    blocking(move || parts.fleet_config.push(&order, &by)).await.map(axum::Json)
}

/// Give what an earlier version said to the whole fleet again, as a new version.
#[utoipa::path(post, path = "/api/v1/config/rollback", tag = "config", request_body = ConfigRollback, responses(
    (status = 200, description = "what became of it", body = ConfigPushed),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 404, description = "that version is not there, or not any more", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 409, description = "the fleet has another version by now; nothing was pushed", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 422, description = "something is wrong in it, or needs a restart; nothing was pushed", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 503, description = "the fleet's Redis does not answer", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn rollback(
    State(parts): State<Parts>,
    Extension(right): Extension<Right>,
    headers: HeaderMap,
    Json(order): Json<ConfigRollback>,
) -> Result<axum::Json<ConfigPushed>, Problem> {
    let by = who(&right, &headers);
    blocking(move || parts.fleet_config.rollback(&order, &by)).await.map(axum::Json)
}

fn who(right: &Right, headers: &HeaderMap) -> OrderedBy {
    OrderedBy { by: right.told(), said: audit::said(headers) }
}
