//! Sources of events.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use http::HeaderMap;

use super::Path;
use crate::{DeliveryReport, EventSourceInfo, Parts, Problem, ProblemDocument};

/// All sources of events.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", responses(
    (status = 200, description = "the sources", body = Vec<EventSourceInfo>),
    (status = 401, description = "no or wrong token", body = ProblemDocument, content_type = "application/problem+json")
))]
pub(super) async fn list(State(parts): State<Parts>) -> axum::Json<Vec<EventSourceInfo>> {
    axum::Json(parts.events.sources())
}

/// A CloudEvent 1.0 (structured, binary or a batch), signed after Standard Webhooks; needs no token. Answered when it has been obeyed.
#[utoipa::path(post, path = "/api/v1/events/{source}", tag = "events", security(()),
    params(
        ("source" = String, Path, description = "a source of kind `webhook`"),
        ("webhook-id" = String, Header, description = "the same when the delivery is sent again"),
        ("webhook-timestamp" = i64, Header, description = "seconds since 1970 UTC, at most five minutes from now"),
        ("webhook-signature" = String, Header, description = "`v1,` and base64 of the HMAC-SHA256 of `id.timestamp.body`; several with spaces between")
    ),
    request_body(content = Object, description = "a CloudEvent, or an array of them", content_type = "application/cloudevents+json"),
    responses(
        (status = 200, description = "what it did", body = DeliveryReport),
        (status = 401, description = "not signed, or not now", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "no such source", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "no CloudEvent", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "to be sent again", body = ProblemDocument, content_type = "application/problem+json")
    ))]
pub(super) async fn deliver(
    State(parts): State<Parts>,
    Path(source): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<axum::Json<DeliveryReport>, Problem> {
    let body = body.map_err(|rejection| {
        let kind = if rejection.status() == http::StatusCode::PAYLOAD_TOO_LARGE { "too-large" } else { "bad-body" };
        Problem::new(rejection.status(), kind, rejection.body_text())
    })?;
    Ok(parts.events.deliver(&source, headers, body).await.map(axum::Json)?)
}
