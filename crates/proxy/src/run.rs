//! The lower half: a call with no client. Run by leaders, by refreshes, and for requests that pass by the cache.

mod confirmed;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use farthing_cache::{Cached, Filling, SharedHead, Ticket};
use farthing_contract::features::HeadFacts;
use farthing_freshness::entry::{Entry, Fields};
use farthing_freshness::semantics::{
    Bans, Facts, Lifetime, Reach, Received, answer_noted, conditional, may_replace, may_store, reach, without_unstored,
};
use farthing_freshness::{RequestFacts, Rules, Subject};
use farthing_types::{Body, BodyError, By, Call, Failure, FailureKind, KeyHash, Reply, Span, Time, UncachedReason};
use farthing_upstream::{Origin, is_grpc};
use http::header::{CONTENT_ENCODING, ETAG};
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::BodyExt;

use crate::canonical::{self, Digests};
use crate::choose::{Chosen, Occasion};
use crate::defer;
use crate::fills;
use crate::flight::{Came, Flight};
use crate::request::{Through, Variant};
use crate::settle::CallEnd;
use crate::state::State;
use crate::stream::{Meter, PassingJob, Stripper, passing};
use crate::tags;
use crate::unsent::{GivenUp, Leaving, abandoned, while_wanted};

/// Where a call's answer goes.
pub enum Landing {
    /// To the ticket's followers, and into the cache where that is allowed.
    Store(Ticket),
    /// To the ticket's followers; not stored, for this reason.
    ShareOnly(Ticket, UncachedReason),
}

impl Landing {
    fn split(self) -> (Ticket, Result<(), UncachedReason>) {
        match self {
            Self::Store(ticket) => (ticket, Ok(())),
            Self::ShareOnly(ticket, reason) => (ticket, Err(reason)),
        }
    }
}

/// A call that can be built more than once: with and without validators.
pub struct Template {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: Uri,
    /// Headers without the client's conditions.
    pub headers: HeaderMap,
    /// The body, held whole.
    pub body: Bytes,
    /// The longest it may take.
    pub deadline: Span,
    /// Who answers it.
    pub origin: Arc<dyn Origin>,
    /// Whether it takes its turn in the line in front of the provider.
    pub paces: bool,
}

impl Template {
    fn call(&self, flight: &Arc<Flight>, conditions: Option<HeaderMap>) -> Call {
        let mut headers = self.headers.clone();
        headers.extend(conditions.into_iter().flatten().filter_map(|(name, value)| name.map(|n| (n, value))));
        call(flight, (self.method.clone(), self.target.clone(), headers), Body::full(self.body.clone()), self.deadline)
    }
}

fn call(flight: &Arc<Flight>, head: (Method, Uri, HeaderMap), body: Body, deadline: Span) -> Call {
    let (method, target, headers) = head;
    Call {
        id: flight.id,
        route: flight.route.route.name.clone(),
        payer: flight.payer.clone(),
        purpose: flight.purpose,
        key: Some(flight.key),
        method,
        target,
        headers,
        body,
        repeatable: flight.route.route.idempotent,
        deadline,
        claim: flight.claim,
        batch: flight.batch.clone(),
        routing: flight.weighed.as_ref().map(|weighed| weighed.terms.clone()),
        sink: flight.clone(),
    }
}

/// Everything a fill needs; owned, because no client may be needed for it.
pub struct Job {
    /// What all requests share.
    pub state: Arc<State>,
    /// The call.
    pub flight: Arc<Flight>,
    /// How to make it.
    pub template: Template,
    /// Caching facts of the request that ordered it.
    pub request: RequestFacts,
    /// Whose request it is.
    pub principal: Arc<str>,
    /// The entry it may confirm.
    pub previous: Option<Arc<Cached>>,
    /// Cancel when nobody reads any more: the bill grows with the answer.
    pub cancel_idle: bool,
    /// Longest time that it may wait for its turn.
    pub patience: Span,
}

/// An answer whose head has come.
struct Landed {
    reply: Reply,
    requested_at: Time,
    received_at: Time,
    end: CallEnd,
}

impl Landed {
    fn received(&self) -> Received<'_> {
        Received { status: self.reply.status, headers: &self.reply.headers, requested_at: self.requested_at, received_at: self.received_at }
    }
}

/// Makes the call and lands its answer. Dropping the future (a panic, a shutdown) hands the ticket over.
pub async fn run(job: Job, landing: Landing) {
    let (ticket, wanted) = landing.split();
    let conditions = job.previous.as_ref().filter(|_| wanted.is_ok()).map(|entry| conditional::validators(entry));
    let conditional_call = conditions.as_ref().is_some_and(|c| !c.is_empty());
    let landed = match while_wanted(&job, &ticket, fetch(&job, conditions)).await {
        Some(Ok(landed)) => landed,
        Some(Err(failure)) => return failed(&job, ticket, failure),
        None => return abandoned(&job, ticket),
    };
    if landed.reply.status == StatusCode::NOT_MODIFIED && conditional_call {
        return confirmed::revalidated(job, ticket, landed).await;
    }
    share(job, ticket, landed, wanted).await;
}

async fn fetch(job: &Job, conditions: Option<HeaderMap>) -> Result<Landed, Failure> {
    let (state, flight) = (&job.state, &job.flight);
    if job.template.paces {
        flight.route.pace.admit(flight.purpose, (job.patience, job.template.body.len())).await;
    }
    let requested_at = state.clock.now();
    let reply = state.fetch(flight, job.template.origin.clone(), job.template.call(flight, conditions)).await?;
    let received_at = state.clock.now();
    let mut end = CallEnd { keyed: true, ..CallEnd::default() };
    note_head(&mut end, &Received { status: reply.status, headers: &reply.headers, requested_at, received_at }, &flight.route.rules);
    Ok(Landed { reply, requested_at, received_at, end })
}

fn failed(job: &Job, ticket: Ticket, failure: Failure) {
    let stored = Some(Err(if failure.limited.is_some() { UncachedReason::OverLimit } else { UncachedReason::UpstreamFailed }));
    let ended = Some(job.state.clock.now());
    let end = CallEnd { keyed: true, stored, failure: Some(failure.kind), ended, ..CallEnd::default() };
    job.state.settle_call(&job.flight, &end);
    // It may be another item's: whoever waits for this one asks for it alone.
    if failure.kind == FailureKind::ListRefused {
        return drop(ticket);
    }
    ticket.fail(failure);
}

fn head(flight: &Arc<Flight>, (status, headers): (StatusCode, HeaderMap), tags: Option<Vec<Arc<str>>>) -> SharedHead {
    let mut head = SharedHead::new(status, headers, flight.id);
    head.note = Some(flight.clone());
    head.tags = tags;
    head
}

/// Decides sharing once, streams the body, then prices, stores and settles.
async fn share(job: Job, mut ticket: Ticket, landed: Landed, wanted: Result<(), UncachedReason>) {
    let state = job.state.clone();
    let storable = may_store(&job.request, &landed.received(), &job.flight.route.rules);
    let reach = reached(&job, &landed, storable.as_ref().map(|_| ()).map_err(|reason| *reason));
    let stored = job.previous.as_ref().map(|previous| previous.status());
    let tagged = tags::of_answer(&landed.reply.headers, &job.flight.route.provider.base_url);
    let plan = wanted.and(storable.as_ref().map(|_| ()).map_err(|reason| *reason)).and(may_replace(stored, landed.reply.status));
    let plan = plan.and(tagged.as_ref().map(|_| ()).map_err(|reason| *reason)).and(job.flight.stands_in());
    // Whether a call of gRPC has gone well stands in its trailers, which an entry does not give back.
    let plan = if is_grpc(&landed.reply.headers) { plan.and(Err(UncachedReason::PassThrough)) } else { plan };
    match reach {
        Reach::Alike | Reach::Asker { .. } => ticket.lets_others_try(),
        Reach::All | Reach::Alone(_) if plan.is_err() => ticket.keeps_nothing(),
        Reach::All | Reach::Alone(_) => {}
    }
    let Landed { mut reply, received_at, mut end, .. } = landed;
    state.prompt_began(&job.flight, reply.status);
    let ours = tags::strip(&mut reply.headers, &job.flight.route);
    let strip = state.stripper(&job.flight, &mut reply.headers);
    job.flight.came(Came { status: reply.status, kept: plan });
    let mut shared = head(&job.flight, (reply.status, reply.headers.clone()), tagged.clone().ok());
    let mut filling = match reach {
        Reach::All => ticket.share(shared, received_at),
        Reach::Alike => {
            shared.only = Some(job.principal.clone());
            ticket.share_with_waiting(shared, received_at)
        }
        Reach::Asker { reason, authorized } => ticket.of_asker((reason, authorized), shared, received_at),
        Reach::Alone(reason) => ticket.alone(reason, shared, received_at),
    };
    let key = filling.key();
    let mut meter = Meter::new(&reply.headers, state.reads(&job.flight).as_ref(), false);
    let trailers = match pump((reply.body, strip), &mut filling, &mut meter, job.cancel_idle).await {
        Ok(trailers) => trailers,
        Err(error) => {
            meter.read_into(&mut end, false);
            end.stored = Some(Err(UncachedReason::Incomplete));
            state.settle_call(&job.flight, &end);
            return filling.abort(error);
        }
    };
    meter.read_into(&mut end, true);
    end.ended = Some(state.clock.now());
    state.price_call(&job.flight, &end);
    let filled = filling.finish(trailers);
    let Some(body) = filled.body.clone() else {
        end.stored = Some(Err(plan.err().unwrap_or(UncachedReason::TooLarge)));
        fills::note(&job.flight.route, end.stored.filter(|_| wanted.is_ok()));
        return state.settle_call(&job.flight, &end);
    };
    let (digests, content) = read_content(&job, (&reply.headers, &body), (key, received_at)).await;
    end.digests = Some(digests);
    let plan = plan.and(content);
    end.stored = Some(match (plan, storable) {
        (Ok(()), Ok(facts)) => {
            end.validator_changed = validator_changed(&facts, job.previous.as_deref());
            let price = job.flight.done().full;
            let headers = without_unstored(ours.beside(reply.headers), &job.flight.route.rules);
            let prepared = Prepared { status: reply.status, headers, facts, body, price, tags: tagged.unwrap_or_default() };
            let (entry, chosen) = state.prepare(&job.flight, (key, &prepared), digests.canonical, received_at);
            end.take(chosen);
            let stored = entry.and_then(|entry| filled.store(entry, received_at));
            stored.map(|stored| {
                let asked = (&job.template.method, &job.template.target);
                state.warmth.note(&job.flight.route, asked, (&stored.entry, received_at));
            })
        }
        (plan, _) => {
            if reply.status.is_success() {
                let (observed, entered) = state.note_unkept(&job.flight.route, key, digests.canonical, received_at);
                (end.observed, end.entered) = (observed, Some(entered));
            }
            plan.and(Err(UncachedReason::Disabled))
        }
    });
    fills::note(&job.flight.route, end.stored.filter(|_| wanted.is_ok()));
    state.settle_call(&job.flight, &end);
}

/// Who may have the answer. Where our own credential went out, nobody else would have fared better.
fn reached(job: &Job, landed: &Landed, kept: Result<(), UncachedReason>) -> Reach {
    let (received, rules) = (landed.received(), &job.flight.route.rules);
    match reach((received.status, Bans::read(&received, rules)), kept, rules) {
        Reach::Alike if job.flight.swap => Reach::All,
        reach => reach,
    }
}

/// What a body tells: its digests, and whether it may be kept.
type Content = (Digests, Result<(), UncachedReason>);

/// Reads a body whose last byte has been handed to every reader; a long one on a thread that nobody waits for.
async fn read_content(job: &Job, (headers, body): (&HeaderMap, &Bytes), (key, at): (KeyHash, Time)) -> Content {
    let (state, route) = (job.state.clone(), job.flight.route.clone());
    if body.len() > canonical::MAX_JSON {
        state.counters.undigested.fetch_add(1, Ordering::Relaxed);
    }
    let (headers, body) = (headers.clone(), body.clone());
    // How long a compressed one is when it is read nobody knows.
    let short = body.len() <= canonical::AT_ONCE && !headers.contains_key(CONTENT_ENCODING);
    let read = move || {
        let digests = canonical::digests(&headers, &body, &route.route.volatile);
        let kept = route.content.may_keep(|| canonical::json(&headers, &body));
        if kept != Err(UncachedReason::Personal) {
            state.volatile.look(&route, (key, at), (&headers, &body), digests);
        }
        (digests, kept)
    };
    if short {
        return read();
    }
    match tokio::task::spawn_blocking(read).await {
        Ok(content) => content,
        Err(broken) => match broken.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is ending, and this future with it.
            Err(_) => std::future::pending().await,
        },
    }
}

fn validator_changed(facts: &Facts, previous: Option<&Cached>) -> Option<bool> {
    let comparable = previous.map(|p| p.facts()).filter(|own| own.has_validator() && facts.has_validator());
    comparable.map(|own| own.etag != facts.etag || own.last_modified != facts.last_modified)
}

/// Keeps what the head says about reuse, whether or not the answer is stored: a replay under another policy asks for it.
fn note_head(end: &mut CallEnd, received: &Received<'_>, rules: &Rules) {
    let facts = Facts::read(received, rules);
    end.last_modified = facts.last_modified;
    end.origin_ttl = facts.explicit;
    end.answer = answer_noted(received, &facts, rules).map(Arc::from);
}

/// Moves the body from the provider to the readers, unbuffered; returns its trailers.
async fn pump(
    (mut body, mut strip): (Body, Stripper),
    filling: &mut Filling,
    meter: &mut Meter,
    cancel_idle: bool,
) -> Result<Option<HeaderMap>, BodyError> {
    let mut trailers = None;
    let idle = filling.idle();
    tokio::pin!(idle);
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = &mut idle, if cancel_idle => return Err(BodyError("every client has left".into())),
        };
        match frame {
            None => {
                hand_on(filling, strip.finish()).await;
                return Ok(trailers);
            }
            Some(Err(error)) => return Err(error),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    meter.push(&data);
                    hand_on(filling, strip.take(data)).await;
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
}

async fn hand_on(filling: &mut Filling, data: Bytes) {
    if !data.is_empty() {
        filling.push(data).await;
    }
}

/// A complete answer that is about to become an entry.
struct Prepared {
    status: StatusCode,
    headers: HeaderMap,
    facts: Facts,
    body: Bytes,
    price: Option<farthing_types::Money>,
    tags: Vec<Arc<str>>,
}

impl State {
    /// Learns from the answer, chooses its TTLs and builds the entry; `Err` says why it is not kept.
    fn prepare(
        &self,
        flight: &Flight,
        (key, answer): (KeyHash, &Prepared),
        canonical: u64,
        now: Time,
    ) -> (Result<Entry, UncachedReason>, CallEnd) {
        let mut learned = self.note_fetch(&flight.route, key, canonical, now);
        let head = head_facts(flight, answer);
        let mut end = CallEnd { observed: learned.observed, entered: Some(learned.entered), head: Some(head), ..CallEnd::default() };
        let chosen = match answer.facts.lifetime(flight.route.rules.mode) {
            Lifetime::Chosen => self.choose(&Occasion { flight, key: &learned.key, route: &learned.route, head, price: answer.price, now }),
            Lifetime::Explicit(_) | Lifetime::Heuristic(_) => Chosen::default(),
            Lifetime::None if answer.facts.has_validator() => Chosen::default(),
            Lifetime::None => return (Err(UncachedReason::NoFreshness), end),
        };
        end.decision = chosen.decision;
        if !follows_operating_point(flight, &chosen) {
            self.exempt(key, &mut learned);
            end.entered = Some(learned.entered);
        }
        if chosen.doubt.is_possible() {
            self.set_doubt(key, chosen.doubt, &mut learned);
        }
        let pays = chosen.variants.is_empty() || chosen.variants.iter().any(|v| !v.ttl.is_zero());
        if !pays && !answer.facts.has_validator() {
            return (Err(UncachedReason::NotWorth), end);
        }
        let subject = Arc::new(Subject { key, tenant: "".into(), route: flight.route.route.name.clone(), path: "".into() });
        let headers = Fields::of(&answer.headers);
        let etag = answer.facts.etag.as_ref().and_then(|_| headers.view().value(&ETAG));
        let entry = Entry {
            // Subject, selection and epoch are the flight's, set when it is stored.
            subject,
            selected: None,
            status: answer.status,
            headers,
            body: answer.body.clone(),
            trailers: None,
            fetched_at: now,
            facts: Facts { etag, ..answer.facts.clone() },
            variants: chosen.variants,
            stats: learned.key,
            price: answer.price,
            call: flight.id,
            decision: chosen.decision,
            tags: answer.tags.clone(),
            epoch: 0,
            canonical_hash: canonical,
        };
        (Ok(entry), end)
    }
}

/// Whether the staleness of the entry tells something about the operating point: its TTL was chosen by a predictor.
fn follows_operating_point(flight: &Flight, chosen: &Chosen) -> bool {
    let name = flight.variant.as_ref().and_then(Variant::keeps).map_or("", |name| name);
    let ttl = chosen.variants.iter().find(|v| &*v.variant == name).or_else(|| chosen.variants.first());
    ttl.is_some_and(|v| matches!(v.by, By::Model(_) | By::Table(_)))
}

fn head_facts(flight: &Flight, answer: &Prepared) -> HeadFacts {
    HeadFacts {
        body_bytes: answer.body.len() as u64,
        last_modified: answer.facts.last_modified,
        origin_ttl: answer.facts.explicit,
        has_etag: answer.facts.etag.is_some(),
        query_parameters: flight.query_parameters,
    }
}

/// A call for one client alone, before it is made.
pub struct Outgoing {
    /// Method, path and query, headers.
    pub head: (Method, Uri, HeaderMap),
    /// The body.
    pub body: Body,
    /// The longest it may take.
    pub deadline: Span,
    /// How long its client waits for it at most, where it goes on without: others may wait for the same call.
    pub patience: Option<Span>,
    /// Whether it belongs to a keyed request.
    pub keyed: bool,
    /// Who answers it instead of the route.
    pub through: Option<Through>,
}

/// A call for one client alone: nothing is shared or stored, the body is metered as it passes.
///
/// Where the route says that calls go on without their client, this one runs in a task of its own.
pub async fn pass(state: &Arc<State>, flight: &Arc<Flight>, going: Outgoing) -> Result<(StatusCode, HeaderMap, Body), Failure> {
    if !flight.finishes {
        return pass_here(state.clone(), flight.clone(), going).await;
    }
    let patience = going.patience;
    let passing = pass_here(state.clone(), flight.clone(), going);
    let task = state.tasks.spawn(passing);
    let _unsent = GivenUp::of(flight, &task);
    let passed = match patience {
        None => task.await,
        Some(patience) => match tokio::time::timeout(patience, task).await {
            Ok(passed) => passed,
            Err(_) => return Err(Failure::sent(FailureKind::Timeout, format!("no answer within {patience:?}"))),
        },
    };
    passed.unwrap_or_else(|_| {
        state.counters.panics.fetch_add(1, Ordering::Relaxed);
        Err(Failure::sent(FailureKind::LeaderGone, "the call broke off within Farthing"))
    })
}

async fn pass_here(state: Arc<State>, flight: Arc<Flight>, going: Outgoing) -> Result<(StatusCode, HeaderMap, Body), Failure> {
    let Outgoing { head, body, deadline, keyed, through, .. } = going;
    let Through { origin, paces } = Through::or_route(through, &flight.route, flight.swap);
    if paces {
        flight.route.pace.admit(flight.purpose, (deadline, 0)).await;
    }
    let requested_at = state.clock.now();
    let call = call(&flight, head, body, deadline);
    let leaving = Leaving::new(&state, &flight, keyed);
    let fetched = leaving.fetch(defer::fetch(&state, &flight, origin, call)).await;
    let mut reply = match fetched {
        Ok(reply) => reply,
        Err(failure) => {
            let ended = Some(state.clock.now());
            state.settle_call(&flight, &CallEnd { keyed, failure: Some(failure.kind), ended, ..CallEnd::default() });
            return Err(failure);
        }
    };
    let mut end = CallEnd { keyed, ..CallEnd::default() };
    let (status, headers) = (reply.status, &reply.headers);
    note_head(&mut end, &Received { status, headers, requested_at, received_at: state.clock.now() }, &flight.route.rules);
    tags::strip(&mut reply.headers, &flight.route);
    flight.answered();
    state.prompt_began(&flight, reply.status);
    let strip = state.stripper(&flight, &mut reply.headers);
    let job = PassingJob { state: state.clone(), flight: flight.clone(), end };
    let body = passing((reply.body, strip), &reply.headers, job);
    Ok((reply.status, reply.headers, body))
}
