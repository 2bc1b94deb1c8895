//! One request, from top to bottom.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_cache::{Cached, Followed, Join, Joined, SharedHead, Slot, Ticket};
use farthing_config::Dialect as ProviderDialect;
use farthing_freshness::Verdict;
use farthing_freshness::semantics::cache_status::{CacheStatus, Fwd};
use farthing_freshness::semantics::{Judged, acceptable, conditional, verdict};
use farthing_ledger::{Paid, Served};
use farthing_types::{Body, By, CallId, Failure, FailureKind, Money, Outcome, Purpose, RequestId, Span, Time, UncachedReason};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode};

use crate::answer::{self, Notes};
use crate::edge::{Handler, PeerInfo};
use crate::flight::{Flight, Order};
use crate::problem::{Dialect, Problem};
use crate::request::{CacheControl, Planned, receive};
use crate::run::{self, Job, Landing, Template};
use crate::settle::{Account, Settled};
use crate::state::State;
use crate::stream::{Accounted, Pending, content_length};

/// How often a request may find an entry that came in between, before it makes its own call.
const MAX_JOINS: usize = 4;

/// Logged where a client left before its answer began; nothing was sent.
const CLIENT_LEFT: u16 = 499;

/// The data port's handler.
pub struct Service {
    /// What all requests share.
    pub state: Arc<State>,
}

impl Handler for Service {
    fn handle(self: Arc<Self>, request: Request<Body>, _peer: PeerInfo) -> BoxFuture<'static, Response<Body>> {
        serve(self.state.clone(), request).boxed()
    }
}

/// What the cache has for a request.
enum Found {
    /// An entry to answer with.
    Usable(Usable),
    /// A call is needed; `stale` may stand in for it when it fails.
    Call { previous: Option<Arc<Cached>>, stale: Option<Span>, reason: UncachedReason },
    /// The cache has no part in it.
    Bypass(UncachedReason),
}

/// An entry that may answer a request.
struct Usable {
    entry: Arc<Cached>,
    age: Span,
    /// Freshness left, or how long past it the entry is.
    left: Result<Span, Span>,
}

impl Usable {
    /// An entry past its freshness that stands in for a failed call.
    fn expired(entry: Arc<Cached>, age: Span, variant: &str) -> Self {
        let ttl = entry.variant(variant).map(|v| v.ttl).or(entry.facts.explicit).unwrap_or_default();
        Self { left: Err(age.saturating_sub(ttl)), entry, age }
    }
}

/// Answers a request.
pub async fn serve(state: Arc<State>, request: Request<Body>) -> Response<Body> {
    let received = match receive(&state, request) {
        Ok(received) => received,
        Err(refused) => {
            state.counters.unrouted.fetch_add(1, Ordering::Relaxed);
            return unrouted(&refused.0, refused.1);
        }
    };
    let (dialect, id) = (received.route.dialect, received.id);
    let early = Account::early(&received);
    let planned = match received.identify(&state) {
        Ok(identified) => identified.plan(&state).await,
        Err(problem) => Err(problem),
    };
    let mut planned = match planned {
        Ok(planned) => planned,
        Err(problem) => {
            state.settle_request(&early, &refusal(&problem));
            return refused(&problem, dialect, id);
        }
    };
    let leaving = Leaving::new(&state, &planned);
    let mut response = match look_up(&state, &planned) {
        Found::Usable(usable) => {
            if usable.left.is_err() {
                refresh(&state, &mut planned, &usable.entry);
            }
            from_entry(&state, &planned, &usable, None)
        }
        Found::Call { .. } if planned.facts.only_if_cached => {
            let problem =
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "only-if-cached", "nothing usable is stored, and the request allows no call");
            own_answer(&state, &planned, &problem, Outcome::Refused)
        }
        Found::Call { previous, stale, reason } => joined(&state, &mut planned, Wanted { previous, stale, reason }).await,
        Found::Bypass(reason) => bypass(&state, &mut planned, reason).await,
    };
    leaving.stays();
    answer::debug(response.headers_mut(), &planned);
    response
}

/// Settles a request whose client leaves before there is an answer: the handler's future is dropped then.
struct Leaving(Option<(Arc<State>, Account)>);

impl Leaving {
    fn new(state: &Arc<State>, planned: &Planned) -> Self {
        Self(Some((state.clone(), Account::of(planned))))
    }
    fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Some((state, account)) = self.0.take() else { return };
        let overhead = Span::ZERO; // it was waiting; how long of it was ours cannot be told
        let mut left = settled(Outcome::Failed, None, (StatusCode::OK, overhead), None);
        (left.status, left.error) = (CLIENT_LEFT, Some("client-left"));
        left.paid = Paid { full: Some(Money::ZERO), attempts: Some(Money::ZERO) };
        state.settle_request(&account, &left);
    }
}

/// The settlement of a request that was refused before it could cost anything.
fn refusal(problem: &Problem) -> Settled {
    let mut refused = settled(Outcome::Refused, None, (problem.status, Span::ZERO), None);
    refused.error = Some(problem.kind);
    refused
}

fn unrouted(problem: &Problem, id: RequestId) -> Response<Body> {
    refused(problem, Dialect::Problem, id)
}

fn refused(problem: &Problem, dialect: Dialect, id: RequestId) -> Response<Body> {
    let mut response = problem.response(dialect);
    let notes = Notes { status: CacheStatus { detail: Some(problem.kind), ..CacheStatus::default() }, ..Notes::default() };
    answer::annotate(response.headers_mut(), id, &notes);
    response
}

// ---- looking up

fn look_up(state: &State, planned: &Planned) -> Found {
    if let Err(reason) = planned.cache {
        if is_keyed(reason) {
            note_unlooked(state, planned);
        }
        if planned.dedupe.is_err() || planned.facts.method == Method::HEAD {
            return Found::Bypass(reason);
        }
        return Found::Call { previous: None, stale: None, reason };
    }
    let entry = state.cache.lookup(planned.subject.key, &planned.headers, planned.at);
    state.note_request(&planned.route, is_new(state, planned, entry.as_ref()), planned.at);
    let Some(entry) = entry else { return missing(planned, None, UncachedReason::Cold) };
    if !acceptable(&entry.headers, &planned.headers) {
        return missing(planned, None, UncachedReason::Vary);
    }
    if planned.control == CacheControl::Refresh {
        return missing(planned, Some(entry), UncachedReason::RequestDirective);
    }
    judge(planned, entry)
}

/// Whether requests passed by for this reason have a key that means something.
const fn is_keyed(reason: UncachedReason) -> bool {
    !matches!(reason, UncachedReason::Method | UncachedReason::PassThrough | UncachedReason::TooLarge)
}

/// Notes a request that the cache was not asked for; a lookup notes by itself.
fn note_unlooked(state: &State, planned: &Planned) {
    let key = planned.subject.key;
    let new = state.cache.key_stats(key).is_none_or(|s| s.fetches() == 0);
    state.cache.update_key_stats(key, |stats| stats.on_request(planned.at));
    state.note_request(&planned.route, new, planned.at);
}

fn is_new(state: &State, planned: &Planned, entry: Option<&Arc<Cached>>) -> bool {
    entry.is_none() && state.cache.key_stats(planned.subject.key).is_none_or(|s| s.fetches() == 0)
}

fn missing(planned: &Planned, previous: Option<Arc<Cached>>, reason: UncachedReason) -> Found {
    // HEAD is answered from GET's entry but does not fill it.
    if planned.facts.method == Method::HEAD { Found::Bypass(reason) } else { Found::Call { previous, stale: None, reason } }
}

fn judge(planned: &Planned, entry: Arc<Cached>) -> Found {
    let judged = Judged::new(&entry, planned.variant_name(), entry.soft_purged());
    match verdict(&judged, &planned.facts, &planned.route.rules, planned.at) {
        Verdict::Fresh { age, left } => Found::Usable(Usable { entry, age, left: Ok(left) }),
        Verdict::StaleWhileRevalidate { age, past } => Found::Usable(Usable { entry, age, left: Err(past) }),
        _ if planned.facts.method == Method::HEAD => Found::Bypass(UncachedReason::Expired),
        Verdict::StaleIfError { age, reason } => Found::Call { previous: Some(entry), stale: Some(age), reason },
        Verdict::Revalidate { reason } => Found::Call { previous: Some(entry), stale: None, reason },
    }
}

// ---- answering from an entry

fn from_entry(state: &State, planned: &Planned, usable: &Usable, failed: Option<UncachedReason>) -> Response<Body> {
    let entry = &usable.entry;
    let stale = usable.left.is_err();
    entry.on_hit(planned.at, stale);
    let served = conditional::serve(entry, &planned.facts.method, &planned.headers, usable.age);
    let outcome = if stale { Outcome::Stale } else { Outcome::Hit };
    let chosen = entry.variant(planned.variant_name()).map(|v| (v.ttl, v.by.clone()));
    let ttl = chosen.or_else(|| entry.facts.explicit.map(|ttl| (ttl, By::Rule("origin"))));
    let overhead = state.real_now().since(planned.started);
    let settled = Settled {
        outcome,
        served: if stale { Served::Stale } else { Served::Hit },
        uncached: None,
        status: served.status.as_u16(),
        bytes_out: Some(served.body.len() as u64),
        latency: Some(overhead),
        age: Some(usable.age),
        call: None,
        decision: entry.decision,
        paid: Paid { full: entry.price, attempts: None },
        overhead,
        error: failed.map(UncachedReason::as_str),
        ttl,
    };
    let detail = answer::detail(outcome, failed, settled.ttl.as_ref().map(|(_, by)| by));
    let base = match usable.left {
        Ok(left) => CacheStatus::hit(left),
        Err(past) => CacheStatus::stale(past),
    };
    let notes = Notes {
        status: CacheStatus { detail: Some(&detail), ..base },
        overhead,
        upstream: None,
        cost: entry.price.map(|_| Money::ZERO),
        saved: entry.price,
    };
    let mut response = Response::new(Body::full(served.body));
    *response.status_mut() = served.status;
    *response.headers_mut() = served.headers;
    answer::annotate(response.headers_mut(), planned.id, &notes);
    state.settle_request(&Account::of(planned), &settled);
    response
}

/// Renews an entry in the background, unless somebody does already.
fn refresh(state: &Arc<State>, planned: &mut Planned, entry: &Arc<Cached>) {
    if planned.control == CacheControl::ReadOnly {
        return;
    }
    let join = Join { subject: &planned.subject, headers: &planned.headers, seen: Some(entry), now: planned.at };
    if let Joined::Lead(ticket) = state.cache.join(join) {
        state.counters.refreshes.fetch_add(1, Ordering::Relaxed);
        let wanted = Wanted { previous: Some(entry.clone()), stale: None, reason: UncachedReason::Expired };
        lead(state, planned, &wanted, (ticket, Purpose::Refresh));
    }
}

// ---- calls under a ticket

/// Why a call is wanted, and what may stand in for it.
struct Wanted {
    previous: Option<Arc<Cached>>,
    stale: Option<Span>,
    reason: UncachedReason,
}

async fn joined(state: &Arc<State>, planned: &mut Planned, mut wanted: Wanted) -> Response<Body> {
    for _ in 0..MAX_JOINS {
        let join = Join { subject: &planned.subject, headers: &planned.headers, seen: wanted.previous.as_ref(), now: state.clock.now() };
        match state.cache.join(join) {
            Joined::Lead(ticket) => {
                let slot = ticket.slot();
                lead(state, planned, &wanted, (ticket, Purpose::User));
                return wait(state, planned, wanted, (slot, true)).await;
            }
            Joined::Follow(_) if planned.dedupe.is_err() => break,
            Joined::Follow(slot) => return wait(state, planned, wanted, (slot, false)).await,
            Joined::Stored(_) if planned.cache.is_err() || planned.control == CacheControl::Refresh => break,
            Joined::Stored(entry) => match judge(planned, entry) {
                Found::Usable(usable) => return from_entry(state, planned, &usable, None),
                Found::Call { previous, stale, reason } => wanted = Wanted { previous, stale, reason },
                Found::Bypass(reason) => return bypass(state, planned, reason).await,
            },
            Joined::Alone(reason) => return bypass(state, planned, reason).await,
            Joined::Refused(failure) => return failed(state, planned, wanted, &failure),
        }
    }
    bypass(state, planned, wanted.reason).await
}

/// Starts the fill in a task of its own: its client may leave without harm.
fn lead(state: &Arc<State>, planned: &mut Planned, wanted: &Wanted, (ticket, purpose): (Ticket, Purpose)) {
    let body = planned.take_body().as_full().unwrap_or_default();
    let facts = farthing_ledger::RequestFacts::read(&body);
    let conditional = wanted.previous.is_some();
    let mut order = order(planned, purpose, if conditional { "revalidate" } else { wanted.reason.as_str() });
    (order.target, order.key) = (facts.target, ticket.key());
    let flight = Flight::new(CallId(state.ids.next()), state.clock.now(), planned.route.clone(), order);
    let metered = matches!(planned.route.provider.dialect, ProviderDialect::OpenAi | ProviderDialect::Anthropic);
    let job = Job {
        state: state.clone(),
        template: Template {
            method: planned.outbound.method.clone(),
            target: planned.outbound.target.clone(),
            headers: planned.unconditional(),
            body,
            deadline: planned.route.route.deadline,
            origin: planned.route.origin(planned.identity.swap),
        },
        request: planned.facts.clone(),
        previous: wanted.previous.clone(),
        cancel_idle: metered && facts.stream && purpose == Purpose::User,
        flight,
    };
    let landing = match (planned.cache, planned.control) {
        (Err(reason), _) => Landing::ShareOnly(ticket, reason),
        (Ok(()), CacheControl::ReadOnly) => Landing::ShareOnly(ticket, UncachedReason::RequestDirective),
        (Ok(()), _) => Landing::Store(ticket),
    };
    let state = state.clone();
    let tasks = state.tasks.clone();
    tasks.spawn(async move {
        // A panic must not end the task silently: the ticket's drop has handed over by then, this counts it.
        if std::panic::AssertUnwindSafe(run::run(job, landing)).catch_unwind().await.is_err() {
            state.counters.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("a fill panicked; its ticket was handed over");
        }
    });
}

fn order(planned: &Planned, purpose: Purpose, fetch_reason: &'static str) -> Order {
    let query = planned.outbound.target.query();
    Order {
        purpose,
        fetch_reason,
        payer: planned.identity.tenant.clone(),
        key: planned.subject.key,
        variant: planned.assigned.clone(),
        holdout: planned.holdout,
        measured: planned.measured,
        target: None,
        swap: planned.identity.swap,
        query_parameters: query.map_or(0, |q| u32::try_from(q.split('&').count()).unwrap_or(u32::MAX)),
    }
}

async fn wait(state: &Arc<State>, planned: &mut Planned, wanted: Wanted, place: (Slot, bool)) -> Response<Body> {
    let (mut slot, mut leading) = place;
    let _waiting = Waiting::new(state);
    let since = state.real_now();
    let until = tokio::time::Instant::now() + planned.deadline;
    loop {
        match tokio::time::timeout_at(until, slot.wait(&planned.headers)).await {
            Err(_) => {
                let failure = Failure::sent(FailureKind::Timeout, format!("no answer within {:?}", planned.deadline));
                return failed(state, planned, wanted, &failure);
            }
            Ok(Followed::Share(head, body)) => return shared(state, planned, wanted, Arrived { head, body, leading, since }),
            Ok(Followed::Alone(reason)) => return bypass(state, planned, reason).await,
            Ok(Followed::Failed(failure)) => return failed(state, planned, wanted, &failure),
            Ok(Followed::Lead(ticket)) => {
                slot = ticket.slot();
                leading = true;
                lead(state, planned, &wanted, (ticket, Purpose::User));
            }
        }
    }
}

/// Counts a waiting request for as long as it waits.
struct Waiting(Arc<State>);

impl Waiting {
    fn new(state: &Arc<State>) -> Self {
        state.counters.waiting.fetch_add(1, Ordering::Relaxed);
        Self(state.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.counters.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A shared answer as it reached one client.
struct Arrived {
    head: Arc<SharedHead>,
    body: Body,
    leading: bool,
    since: Time,
}

fn shared(state: &Arc<State>, planned: &Planned, wanted: Wanted, arrived: Arrived) -> Response<Body> {
    let Arrived { head, body, leading, since } = arrived;
    let is_error = matches!(head.status.as_u16(), 500 | 502 | 503 | 504);
    if is_error && let (Some(entry), Some(age)) = (&wanted.previous, wanted.stale) {
        let usable = Usable::expired(entry.clone(), age, planned.variant_name());
        return from_entry(state, planned, &usable, Some(UncachedReason::UpstreamFailed));
    }
    let Some(flight) = head.note.clone().and_then(|note| note.downcast::<Flight>().ok()) else {
        let failure = Failure::sent(FailureKind::Protocol, "the call's record is missing");
        return failed(state, planned, wanted, &failure);
    };
    let waited = state.real_now().since(since);
    let not_modified = conditional::not_modified(head.status, &head.headers, &planned.facts.method, &planned.headers);
    let (status, body) = if not_modified { (StatusCode::NOT_MODIFIED, Body::empty()) } else { (head.status, body) };
    let overhead = state.real_now().since(planned.started).saturating_sub(waited);
    let outcome = if leading { Outcome::Lead } else { Outcome::Follow };
    let settled = Settled {
        served: if leading { Served::Lead } else { Served::Follower },
        ..settled(outcome, Some(wanted.reason), (status, overhead), Some(flight.id))
    };
    let flat = flat_price(state, planned, head.status);
    let detail = answer::detail(outcome, Some(wanted.reason), None);
    let notes = Notes {
        status: CacheStatus { collapsed: !leading, detail: Some(&detail), ..CacheStatus::forward(Fwd::of(wanted.reason)) },
        overhead,
        upstream: Some(waited),
        cost: flat.map(|price| if leading { price } else { Money::ZERO }),
        saved: flat.map(|price| if leading { Money::ZERO } else { price }),
    };
    let pending = Pending { state: state.clone(), account: Account::of(planned), settled, flight };
    respond(planned, (status, head.headers.clone(), body), &notes, pending)
}

fn settled(outcome: Outcome, uncached: Option<UncachedReason>, head: (StatusCode, Span), call: Option<CallId>) -> Settled {
    Settled {
        outcome,
        served: outcome.into(),
        uncached,
        status: head.0.as_u16(),
        bytes_out: None,
        latency: None,
        age: None,
        ttl: None,
        call,
        decision: None,
        paid: Paid::default(),
        overhead: head.1,
        error: None,
    }
}

fn respond(planned: &Planned, head: (StatusCode, HeaderMap, Body), notes: &Notes<'_>, pending: Pending) -> Response<Body> {
    let (status, headers, body) = head;
    let body = Accounted::new(body, content_length(&headers), pending);
    let mut response = Response::new(Body::stream(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    answer::annotate(response.headers_mut(), planned.id, notes);
    response
}

/// The price of an answer that is known at its head: a flat price per call, of an answer that is billed whatever follows.
fn flat_price(state: &State, planned: &Planned, status: StatusCode) -> Option<Money> {
    let flat = state.prices.flat(&planned.route.route.name, &planned.route.provider.name);
    flat.filter(|_| status.is_success())
}

// ---- calls for one client alone

async fn bypass(state: &Arc<State>, planned: &mut Planned, reason: UncachedReason) -> Response<Body> {
    let keyed = is_keyed(reason);
    let body = planned.take_body();
    let purpose = if planned.holdout { Purpose::Holdout } else { Purpose::User };
    let mut order = order(planned, purpose, reason.as_str());
    order.target = body.as_full().and_then(|bytes| farthing_ledger::RequestFacts::read(&bytes).target);
    let flight = Flight::new(CallId(state.ids.next()), state.clock.now(), planned.route.clone(), order);
    let out = &planned.outbound;
    let head = (out.method.clone(), out.target.clone(), out.headers.clone());
    let since = state.real_now();
    let passed = run::pass(state, &flight, head, body, (planned.deadline, keyed)).await;
    let waited = state.real_now().since(since);
    let (status, headers, body) = match passed {
        Ok(answer) => answer,
        Err(failure) => {
            let wanted = Wanted { previous: None, stale: None, reason };
            return failed(state, planned, wanted, &failure);
        }
    };
    invalidate(state, planned, status);
    let overhead = state.real_now().since(planned.started).saturating_sub(waited);
    let settled = settled(Outcome::Bypass, Some(reason), (status, overhead), Some(flight.id));
    let detail = answer::detail(Outcome::Bypass, Some(reason), None);
    let notes = Notes {
        status: CacheStatus { detail: Some(&detail), ..CacheStatus::forward(Fwd::of(reason)) },
        overhead,
        upstream: Some(waited),
        cost: flat_price(state, planned, status),
        saved: None,
    };
    let pending = Pending { state: state.clone(), account: Account::of(planned), settled, flight };
    respond(planned, (status, headers, body), &notes, pending)
}

/// A successful unsafe request drops the entry of its target (RFC 9111 section 4.4).
fn invalidate(state: &State, planned: &Planned, status: StatusCode) {
    let safe = planned.facts.method.is_safe() || (planned.route.route.idempotent && planned.route.route.key_body);
    if safe || !(status.is_success() || status.is_redirection()) {
        return;
    }
    let target = &planned.outbound.target;
    let parts = farthing_freshness::KeyParts {
        tenant: &planned.subject.tenant,
        route: &planned.route.route.name,
        method: &Method::GET,
        authority: planned.route.authority(),
        target,
        headers: &planned.outbound.headers,
        body: &[],
    };
    let key = state.keyer.primary(&planned.route.key_spec, &parts);
    state.cache.purge(&farthing_cache::Purge::Key(key), false, state.clock.now());
}

// ---- failures

fn failed(state: &Arc<State>, planned: &Planned, wanted: Wanted, failure: &Failure) -> Response<Body> {
    if let (Some(entry), Some(age)) = (wanted.previous, wanted.stale) {
        let usable = Usable::expired(entry, age, planned.variant_name());
        return from_entry(state, planned, &usable, Some(UncachedReason::UpstreamFailed));
    }
    own_answer(state, planned, &Problem::from(failure), Outcome::Failed)
}

fn own_answer(state: &State, planned: &Planned, problem: &Problem, outcome: Outcome) -> Response<Body> {
    let overhead = state.real_now().since(planned.started);
    let mut settled = settled(outcome, Some(UncachedReason::UpstreamFailed), (problem.status, overhead), None);
    settled.error = Some(problem.kind);
    settled.paid = Paid { full: Some(Money::ZERO), attempts: Some(Money::ZERO) };
    state.settle_request(&Account::of(planned), &settled);
    let mut response = problem.response(planned.route.dialect);
    let notes = Notes { status: CacheStatus { detail: Some(problem.kind), ..CacheStatus::default() }, overhead, ..Notes::default() };
    answer::annotate(response.headers_mut(), planned.id, &notes);
    response
}
