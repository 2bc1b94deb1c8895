//! The HTTP side of the simulated provider.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use farthing_types::{Body, Draw, DrawKind, Time};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::chat::ChatRequest;
use super::document::Document;
use super::embeddings::EmbeddingsRequest;
use super::messages::MessagesRequest;
use super::{Api, Shared};

/// Largest chat request that is read.
const MAX_CHAT_BODY: usize = 4 << 20;
/// Seed of the injected errors.
const ERROR_SEED: u64 = 0x5eed;

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true); // only a matter of speed
                tasks.spawn(connection(TokioIo::new(stream), shared.clone(), stop.clone()));
            }
            Err(error) => tracing::warn!(%error, "simulated provider cannot accept"),
        }
    }
}

async fn connection(io: TokioIo<tokio::net::TcpStream>, shared: Arc<Shared>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let serving = hyper::server::conn::http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service);
    tokio::pin!(serving);
    tokio::select! {
        result = serving.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(%error, "connection to the simulated provider ended");
            }
        }
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            // A client that keeps its connection busy must not keep the provider alive.
            let _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
        }
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    if path == "/v1/chat/completions" && request.method() == Method::POST {
        return completed(shared, request, chat).await;
    }
    if path == "/v1/embeddings" && request.method() == Method::POST {
        return completed(shared, request, embeddings).await;
    }
    if path == "/v1/messages" && request.method() == Method::POST {
        return message(shared, request).await;
    }
    if path == "/v1/models" {
        return json(StatusCode::OK, Bytes::from_static(b"{\"object\":\"list\",\"data\":[{\"id\":\"sim-1\",\"object\":\"model\"}]}"));
    }
    let mut segments = path.trim_matches('/').split('/');
    let name = segments.next().unwrap_or_default();
    let key = segments.next_back().and_then(|k| k.parse().ok());
    let index = shared.apis.iter().position(|a| &*a.spec.name == name);
    match (index, key) {
        (Some(index), Some(key)) => document(shared, index, key, request.headers()).await,
        _ => json(StatusCode::NOT_FOUND, Bytes::from_static(b"{\"error\":\"no such document\"}")),
    }
}

async fn document(shared: &Shared, index: usize, key: u32, headers: &HeaderMap) -> Response<Body> {
    let Api { spec, meter, errors_ppm } = &shared.apis[index];
    if !spec.latency.is_zero() {
        tokio::time::sleep(spec.latency).await;
    }
    let serial = shared.serial.fetch_add(1, Ordering::Relaxed);
    let failing = errors_ppm.load(Ordering::Relaxed) as f64 / 1e6;
    if failing > 0.0 && Draw::new(ERROR_SEED).uniform(DrawKind::Sample, &spec.name, u128::from(serial), 0) < failing {
        meter.error();
        let mut response = json(StatusCode::SERVICE_UNAVAILABLE, Bytes::from_static(b"{\"error\":\"simulated failure\"}"));
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    }
    let now = shared.clock.now();
    let version = shared.truth.version_at(index, key, now);
    let etag = format!("\"{key}.{version}\"");
    let matches =
        spec.etag && !spec.nondeterministic && headers.get(header::IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == etag.as_bytes());
    let mut response = if matches {
        meter.not_modified(spec.price);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        meter.call(spec.price);
        let sample = spec.nondeterministic.then_some(serial);
        let generated_at = spec.volatile.then(|| now.nanos());
        json(StatusCode::OK, Document { route: &spec.name, key, version, sample, generated_at, bytes: spec.bytes }.render())
    };
    let out = response.headers_mut();
    if spec.etag && !spec.nondeterministic {
        put(out, header::ETAG, etag);
    }
    if spec.last_modified
        && let Some(at) = shared.truth.changed_at(index, key, now)
    {
        put(out, header::LAST_MODIFIED, http_date(at));
    }
    if let Some(age) = spec.max_age {
        put(out, header::CACHE_CONTROL, format!("max-age={age}"));
    }
    put(out, header::DATE, http_date(now));
    response
}

/// What a model answers; the error says what is wrong with what is asked.
type Answered = Result<Response<Body>, String>;

/// Reads what is asked of a model.
async fn completed(shared: &Shared, request: Request<Incoming>, answer: fn(&Shared, &[u8]) -> Answered) -> Response<Body> {
    let bad = |detail: &str| {
        let body = serde_json::json!({"error": {"message": detail, "type": "invalid_request_error", "param": null, "code": null}});
        json(StatusCode::BAD_REQUEST, Bytes::from(body.to_string()))
    };
    if !request.headers().contains_key(header::AUTHORIZATION) {
        shared.chat_meter.error();
        return json(
            StatusCode::UNAUTHORIZED,
            Bytes::from_static(b"{\"error\":{\"message\":\"no key\",\"type\":\"invalid_request_error\"}}"),
        );
    }
    let Ok(body) = Limited::new(request.into_body(), MAX_CHAT_BODY).collect().await else { return bad("body broke off or is too large") };
    answer(shared, &body.to_bytes()).unwrap_or_else(|detail| bad(&detail))
}

fn embeddings(shared: &Shared, body: &[u8]) -> Answered {
    let asked = EmbeddingsRequest::parse(body)?;
    shared.chat_meter.call(asked.price(&shared.chat));
    shared.embedded.fetch_add(asked.inputs(), Ordering::Relaxed);
    Ok(json(StatusCode::OK, asked.plain()))
}

fn chat(shared: &Shared, body: &[u8]) -> Answered {
    let chat = ChatRequest::parse(body)?;
    let serial = shared.serial.fetch_add(1, Ordering::Relaxed);
    shared.chat_meter.call(chat.price(&shared.chat));
    if !chat.stream {
        return Ok(json(StatusCode::OK, chat.plain(serial)));
    }
    Ok(stream(chat.events(serial)))
}

/// Answers a request for a message, with the prompt cache at work.
async fn message(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let refused = |status: StatusCode, kind: &str, detail: &str| {
        shared.message_meter.error();
        json(status, Bytes::from(serde_json::json!({"type": "error", "error": {"type": kind, "message": detail}}).to_string()))
    };
    let key = ["x-api-key", "authorization"].iter().find_map(|name| request.headers().get(*name)).cloned();
    let Some(key) = key else { return refused(StatusCode::UNAUTHORIZED, "authentication_error", "no key") };
    let Ok(body) = Limited::new(request.into_body(), MAX_CHAT_BODY).collect().await else {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "body broke off or is too large");
    };
    let asked = match MessagesRequest::parse(&body.to_bytes()) {
        Ok(asked) => asked,
        Err(detail) => return refused(StatusCode::BAD_REQUEST, "invalid_request_error", &detail),
    };
    let owner = asked.owner(key.to_str().unwrap_or_default());
    let usage = shared.kept.lock().call(shared.clock.now(), owner, asked.blocks());
    shared.message_meter.call(shared.messages.cost(&usage, asked.output()));
    let serial = shared.serial.fetch_add(1, Ordering::Relaxed);
    if asked.stream { stream(asked.events(serial, &usage)) } else { json(StatusCode::OK, asked.plain(serial, &usage)) }
}

fn stream(events: Vec<Bytes>) -> Response<Body> {
    let events = events.into_iter().map(|event| Ok(Frame::data(event)));
    let mut response = Response::new(Body::stream(StreamBody::new(futures_util::stream::iter(events))));
    put(response.headers_mut(), header::CONTENT_TYPE, "text/event-stream; charset=utf-8".into());
    put(response.headers_mut(), header::CACHE_CONTROL, "no-cache".into());
    response
}

fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// The date of a simulated time.
fn http_date(at: Time) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_nanos(u64::try_from(at.nanos()).unwrap_or(0)))
}
