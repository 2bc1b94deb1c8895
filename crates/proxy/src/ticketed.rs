//! Calls under a ticket: led in a task of their own, followed by whoever asks for the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_cache::{Cached, Followed, Join, Joined, SharedHead, Slot, Ticket};
use farthing_freshness::entry::REFRESH_AGAIN;
use farthing_freshness::semantics::cache_status::{CacheStatus, Fwd};
use farthing_freshness::semantics::{conditional, is_stood_in_for};
use farthing_ledger::Served;
use farthing_types::{Body, CallId, Failure, FailureKind, KeyHash, LimitWhy, Limited, Money, Outcome, Purpose, Span, Time, UncachedReason};
use futures_util::FutureExt;
use http::header::ACCEPT_ENCODING;
use http::{HeaderValue, Response, StatusCode};

use crate::admission::{self, Admission, HeldBack};
use crate::answer::Notes;
use crate::asking;
use crate::budgets::Held;
use crate::fills::{self, Progress};
use crate::flight::{Attribution, Came, Flight, Order};
use crate::lookup::{Found, Usable, judge, judge_as_of};
use crate::passing::{bypass, pass_on};
use crate::prefetch::{self, fetch};
use crate::pricing::AtHead;
use crate::prompts;
use crate::reply::{failed, flat_price, from_entry, respond, settled};
use crate::request::{CacheControl, Planned, Through};
use crate::routing::Weighed;
use crate::run::{self, Job, Landing, Template};
use crate::settle::Settled;
use crate::state::State;
use crate::trace;

/// How often a request may find an entry that came in between, before it makes its own call.
pub const MAX_JOINS: usize = 4;

/// Renews an entry in the background, unless somebody does already or has just failed to.
pub fn refresh(state: &Arc<State>, planned: &mut Planned, entry: &Arc<Cached>) {
    if planned.control == CacheControl::ReadOnly || !entry.refreshed.claim(REFRESH_AGAIN, planned.account.at) {
        return;
    }
    let join = Join { subject: &planned.subject(), headers: &planned.headers, seen: Some(entry), now: planned.account.at };
    if let Joined::Lead(ticket) = state.cache.join(join) {
        let wanted = Wanted { previous: Some(entry.clone()), stale: None, reason: UncachedReason::Expired };
        match fills::asks(state, planned, &wanted).then(|| planned.again()).flatten() {
            Some(again) => {
                let refreshing = refresh_unless_others(state.clone(), again, (wanted, ticket));
                state.tasks.spawn(refreshing);
            }
            None => refresh_now(state, planned, &wanted, ticket),
        }
    }
}

/// Renews an entry unless L2 has a newer one or another instance renews it.
async fn refresh_unless_others(state: Arc<State>, mut planned: Planned, (mut wanted, ticket): (Wanted, Ticket)) {
    if let Ok(ticket) = fetch::ask_others(&state, &mut planned, &mut wanted, ticket).await {
        refresh_now(&state, &mut planned, &wanted, ticket);
    }
}

fn refresh_now(state: &Arc<State>, planned: &mut Planned, wanted: &Wanted, ticket: Ticket) {
    // Without room for it the entry serves on, for as long as it may.
    let Ok(held) = admission::at_once(state, &planned.account, admission(state, planned, wanted)) else { return ticket.held_back() };
    state.counters.refreshes.fetch_add(1, Ordering::Relaxed);
    lead(state, planned, wanted, (ticket, Purpose::Refresh, held));
}

/// Why a call is wanted, and what may stand in for it.
pub struct Wanted {
    pub previous: Option<Arc<Cached>>,
    pub stale: Option<Span>,
    pub reason: UncachedReason,
}

/// What the call of a request that may lead asks for before it is made.
pub fn admission(state: &State, planned: &Planned, wanted: &Wanted) -> Admission {
    Admission::of(state, planned, wanted.previous.is_some())
}

/// Admits the call of a request that may lead; waits no longer than `until`.
fn admitted<'a>(
    state: &'a State,
    planned: &'a Planned,
    (wanted, until): (&Wanted, Option<tokio::time::Instant>),
) -> impl Future<Output = Result<Held, HeldBack>> + Send + use<'a> {
    let (admission, account) = (admission(state, planned, wanted), &planned.account);
    async move { admission::admit(state, account, &admission, until).await }
}

/// Waits for room until then.
async fn queued(state: &State, planned: &mut Planned, (wanted, until): (&Wanted, tokio::time::Instant)) -> Result<Held, HeldBack> {
    let admission = admission(state, planned, wanted);
    admission::queued(state, &mut planned.account, &admission, until).await
}

/// Leads or follows the call that fills the key.
pub async fn joined(state: &Arc<State>, planned: &mut Planned, mut wanted: Wanted) -> Response<Body> {
    let subject = planned.subject();
    let (mut room, mut unused) = (None, None);
    let mut progress = Progress::new(planned);
    for _ in 0..MAX_JOINS {
        let seen = wanted.previous.as_ref().or(unused.as_ref());
        let silent = planned.account.route.is_silent(planned.account.at);
        let join = Join { subject: &subject, headers: &planned.headers, seen, now: state.clock.now() };
        match state.cache.join(join) {
            Joined::Lead(ticket) => {
                let claimed = fills::claim(state, planned, &wanted, (ticket, &mut progress)).await;
                let ticket = match claimed.map(|entry| judge(planned, entry)) {
                    Err(ticket) => ticket,
                    Ok(Found::Usable(usable)) => return from_entry(state, planned, &usable, None),
                    Ok(Found::Bypass(reason)) => return alone(state, planned, reason, room).await,
                    Ok(Found::Call { previous, stale, reason }) => {
                        wanted = Wanted { previous, stale, reason };
                        continue;
                    }
                };
                let held = match room.take() {
                    Some(held) => Ok(held),
                    None => admitted(state, planned, (&wanted, None)).await,
                };
                let held = match held {
                    Ok(held) => held,
                    // Whoever waits for the same may have room: the call is theirs meanwhile.
                    Err(_) => {
                        ticket.held_back();
                        let until = tokio::time::Instant::now() + planned.deadline;
                        match queued(state, planned, (&wanted, until)).await {
                            Ok(held) => room = Some(held),
                            Err(blocked) => return admission::answer(state, planned, wanted, &blocked),
                        }
                        continue;
                    }
                };
                // It took so long that another instance may be making the call.
                if !ticket.may_act() {
                    room = Some(held);
                    continue;
                }
                let slot = ticket.slot();
                lead(state, planned, &wanted, (ticket, Purpose::User, held));
                match wait(state, planned, (wanted, &mut progress), (slot, true)).await {
                    Ok(response) => return response,
                    Err(again) => (wanted, room) = again,
                }
            }
            Joined::Follow(_) if planned.dedupe.is_err() => break,
            Joined::Follow(slot) => {
                planned.note_joined();
                // Whoever follows pays nothing: others may have the room.
                drop(room.take());
                match wait(state, planned, (wanted, &mut progress), (slot, false)).await {
                    Ok(response) => return response,
                    Err(again) => (wanted, room) = again,
                }
            }
            Joined::Stored(entry) if planned.cache.is_err_and(UncachedReason::leaves_out) => unused = Some(entry),
            Joined::Stored(_) if planned.cache.is_err() || planned.control == CacheControl::Refresh => break,
            Joined::Stored(entry) => match judge_as_of(planned, entry, silent) {
                Found::Usable(usable) => return from_entry(state, planned, &usable, None),
                Found::Call { previous, stale, reason } => wanted = Wanted { previous, stale, reason },
                Found::Bypass(reason) => return alone(state, planned, reason, room).await,
            },
            Joined::Alone(reason) => return alone(state, planned, reason, room).await,
            Joined::Refused(failure) => return failed(state, planned, wanted, &failure),
        }
    }
    alone(state, planned, wanted.reason, room).await
}

/// A call of its own, with the room that it was given already: to ask for more would be to wait for itself.
async fn alone(state: &Arc<State>, planned: &mut Planned, reason: UncachedReason, room: Option<Held>) -> Response<Body> {
    match room {
        Some(held) => pass_on(state, planned, reason, held).await,
        None => bypass(state, planned, reason).await,
    }
}

/// Starts the fill in a task of its own: its client may leave without harm.
pub fn lead(state: &Arc<State>, planned: &mut Planned, wanted: &Wanted, (ticket, purpose, held): (Ticket, Purpose, Held)) -> Arc<Flight> {
    let ahead = matches!(purpose, Purpose::Warm | Purpose::Prefetch);
    // A renewal is a call that the request caused, too.
    if purpose.is_waited_for() || purpose == Purpose::Refresh {
        planned.note_led();
    }
    let of_list = planned.through.is_some();
    let purpose = if !ahead && !of_list && brings_back(state, planned, wanted, ticket.key()) { Purpose::Refill } else { purpose };
    let body = planned.take_body().as_full().unwrap_or_default();
    let none = farthing_ledger::RequestFacts::default();
    let facts = planned.outbound.facts().unwrap_or(&none);
    let route = planned.account.route.clone();
    let mut headers = planned.unconditional(state);
    // What was purged meanwhile is not to be confirmed: whoever purged it may know better than its validator.
    let previous = wanted.previous.clone().filter(|entry| state.cache.holds(entry));
    let conditional = previous.is_some();
    let mut order = order(planned, purpose, if conditional { "revalidate" } else { wanted.reason.as_str() });
    (order.target, order.key) = (facts.target.clone(), ticket.key());
    order.caused = state.traces.as_ref().map(|traces| traces.caused(&planned.account, purpose));
    // What comes before the answer is for whoever waits for it first.
    order.early = planned.early.take().filter(|_| purpose.is_waited_for());
    order.request_bytes = Some(body.len() as u64);
    order.weighed = weighed(state, planned);
    // A call for many is not broken off for one.
    order.finishes = order.batch.is_some() || asking::fill_finishes(&route, facts);
    let (body, strips_usage) = asking::with_usage(&route, &planned.outbound.target, facts, (&mut headers, body));
    order.strips_usage = strips_usage;
    let body = prompts::mark(state, planned, (&headers, body), &mut order);
    let cancel_idle = !order.finishes && purpose.is_waited_for();
    let flight = Flight::new(CallId(state.ids.next()), state.clock.now(), route.clone(), order, held);
    trace::send(&mut planned.account, &mut headers, flight.id, state.traces.as_deref());
    if purpose == Purpose::Prefetch {
        prefetch::follow(state, &flight);
    }
    if route.splits_lists() {
        // A list's answer is put together of copies: they are to be had as they are.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let Through { origin, paces } = Through::or_route(planned.through.take(), &route, planned.account.identity.swap);
    let job = Job {
        state: state.clone(),
        template: Template {
            method: planned.account.method.clone(),
            target: planned.outbound.target.clone(),
            headers,
            body,
            deadline: route.route.deadline,
            origin,
            paces,
        },
        request: planned.facts.clone(),
        principal: planned.account.identity.principal.clone(),
        previous,
        cancel_idle,
        patience: planned.deadline / 2,
        flight: flight.clone(),
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
    flight
}

/// Whether a call brings a copy back that was lost: there is none, or a purge of many has made it stale, and it should be fresh.
pub fn brings_back(state: &State, planned: &Planned, wanted: &Wanted, key: KeyHash) -> bool {
    let gone = match &wanted.previous {
        Some(previous) => previous.soft_purged(),
        None => matches!(wanted.reason, UncachedReason::Cold | UncachedReason::Invalidated),
    };
    gone && planned.cache.is_ok() && state.cache.has_lost(key, state.clock.now())
}

/// Who orders a call and why, as its record keeps it.
pub fn order(planned: &Planned, purpose: Purpose, fetch_reason: &'static str) -> Order {
    let query = planned.outbound.target.query();
    Order {
        purpose,
        fetch_reason,
        payer: planned.account.identity.tenant.clone(),
        key: planned.account.key,
        variant: planned.account.variant.clone(),
        holdout: planned.account.holdout,
        measured: planned.account.measured,
        compared: planned.account.compared,
        target: None,
        billing: asking::billing(planned),
        request_bytes: None,
        strips_usage: false,
        finishes: true,
        batch: planned.batch_terms(purpose),
        weighed: None,
        prompted: None,
        deferred: None,
        swap: planned.account.identity.swap,
        query_parameters: query.map_or(0, |q| u32::try_from(q.split('&').count()).unwrap_or(u32::MAX)),
        attribution: attribution(planned, purpose),
        claim: planned.account.route.limits.claim(planned, purpose.is_waited_for()),
        early: None,
        caused: None,
    }
}

/// What one of several providers is chosen by.
pub fn weighed(state: &State, planned: &Planned) -> Option<Weighed> {
    Some(planned.account.route.routing.as_ref()?.weigh(state, planned))
}

/// Tags are those of one request: a call in the background is made for all that may ask.
fn attribution(planned: &Planned, purpose: Purpose) -> Attribution {
    let identity = &planned.account.identity;
    Attribution {
        team: identity.team.clone(),
        service: identity.service.clone(),
        key: identity.key.clone(),
        tags: planned.account.tags.clone().filter(|_| purpose.is_waited_for()),
    }
}

/// What a request goes on with that has to join again.
type Again = (Wanted, Option<Held>);

/// Waits for the answer; `Err`: join again, because L2 had it, or with room that has come meanwhile.
async fn wait(
    state: &Arc<State>,
    planned: &mut Planned,
    (wanted, progress): (Wanted, &mut Progress),
    place: (Slot, bool),
) -> Result<Response<Body>, Again> {
    let (mut slot, mut leading) = place;
    let mut waiting = Some(Waiting::new(state));
    let since = state.real_now();
    let until = tokio::time::Instant::now() + planned.deadline;
    loop {
        match tokio::time::timeout_at(until, slot.wait(&planned.headers)).await {
            Err(_) => {
                planned.account.failed += state.real_now().since(since);
                let failure = Failure::sent(FailureKind::Timeout, format!("no answer within {:?}", planned.deadline));
                return Ok(failed(state, planned, wanted, &failure));
            }
            // About another's credential, not about what both have asked for.
            Ok(Followed::Share(head, _))
                if !leading && head.only.as_ref().is_some_and(|whose| *whose != planned.account.identity.principal) =>
            {
                planned.waited_in_vain(state.real_now().since(since));
                return Err((wanted, None));
            }
            Ok(Followed::Another) => {
                planned.waited_in_vain(state.real_now().since(since));
                return Err((wanted, None));
            }
            Ok(Followed::Share(head, body)) => return Ok(shared(state, planned, wanted, Arrived { head, body, leading, since })),
            Ok(Followed::Alone(reason)) => return Ok(bypass(state, planned, reason).await),
            Ok(Followed::Again) => {
                if slot.was_elsewhere() {
                    let waited = state.real_now().since(since);
                    planned.account.elsewhere += waited;
                    // As of who led: a call of its own has what is left.
                    planned.deadline = planned.deadline.saturating_sub(waited);
                }
                return Err((wanted, None));
            }
            Ok(Followed::Failed(failure)) if !leading && failure.limited.is_some_and(|by| may_have_its_turn(planned, by, until)) => {
                // As of who led: a call of its own has what is left.
                planned.deadline = until.saturating_duration_since(tokio::time::Instant::now());
                return Err((wanted, None));
            }
            Ok(Followed::Failed(failure)) => {
                planned.account.failed += state.real_now().since(since);
                return Ok(failed(state, planned, wanted, &failure));
            }
            Ok(Followed::Lead(ticket)) => {
                // Who waits for another instance is counted there.
                drop(waiting.take());
                let ticket = match fills::claim(state, planned, &wanted, (ticket, &mut *progress)).await {
                    Ok(_entry) => return Err((wanted, None)),
                    Err(ticket) => ticket,
                };
                drop(waiting.replace(Waiting::new(state)));
                match admitted(state, planned, (&wanted, None)).await {
                    Ok(held) if !ticket.may_act() => return Err((wanted, Some(held))),
                    Ok(held) => {
                        slot = ticket.slot();
                        leading = true;
                        lead(state, planned, &wanted, (ticket, Purpose::User, held));
                    }
                    Err(_) => {
                        ticket.held_back();
                        return match queued(state, planned, (&wanted, until)).await {
                            Ok(held) => Err((wanted, Some(held))),
                            Err(blocked) => Ok(admission::answer(state, planned, wanted, &blocked)),
                        };
                    }
                }
            }
        }
    }
}

/// Whether a follower may have a turn that its leader did not get, whose call was never sent: it matters more, or waits longer.
fn may_have_its_turn(planned: &Planned, by: Limited, until: tokio::time::Instant) -> bool {
    let left = until.saturating_duration_since(tokio::time::Instant::now());
    planned.priority < by.priority || (by.why == LimitWhy::Deadline && by.patience < planned.account.route.limits.patience(left))
}

/// Counts a waiting request for as long as it waits.
pub struct Waiting<'a>(&'a State);

impl<'a> Waiting<'a> {
    /// One more waits.
    pub fn new(state: &'a State) -> Self {
        state.counters.waiting.fetch_add(1, Ordering::Relaxed);
        Self(state)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.counters.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A shared answer as it reached one client.
struct Arrived {
    pub head: Arc<SharedHead>,
    pub body: Body,
    pub leading: bool,
    pub since: Time,
}

/// Why an answer did not come from the cache: nothing was stored, and where such an answer never is, that is the reason.
pub fn why(wanted: UncachedReason, came: Option<Came>) -> UncachedReason {
    let unkept = came.and_then(|came| came.kept.err());
    unkept.filter(|_| wanted == UncachedReason::Cold).unwrap_or(wanted)
}

fn shared(state: &Arc<State>, planned: &mut Planned, wanted: Wanted, arrived: Arrived) -> Response<Body> {
    let Arrived { head, body, leading, since } = arrived;
    if is_stood_in_for(head.status)
        && let (Some(entry), Some(age)) = (wanted.previous.as_ref().filter(|entry| state.cache.holds(entry)), wanted.stale)
    {
        entry.failed.note(state.clock.now());
        planned.account.failed += state.real_now().since(since);
        let usable = Usable::expired(entry.clone(), age, planned.variant_name());
        return from_entry(state, planned, &usable, Some(UncachedReason::UpstreamFailed));
    }
    let Some(flight) = head.note.clone().and_then(|note| note.downcast::<Flight>().ok()) else {
        let failure = Failure::sent(FailureKind::Protocol, "the call's record is missing");
        return failed(state, planned, wanted, &failure);
    };
    let waited = state.real_now().since(since);
    let not_modified = conditional::not_modified(head.status, &head.headers, &planned.account.method, &planned.headers);
    let (status, body) = if not_modified { (StatusCode::NOT_MODIFIED, Body::empty()) } else { (head.status, body) };
    let overhead = planned.account.ours(state.real_now().since(planned.account.started).saturating_sub(waited));
    let outcome = if leading { Outcome::Lead } else { Outcome::Follow };
    let came = flight.head();
    let reason = why(wanted.reason, came);
    let first_use = || head.status.is_success() && state.prefetch.books().used(flight.id, flat_price(state, planned, head.status));
    let settled = Settled {
        served: match leading {
            true => Served::Lead,
            false if flight.purpose == Purpose::Prefetch && first_use() => Served::Ahead,
            false => Served::Follower,
        },
        follows: flight.caused.as_ref().filter(|_| !leading).map(|caused| caused.leader(flight.id)),
        ..settled(outcome, Some(reason), (status, overhead), Some(flight.id))
    };
    // Whoever joins a call pays nothing of it.
    let money = state.pricing.at_head(&flight).map(|money| if leading { money } else { AtHead { cost: Money::ZERO, ..money } });
    let notes = Notes {
        status: CacheStatus {
            collapsed: !leading,
            fwd_status: came.map(|came| came.status.as_u16()).filter(|came| *came != status.as_u16()),
            detail: Some(reason.as_str()),
            ..CacheStatus::forward(Fwd::of(wanted.reason))
        },
        overhead,
        upstream: Some(waited),
        cost: money.map(|money| money.cost),
        saved: money.map(|money| money.base - money.cost),
    };
    respond(planned, (status, head.headers.clone(), body), &notes, (state, settled, flight))
}
