//! What the instance does and what it costs.

use axum::Json;
use axum::extract::State;
use farthing_types::{DecisionId, RequestId};

use super::{Path, blocking};
use crate::{Costs, DecisionView, ExplanationView, Parts, PlanView, Problem, ProblemDocument, RouteInfo, Status, VolatileReport};

/// The routes in the order in which they are tried.
#[utoipa::path(get, path = "/api/v1/routes", tag = "views", responses(
    (status = 200, description = "all routes", body = [RouteInfo]),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn routes(State(parts): State<Parts>) -> Json<Vec<RouteInfo>> {
    Json(parts.routes.routes())
}

/// Fields that differ between answers fetched at once, for an operator to confirm.
#[utoipa::path(get, path = "/api/v1/routes/{route}/volatile", tag = "views",
    params(("route" = String, Path, description = "the route's name")),
    responses(
        (status = 200, description = "what was seen", body = VolatileReport),
        (status = 404, description = "no such route", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn volatile(State(parts): State<Parts>, Path(route): Path<String>) -> Result<Json<VolatileReport>, Problem> {
    parts.routes.volatile(&route).map(Json).ok_or_else(|| Problem::not_found("no such route; GET /api/v1/routes lists them"))
}

/// The instance at a glance.
#[utoipa::path(get, path = "/api/v1/status", tag = "views", responses(
    (status = 200, description = "the status", body = Status),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn status(State(parts): State<Parts>) -> Json<Status> {
    Json(parts.status.status())
}

/// Money by route and tenant, since start, without reading the log.
#[utoipa::path(get, path = "/api/v1/costs/totals", tag = "views", responses(
    (status = 200, description = "the costs", body = Costs),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn costs(State(parts): State<Parts>) -> Json<Costs> {
    Json(parts.status.costs())
}

/// One logged decision: what it was made from and who made it.
#[utoipa::path(get, path = "/api/v1/decisions/{id}", tag = "views",
    params(("id" = String, Path, description = "16 hexadecimal digits, as in the log")),
    responses(
        (status = 200, description = "the decision", body = DecisionView),
        (status = 400, description = "not an id", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "unknown, or not written yet", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn decision(State(parts): State<Parts>, Path(id): Path<String>) -> Result<Json<DecisionView>, Problem> {
    let number = id_of(&id).ok_or_else(|| Problem::bad_request("a decision's id has 16 hexadecimal digits"))?;
    let found = blocking(move || parts.decisions.decision(DecisionId(number))).await?;
    found
        .map(Json)
        .ok_or_else(|| Problem::not_found("no such decision in the log; a new one is there once its file is written (log.flush)"))
}

/// Exactly 16 hexadecimal digits.
fn id_of(text: &str) -> Option<u64> {
    let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| digits)
}

/// Why a request was answered as it was: its decision, taken apart.
#[utoipa::path(get, path = "/api/v1/requests/{id}/explanation", tag = "views",
    params(("id" = String, Path, description = "`x-farthing-request-id`: 16 hexadecimal digits")),
    responses(
        (status = 200, description = "the explanation", body = ExplanationView),
        (status = 400, description = "not an id", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "unknown, not written yet, or without a decision", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn explanation(State(parts): State<Parts>, Path(id): Path<String>) -> Result<Json<ExplanationView>, Problem> {
    let number = id_of(&id).ok_or_else(|| Problem::bad_request("a request's id has 16 hexadecimal digits"))?;
    blocking(move || parts.decisions.explain(RequestId(number))).await.map(Json)
}

/// What was done for a request and why: strategy by strategy.
#[utoipa::path(get, path = "/api/v1/requests/{id}/plan", tag = "views",
    params(("id" = String, Path, description = "`x-farthing-request-id`: 16 hexadecimal digits")),
    responses(
        (status = 200, description = "the plan", body = PlanView),
        (status = 400, description = "not an id", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "unknown, or not written yet", body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn plan(State(parts): State<Parts>, Path(id): Path<String>) -> Result<Json<PlanView>, Problem> {
    let number = id_of(&id).ok_or_else(|| Problem::bad_request("a request's id has 16 hexadecimal digits"))?;
    blocking(move || parts.decisions.plan(RequestId(number))).await.map(Json)
}
