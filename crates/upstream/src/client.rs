//! The innermost origin: one attempt over the wire.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use farthing_types::{Body, Call, CallId, CallReport, CallSink, Clock, Failure, FailureKind, Reply, Span, Time, TraceContext};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::connect::Connector;
use crate::credential::{Swap, printable};
use crate::headers::{one_length, strip_hop_by_hop};
use crate::pool::{Answered, Lost, Pool, Rest, Sent};
use crate::reply::ReplyBody;
use crate::retry::may_be_made_again;
use crate::target::Base;
use crate::traffic::{Traffic, UnderWay};
use crate::tunnel::{self, Tunnel};
use crate::{Origin, Protocol, UpstreamError, UpstreamSpec};

pub(crate) const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// Sends each call once, over pooled connections.
pub struct Client(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    base: Base,
    swap: Option<Swap>,
    pool: Pool,
    /// For tunnels: they have a connection each, which speaks HTTP/1.1. Made for the first; `None` where it cannot be.
    tunnels: OnceLock<Option<Pool>>,
    spec: UpstreamSpec,
    /// What goes up through tunnels.
    pumps: TaskTracker,
    slots: Arc<Semaphore>,
    slot_wait: Span,
    head_deadline: Span,
    /// Of attempts that may be repeated.
    try_deadline: Span,
    body_idle: Span,
    clock: Arc<dyn Clock>,
    traffic: Arc<Traffic>,
}

impl Client {
    /// A client for the upstream of `spec`; `clock` stamps its reports, `traffic` counts.
    ///
    /// # Errors
    /// When base, credential or root certificates cannot work.
    pub fn new(spec: &UpstreamSpec, clock: Arc<dyn Clock>, traffic: Arc<Traffic>) -> Result<Self, UpstreamError> {
        let name = &spec.name;
        let base = Base::new(&spec.base).ok_or_else(|| UpstreamError::Base { name: Arc::clone(name), base: printable(&spec.base) })?;
        let swap = spec.credential.as_ref().map(Swap::new).transpose();
        let swap = swap.map_err(|place| UpstreamError::Credential { name: Arc::clone(name), place })?;
        let pool = Pool::new(spec, &base, Connector::new(spec, &traffic)?);
        Ok(Self(Arc::new(Shared {
            name: Arc::clone(name),
            base,
            swap,
            pool,
            tunnels: OnceLock::new(),
            spec: spec.clone(),
            pumps: TaskTracker::new(),
            slots: Arc::new(Semaphore::new(spec.max_concurrent.min(Semaphore::MAX_PERMITS))),
            slot_wait: spec.connect_deadline,
            head_deadline: spec.head_deadline,
            try_deadline: spec.try_deadline.map_or(spec.head_deadline, |span| span.min(spec.head_deadline)),
            body_idle: spec.body_idle,
            clock,
            traffic,
        })))
    }
}

impl Origin for Client {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let shared = Arc::clone(&self.0);
        async move { shared.attempt(call).await }.boxed()
    }
}

impl Shared {
    async fn attempt(&self, mut call: Call) -> Result<Reply, Failure> {
        let ends = after(Instant::now(), call.deadline);
        let slot = self.slot(ends).await?;
        let attempt = Attempt::begin(&call, &self.name, self.clock.now());
        // Cutting a call short that cannot be made again would only throw away what is paid for.
        let again = call.body.as_full().is_some() && may_be_made_again(&call);
        let patience = if again { self.try_deadline } else { self.head_deadline };
        let (pool, up) = self.way(&mut call)?;
        let interim = call.sink.wants_interim().then(|| Arc::clone(&call.sink));
        let (span, id) = (call.sink.span(), call.id);
        let mut request = self.request(pool, call)?;
        if let Some(span) = span {
            tell_span(request.headers_mut(), (span, id));
        }
        match interim {
            _ if up.is_some() => tunnel::ask(request.headers_mut()),
            Some(sink) => hyper::ext::on_informational(&mut request, move |answer| hand_on(&*sink, answer.status(), answer.headers())),
            None => {}
        }
        let mut attempt = attempt.begun();
        let head_by = ends.min(after(attempt.began, patience));
        match pool.request(request, (head_by, ends), &mut attempt.sent).await {
            Ok(Answered { response, .. }) if response.status() == StatusCode::SWITCHING_PROTOCOLS => match up {
                Some(up) if tunnel::is_named(response.headers()) => Box::pin(self.open(response, (attempt, head_by), (up, slot))).await,
                _ => Err(attempt.failed(FailureKind::Protocol, "101 to a request that asked for no upgrade, or for another")),
            },
            Ok(answered) => {
                let response = &answered.response;
                attempt.answered(response.status());
                self.traffic.count_answer(response.version());
                self.pool.heed(response.headers());
                Ok(self.reply(answered, ends, slot))
            }
            Err(lost) => Err(attempt.lost(&lost)),
        }
    }

    /// Over which connections a call goes; what goes up later through a tunnel is no body of its request.
    fn way(&self, call: &mut Call) -> Result<(&Pool, Option<Body>), Failure> {
        if !tunnel::is_named(&call.headers) {
            return Ok((&self.pool, None));
        }
        let pool = self.tunnels.get_or_init(|| {
            let spec = UpstreamSpec { protocol: Protocol::Http1, ..self.spec.clone() };
            let connector = Connector::new(&spec, &self.traffic).ok().filter(|_| self.spec.protocol != Protocol::Http2);
            connector.map(|connector| Pool::shared(&spec, connector))
        });
        let pool = pool.as_ref().ok_or_else(|| tunnel::impossible(&self.name))?;
        let up = std::mem::take(&mut call.body);
        Ok((pool, Some(up)))
    }

    /// Goes on as a tunnel: what the upstream sends is the body of the answer.
    async fn open(
        &self,
        mut response: Response<Incoming>,
        (attempt, by): (Attempt, Instant),
        (up, slot): (Body, Slot),
    ) -> Result<Reply, Failure> {
        let Ok(Ok(io)) = timeout_at(by, hyper::upgrade::on(&mut response)).await else {
            return Err(attempt.failed(FailureKind::Broken, "the connection broke while it was upgraded"));
        };
        attempt.answered(response.status());
        self.traffic.count_answer(response.version());
        let (mut head, _) = response.into_parts();
        strip_hop_by_hop(&mut head.headers);
        let body = Body::stream(Tunnel::open(io, up, (slot, &self.pumps)));
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    /// Waits its turn among the upstream's concurrent calls, about as long as for a connection.
    async fn slot(&self, ends: Instant) -> Result<Slot, Failure> {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(self.taken(permit));
        }
        self.traffic.count_queued();
        let by = ends.min(after(Instant::now(), self.slot_wait));
        if let Ok(Ok(permit)) = Box::pin(timeout_at(by, Arc::clone(&self.slots).acquire_owned())).await {
            return Ok(self.taken(permit));
        }
        self.traffic.count_crowded();
        Err(Failure::unsent(FailureKind::Refused, format!("upstream {}: too many calls under way (max_concurrent)", self.name)))
    }

    fn taken(&self, permit: OwnedSemaphorePermit) -> Slot {
        Slot { _permit: permit, _under_way: UnderWay::new(&self.traffic) }
    }

    fn request(&self, pool: &Pool, call: Call) -> Result<Request<Body>, Failure> {
        let mut path_and_query = self.base.join(&call.target);
        let mut headers = call.headers;
        strip_hop_by_hop(&mut headers);
        headers.remove(HOST);
        if let Some(swap) = &self.swap {
            swap.headers(&mut headers);
            path_and_query = swap.path_and_query(path_and_query);
        }
        frame(&mut headers, &call.method, &call.body);
        let refused = |_| Failure::unsent(FailureKind::Refused, format!("upstream {}: the target is not a valid path", self.name));
        let mut request = Request::new(call.body);
        *request.headers_mut() = headers;
        *request.uri_mut() = pool.address(&self.base, path_and_query, request.headers_mut()).map_err(refused)?;
        *request.method_mut() = call.method;
        Ok(request)
    }

    fn reply(&self, answered: Answered, ends: Instant, slot: Slot) -> Reply {
        let (mut head, mut body) = answered.response.into_parts();
        strip_hop_by_hop(&mut head.headers);
        one_length(&mut head.headers);
        let body = match answered.rest {
            _ if body.is_end_stream() => Body::empty(),
            Rest::Here if body.size_hint().exact().is_some() => match whole(&mut body) {
                Some(whole) => Body::full(whole),
                None => Body::stream(ReplyBody::new((body, Rest::Here), (ends, self.body_idle), slot)),
            },
            rest => Body::stream(ReplyBody::new((body, rest), (ends, self.body_idle), slot)),
        };
        Reply { status: head.status, headers: head.headers, body }
    }
}

/// A body of known length that is here to its end: hyper hands on no second piece before the first is taken, so it is one.
fn whole(body: &mut Incoming) -> Option<Bytes> {
    match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
        _ => None,
    }
}

/// Makes this attempt the parent of what the provider records, where it would be told that the call is.
fn tell_span(headers: &mut HeaderMap, (span, call): (TraceContext, CallId)) {
    let of_call = |told: &HeaderValue| told.to_str().ok().and_then(TraceContext::parse).is_some_and(|parent| parent.span() == call.0);
    if let Some(told) = headers.get_mut(&TRACE_PARENT).filter(|told| of_call(told))
        && let Ok(parent) = HeaderValue::try_from(span.to_string())
    {
        *told = parent;
    }
}

/// An interim answer; 100 answers a question of the connection's own, and 101 is none.
fn hand_on(sink: &dyn CallSink, status: StatusCode, headers: &HeaderMap) {
    if !matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
        let mut headers = headers.clone();
        strip_hop_by_hop(&mut headers);
        sink.interim(status, headers);
    }
}

/// A place among the upstream's calls; held until the answer's body has ended.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
    _under_way: UnderWay,
}

/// `span` after `from`, or about thirty years when that is beyond the clock.
pub(crate) fn after(from: Instant, span: Span) -> Instant {
    from.checked_add(span).unwrap_or_else(|| from + Span::from_secs(86_400 * 365 * 30))
}

/// Makes the framing fields say what the body is: hyper trusts them over the body.
pub fn frame(headers: &mut HeaderMap, method: &Method, body: &Body) {
    let exact = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
    let mut announced = headers.get_all(CONTENT_LENGTH).iter();
    let first = announced.next().cloned();
    let single = announced.next().is_none();
    match (exact, first) {
        (Some(_), None) => {}
        (Some(length), Some(told)) => {
            if !single || told.as_bytes() != length.to_string().as_bytes() {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
        }
        (None, Some(_)) if single => {}
        (None, _) => {
            headers.remove(CONTENT_LENGTH);
            // For these two hyper would take a body of unknown length for none and lose it.
            if *method == Method::GET || *method == Method::HEAD {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
    }
}

/// One attempt under way. Reports itself exactly once; when dropped before an answer (the caller gave up) as broken.
struct Attempt {
    sink: Option<Arc<dyn CallSink>>,
    call: CallId,
    upstream: Arc<str>,
    started: Time,
    began: Instant,
    /// Its request is formed, so that it is one.
    begun: bool,
    sent: Sent,
}

impl Attempt {
    fn begin(call: &Call, upstream: &Arc<str>, started: Time) -> Self {
        Self {
            sink: Some(Arc::clone(&call.sink)),
            call: call.id,
            upstream: Arc::clone(upstream),
            started,
            began: Instant::now(),
            begun: false,
            sent: Sent::default(),
        }
    }
    fn begun(mut self) -> Self {
        self.begun = true;
        self
    }
    fn answered(mut self, status: StatusCode) {
        self.report(Some(status), None, true);
    }
    fn failed(self, kind: FailureKind, detail: &str) -> Failure {
        self.failed_as((kind, detail.to_owned(), false))
    }
    fn lost(self, lost: &Lost) -> Failure {
        self.failed_as(lost.told())
    }
    fn failed_as(mut self, (kind, detail, untouched): (FailureKind, String, bool)) -> Failure {
        let sent = !untouched && self.sent.is_set();
        self.report(None, Some(kind), sent);
        Failure { sent, ..Failure::unsent(kind, format!("upstream {}: {detail}", self.upstream)) }
    }
    fn report(&mut self, status: Option<StatusCode>, failure: Option<FailureKind>, sent: bool) {
        let Some(sink) = self.sink.take() else { return };
        sink.attempt(CallReport {
            call: self.call,
            attempt: 0,
            started: self.started,
            head_after: self.began.elapsed(),
            status,
            failure,
            upstream: Arc::clone(&self.upstream),
            sent,
            batch: None,
            routed: None,
        });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.begun {
            let sent = self.sent.is_set();
            self.report(None, Some(FailureKind::Broken), sent);
        }
    }
}
