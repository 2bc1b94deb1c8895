//! Requests for URLs that no route leads to: passed on as they are, over a connection of their own.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use bytes::Bytes;
use farthing_config::ForwardConfig;
use farthing_freshness::semantics::hop;
use farthing_types::{Body, BodyError, Span};
use farthing_upstream::Deadline;
use http::header::{HOST, HeaderMap, HeaderValue, UPGRADE, VIA};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::counts::{Meter, Metered, To};
use super::{Destination, Refused, reach, refusal};
use crate::identify;
use crate::problem::Problem;
use crate::state::State;

/// Passes a request on.
pub(super) async fn send(state: Arc<State>, forward: ForwardConfig, request: Request<Body>, to: Destination) -> Response<Body> {
    match passed(&state, &forward, request, &to).await {
        Ok(response) => response,
        Err(refused) => state.forwarding.refuse(refused),
    }
}

async fn passed(
    state: &Arc<State>,
    forward: &ForwardConfig,
    request: Request<Body>,
    to: &Destination,
) -> Result<Response<Body>, (Refused, Problem)> {
    let broken = |error: hyper::Error| unanswered(StatusCode::BAD_GATEWAY, to, &error.to_string());
    let stream = reach::connect(state, forward, to).await?;
    let host = state.forwarding.unobserved.host(&to.host);
    host.passed.fetch_add(1, Relaxed);
    let meter = Meter::of(host);
    let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream)).await.map_err(broken)?;
    state.tasks.spawn(connection);
    let mut answering = pin!(sender.send_request(outgoing(state, request, &meter)));
    let answer = loop {
        let [sent, _] = meter.bytes();
        match timeout(forward.deadline, answering.as_mut()).await {
            Ok(answer) => break answer.map_err(broken)?,
            // The client takes its time, not the host; the edge bounds that.
            Err(_) if meter.bytes()[0] != sent => {}
            Err(_) => return Err(unanswered(StatusCode::GATEWAY_TIMEOUT, to, &format!("nothing within {:?}", forward.deadline))),
        }
    };
    let (mut head, body) = answer.into_parts();
    hop::remove(&mut head.headers);
    farthing_upstream::one_length(&mut head.headers);
    head.headers.append(VIA, state.forwarding.via.clone());
    // An answer to HTTP/1.0 is one of HTTP/1.1 for our client.
    head.version = Version::HTTP_11;
    let body = Body::stream(Patient::new(Body::stream(body.map_err(|error| BodyError(format!("forwarded: {error}")))), forward.idle));
    Ok(Response::from_parts(head, Metered::body(body, &meter, To::Client)))
}

fn unanswered(status: StatusCode, to: &Destination, reason: &str) -> (Refused, Problem) {
    refusal(Refused::Unanswered, status, format!("{}:{} does not answer: {reason}", to.host, to.port))
}

/// The request as the host gets it: without what is between the client and us.
fn outgoing(state: &State, request: Request<Body>, meter: &Arc<Meter>) -> Request<Body> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().map(|authority| HeaderValue::try_from(authority.as_str()));
    head.uri = Uri::from(head.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
    head.version = Version::HTTP_11;
    // The body of one that asks for a WebSocket is the connection itself, and that goes on as nothing here.
    let upgrades = head.headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    hop::remove(&mut head.headers);
    strip_ours(state, &mut head.headers);
    // The URL decides (RFC 9112 section 3.2.2).
    if let Some(Ok(host)) = authority {
        head.headers.insert(HOST, host);
    }
    head.headers.append(VIA, state.forwarding.via.clone());
    head.extensions.clear();
    let body = if upgrades || body.is_end_stream() { Body::empty() } else { Metered::body(body, meter, To::Host) };
    farthing_upstream::frame(&mut head.headers, &head.method, &body);
    Request::from_parts(head, body)
}

/// Takes out what is for us alone, keys and tokens of ours above all.
fn strip_ours(state: &State, headers: &mut HeaderMap) {
    let ours: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("x-farthing-")).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    identify::strip_ours(&state.live().clients, headers);
}

/// A body that breaks off when nothing of it has come for too long.
struct Patient {
    body: Body,
    idle: Span,
    /// It runs while the host is waited for, and not while the client takes its time.
    deadline: Deadline,
}

impl Patient {
    fn new(body: Body, idle: Span) -> Self {
        Self { body, idle, deadline: Deadline::default() }
    }
}

impl HttpBody for Patient {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.deadline.clear();
            return Poll::Ready(frame);
        }
        let idle = self.idle;
        self.deadline.start(idle);
        self.deadline.poll(cx).map(|()| Some(Err(BodyError(format!("forwarded: nothing came for {:?}", self.idle)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
