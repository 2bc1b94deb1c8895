//! Handlers and their router.

mod alerts;
mod budgets;
mod bypass;
mod cache;
mod config;
mod costs;
mod events;
mod experiments;
mod fleet_config;
mod forget;
mod freeze;
mod health;
mod limits;
mod models;
mod prices;
mod sinks;
mod views;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use farthing_config::AdminConfig;
use http::{StatusCode, header};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{Parts, Problem, ProblemDocument, audit, dashboard, guard};

/// Longest time a handler may take; loading a predictor takes milliseconds.
const HANDLER_DEADLINE: Duration = Duration::from_secs(30);

/// A JSON body whose rejection is a problem document.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
struct Json<T>(T);

/// Path parameters whose rejection is a problem document.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
struct Path<T>(T);

/// Query parameters whose rejection is a problem document.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
struct Query<T>(T);

// The derives above name these conversions; keeping them here documents it.
const _: fn(JsonRejection) -> Problem = Problem::from;
const _: fn(PathRejection) -> Problem = Problem::from;
const _: fn(QueryRejection) -> Problem = Problem::from;

#[derive(OpenApi)]
#[openapi(
    info(title = "Farthing admin API", description = "Status, costs, cache, experiments and predictors of one instance."),
    components(schemas(ProblemDocument)),
    tags(
        (name = "health", description = "For whoever runs the instance"),
        (name = "views", description = "What the instance does and what it costs"),
        (name = "costs", description = "Money, from the log"),
        (name = "cache", description = "The cache"),
        (name = "budgets", description = "Money that may be spent over a time"),
        (name = "config", description = "The configuration, and who changed what"),
        (name = "bypass", description = "The switch that lets everything pass by"),
        (name = "experiments", description = "Variants of plans, compared"),
        (name = "limits", description = "Requests, tokens and calls at a time"),
        (name = "events", description = "Sources of events that say what has changed"),
        (name = "models", description = "Predictors")
    ),
    security(("token" = []))
)]
struct Document;

fn routes() -> OpenApiRouter<Parts> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::healthz))
        .routes(routes!(health::metrics))
        .routes(routes!(views::routes))
        .routes(routes!(views::volatile))
        .routes(routes!(views::status))
        .routes(routes!(views::costs))
        .routes(routes!(costs::ask))
        .routes(routes!(config::show))
        .routes(routes!(config::reload))
        .routes(routes!(config::diff))
        .routes(routes!(fleet_config::standing))
        .routes(routes!(fleet_config::versions))
        .routes(routes!(fleet_config::version))
        .routes(routes!(fleet_config::push))
        .routes(routes!(fleet_config::rollback))
        .routes(routes!(config::audit))
        .routes(routes!(alerts::forecast))
        .routes(routes!(alerts::list))
        .routes(routes!(views::decision))
        .routes(routes!(views::explanation))
        .routes(routes!(views::plan))
        .routes(routes!(experiments::list))
        .routes(routes!(experiments::tuning))
        .routes(routes!(experiments::show))
        .routes(routes!(experiments::order))
        .routes(routes!(experiments::audit))
        .routes(routes!(experiments::export))
        .routes(routes!(budgets::list))
        .routes(routes!(budgets::refusals))
        .routes(routes!(budgets::raise))
        .routes(routes!(budgets::write_off))
        .routes(routes!(bypass::show))
        .routes(routes!(bypass::on))
        .routes(routes!(bypass::off))
        .routes(routes!(freeze::show))
        .routes(routes!(freeze::on))
        .routes(routes!(freeze::off))
        .routes(routes!(limits::list))
        .routes(routes!(cache::stats))
        .routes(routes!(cache::purge))
        .routes(routes!(events::list))
        .routes(routes!(events::deliver))
        .routes(routes!(cache::warm))
        .routes(routes!(prices::show))
        .routes(routes!(prices::reload))
        .routes(routes!(forget::forget))
        .routes(routes!(sinks::list))
        .routes(routes!(models::list))
        .routes(routes!(models::versions))
        .routes(routes!(models::show))
        .routes(routes!(models::load))
        .routes(routes!(models::promote))
        .routes(routes!(models::instances))
        .routes(routes!(models::candidates))
        .routes(routes!(models::drift))
        .routes(routes!(models::clear))
        .routes(routes!(models::history))
        .routes(routes!(models::rollback))
}

/// The API's description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = routes().to_openapi();
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    document.components.get_or_insert_with(Default::default).add_security_scheme("token", scheme);
    document
}

/// The service. Without a token in `config` the peer's address must be known
/// (`into_make_service_with_connect_info::<SocketAddr>()`), else every request but the health checks is refused.
pub fn router(parts: Parts, config: &AdminConfig) -> Router {
    let (router, _) = routes().split_for_parts();
    let description = openapi().to_json().unwrap_or_default();
    let door = guard::Door { parts: parts.clone(), given: Arc::new(config.clone()) };
    let noting = audit::Noting { parts: parts.clone(), max_body: config.max_body };
    dashboard::with_page(router)
        .route("/openapi.json", axum::routing::get(|| async move { ([(header::CONTENT_TYPE, "application/json")], description) }))
        .fallback(|| async { Problem::not_found("no such endpoint; GET /openapi.json lists them") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "GET /openapi.json lists the methods of each endpoint")
        })
        .layer(DefaultBodyLimit::max(config.max_body))
        .layer(middleware::from_fn_with_state(noting, audit::note))
        .layer(middleware::from_fn_with_state(door, guard::guard))
        .layer(middleware::from_fn(deadline))
        .with_state(parts)
}

async fn deadline(request: Request, next: Next) -> Response {
    let late = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "deadline", "the request took too long").into_response();
    tokio::time::timeout(HANDLER_DEADLINE, next.run(request)).await.unwrap_or_else(|_| late())
}

/// Runs work that reads files or builds sessions off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, crate::ControlError> + Send + 'static) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(Problem::from),
        Err(error) => {
            tracing::error!(%error, "an admin operation panicked");
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the operation broke off; the log has more"))
        }
    }
}
