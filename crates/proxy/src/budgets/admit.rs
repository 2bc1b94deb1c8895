//! A request asks its budgets: what its call can cost at most, and what it is told when there is no room.

use std::sync::Arc;

use farthing_config::BatchFormat;
use farthing_ledger::RequestFacts;
use farthing_ledger::budget::{Ask, Blocked, Who, Why};
use farthing_ledger::prices;
use farthing_ledger::usage::Billing;
use farthing_types::{Body, Money, OnExceeded, Outcome, Priority, UncachedReason};
use farthing_upstream::is_repeatable;
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::{Held, RefusalReport};
use crate::asking;
use crate::lookup::Usable;
use crate::problem::Problem;
use crate::reply::{from_entry, own_answer};
use crate::request::Planned;
use crate::settle::Account;
use crate::state::State;
use crate::ticketed::Wanted;

/// What a call asks its budgets for.
pub struct Admission {
    /// The most that one attempt can cost.
    each: Option<Money>,
    /// The most that all attempts can cost together.
    all: Option<Money>,
    /// The same of the provider whose attempts cost least at most, of several.
    cheapest: Option<Cheapest>,
    priority: Priority,
}

/// A provider that alone may have room.
#[derive(Clone, Copy)]
struct Cheapest {
    /// Its place among the route's.
    place: usize,
    each: Money,
    all: Money,
}

impl Admission {
    /// What the call of a request asks for, before its body is taken. A `conditional` one may have to be made a second time without its
    /// conditions.
    pub fn of(state: &State, planned: &Planned, conditional: bool) -> Self {
        if state.budgets.is_empty() {
            return Self { each: None, all: None, cheapest: None, priority: planned.priority };
        }
        let bounds = bounds(state, planned);
        let each = bounds.as_ref().and_then(|bounds| bounds.iter().copied().max());
        let rounds = attempts(planned) * if conditional { 2 } else { 1 };
        // Of several providers each may be asked in each round, where the call may be made again.
        let least = bounds.iter().flatten().copied().enumerate().min_by_key(|(_, each)| *each);
        let cheapest = least.filter(|_| planned.account.route.routing.is_some());
        let cheapest = cheapest.map(|(place, each)| Cheapest { place, each, all: each.times(rounds) });
        let round = if may_repeat(planned) { bounds.map(|bounds| bounds.into_iter().sum()) } else { each };
        Self { each, all: round.map(|round: Money| round.times(rounds)), cheapest, priority: planned.priority }
    }

    /// The same for a call that nobody waits for.
    pub fn in_background(self) -> Self {
        Self { priority: Priority::Low, ..self }
    }

    fn ask<'a>(&self, state: &State, account: &'a Account) -> Ask<'a> {
        let identity = &account.identity;
        let who = Who {
            tenant: &identity.tenant,
            team: identity.team.as_deref(),
            service: identity.service.as_deref(),
            key: identity.key.as_deref(),
            route: &account.route.route.name,
        };
        Ask { who, priority: self.priority, bound: self.all, now: state.clock.now() }
    }
}

/// The most that one attempt of a request's call can cost at each provider of its route; `None` when that cannot be told of one of them.
fn bounds(state: &State, planned: &Planned) -> Option<Vec<Money>> {
    planned.account.route.route.providers().map(|provider| bound(state, planned, provider)).collect()
}

/// The same at one of them.
fn bound(state: &State, planned: &Planned, provider: &str) -> Option<Money> {
    let route = &planned.account.route;
    let names = (&*route.route.name, provider);
    // A body that is not held may have any length, and refer to anything.
    let unknown = RequestFacts { media: true, ..RequestFacts::default() };
    let facts = planned.outbound.facts().unwrap_or(&unknown);
    let bytes = planned.outbound.body.as_full().map_or(0, |body| body.len() as u64);
    let unbilled = asking::billing(planned) == Billing::Never;
    let ask = prices::Ask { unbilled, ..prices::Ask::of(names, facts, bytes, (1, planned.account.at)) };
    state.pricing.book().bound(&ask).or(route.route.max_call_cost)
}

/// How often a call may be billed: what cannot be repeated once bytes were sent is billed once.
fn attempts(planned: &Planned) -> i64 {
    let (route, upstream) = (&planned.account.route.route, &planned.account.route.provider.upstream);
    let attempts = if may_repeat(planned) { i64::from(upstream.attempts.max(1)) } else { 1 };
    // A compressed body that is refused is sent again as it is; of several providers by each, in each round.
    match route.providers().count() {
        0 | 1 => attempts + i64::from(upstream.compress_requests.is_some()),
        _ => attempts * if planned.account.route.compresses_requests() { 2 } else { 1 },
    }
}

/// Whether a call may be made again after bytes of it were sent.
fn may_repeat(planned: &Planned) -> bool {
    let route = &planned.account.route.route;
    let held = planned.outbound.body.as_full().is_some();
    // A query of GraphQL that was made together with others may be made again alone.
    let format = route.batch.as_ref().filter(|_| planned.batch.is_ok()).map(|batch| &batch.format);
    let query = matches!(format, Some(BatchFormat::GraphqlArray | BatchFormat::GraphqlMerge));
    held && (query || route.idempotent || is_repeatable(&planned.account.method, &planned.headers))
}

/// Sets money aside for a call that nobody waits for, where that can be done at once.
pub fn at_once(state: &State, account: &Account, admission: Admission) -> Option<Held> {
    state.budgets.try_hold(&admission.ask(state, account), admission.each)
}

/// Sets money aside for a request's call; waits for room no longer than `until`.
///
/// # Errors
/// The budget that holds it back.
pub async fn admit(state: &State, account: &Account, admission: &Admission, until: Option<Instant>) -> Result<Held, Blocked> {
    let blocked = match state.budgets.hold(&admission.ask(state, account), admission.each).await {
        Ok(held) => return Ok(held),
        Err(blocked) => blocked,
    };
    let cheapest = admission.cheapest.filter(|_| blocked.action == OnExceeded::Cheapest && blocked.why == Why::Exceeded);
    if let Some(Cheapest { place, each, all }) = cheapest {
        let ask = Ask { bound: Some(all), ..admission.ask(state, account) };
        if let Ok(held) = state.budgets.hold(&ask, Some(each)).await {
            return Ok(held.for_one(place));
        }
    }
    match until {
        Some(until) => state.budgets.wait((|| admission.ask(state, account), admission.each), blocked, until).await,
        None => Err(blocked),
    }
}

/// The answer to a request that is held back: an older copy where the budget says so and there is one, else a refusal.
pub fn answer(state: &Arc<State>, planned: &Planned, wanted: Wanted, blocked: &Blocked) -> Response<Body> {
    let old =
        wanted.previous.filter(|entry| blocked.action == OnExceeded::Stale && state.cache.holds(entry) && !entry.reuse().must_revalidate);
    let problem = refused(state, planned, blocked, old.is_some());
    if let Some(entry) = old {
        let age = entry.reuse().age(entry.fetched_at(), planned.account.at);
        let usable = Usable::expired(entry, age, planned.variant_name());
        return from_entry(state, planned, &usable, Some(UncachedReason::OverBudget));
    }
    own_answer(state, planned, &problem, (Outcome::Refused, UncachedReason::OverBudget))
}

/// Notes that a request is held back, and says what it is told unless an older copy stands in.
pub fn refused(state: &State, planned: &Planned, blocked: &Blocked, stood_in: bool) -> Problem {
    state.budgets.refused(RefusalReport {
        request: planned.account.id,
        at: state.clock.now(),
        tenant: planned.account.identity.tenant.clone(),
        route: planned.account.route.route.name.clone(),
        priority: planned.priority,
        blocked: blocked.clone(),
        stood_in,
    });
    problem(state, blocked)
}

/// What the client is told. No figures: whose they are is not the client's business.
fn problem(state: &State, blocked: &Blocked) -> Problem {
    let budget = &blocked.counter.budget;
    let (status, kind, detail) = match blocked.why {
        Why::Exceeded => {
            let detail = format!("budget `{budget}` has no room for this call; raise it with `farthing budgets raise {budget}`");
            (StatusCode::TOO_MANY_REQUESTS, "budget_exceeded", detail)
        }
        // Not a matter of time: whoever tried again would be told the same.
        Why::Unpriced => {
            let detail = format!(
                "budget `{budget}` cannot be kept, because it is not known what this call can cost at most: give its target a price and send \
                 `max_tokens`, or set `max_call_cost` on the route"
            );
            (StatusCode::FORBIDDEN, "budget_unpriced", detail)
        }
        Why::Fault => {
            let what = if state.budgets.fleet_holds() {
                "the instances that share it cannot agree on what is left of it"
            } else {
                "what may be spent cannot be written down"
            };
            (StatusCode::SERVICE_UNAVAILABLE, "budget_unavailable", format!("budget `{budget}` cannot be kept now: {what}"))
        }
        Why::TooManyUnits => {
            (StatusCode::SERVICE_UNAVAILABLE, "budget_unavailable", format!("budget `{budget}` counts too many of its units already"))
        }
    };
    let mut problem = Problem::new(status, kind, detail);
    problem.retry_after = match blocked.why {
        Why::Unpriced => None,
        Why::Exceeded if blocked.may_pass() => Some(1),
        Why::Exceeded => blocked.resets.map(|resets| resets.since(state.clock.now()).as_secs().saturating_add(1)).map(clamped),
        Why::Fault | Why::TooManyUnits => Some(1),
    };
    problem
}

fn clamped(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
