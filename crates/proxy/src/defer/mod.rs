//! Calls that can wait go to the provider's batch endpoint, at its price for batches; whoever has no answer at the last safe time is called
//! directly (docs/llm.md). What is decided is in `farthing_policy::defer`.
//!
//! A batch is written down before it is sent, and taken up again after a restart: what the provider bills of it has its row.

mod batch;
mod kept;
mod queue;
mod resume;
mod stats;
mod unused;
mod wire;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use farthing_config::{Config, DeferConfig, Route};
use farthing_ledger::usage::service::BATCH;
use farthing_policy::defer::{DeferAsk, DeferReason, DeferTerms, Times, Waits, decide};
use farthing_policy::plan::RequestKind;
use farthing_policy::switches::MarkWorth;
use farthing_types::{Body, Call, CallReport, Failure, FailureKind, Money, Reply, Span, UncachedReason, Usage};
use farthing_upstream::Origin;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use memchr::memmem;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::asking;
use crate::flight::Flight;
use crate::pricing::Charged;
use crate::request::Planned;
use crate::state::State;

pub use kept::Place;
use queue::{Group, Member, Queues};
use stats::DeferStats;
use unused::Answer;
use wire::Wire;

pub use stats::DeferReport;

/// Fields of requests that are answered in another way: a response in the background has a life of its own, and a tier has its price.
const OTHER_WAYS: [&[u8]; 2] = [b"\"background\"", b"\"service_tier\""];
/// Enough input to compare prices by.
const SAMPLE: Usage = Usage {
    input: Some(1_000_000),
    cached_input: None,
    cache_write: None,
    cache_write_1h: None,
    output: None,
    reasoning: None,
    units: None,
};

/// How one route defers.
pub struct Defer {
    config: DeferConfig,
    wire: Wire,
    terms: DeferTerms,
    queues: Mutex<Queues>,
    /// The provider's ids of batches under way that are known to be ours.
    known: Mutex<HashSet<String>>,
    direct: Mutex<Times>,
    waiting: AtomicU64,
    bytes: AtomicU64,
    worth: Mutex<MarkWorth>,
    stats: DeferStats,
    place: Place,
}

impl Defer {
    /// That of a route; `None` where nothing is deferred, or where there is no folder to write batches down.
    pub fn of(config: &Config, route: &Route) -> Option<Arc<Self>> {
        let (of_route, place) = (route.defer?, Place::below(&config.state_dir)?);
        let wire = Wire::of(config.provider(&route.provider)?.dialect)?;
        let terms = DeferTerms {
            window: of_route.window,
            min_deadline: of_route.min_deadline,
            margin: of_route.margin,
            max_waiting: u64::from(of_route.max_waiting),
            max_bytes: of_route.max_bytes,
        };
        Some(Arc::new(Self {
            config: of_route,
            wire,
            terms,
            queues: Mutex::new(Queues::new(of_route.batch_time)),
            known: Mutex::default(),
            direct: Mutex::new(Times::new(of_route.direct_time)),
            waiting: AtomicU64::default(),
            bytes: AtomicU64::default(),
            worth: Mutex::default(),
            stats: DeferStats::default(),
            place,
        }))
    }

    /// A direct call has taken so long.
    pub fn note_direct(&self, took: Span) {
        self.direct.lock().note(took);
    }
}

/// What a call waits for.
pub struct Deferred {
    group: Group,
    flush_at: Instant,
    direct_at: Instant,
    until: Instant,
    since: Instant,
    /// It came out of a batch.
    came: AtomicBool,
    /// It did when nobody waited for it any more.
    unused: bool,
    /// Counts it among those that wait.
    _room: Option<Room>,
}

impl Deferred {
    /// What became of the call, as the log says it.
    pub fn became(&self) -> &'static str {
        match (self.came(), self.unused) {
            (true, true) => "unused",
            (true, false) => "batch",
            (false, _) => "direct",
        }
    }

    /// Whether the answer came out of a batch.
    pub fn came(&self) -> bool {
        self.came.load(Relaxed)
    }
}

/// Whether and why a request waits for a batch.
#[derive(Default)]
pub struct Waiting {
    /// The client has said itself how long it waits.
    patient: bool,
    /// What it waits for; `None` where its call goes directly.
    pub deferred: Option<Box<Deferred>>,
    /// Why, or why not; `None` where that was no question.
    pub why: Option<DeferReason>,
}

impl Waiting {
    /// Not decided yet, of a client that has said how long it waits, or not.
    pub fn of(patient: bool) -> Self {
        Self { patient, ..Self::default() }
    }
}

/// Room that a waiting request takes; given back when it is dropped.
struct Room(Arc<Defer>, u64);

impl Room {
    fn take(defer: &Arc<Defer>, bytes: u64) -> Self {
        defer.waiting.fetch_add(1, Relaxed);
        defer.bytes.fetch_add(bytes, Relaxed);
        Self(defer.clone(), bytes)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
        self.0.bytes.fetch_sub(self.1, Relaxed);
    }
}

/// Whether a request that passes by the cache for this reason may wait all the same.
pub const fn may_pass(reason: UncachedReason) -> bool {
    use UncachedReason::{Bypassed, Holdout, Observe, PassThrough, TooLarge};
    !matches!(reason, Bypassed | Holdout | Observe | PassThrough | TooLarge)
}

/// What `Cache-Status` tells of a call that was deferred.
pub fn detail(flight: &Flight) -> Option<&'static str> {
    flight.deferred.as_ref().map(|deferred| if deferred.came() { "deferred" } else { "deferred-direct" })
}

/// Notes in a request whether its call waits for the provider's batch endpoint, or why not.
pub fn choose(state: &State, planned: &mut Planned) {
    let Some(defer) = planned.account.route.defer.clone().filter(|_| is_ours(planned)) else { return };
    let chosen = weigh(state, planned, &defer);
    let why = chosen.as_ref().err().copied().unwrap_or(DeferReason::Deferred);
    defer.stats.decided(why);
    (planned.waits.deferred, planned.waits.why) = (chosen.ok().map(Box::new), Some(why));
}

/// Whether the strategy has a say in a request.
fn is_ours(planned: &Planned) -> bool {
    let account = &planned.account;
    let route = &*account.route;
    let allowed = route.plan.defer(RequestKind::of(account.method.as_str(), route.route.idempotent)).is_ok();
    // Whoever has not said how long it waits is not to wait.
    allowed && !asking::is_left_alone(planned) && planned.waits.patient && planned.through.is_none() && account.part.is_none()
}

fn weigh(state: &State, planned: &Planned, defer: &Arc<Defer>) -> Result<Deferred, DeferReason> {
    let account = &planned.account;
    let (group, bytes) = form(planned, defer.wire)?;
    let own = defer.wire.of_calls().iter().any(|name| planned.headers.contains_key(*name)) || asking::is_vouched_for(&planned.headers);
    if own || !account.identity.swap || account.route.swap.is_none() {
        return Err(DeferReason::Client);
    }
    if !is_cheaper(state, planned, &group.target) {
        return Err(DeferReason::NoPrice);
    }
    if !defer.worth.lock().may(state.clock.now()).0 {
        return Err(DeferReason::SwitchedOff);
    }
    let now = Instant::now();
    let (batch, under_way) = defer.queues.lock().times(&group, now).ok_or(DeferReason::Full)?;
    let deadline = planned.deadline.saturating_sub(state.real_now().since(account.started));
    let ask = DeferAsk {
        deadline,
        bytes,
        waiting: (defer.waiting.load(Relaxed), defer.bytes.load(Relaxed)),
        batch,
        under_way,
        direct: defer.direct.lock().high(),
    };
    let Waits { flush, direct } = decide(&defer.terms, &ask)?;
    Ok(Deferred {
        group,
        flush_at: now + flush,
        direct_at: now + direct,
        until: now + deadline,
        since: now,
        came: AtomicBool::new(false),
        unused: false,
        _room: Some(Room::take(defer, bytes)),
    })
}

/// Which batches a request may go into, and how long its line is.
fn form(planned: &Planned, wire: Wire) -> Result<(Group, u64), DeferReason> {
    let target = &planned.outbound.target;
    let (path, post) = (target.path(), planned.account.method == Method::POST && target.query().is_none());
    let endpoint = wire.endpoints().iter().find(|endpoint| path.ends_with(**endpoint)).filter(|_| post).ok_or(DeferReason::Form)?;
    let body = planned.outbound.body.as_full().filter(|_| !planned.headers.contains_key(CONTENT_ENCODING)).ok_or(DeferReason::Form)?;
    let facts = planned.outbound.facts().filter(|facts| !facts.stream).ok_or(DeferReason::Form)?;
    let other = OTHER_WAYS.iter().any(|field| memmem::find(&body, field).is_some());
    // Nor does a batch work fast.
    let fast = facts.service.as_deref().is_some_and(|service| service.starts_with("fast") || service.starts_with("speed"));
    if other || fast || !wire::is_object(&body) {
        return Err(DeferReason::Form);
    }
    let named = facts.target.clone().ok_or(DeferReason::Form)?;
    let prefix = path.strip_suffix(endpoint).unwrap_or_default().into();
    let version = match wire.version() {
        Some(name) => Some(planned.headers.get(name).and_then(|version| version.to_str().ok()).ok_or(DeferReason::Form)?.into()),
        None => None,
    };
    Ok((Group { prefix, endpoint, target: named, version }, body.len() as u64))
}

fn is_cheaper(state: &State, planned: &Planned, target: &str) -> bool {
    let route = &planned.account.route;
    let quote = |service| {
        let names = (&*route.route.name, &*route.provider.name);
        state.pricing.quote_service(names, (Some(target), service), planned.account.at, &SAMPLE)
    };
    quote(Some(BATCH)).zip(quote(None)).is_some_and(|(batch, direct)| batch < direct)
}

/// Makes a call: out of a batch, where it waits for one and that comes in time; else directly.
///
/// # Errors
/// As [`Origin::fetch`].
pub async fn fetch(state: &Arc<State>, flight: &Arc<Flight>, origin: Arc<dyn Origin>, mut call: Call) -> Result<Reply, Failure> {
    if let Some((defer, deferred)) = flight.route.defer.as_ref().zip(flight.deferred.as_ref()) {
        let body = call.body.as_full().unwrap_or_default();
        if let Some(answer) = wait(state, flight, (defer, deferred), body).await {
            return Ok(delivered(flight, deferred, &call, answer));
        }
        if state.tasks.is_closed() {
            // Its client is cut off by now: nothing is bought for nobody.
            return Err(Failure::unsent(FailureKind::LeaderGone, "Farthing ends, and the call still waited for a batch"));
        }
        call.deadline = deferred.until.saturating_duration_since(Instant::now());
        call.claim.patience = call.claim.patience.min(call.deadline);
    }
    state.fetch(flight, origin, call).await
}

/// Waits for a batch; `None` where the call is to be made directly.
async fn wait(state: &Arc<State>, flight: &Arc<Flight>, of: (&Arc<Defer>, &Deferred), body: Bytes) -> Option<Answer> {
    let (defer, deferred) = of;
    let (tell, told) = oneshot::channel();
    let member = Member::new(state, flight, (deferred.flush_at, tell), body);
    let mut seat = Seat { told: Some(told), state, flight };
    queue::push(state, &flight.route, defer, (&deferred.group, member));
    let told = seat.told.as_mut()?;
    let came = tokio::select! {
        biased;
        told = told => told.ok(),
        () = tokio::time::sleep_until(deferred.direct_at) => {
            defer.stats.add(|stats| &stats.last_moment);
            return None;
        }
    };
    seat.told = None;
    if came.is_none() {
        defer.stats.add(|stats| &stats.unanswered);
    }
    came
}

/// The place of who waits. What comes in the moment in which it is left is billed, too.
struct Seat<'a> {
    told: Option<oneshot::Receiver<Answer>>,
    state: &'a Arc<State>,
    flight: &'a Flight,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let Some(mut told) = self.told.take() else { return };
        told.close();
        if let Ok(answer) = told.try_recv() {
            self.state.settle_unused(&self.flight.route, &answer);
        }
    }
}

/// The answer as the call would have got it.
fn delivered(flight: &Flight, deferred: &Deferred, call: &Call, answer: Answer) -> Reply {
    deferred.came.store(true, Relaxed);
    let wire::Line { status, body, request_id, .. } = answer.line;
    let took = Instant::now().saturating_duration_since(deferred.since);
    call.sink.attempt(CallReport {
        started: flight.at,
        head_after: took,
        ..CallReport::only(call, flight.route.pass.name(), Some(status))
    });
    Reply { status, headers: head(request_id.as_deref()), body: Body::full(body) }
}

fn head(request_id: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    if let Some(id) = request_id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert("x-request-id", id);
    }
    headers
}

impl State {
    /// A call has ended: what came of it if it was deferred.
    pub fn deferred_ended(&self, flight: &Flight, charged: &Charged) {
        let Some((defer, deferred)) = flight.route.defer.as_ref().zip(flight.deferred.as_ref().filter(|deferred| deferred.came())) else {
            return;
        };
        let cost = charged.costs.iter().copied().sum::<Option<Money>>();
        let Some((direct, cost)) = charged.direct.flatten().zip(cost) else { return };
        let (saved, most) = if deferred.unused { (Money::ZERO - cost, direct) } else { (direct - cost, direct) };
        defer.stats.ended(deferred.unused, saved);
        defer.worth.lock().take(self.clock.now(), saved, most);
    }

    /// What is told of the routes that defer.
    pub fn defers(&self) -> Vec<DeferReport> {
        let report = |route: &Arc<crate::route::RouteState>| {
            let defer = route.defer.as_ref()?;
            let (queued, under_way, batch_time) = defer.queues.lock().figures();
            Some(DeferReport {
                route: route.route.name.clone(),
                waiting: defer.waiting.load(Relaxed),
                waiting_bytes: defer.bytes.load(Relaxed),
                queued,
                under_way,
                batch_time,
                on: defer.worth.lock().tried_again().is_none(),
                stats: defer.stats.read(),
            })
        };
        self.live().routes.iter().filter_map(report).collect()
    }
}
