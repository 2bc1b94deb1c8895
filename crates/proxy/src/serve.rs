//! One request, from top to bottom.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_cache::Rechecked;
use farthing_freshness::entry::FAILED_LATELY;
use farthing_freshness::semantics::cache_status::CacheStatus;
use farthing_ledger::Paid;
use farthing_policy::prefetch::RefreshAhead;
use farthing_types::{Body, Money, Outcome, RequestId, Span, UncachedReason};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};

use crate::admission;
use crate::answer::{self, Notes};
use crate::audit;
use crate::compress::compressed;
use crate::defer;
use crate::edge::{Early, Handler, PeerInfo, Recalled};
use crate::forward;
use crate::items;
use crate::lookup::{Found, Usable, judge, look_up};
use crate::passing::bypass;
use crate::prefetch;
use crate::problem::{Dialect, Problem};
use crate::promises;
use crate::purging;
use crate::reply::{from_entry, own_answer, settled};
use crate::request::{Asked, CacheControl, Identified, Planned, Received, Refused, Upload, Variant, receive};
use crate::settle::Account;
use crate::state::State;
use crate::switches::OwnPart;
use crate::ticketed::{Wanted, joined, refresh};

/// Logged where a client left before its answer began; nothing was sent.
const CLIENT_LEFT: u16 = 499;

/// The data port's handler.
pub struct Service {
    /// What all requests share.
    pub state: Arc<State>,
}

impl Handler for Service {
    fn handle(self: Arc<Self>, request: Request<Body>, peer: PeerInfo) -> BoxFuture<'static, Response<Body>> {
        forward::take(&self.state, request, peer).map_or_else(|answer| answer, |request| serve(&self.state, request, None))
    }

    fn handle_early(self: Arc<Self>, request: Request<Body>, peer: PeerInfo, early: Early) -> BoxFuture<'static, Response<Body>> {
        forward::take(&self.state, request, peer).map_or_else(|answer| answer, |request| serve(&self.state, request, Some(early)))
    }

    fn recall(&self, head: &[u8]) -> Recalled {
        self.state.recall_head(head)
    }
}

/// Answers a request; `early` takes interim answers to it. What needs no waiting is done before this returns: a hit makes no room for what it does not do.
pub fn serve(state: &Arc<State>, request: Request<Body>, early: Option<Early>) -> BoxFuture<'static, Response<Body>> {
    let received = match receive(state, request) {
        Ok(received) => Received { early, ..received },
        Err(unrouted) => {
            state.counters.unrouted.fetch_add(1, Ordering::Relaxed);
            return ready(refused(&unrouted.0, Dialect::Problem, unrouted.1)).boxed();
        }
    };
    let identified = match received.identify(state) {
        Ok(identified) if purging::takes(&identified.received.route, &identified.received.head.method) => {
            return purging::answer(state.clone(), identified).boxed();
        }
        identified => identified,
    };
    match identified.and_then(Identified::ask).and_then(|asked| asked.weigh(&state.load)).map(Asked::upload) {
        Ok(Upload::None(asked)) => planned(state, asked),
        Ok(Upload::Coming(asked)) => uploaded(state.clone(), asked).boxed(),
        Err(early) => ready(refused_early(state, &early)).boxed(),
    }
}

/// Goes on when the body is there.
async fn uploaded(state: Arc<State>, asked: BoxFuture<'static, Result<Asked, Box<Refused>>>) -> Response<Body> {
    match asked.await {
        Ok(asked) => planned(&state, asked).await,
        Err(early) => refused_early(&state, &early),
    }
}

/// A request as a whole, or item by item where it carries a list and its route splits them.
fn planned(state: &Arc<State>, asked: Asked) -> BoxFuture<'static, Response<Body>> {
    match items::take(state, &asked) {
        Some(list) => items::answered(state.clone(), list).boxed(),
        None => answered(state, asked.plan(state)),
    }
}

/// From the plan to the answer: at once where the cache has it, else by a call.
pub fn answered(state: &Arc<State>, mut planned: Planned) -> BoxFuture<'static, Response<Body>> {
    planned.account.laps.begin(|| state.real_now());
    let found = look_up(state, &mut planned);
    planned.account.laps.end(OwnPart::Lookup, || state.real_now());
    match found {
        Found::Usable(usable) if state.cache.is_due(&usable.entry, planned.account.at) => rechecked(state.clone(), planned, usable).boxed(),
        found => concluded(state, planned, found),
    }
}

/// An entry that has stood in memory for a minute is compared with what others have written to L2 since.
async fn rechecked(state: Arc<State>, mut planned: Planned, usable: Usable) -> Response<Body> {
    let leaving = Leaving::new(&state, &mut planned);
    let found = match state.cache.recheck(&usable.entry, &leaving.planned.headers, leaving.planned.account.at).await {
        Rechecked::Same => Found::Usable(usable),
        Rechecked::Newer(entry) => judge(leaving.planned, entry),
        Rechecked::Purged => Found::Call { previous: None, stale: None, reason: UncachedReason::Invalidated },
    };
    leaving.stays();
    concluded(&state, planned, found).await
}

/// From what was found to the answer.
fn concluded(state: &Arc<State>, mut planned: Planned, found: Found) -> BoxFuture<'static, Response<Body>> {
    let hit = matches!(found, Found::Usable(_));
    let kept = match &found {
        Found::Usable(usable) if !planned.account.route.compress.is_empty() => Some(usable.entry.clone()),
        _ => None,
    };
    let mut response = match found {
        Found::Usable(usable) => {
            if usable.left.map_or(true, |left| is_due_ahead(state, &planned.account, &usable, left)) {
                refresh(state, &mut planned, &usable.entry);
            } else {
                state.remember_head(&planned);
            }
            from_entry(state, &planned, &usable, None)
        }
        Found::Call { .. } if planned.facts.only_if_cached => not_stored(state, &planned),
        Found::Bypass(reason) if planned.control != CacheControl::Off && planned.facts.wants_nothing(reason) => not_stored(state, &planned),
        // A HEAD that would be answered from a copy.
        Found::Bypass(_) if planned.facts.only_if_cached && planned.cache.is_ok() => not_stored(state, &planned),
        // A call that failed a moment ago says what another one would: the entry stands in without one.
        Found::Call { previous: Some(entry), stale: Some(age), .. } if entry.failed.within(FAILED_LATELY, planned.account.at) => {
            let usable = Usable::expired(entry, age, planned.variant_name());
            from_entry(state, &planned, &usable, Some(UncachedReason::UpstreamFailed))
        }
        Found::Call { previous, stale, reason } => return called(state.clone(), planned, Ok(Wanted { previous, stale, reason })).boxed(),
        Found::Bypass(reason) => return called(state.clone(), planned, Err(reason)).boxed(),
    };
    answer::debug(response.headers_mut(), &planned);
    let response = compressed(state, &planned, kept, response);
    if hit {
        audit::look(state, &planned);
        prefetch::saw(state, planned, false);
    }
    ready(response).boxed()
}

/// The answer to a request that allows no call, where nothing usable is stored.
fn not_stored(state: &Arc<State>, planned: &Planned) -> Response<Body> {
    let problem = Problem::new(StatusCode::GATEWAY_TIMEOUT, "only-if-cached", "nothing usable is stored, and the request allows no call");
    own_answer(state, planned, &problem, (Outcome::Refused, UncachedReason::RequestDirective))
}

/// Whether a fresh entry is to be refreshed ahead of its expiry.
pub fn is_due_ahead(state: &State, account: &Account, usable: &Usable, left: Span) -> bool {
    let route = &account.route.route;
    let own = account.variant.as_ref().and_then(Variant::plan).and_then(|plan| plan.refresh_ahead);
    let mean = own.unwrap_or_else(|| account.route.tuned.refresh_ahead(route.refresh_ahead));
    let ahead = RefreshAhead { mean, scope: &route.name, draw: state.draw };
    ahead.is_due((account.key.short(), usable.entry.fetched_at()), usable.age, left)
}

/// The answer of a call: one that others may share, or one for this request alone.
async fn called(state: Arc<State>, mut planned: Planned, call: Result<Wanted, UncachedReason>) -> Response<Body> {
    if planned.account.load.is_none() {
        match state.load.enter((&planned.account.identity.tenant, planned.priority), 0) {
            Ok(loaded) => planned.account.load = Some(Arc::new(loaded)),
            Err(problem) => {
                let wanted = call.unwrap_or_else(|reason| Wanted { previous: None, stale: None, reason });
                return admission::refused(&state, &planned, wanted, (&problem, UncachedReason::Overload));
            }
        }
    }
    planned.keep_promise(state.live().config.plans.batch_min_sla);
    state.draw_waiting(&mut planned);
    let leaving = Leaving::new(&state, &mut planned);
    if call.as_ref().err().is_none_or(|reason| defer::may_pass(*reason)) {
        defer::choose(&state, leaving.planned);
    }
    let mut response = match call {
        Ok(_) if leaving.planned.waits.deferred.is_some() => bypass(&state, leaving.planned, UncachedReason::Deferred).await,
        Ok(wanted) => {
            prefetch::saw_missing(&state, leaving.planned);
            joined(&state, leaving.planned, wanted).await
        }
        Err(reason) => bypass(&state, leaving.planned, reason).await,
    };
    leaving.stays();
    answer::debug(response.headers_mut(), &planned);
    compressed(&state, &planned, None, response)
}

/// Settles a request whose client leaves before there is an answer: the handler's future is dropped then.
struct Leaving<'a> {
    state: &'a State,
    planned: &'a mut Planned,
    stays: bool,
}

impl<'a> Leaving<'a> {
    const fn new(state: &'a State, planned: &'a mut Planned) -> Self {
        Self { state, planned, stays: false }
    }
    fn stays(mut self) {
        self.stays = true;
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.stays {
            left(self.state, &self.planned.account);
        }
    }
}

/// Settles a request whose client has left.
pub fn left(state: &State, account: &Account) {
    let overhead = Span::ZERO; // it was waiting; how long of it was ours cannot be told
    let mut left = settled(Outcome::Failed, None, (StatusCode::OK, overhead), None);
    (left.status, left.error) = (CLIENT_LEFT, Some("client-left"));
    left.took = promises::missed_already(account, state.real_now().since(account.started));
    left.paid = Paid { full: Some(Money::ZERO), attempts: Some(Money::ZERO) };
    state.settle_request(account, &left);
}

/// The answer to a request that was refused before it could cost anything.
fn refused_early(state: &State, early: &Refused) -> Response<Body> {
    let Refused { account, problem } = early;
    let mut settlement = settled(Outcome::Refused, None, (problem.status, Span::ZERO), None);
    settlement.error = Some(problem.kind);
    state.settle_request(account, &settlement);
    refused(problem, account.route.dialect, account.id)
}

fn refused(problem: &Problem, dialect: Dialect, id: RequestId) -> Response<Body> {
    let mut response = problem.response(dialect);
    let notes = Notes { status: CacheStatus { detail: Some(problem.kind), ..CacheStatus::default() }, ..Notes::default() };
    answer::annotate(response.headers_mut(), id, &notes);
    response
}
