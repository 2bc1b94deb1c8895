//! A call is admitted: it has its turn under the limits, and money is set aside for it.

use std::sync::Arc;

use farthing_ledger::budget::Blocked;
use farthing_ledger::limit::Refusal;
use farthing_types::{Body, Claim, Outcome, UncachedReason};
use http::{Response, StatusCode};
use tokio::time::Instant;

use crate::budgets::{self, Held};
use crate::limits::seconds;
use crate::lookup::Usable;
use crate::problem::Problem;
use crate::reply::{from_entry, own_answer};
use crate::request::Planned;
use crate::settle::Account;
use crate::state::State;
use crate::ticketed::Wanted;

/// What a call asks for before it may be made.
pub struct Admission {
    money: budgets::Admission,
    claim: Claim,
    /// Bytes of its body, which are held while it waits.
    bytes: usize,
}

/// Why a call is not made.
pub enum HeldBack {
    /// A budget has no room.
    Budget(Blocked),
    /// A limit has none.
    Limit(Refusal),
}

impl Admission {
    /// What the call of a request asks for, before its body is taken. A `conditional` one may have to be made a second time without its
    /// conditions.
    pub fn of(state: &State, planned: &Planned, conditional: bool) -> Self {
        Self {
            money: budgets::Admission::of(state, planned, conditional),
            claim: planned.account.route.limits.claim(planned, true),
            bytes: planned.outbound.body.as_full().map_or(0, |body| body.len()),
        }
    }

    /// The same for a call that nobody waits for.
    pub fn in_background(self) -> Self {
        let claim = Claim { priority: farthing_types::Priority::Low, ..self.claim };
        Self { money: self.money.in_background(), claim, ..self }
    }
}

/// Admits a call that nobody waits for, where that can be done at once.
///
/// # Errors
/// Which has no room: a limit or a budget.
pub fn at_once(state: &State, account: &Account, admission: Admission) -> Result<Held, UncachedReason> {
    let admission = admission.in_background();
    let turn = account.route.limits.at_once(account, admission.claim).ok_or(UncachedReason::OverLimit)?;
    let held = budgets::at_once(state, account, admission.money).ok_or(UncachedReason::OverBudget)?;
    Ok(held.with_turn(turn))
}

impl From<&HeldBack> for UncachedReason {
    fn from(held_back: &HeldBack) -> Self {
        match held_back {
            HeldBack::Budget(_) => Self::OverBudget,
            HeldBack::Limit(_) => Self::OverLimit,
        }
    }
}

/// Admits a request's call; it waits for its turn and for room no longer than `until`.
///
/// # Errors
/// What holds it back.
pub async fn admit(state: &State, account: &Account, admission: &Admission, until: Option<Instant>) -> Result<Held, HeldBack> {
    let waits = (until, admission.bytes);
    // The turn first: money that is set aside is not to lie idle in a line.
    let turn = account.route.limits.turn(account, admission.claim, waits).await.map_err(HeldBack::Limit)?;
    let held = budgets::admit(state, account, &admission.money, until).await.map_err(HeldBack::Budget)?;
    Ok(held.with_turn(turn))
}

/// Admits a request's call, and notes how long that took.
///
/// # Errors
/// What holds it back.
pub async fn queued(state: &State, account: &mut Account, admission: &Admission, until: Instant) -> Result<Held, HeldBack> {
    if !account.route.limits.calls_wait() && state.budgets.is_empty() {
        // It waits for nothing: the clock need not be read.
        return admit(state, account, admission, Some(until)).await;
    }
    let since = state.real_now();
    let held = admit(state, account, admission, Some(until)).await;
    account.queued += state.real_now().since(since);
    held
}

/// The answer to a request that is held back.
pub fn answer(state: &Arc<State>, planned: &Planned, wanted: Wanted, held_back: &HeldBack) -> Response<Body> {
    match held_back {
        HeldBack::Budget(blocked) => budgets::answer(state, planned, wanted, blocked),
        HeldBack::Limit(refusal) => refused(state, planned, wanted, (&limited(refusal), UncachedReason::OverLimit)),
    }
}

/// What a request is told that is held back and for which nothing stands in.
pub fn problem(state: &State, planned: &Planned, held_back: &HeldBack) -> Problem {
    match held_back {
        HeldBack::Budget(blocked) => budgets::refused(state, planned, blocked, false),
        HeldBack::Limit(refusal) => limited(refusal),
    }
}

/// A refusal: an older copy where one may stand in for a call that fails, else the problem.
pub fn refused(state: &Arc<State>, planned: &Planned, wanted: Wanted, (problem, reason): (&Problem, UncachedReason)) -> Response<Body> {
    let copy = wanted.previous.filter(|entry| state.cache.holds(entry)).zip(wanted.stale);
    match copy {
        Some((entry, age)) => from_entry(state, planned, &Usable::expired(entry, age, planned.variant_name()), Some(reason)),
        None => own_answer(state, planned, problem, (Outcome::Refused, reason)),
    }
}

/// What the client is told: whose limit it is, and when to come back.
fn limited(refusal: &Refusal) -> Problem {
    let Refusal { limit, why, retry_after, .. } = refusal;
    let detail = format!("limit `{limit}` has no room for this call now ({why}); try again when Retry-After says, or less at a time");
    Problem { retry_after: Some(seconds(*retry_after)), ..Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail) }
}
