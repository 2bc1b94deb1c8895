//! Money set aside for one call.

use std::sync::Arc;

use farthing_ledger::budget::{Charge, Hold};
use farthing_types::{CallReport, Money, Span};

use super::Shared;
use crate::budgets::pool::Pool;
use crate::limits::Turn;

/// Money set aside for one call, in every budget that counts it. Proof that the call may be sent; dropped before it is, it is given back.
#[must_use = "without it the call may not be sent"]
pub struct Held {
    /// `None` where no budget counts the call.
    held: Option<(Arc<Shared>, Hold)>,
    /// The most that one attempt can cost.
    each: Money,
    /// Its turn under limits, where one counts it.
    turn: Option<Turn>,
    /// It is for one of the route's providers alone, by its place.
    only: Option<usize>,
    /// What it tells instead, where several calls are made as one for which all this was set aside.
    pool: Option<Arc<Pool>>,
}

impl Held {
    /// For a call that no budget counts.
    pub const fn free() -> Self {
        Self { held: None, each: Money::ZERO, turn: None, only: None, pool: None }
    }

    pub(super) fn new(shared: &Arc<Shared>, hold: Hold, each: Option<Money>) -> Self {
        Self { held: (!hold.is_free()).then(|| (shared.clone(), hold)), each: each.unwrap_or_default(), turn: None, only: None, pool: None }
    }

    /// For one of the route's providers alone.
    pub const fn for_one(mut self, place: usize) -> Self {
        self.only = Some(place);
        self
    }

    /// The only one of the route's providers that it is for.
    pub const fn only(&self) -> Option<usize> {
        self.only
    }

    /// With the turn of the call.
    pub fn with_turn(mut self, turn: Option<Turn>) -> Self {
        self.turn = turn;
        self
    }

    /// A part for each of so many calls that are made as one: what was set aside is settled when the last of them is.
    pub fn shared_by(self, calls: usize) -> Vec<Self> {
        let (each, only) = (self.each, self.only);
        let pool = self.counted().map(|held| Arc::new(Pool::new(held)));
        (0..calls).map(|_| Self { held: None, each, turn: None, only, pool: pool.clone() }).collect()
    }

    /// How long the call waited for its turn.
    pub fn waited(&self) -> Span {
        let waited = self.turn.as_ref().map(|turn| turn.waited);
        waited.or_else(|| self.pool.as_ref().map(|pool| pool.waited())).unwrap_or_default()
    }

    /// Itself where a budget or a limit counts the call.
    pub fn counted(self) -> Option<Self> {
        (self.held.is_some() || self.turn.is_some() || self.pool.is_some()).then_some(self)
    }

    /// Settles the turn: whether anything of the call was sent, and the tokens that it used, where that is known.
    pub fn settle_turn(&mut self, sent: bool, tokens: Option<u64>) {
        if let Some(pool) = &self.pool {
            pool.used(sent, tokens);
        }
        if let Some(turn) = self.turn.take() {
            turn.settle(sent, tokens);
        }
    }

    /// The head of an answer has come: attempts that are not needed any more are given back.
    pub fn answered(&mut self, attempts: usize) {
        if let Some(pool) = &self.pool {
            pool.answered(attempts);
        }
        if let Some((shared, hold)) = &mut self.held {
            let sent = i64::try_from(attempts).unwrap_or(i64::MAX).max(1);
            let most = self.each.times(sent);
            if most < hold.amount() {
                shared.book.lock().shrink(hold, most);
                shared.freed.notify_one();
            }
        }
    }

    /// Settles the call: what its attempts cost, and what they may have cost beyond. `broke_off`: what the last one costs depends on what
    /// its answer tells, and it did not tell all.
    pub fn settle<'a>(mut self, attempts: impl ExactSizeIterator<Item = (&'a CallReport, Option<Money>)>, broke_off: bool) {
        if self.held.is_none() && self.pool.is_none() {
            return;
        }
        let last = attempts.len().saturating_sub(1);
        let charge = attempts.enumerate().fold(Charge::default(), |sum, (index, (report, cost))| {
            let of = charge(report, cost, (self.each, index == last && broke_off));
            Charge { spent: sum.spent + of.spent, uncertain: sum.uncertain + of.uncertain }
        });
        if let Some(pool) = &self.pool {
            pool.charge(charge);
        }
        self.end(charge);
    }

    /// Settles what was set aside for all calls of a pool. What each of them may have cost beyond is not more than was set aside together.
    pub(super) fn settle_all(mut self, charge: Charge, (sent, tokens): (bool, Option<u64>)) {
        self.settle_turn(sent, tokens);
        let most = self.held.as_ref().map_or(Money::ZERO, |(_, hold)| hold.amount());
        let uncertain = charge.uncertain.min((most - charge.spent).max(Money::ZERO));
        self.end(Charge { uncertain, ..charge });
    }

    fn end(&mut self, charge: Charge) {
        if let Some((shared, hold)) = self.held.take() {
            shared.settle(&hold, charge);
        }
    }
}

/// What one attempt cost. Where the provider may have billed more than is known, all that it can have billed is uncertain: a budget that
/// holds must not be told less.
fn charge(report: &CallReport, cost: Option<Money>, (most, broke_off): (Money, bool)) -> Charge {
    if !report.sent {
        return Charge::default();
    }
    let spent = cost.unwrap_or_default();
    let known = cost.is_some() && report.status.is_some() && !broke_off;
    let uncertain = if known { Money::ZERO } else { (most - spent).max(Money::ZERO) };
    Charge { spent, uncertain }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end(Charge::default());
    }
}
