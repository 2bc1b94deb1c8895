//! The lower half's way out: trait [`Origin`] and its decorators.
//!
//! [`build`] composes `Compress(Retry(Limiter(Breaker(Client))))` for one upstream, the limiter where its provider has a limit; a [`Batcher`] stands before
//! it where a route has one. Each decorator is an [`Origin`] around an [`Origin`], so a fake is an
//! `Origin` with nothing inside. The innermost [`Client`] reports every attempt through the call's sink.
//!
//! What passes byte-true: method, path and query (percent-encoding untouched), header names' and values' bytes and their order within a name,
//! body bytes, trailers. What changes on the way, all of it without meaning in HTTP:
//! - header names go out in lower case, and the order of fields with *different* names may change;
//! - `Host` (`:authority` in HTTP/2) is the upstream's, hop-by-hop fields are taken off, framing is chosen anew (chunk borders, HTTP version);
//! - where the configuration says so, request bodies are compressed ([`Compress`]);
//! - empty space around header values, interim (1xx) answers that nobody wants ([`CallSink::wants_interim`](farthing_types::CallSink::wants_interim)) and the
//!   reason phrase are dropped.
//!
//! Never done: decompression, asking for compressed answers in a client's place, redirects, cookies.

mod adapter;
mod batch;
mod breaker;
mod client;
pub mod coding;
mod compress;
mod connect;
mod credential;
mod deadline;
mod headers;
mod lanes;
mod later;
mod limiter;
mod line;
mod lines;
mod pool;
mod reply;
mod retry;
mod retry_budget;
mod router;
mod spec;
mod target;
mod traffic;
mod tunnel;
mod within;

use std::sync::Arc;

use farthing_types::{Call, Clock, Failure, Reply, Span};
use futures_util::future::BoxFuture;

pub use adapter::{Adapted, Adapter, AnswerMap, ErrorIf, Mapped, RequestMap, Unfit, Unmapped};
pub use batch::{
    BatchFormat, BatchSpec, BatchStats, Batcher, Broken, Embeddings, GraphqlArray, GraphqlMerge, IdList, Item, Joined, ListAnswer,
    ListFormat, Part, Piece, Rest, Seat, Ways, of_envelope,
};
pub use breaker::{Breaker, BreakerSpec, BreakerState, Health};
pub use client::{Client, frame};
pub use compress::{Compress, CompressSpec, REST, is_grpc};
pub use credential::{CREDENTIAL_HEADERS, Credential, Place, Secret};
pub use deadline::Deadline;
pub use headers::{is_hop_by_hop, one_length, strip_hop_by_hop};
pub use limiter::{Gate, Gated, Limiter, Slot, Turn};
pub use retry::{Retry, RetrySpec, Watched, is_repeatable};
pub use router::{Leg, LegReport, Router, RouterReport, RouterSpec};
pub use spec::{Protocol, Roots, UpstreamSpec};
pub use target::without_parameters;
pub use traffic::{NotRepeated, Squeezed, Traffic};
pub use tunnel::blind;

use within::Within;

/// Something that answers calls: a provider, or a decorator around one.
pub trait Origin: Send + Sync {
    /// Answers `call`: resolves at the reply's head, or fails. Dropping the future gives the call up; what was already sent may still be
    /// billed and has been reported through the call's sink.
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>>;
}

/// An upstream that cannot be built as specified.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The base URI lacks scheme or authority, has a query, or is not http(s).
    #[error("upstream {name}: base {base} must be http(s)://host[:port][/path] without query or fragment")]
    Base {
        /// The upstream.
        name: Arc<str>,
        /// The base, without user information.
        base: String,
    },
    /// The credential cannot stand in a header or query.
    #[error("upstream {name}: the credential has characters that cannot be sent in {place}")]
    Credential {
        /// The upstream.
        name: Arc<str>,
        /// Where it was to go.
        place: &'static str,
    },
    /// The root certificates cannot be read.
    #[error("upstream {name}: root certificates: {reason}")]
    Roots {
        /// The upstream.
        name: Arc<str>,
        /// What is wrong with them.
        reason: String,
    },
}

/// One upstream, ready to answer: `Compress(Retry(Limiter(Breaker(Client))))` with the breaker's state and the counters for status pages and metrics.
pub struct Upstream {
    name: Arc<str>,
    origin: Arc<dyn Origin>,
    breaker: Arc<dyn Origin>,
    again: Option<Arc<dyn Origin>>,
    leg: Arc<dyn Origin>,
    health: Arc<Health>,
    traffic: Arc<Traffic>,
    clock: Arc<dyn Clock>,
    gate: Option<Gated>,
}

impl Upstream {
    /// The upstream's name, as in reports.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
    /// The breaker's live state.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }
    /// How a batcher reaches it: no call is attempted more often with batches than without, and a batch call takes no longer than `timeout` from its
    /// turn under the provider's limits.
    pub fn ways(self: &Arc<Self>, timeout: Span) -> Ways {
        let within = Arc::new(Within::new(self.breaker.clone(), timeout));
        let once: Arc<dyn Origin> = match &self.gate {
            Some(gated) => Arc::new(Limiter::new(within, gated.clone(), self.clock.clone())),
            None => within,
        };
        Ways { usual: self.clone(), once, again: self.again.clone() }
    }
    /// How a router reaches it: each call is attempted once.
    pub fn leg(&self) -> &Arc<dyn Origin> {
        &self.leg
    }
    /// Whether attempts wait for their turn under limits of the provider.
    pub const fn is_gated(&self) -> bool {
        self.gate.is_some()
    }
    /// What happened towards it.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }
}

impl Origin for Upstream {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        self.origin.fetch(call)
    }
}

/// Builds the upstream of `spec`: `Compress(Retry(Limiter(Breaker(Client))))`. `clock` stamps reports and reads dates in `Retry-After`.
///
/// # Errors
/// When the specification cannot work at all; an upstream that is merely unreachable is built and fails per call.
pub fn build(spec: UpstreamSpec, clock: Arc<dyn Clock>) -> Result<Arc<Upstream>, UpstreamError> {
    let traffic = Arc::new(Traffic::default());
    let client = Arc::new(Client::new(&spec, Arc::clone(&clock), Arc::clone(&traffic))?);
    Ok(compose(client, spec, clock, traffic))
}

/// A router over `legs`, and what makes calls again that all of them have failed: `Retry(Router(Limiter(Breaker(Client))))`. Each round asks each
/// provider once at most. Nobody is kept from a further round by a breaker: each provider has its own.
pub fn over(legs: Vec<Leg>, spec: RouterSpec, retry: RetrySpec) -> (Router, Arc<dyn Origin>) {
    let (name, clock) = (spec.route.clone(), legs.first().map(|leg| leg.upstream.clock.clone()));
    let router = Router::new(legs, spec);
    let origin: Arc<dyn Origin> = Arc::new(router.clone());
    let Some(clock) = clock else { return (router, origin) };
    let watched = Watched { health: Arc::new(Health::new(BreakerSpec::default())), traffic: router.traffic().clone() };
    let origin = Arc::new(Retry::new(origin, name, retry, clock, watched));
    (router, origin)
}

/// The upstream of `spec` around another client than the one over the wire, which must report each attempt to the call's sink.
pub fn around(client: Arc<dyn Origin>, spec: UpstreamSpec, clock: Arc<dyn Clock>) -> Arc<Upstream> {
    compose(client, spec, clock, Arc::default())
}

fn compose(client: Arc<dyn Origin>, spec: UpstreamSpec, clock: Arc<dyn Clock>, traffic: Arc<Traffic>) -> Arc<Upstream> {
    let breaker = Breaker::new(client, Arc::clone(&spec.name), spec.breaker);
    let health = Arc::clone(breaker.health());
    let breaker: Arc<dyn Origin> = Arc::new(breaker);
    let once = match &spec.gate {
        Some(gated) => Arc::new(Limiter::new(breaker.clone(), gated.clone(), Arc::clone(&clock))),
        None => breaker.clone(),
    };
    let watched = Watched { health: Arc::clone(&health), traffic: Arc::clone(&traffic) };
    let usual = Retry::new(once.clone(), Arc::clone(&spec.name), spec.retry, Arc::clone(&clock), watched);
    let again = usual.again().map(|again| Arc::new(again) as Arc<dyn Origin>);
    let before = |inner: Arc<dyn Origin>| match spec.compress {
        Some(compress) => Arc::new(Compress::new(inner, compress, Arc::clone(&traffic))),
        None => inner,
    };
    let (origin, leg) = (before(Arc::new(usual)), before(once));
    Arc::new(Upstream { name: spec.name, origin, breaker, again, leg, health, traffic, clock, gate: spec.gate })
}
