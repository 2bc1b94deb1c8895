//! Experiments.

use axum::extract::State;
use serde::Deserialize;

use super::{Json, Path, Query, blocking};
use crate::{
    ExperimentAudit, ExperimentDetail, ExperimentRequest, ExperimentRows, ExperimentSummary, Parts, Problem, ProblemDocument, RouteTuning,
};

/// All experiments.
#[utoipa::path(get, path = "/api/v1/experiments", tag = "experiments", responses(
    (status = 200, description = "all experiments", body = [ExperimentSummary]),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn list(State(parts): State<Parts>) -> axum::Json<Vec<ExperimentSummary>> {
    axum::Json(parts.experiments.list())
}

/// The numbers of plans that experiments of the proxy's own may move, by route.
#[utoipa::path(get, path = "/api/v1/tuning", tag = "experiments", responses(
    (status = 200, description = "routes with a table `tune`", body = [RouteTuning]),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn tuning(State(parts): State<Parts>) -> axum::Json<Vec<RouteTuning>> {
    axum::Json(parts.experiments.tunings())
}

/// One experiment with figures, comparisons and intervals.
#[utoipa::path(get, path = "/api/v1/experiments/{name}", tag = "experiments",
    params(("name" = String, Path, description = "its name")),
    responses(
        (status = 200, description = "the experiment", body = ExperimentDetail),
        (status = 404, description = "unknown", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(State(parts): State<Parts>, Path(name): Path<String>) -> Result<axum::Json<ExperimentDetail>, Problem> {
    parts
        .experiments
        .show(&name)
        .map(axum::Json)
        .ok_or_else(|| Problem::not_found("no such experiment; GET /api/v1/experiments lists them"))
}

/// Order an experiment to be put in shadow, to start, to stop, to be decided for a variant, or to change its traffic.
#[utoipa::path(post, path = "/api/v1/experiments/{name}/{order}", tag = "experiments", request_body = ExperimentRequest,
    params(
        ("name" = String, Path, description = "its name"),
        ("order" = String, Path, description = "`shadow`, `start`, `stop`, `decide` (with `variant`) or `traffic` (with `share`, or by itself)")
    ),
    responses(
        (status = 200, description = "the experiment as it stands now", body = ExperimentDetail),
        (status = 404, description = "no such experiment or order", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "no reason, or where it stands does not allow it", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 500, description = "in force, but not written down: a restart undoes it", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn order(
    State(parts): State<Parts>,
    Path((name, order)): Path<(String, String)>,
    Json(request): Json<ExperimentRequest>,
) -> Result<axum::Json<ExperimentDetail>, Problem> {
    blocking(move || parts.experiments.order(&name, &order, &request)).await.map(axum::Json)
}

/// What was done with an experiment, by whom and why, the latest last.
#[utoipa::path(get, path = "/api/v1/experiments/{name}/audit", tag = "experiments",
    params(("name" = String, Path, description = "its name")),
    responses(
        (status = 200, description = "what was done", body = [ExperimentAudit]),
        (status = 404, description = "unknown", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn audit(State(parts): State<Parts>, Path(name): Path<String>) -> Result<axum::Json<Vec<ExperimentAudit>>, Problem> {
    blocking(move || parts.experiments.audit(&name)).await.map(axum::Json)
}

/// Where a piece of an export begins.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct From {
    from: u64,
}

/// The closed unit-windows of an experiment, piece by piece.
#[utoipa::path(get, path = "/api/v1/experiments/{name}/export", tag = "experiments",
    params(
        ("name" = String, Path, description = "its name"),
        ("from" = Option<u64>, Query, description = "`next` of the piece before; 0 when absent")
    ),
    responses(
        (status = 200, description = "a piece", body = ExperimentRows),
        (status = 404, description = "unknown", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn export(
    State(parts): State<Parts>,
    Path(name): Path<String>,
    Query(From { from }): Query<From>,
) -> Result<axum::Json<ExperimentRows>, Problem> {
    blocking(move || parts.experiments.export(&name, from)).await.map(axum::Json)
}
