//! How each item of a list is settled: once, as a request of its own.

use farthing_policy::batch::Whole;
use farthing_types::{Body, Failure, Outcome, Time, UncachedReason};
use farthing_upstream::Piece;
use http::{Response, StatusCode};

use super::{List, One, Stage};
use crate::admission::{self, HeldBack};
use crate::lookup::Usable;
use crate::problem::Problem;
use crate::reply::{own_head, settle_own, settled, settled_from};
use crate::settle::Settled;
use crate::stream::Pending;
use crate::ticketed::why;

/// What went wrong with an item, and what it is told.
type Told = ((&'static str, StatusCode), (Outcome, UncachedReason));

impl List {
    /// Settles the items that came with the list's call.
    pub(super) fn settle_pieces(&mut self, pieces: &[Option<Piece>], since: Time) {
        let came = |one: &One| match &one.stage {
            Stage::Called(called) => pieces.get(called.seat)?.as_ref().map(|piece| (piece.status, piece.body.len())),
            _ => None,
        };
        for index in 0..self.items.len() {
            if let Some(came) = self.items.get(index).and_then(came) {
                self.settle_one_called(index, came, since);
            }
        }
    }

    /// Settles all that went with the list's call by the status and the bytes of its answer.
    pub(super) fn settle_called(&mut self, came: (StatusCode, usize), since: Time) {
        for index in 0..self.items.len() {
            self.settle_one_called(index, came, since);
        }
    }

    fn settle_one_called(&mut self, index: usize, (status, bytes): (StatusCode, usize), since: Time) {
        let state = self.state.clone();
        let Some(one) = self.items.get_mut(index).filter(|one| !one.settled) else { return };
        let Stage::Called(called) = &one.stage else { return };
        let (account, flight) = (one.planned.account.clone(), called.flight.clone());
        let waited = state.real_now().since(since);
        let overhead = account.ours(state.real_now().since(account.started).saturating_sub(waited));
        let reason = Some(why(called.reason, flight.head()));
        let settled = Settled { waited, ..settled(Outcome::Lead, reason, (status, overhead), Some(flight.id)) };
        one.settled = true;
        Pending { state, account, settled, flight }.settle(Some(bytes as u64));
    }

    /// Puts older copies in the place of what the list's call failed to bring; how many. `None`, and nothing is changed, where one has none.
    pub(super) fn stand_in(&mut self, since: Time) -> Option<usize> {
        let held = |old: &Option<Usable>| old.as_ref().is_some_and(|old| self.state.cache.holds(&old.entry));
        let all = self.items.iter().all(|one| !matches!(&one.stage, Stage::Called(called) if !held(&called.old)));
        if !all {
            return None;
        }
        let (now, waited) = (self.state.clock.now(), self.state.real_now().since(since));
        let mut count = 0;
        for one in &mut self.items {
            let Stage::Called(called) = &mut one.stage else { continue };
            let Some(old) = called.old.take() else { continue };
            old.entry.failed.note(now);
            one.planned.account.failed += waited;
            one.stage = Stage::Known(old);
            count += 1;
        }
        (count > 0).then_some(count)
    }

    /// Settles the items that were known.
    pub(super) fn settle_known(&mut self) {
        let state = self.state.clone();
        for one in &mut self.items {
            let Stage::Known(usable) = &one.stage else { continue };
            let sent = (StatusCode::OK, usable.entry.body_len() as u64);
            let failed = usable.left.is_err().then_some(UncachedReason::UpstreamFailed.as_str());
            let from = settled_from(&state, (&one.planned.account, one.planned.variant_name()), usable, sent);
            let settled = Settled { error: failed, ..from };
            state.settle_request(&one.planned.account, &settled);
            one.settled = true;
        }
    }

    /// Settles what is not settled yet: its client gets nothing of it.
    fn settle_rest(&mut self, (what, why): Told) {
        for one in self.items.iter_mut().filter(|one| !one.settled) {
            settle_own(&self.state, &one.planned.account, what, why);
            one.settled = true;
        }
    }

    /// Items that are not served because another one's answer has this status.
    pub(super) fn settle_unserved(&mut self, status: StatusCode) {
        self.settle_rest((("list-unserved", status), (Outcome::Failed, UncachedReason::UpstreamFailed)));
    }

    /// Items of a list that goes whole after all.
    pub(super) fn give_up(&mut self, why: Whole) {
        self.settle_rest(((why.as_str(), StatusCode::BAD_GATEWAY), (Outcome::Failed, UncachedReason::UpstreamFailed)));
    }

    /// The answer where the list's call failed.
    pub(super) fn failed(&mut self, failure: &Failure, since: Time) -> Response<Body> {
        let waited = self.state.real_now().since(since);
        for one in self.items.iter_mut().filter(|one| !one.settled) {
            one.planned.account.failed += waited;
        }
        let told = match failure.limited {
            Some(_) => (Outcome::Refused, UncachedReason::OverLimit),
            None => (Outcome::Failed, UncachedReason::UpstreamFailed),
        };
        self.own(&Problem::from(failure), told)
    }

    /// The answer where a budget or a limit has no room for the call.
    pub(super) fn held_back(&mut self, held_back: &HeldBack) -> Response<Body> {
        let problem = admission::problem(&self.state, &self.whole, held_back);
        self.own(&problem, (Outcome::Refused, held_back.into()))
    }

    fn own(&mut self, problem: &Problem, told: (Outcome, UncachedReason)) -> Response<Body> {
        self.settle_rest(((problem.kind, problem.status), told));
        let account = &self.whole.account;
        let overhead = account.ours(self.state.real_now().since(account.started));
        own_head(&self.whole, problem, overhead)
    }
}
