//! One connection: guard, then hyper, then the service around the handler.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use farthing_types::{Body, Span};
use futures_util::FutureExt;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::{Answer, Signal, Upload};
use super::early::Early;
use super::guard::{Guard, Protocol};
use super::recall::Recall;
use super::scan::check_host;
use super::stall;
use super::state::{Busy, ConnState};
use super::tunnel::{self, Offer, Tunnel};
use super::{Closed, EdgeConfig, EdgeStats, Handler, PeerInfo, Refusal};

/// Serves connections of any transport; [`super::Edge`] feeds it from a listener, tests from pipes.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    config: EdgeConfig,
    handler: Arc<dyn Handler>,
    stats: Arc<EdgeStats>,
    stop: CancellationToken,
    cut: CancellationToken,
    streams: TaskTracker,
}

impl Server {
    /// A server with these settings; `stop` makes its connections end after what they are doing.
    pub fn new(config: EdgeConfig, handler: Arc<dyn Handler>, stats: Arc<EdgeStats>, stop: CancellationToken) -> Self {
        Self(Arc::new(Shared { config, handler, stats, stop, cut: CancellationToken::new(), streams: TaskTracker::new() }))
    }

    /// Counts a connection that was refused before it was served.
    pub(super) fn count_refused(&self, refusal: Refusal) {
        self.0.stats.count_refused(refusal);
    }

    /// Ends all connections now, whatever they are doing.
    pub(super) async fn cut(&self) {
        self.0.cut.cancel();
        self.0.streams.close();
        self.0.streams.wait().await;
    }

    /// Serves one connection to its end.
    pub async fn serve<IO>(&self, io: IO, peer: PeerInfo)
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = &self.0;
        let state = Arc::new(ConnState::new(Arc::clone(&shared.stats)));
        let opened = Opened::new(&shared.stats);
        let recall = Recall { handler: Arc::clone(&shared.handler), stop: shared.stop.clone() };
        let mut guard = Guard::new(io, &shared.config, Arc::clone(&state), recall);
        let protocol = tokio::select! {
            biased;
            () = shared.stop.cancelled() => None,
            protocol = poll_fn(|cx| guard.poll_protocol(cx)) => protocol,
        };
        let connection = Arc::new(Connection { shared: Arc::clone(shared), state: Arc::clone(&state), peer });
        let ended = match protocol {
            None => Some(false),
            Some(Protocol::Http1) => http1(connection, guard).await,
            Some(Protocol::Http2) => http2(connection, guard).await,
        };
        opened.close(ended.map_or(Closed::Cut, |error| state.closed(error)));
    }
}

/// Counts a connection as open; as cut when its task ends without saying how.
struct Opened(Arc<EdgeStats>, Closed);

impl Opened {
    fn new(stats: &Arc<EdgeStats>) -> Self {
        stats.count_opened();
        Self(Arc::clone(stats), Closed::Cut)
    }
    fn close(mut self, closed: Closed) {
        self.1 = closed;
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.count_closed(self.1);
    }
}

struct Connection {
    shared: Arc<Shared>,
    state: Arc<ConnState>,
    peer: PeerInfo,
}

/// Drives the connection; `None` when it was cut, else whether it ended in an error.
async fn http1<IO>(connection: Arc<Connection>, guard: Guard<IO>) -> Option<bool>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shared = Arc::clone(&connection.shared);
    let limits = shared.config.head_limits();
    let mut builder = http1::Builder::new();
    // The guard keeps time for heads and idle connections, and refuses with an answer where hyper would just close.
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_header_size(limits.bytes + 1_024);
    // hyper has room for this many on its stack; for more it asks the allocator, at every request.
    if limits.headers > 100 {
        builder.max_headers(limits.headers + 1);
    }
    if limits.bytes > 256 * 1_024 {
        builder.max_buf_size(limits.bytes * 2);
    }
    let state = Arc::clone(&connection.state);
    let service = service_fn(move |request| answer(Arc::clone(&connection), request));
    let mut http = pin!(builder.serve_connection(TokioIo::new(guard), service).with_upgrades());
    let mut stopping = false;
    let failed = loop {
        tokio::select! {
            biased;
            result = http.as_mut() => break result.is_err(),
            () = shared.cut.cancelled() => return None,
            () = shared.stop.cancelled(), if !stopping => {
                stopping = true;
                http.as_mut().graceful_shutdown();
            }
        }
    };
    // As long as its connection is open a tunnel has the connection's place, and is under way when draining.
    match state.tunnel.take().filter(|_| !failed) {
        Some(tunnel) => shared.cut.run_until_cancelled(tunnel).await.map(|()| false),
        None => Some(failed),
    }
}

/// Most bytes of a request's body that come without being read. The connection has as much for each of its streams: an upload that nobody reads yet must not
/// keep the others from coming, which it does where all of them share less than what each may take.
const WINDOW: u32 = 128 << 10;

/// As [`http1`]; a connection without streams for the idle time is asked to end.
async fn http2<IO>(connection: Arc<Connection>, guard: Guard<IO>) -> Option<bool>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shared = Arc::clone(&connection.shared);
    let state = Arc::clone(&connection.state);
    let config = &shared.config;
    let (tasks, cut, stats) = (shared.streams.clone(), shared.cut.clone(), Arc::clone(&shared.stats));
    let mut builder = http2::Builder::new(Streams { tasks, cut, stall: config.body_idle, stats });
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW.saturating_mul(config.max_streams.max(1)).min(i32::MAX.unsigned_abs()))
        .max_concurrent_streams(config.max_streams)
        .max_header_list_size(u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(config.idle_timeout)
        .keep_alive_timeout(config.header_timeout);
    let service = service_fn(move |request| answer(Arc::clone(&connection), request));
    let mut http = pin!(builder.serve_connection(TokioIo::new(guard), service));
    let mut quiet = pin!(idle(&state, config.idle_timeout));
    let (mut stopping, mut leaving) = (false, false);
    loop {
        tokio::select! {
            biased;
            result = http.as_mut() => return Some(result.is_err()),
            () = shared.cut.cancelled() => return None,
            () = shared.stop.cancelled(), if !stopping => {
                stopping = true;
                http.as_mut().graceful_shutdown();
            }
            // When it is asked to end and is still there, the ends of answers are not taken, which are hyper's by now.
            () = quiet.as_mut(), if leaving || !stopping => {
                if leaving {
                    return Some(false);
                }
                (stopping, leaving) = (true, true);
                state.ending(Closed::Idle);
                http.as_mut().graceful_shutdown();
                quiet.set(idle(&state, config.body_idle));
            }
        }
    }
}

/// Resolves when no request came or was under way for at least `span`, and at most two.
async fn idle(state: &ConnState, span: Span) {
    loop {
        let (quiet, before) = (!state.is_busy(), state.started());
        tokio::time::sleep(span).await;
        if quiet && state.started() == before {
            return;
        }
    }
}

/// Runs the streams of HTTP/2 connections, until they are cut or their clients have taken nothing for too long: hyper resets a stream whose future is gone.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    cut: CancellationToken,
    stall: Span,
    stats: Arc<EdgeStats>,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        let Self { cut, stall, stats, .. } = self.clone();
        drop(self.tasks.spawn(async move {
            if cut.run_until_cancelled_owned(stall::watched(future, stall)).await == Some(true) {
                stats.count_stalled();
            }
        }));
    }
}

async fn answer(connection: Arc<Connection>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let (busy, number, refused) = connection.state.start();
    let version = request.version();
    let http1 = version < Version::HTTP_2;
    if let Some(refusal) = refused {
        return Ok(wrap(refusal.response(http1), busy));
    }
    let (mut parts, incoming) = request.into_parts();
    if let Some(name) = connection.state.take_name() {
        parts.extensions.insert(name);
    }
    let config = &connection.shared.config;
    let connect = parts.method == Method::CONNECT;
    let tunnels = (config.connect && connect && http1) || (config.tunnels && tunnel::is_asked(&parts));
    if let Err(refusal) = check(&parts, config.max_body, tunnels) {
        connection.state.stats.count_refused(refusal);
        return Ok(wrap(refusal.response(http1), busy));
    }
    connection.state.stats.count_request();
    let offered = if tunnels { Offer::take(&mut parts) } else { None };
    let (offer, body, signal) = match offered {
        Some((offer, body)) => (Some(offer), body, None),
        None => {
            let (body, signal) = upload(&connection, incoming);
            (None, body, signal)
        }
    };
    let handler = Arc::clone(&connection.shared.handler);
    let peer = connection.peer;
    let early = (version == Version::HTTP_11 && config.interim).then(|| Early::new(Arc::clone(&connection.state), number));
    let handling = async move {
        let request = Request::from_parts(parts, body);
        match early {
            Some(early) => handler.handle_early(request, peer, early).await,
            None => handler.handle(request, peer).await,
        }
    };
    let handling = after_early(&connection.state, number, AssertUnwindSafe(handling).catch_unwind());
    let outcome = match &signal {
        None => handling.await,
        Some(signal) => match until_failed(handling, signal).await {
            Ok(outcome) => outcome,
            Err(refusal) => {
                connection.state.early.begin(number);
                return Ok(wrap(refusal.response(http1), busy));
            }
        },
    };
    let response = match outcome {
        Ok(response) if response.extensions().get::<Tunnel>().is_some() => switched(&connection, offer, response),
        Ok(response) if response.status().is_informational() => None,
        Ok(response) => Some(response),
        Err(_) => None,
    };
    let response = response.unwrap_or_else(|| {
        connection.state.stats.count_refused(Refusal::Defect);
        Refusal::Defect.response(false)
    });
    let response = if connect && !connection.state.is_upgraded() { last(response) } else { response };
    Ok(response.map(|body| Answer::new(body, busy).of_upload(signal)))
}

/// Lets the connection go on as a tunnel, where that was asked for and granted.
fn switched(connection: &Connection, offer: Option<Offer>, mut response: Response<Body>) -> Option<Response<Body>> {
    let switches = matches!(response.status(), StatusCode::SWITCHING_PROTOCOLS | StatusCode::OK);
    let granted = response.extensions_mut().remove::<Tunnel>().filter(|_| switches);
    let (answer, tunnel) = offer.zip(granted).map(|(offer, terms)| offer.accept(response, terms, &connection.state.stats))?;
    connection.state.upgrade(tunnel);
    Some(answer)
}

/// An answer after which the connection ends: what the client has sent behind its CONNECT is for nobody.
fn last(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn wrap(response: Response<Body>, busy: Busy) -> Response<Answer> {
    response.map(|body| Answer::new(body, busy))
}

fn upload(connection: &Connection, incoming: Incoming) -> (Body, Option<Arc<Signal>>) {
    if incoming.is_end_stream() {
        return (Body::empty(), None);
    }
    let signal = Arc::new(Signal::default());
    let upload = Upload::new(incoming, Arc::clone(&connection.state), Arc::clone(&signal), &connection.shared.config);
    (Body::stream(upload), Some(signal))
}

/// Polls a handler; what it makes comes after the interim answers that were sent before.
async fn after_early<F: Future>(state: &ConnState, request: u64, handling: F) -> F::Output {
    let mut handling = pin!(handling);
    let outcome = poll_fn(|cx| {
        let polled = handling.as_mut().poll(cx);
        if polled.is_pending() {
            state.early.watch(cx);
        }
        polled
    });
    let outcome = outcome.await;
    poll_fn(|cx| state.early.poll_begin(request, cx)).await;
    outcome
}

/// Polls `future` until it resolves or the request's body breaks off.
async fn until_failed<F: Future>(future: F, signal: &Signal) -> Result<F::Output, Refusal> {
    let mut future = pin!(future);
    poll_fn(move |cx| {
        if let Poll::Ready(refusal) = signal.poll_failed(cx) {
            return Poll::Ready(Err(refusal));
        }
        let outcome = Pin::as_mut(&mut future).poll(cx);
        // The body may have broken off during this very poll: the refusal says more than what the handler made of it.
        match signal.poll_failed(cx) {
            Poll::Ready(refusal) => Poll::Ready(Err(refusal)),
            Poll::Pending => outcome.map(Ok),
        }
    })
    .await
}

/// Checks that need a parsed request.
fn check(parts: &Parts, max_body: Option<u64>, tunnels: bool) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT && !tunnels {
        return Err(Refusal::Connect);
    }
    // An offer of HTTP/2 without TLS may be ignored (RFC 9110 section 7.8) and clients rely on that; others expect a switch.
    if !tunnels && parts.headers.get_all(UPGRADE).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"h2c")) {
        return Err(Refusal::Upgrade);
    }
    if let (Some(max), Some(length)) = (max_body, parts.headers.get(CONTENT_LENGTH)) {
        let length = length.to_str().ok().and_then(|text| text.parse::<u64>().ok()).ok_or(Refusal::Length)?;
        if length > max {
            return Err(Refusal::LargeBody);
        }
    }
    if parts.version >= Version::HTTP_2 { check_authority(parts) } else { Ok(()) }
}

fn check_authority(parts: &Parts) -> Result<(), Refusal> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::TwoHosts);
    }
    match (parts.uri.authority(), host) {
        (None, None) => Err(Refusal::NoHost),
        (Some(authority), Some(host)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => Err(Refusal::HostMismatch),
        (Some(authority), _) => check_host(authority.as_str().as_bytes()),
        (None, Some(host)) => check_host(host.as_bytes()),
    }
}
