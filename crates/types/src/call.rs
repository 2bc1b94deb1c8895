//! The border between the upper half (one client) and the lower half (anyone, any time) of the request path.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::reasons;
use crate::{
    BatchAnswer, BatchPart, BatchTerms, Body, CallId, Claim, KeyHash, Limited, Money, RouteName, RoutingWeights, Span, Tenant, Time,
    TraceContext,
};

reasons! {
    /// Why a call is made, and so who caused its cost.
    Purpose {
        /// A client waits for it.
        User = "user",
        /// A stale or nearly stale entry is renewed in the background.
        Refresh = "refresh",
        /// A client waits for it; the copy that should have answered was lost: flushed, purged as a whole, or gone with a restart.
        Refill = "refill",
        /// Fetched before anybody asked.
        Prefetch = "prefetch",
        /// Fetched before anybody asked, because an operator ordered it.
        Warm = "warm",
        /// Made to measure staleness.
        Audit = "audit",
        /// Bought although an answer was cached, to measure what the cache saves.
        Holdout = "holdout",
    }
}

impl Purpose {
    /// Whether a client waits for the call.
    pub const fn is_waited_for(self) -> bool {
        matches!(self, Self::User | Self::Refill | Self::Holdout)
    }
}

/// A call to a provider: everything the lower half needs, owned.
pub struct Call {
    /// Joins the call's attempts with the requests they answered.
    pub id: CallId,
    /// The route that ordered it.
    pub route: RouteName,
    /// The tenant who pays.
    pub payer: Tenant,
    /// Why it is made.
    pub purpose: Purpose,
    /// The cache key it fills, when it fills one.
    pub key: Option<KeyHash>,
    /// The method.
    pub method: Method,
    /// Path and query as they go upstream (credentials in the query included); the authority comes from the upstream.
    pub target: Uri,
    /// End-to-end headers as they go upstream, without hop-by-hop fields and Host; but `upgrade: websocket` asks for a tunnel: `body` then is what
    /// goes up through it after an answer 101, whose body is what comes down.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// Whether the route says that making it again does no harm, whatever its method.
    pub repeatable: bool,
    /// When the call must have ended, on the tokio timeline as a span from now.
    pub deadline: Span,
    /// What it claims of limits.
    pub claim: Claim,
    /// Under which terms it may be made together with others; `None`: alone.
    pub batch: Option<BatchTerms>,
    /// What a route with several providers chooses one by; `None` where it has one.
    pub routing: Option<RouteTerms>,
    /// Where each attempt is reported.
    pub sink: Arc<dyn CallSink>,
}

impl Call {
    /// The same call with this body: one to be made again, or in other words.
    pub fn with_body(&self, body: Bytes) -> Self {
        Self {
            id: self.id,
            route: Arc::clone(&self.route),
            payer: Arc::clone(&self.payer),
            purpose: self.purpose,
            key: self.key,
            method: self.method.clone(),
            target: self.target.clone(),
            headers: self.headers.clone(),
            body: Body::full(body),
            repeatable: self.repeatable,
            deadline: self.deadline,
            claim: self.claim,
            batch: self.batch.clone(),
            routing: self.routing.clone(),
            sink: Arc::clone(&self.sink),
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No headers: they may hold credentials.
        f.debug_struct("Call")
            .field("id", &self.id)
            .field("route", &self.route)
            .field("method", &self.method)
            .field("path", &self.target.path())
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

/// What a route with several providers chooses one for a call by.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteTerms {
    /// What the call would cost at each, in the route's order; `None` is unknown.
    pub prices: Arc<[Option<Money>]>,
    /// The only one that may be asked, by its place: money is set aside for no other.
    pub only: Option<usize>,
    /// Choosing is switched off: the first is asked alone, unless money is set aside for another.
    pub bypassed: bool,
    /// What counts for this call; `None` as its route says.
    pub weights: Option<RoutingWeights>,
}

impl RouteTerms {
    /// The place of whoever may be asked alone.
    pub fn alone(&self) -> Option<usize> {
        self.only.or(self.bypassed.then_some(0))
    }
}

/// A provider's answer: the head at once, the body as it comes.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// End-to-end headers; hop-by-hop fields are removed.
    pub headers: HeaderMap,
    /// The body, with trailers where the provider sent some.
    pub body: Body,
}

reasons! {
    /// What went wrong with a call.
    FailureKind {
        /// Name resolution, connect or TLS failed: no byte was sent.
        Connect = "connect",
        /// The connection broke before the head arrived; the request may have been processed.
        Broken = "broken",
        /// The head did not arrive in time.
        Timeout = "timeout",
        /// The breaker is open: not tried.
        BreakerOpen = "breaker-open",
        /// The answer was not HTTP.
        Protocol = "protocol",
        /// Refused before sending: bounds of ours.
        Refused = "refused",
        /// Refused before sending by a limit of the provider.
        RateLimited = "rate-limited",
        /// The holder of the ticket vanished (panic or cancel) too often.
        LeaderGone = "leader-gone",
        /// The call for a list of items was refused, and nobody can tell for which of them.
        ListRefused = "list-refused",
        /// The request body broke off or was too large.
        RequestBody = "request-body",
        /// The provider answered, and its answer cannot be brought into the shape of the route.
        Unmapped = "unmapped",
    }
}

/// A failed call, cheap to hand to every follower.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// Details for the log and the problem document; holds no secrets.
    pub detail: Arc<str>,
    /// Whether request bytes had gone out: then a non-idempotent call must not be repeated.
    pub sent: bool,
    /// How a limit refused it; `None` for every other kind.
    pub limited: Option<Limited>,
}

impl Failure {
    /// A failure before any byte was sent.
    pub fn unsent(kind: FailureKind, detail: impl Into<Arc<str>>) -> Self {
        Self { kind, detail: detail.into(), sent: false, limited: None }
    }
    /// A failure after request bytes were sent.
    pub fn sent(kind: FailureKind, detail: impl Into<Arc<str>>) -> Self {
        Self { kind, detail: detail.into(), sent: true, limited: None }
    }
    /// A call that a limit of the provider refused.
    pub fn limited(limited: Limited, detail: impl Into<Arc<str>>) -> Self {
        Self { limited: Some(limited), ..Self::unsent(FailureKind::RateLimited, detail) }
    }
}

/// Units that a provider bills; disjoint buckets. `None` is unknown, never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Uncached input tokens.
    pub input: Option<u64>,
    /// Input tokens read from the provider's prompt cache.
    pub cached_input: Option<u64>,
    /// Input tokens written to the provider's prompt cache for its usual lifetime.
    pub cache_write: Option<u64>,
    /// Input tokens written to the provider's prompt cache for an hour.
    pub cache_write_1h: Option<u64>,
    /// Output tokens, reasoning excluded.
    pub output: Option<u64>,
    /// Reasoning tokens.
    pub reasoning: Option<u64>,
    /// Units of a route-specific meter (items, characters ...).
    pub units: Option<u64>,
}

/// One attempt of a call, as the innermost client saw it.
#[derive(Clone, Debug)]
pub struct CallReport {
    /// The call.
    pub call: CallId,
    /// 0 for the first attempt.
    pub attempt: u16,
    /// When the attempt began, by the proxy's clock.
    pub started: Time,
    /// From begin to the head (or to the failure), in real time.
    pub head_after: Span,
    /// The status, when a head arrived.
    pub status: Option<StatusCode>,
    /// What went wrong, when no head arrived.
    pub failure: Option<FailureKind>,
    /// Name of the upstream that was tried.
    pub upstream: Arc<str>,
    /// Whether request bytes went out: from then on the call may be billed.
    pub sent: bool,
    /// The part in a batch call, where the attempt was made for others too.
    pub batch: Option<BatchPart>,
    /// Which provider of a route with several was asked; `None` where it has one.
    pub routed: Option<Routed>,
}

/// Which of a route's providers an attempt went to.
#[derive(Clone)]
pub struct Routed {
    /// The provider, who bills it.
    pub provider: Arc<str>,
    /// Its place among the route's.
    pub place: usize,
    /// Why it was asked: a stable string.
    pub by: &'static str,
    /// It stood in for another: its answer is not to be kept as if the other had given it.
    pub fallback: bool,
    /// Its answer in its own shape, by which the attempt is priced; `None` where the answer passes as it is.
    pub answer: Option<Arc<BatchAnswer>>,
}

impl fmt::Debug for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No answer: it is the client's business.
        f.debug_struct("Routed").field("provider", &self.provider).field("by", &self.by).finish_non_exhaustive()
    }
}

impl CallReport {
    /// The only attempt of a call that went out and took no time: what stands for an upstream where there is no wire.
    pub fn only(call: &Call, upstream: &str, status: Option<StatusCode>) -> Self {
        Self {
            call: call.id,
            attempt: 0,
            started: Time::ZERO,
            head_after: Span::ZERO,
            status,
            failure: None,
            upstream: upstream.into(),
            sent: true,
            batch: None,
            routed: None,
        }
    }
}

/// Tokens that an attempt has reserved of limits.
pub trait Reserved: Send {
    /// Told once what the attempt has used, where that is known. Who is dropped untold stays reserved.
    fn used(self: Box<Self>, tokens: u64);
}

/// Receives the reports of a call's attempts.
pub trait CallSink: Send + Sync {
    /// Takes one attempt's report; must not block.
    fn attempt(&self, report: CallReport);
    /// Takes how long an attempt has waited for its turn under a limit, before it was made; must not block.
    fn waited(&self, _span: Span) {}
    /// Takes what is to be told the tokens of the attempt that comes next; must not block.
    fn reserved(&self, _tokens: Box<dyn Reserved>) {}
    /// The span of the attempt that comes next, where it will be recorded: what the provider is told as the parent of its own.
    fn span(&self) -> Option<TraceContext> {
        None
    }
    /// Whether somebody wants interim answers (1xx) of the provider; asked once for each attempt.
    fn wants_interim(&self) -> bool {
        false
    }
    /// Takes an interim answer with its end-to-end headers, before the answer itself; must not block.
    fn interim(&self, _status: StatusCode, _headers: HeaderMap) {}
    /// Takes what became of the answer of the attempt that was reported last, where it was read to be mapped; must not block.
    fn mapped(&self, _read: MappedAnswer) {}
}

/// An answer that was read to be brought into the shape of its route.
#[derive(Clone)]
pub struct MappedAnswer {
    /// As its provider gave it, as far as it came.
    pub answer: Arc<BatchAnswer>,
    /// The share of required fields that it has; `None` where that says nothing, as of errors.
    pub complete: Option<f64>,
    /// Why it cannot be delivered.
    pub failure: Option<FailureKind>,
}

/// A sink that drops everything, for tests.
#[derive(Debug, Default)]
pub struct NoSink;
impl CallSink for NoSink {
    fn attempt(&self, _report: CallReport) {}
}
