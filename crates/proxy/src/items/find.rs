//! What the cache has for the items of a list, and who fills the keys of the others.

use std::sync::Arc;

use farthing_cache::{Cached, Join, Joined, Rechecked};
use farthing_freshness::semantics::acceptable;
use farthing_types::UncachedReason;
use futures_util::future::join_all;
use http::StatusCode;
use http::header::CONTENT_ENCODING;

use super::{List, One, Stage};
use crate::l2;
use crate::lookup::{Found, judge, judge_as_of, look_up};
use crate::state::State;
use crate::ticketed::{MAX_JOINS, Wanted};

impl List {
    /// Looks every item up, and takes the right to fill the key of those that nobody has or fills.
    pub(super) async fn find(&mut self) {
        let state = &self.state;
        join_all(self.items.iter_mut().map(|one| one.look(state))).await;
        self.join().await;
    }

    /// Takes the right to fill the keys of what is missing. Nothing is waited for but L2, so that no two lists wait for each other.
    pub(super) async fn join(&mut self) {
        let state = &self.state;
        for _ in 0..MAX_JOINS {
            for one in &mut self.items {
                one.join(state);
            }
            join_all(self.items.iter_mut().map(|one| one.ask_l2(state))).await;
        }
        // What changes under our hands is left to whoever knows more of it.
        for one in &mut self.items {
            one.stage = match std::mem::replace(&mut one.stage, Stage::Apart) {
                Stage::Missing(wanted) => Stage::Joins(wanted),
                stage => stage,
            };
        }
    }
}

impl List {
    /// Whether what was known before the others were waited for still is: nothing is answered that was purged meanwhile. A newer copy takes an older
    /// one's place.
    pub(super) fn is_still_known(&mut self) -> bool {
        let state = &self.state;
        self.items.iter_mut().all(|one| one.is_still_known(state))
    }
}

impl One {
    fn is_still_known(&mut self, state: &State) -> bool {
        let Stage::Known(usable) = &self.stage else { return true };
        if state.cache.holds(&usable.entry) && (usable.left.is_err() || !usable.entry.soft_purged()) {
            return true;
        }
        let silent = self.planned.account.route.is_silent(self.planned.account.at);
        let entry = state.cache.peek(self.planned.account.key, &self.planned.headers);
        let entry = entry.filter(|entry| acceptable(entry, &self.planned.headers));
        match entry.map(|entry| found_stage(judge_as_of(&self.planned, entry, silent))) {
            Some(known @ Stage::Known(_)) => self.stage = known,
            _ => return false,
        }
        true
    }

    async fn look(&mut self, state: &State) {
        let found = match look_up(state, &mut self.planned) {
            Found::Usable(usable) if usable.left.is_ok() && state.cache.is_due(&usable.entry, self.planned.account.at) => {
                match state.cache.recheck(&usable.entry, &self.planned.headers, self.planned.account.at).await {
                    Rechecked::Same => Found::Usable(usable),
                    Rechecked::Newer(entry) => judge(&self.planned, entry),
                    Rechecked::Purged => Found::Call { previous: None, stale: None, reason: UncachedReason::Invalidated },
                }
            }
            found => found,
        };
        self.stage = found_stage(found);
    }

    fn join(&mut self, state: &State) {
        let wanted = match std::mem::replace(&mut self.stage, Stage::Apart) {
            Stage::Missing(wanted) => wanted,
            stage => return self.stage = stage,
        };
        let subject = self.planned.subject();
        let seen = wanted.previous.as_ref();
        let silent = self.planned.account.route.is_silent(self.planned.account.at);
        let joined = state.cache.join(Join { subject: &subject, headers: &self.planned.headers, seen, now: state.clock.now() });
        self.stage = match joined {
            Joined::Lead(ticket) => Stage::Leads(wanted, ticket),
            Joined::Alone(reason) => Stage::Rides(reason),
            Joined::Stored(entry) => found_stage(judge_as_of(&self.planned, entry, silent)),
            Joined::Follow(_) | Joined::Refused(_) => Stage::Joins(wanted),
        };
    }

    async fn ask_l2(&mut self, state: &State) {
        let (wanted, ticket) = match std::mem::replace(&mut self.stage, Stage::Apart) {
            Stage::Leads(wanted, ticket) => (wanted, ticket),
            stage => return self.stage = stage,
        };
        // Once for each item.
        let asks = std::mem::take(&mut self.asks_l2) && l2::may_ask(state, &self.planned, &wanted);
        self.stage = match if asks { l2::ask(state, ticket).await } else { Err(ticket) } {
            Err(ticket) => Stage::Leads(wanted, ticket),
            Ok(entry) => found_stage(judge(&self.planned, entry)),
        };
    }
}

fn found_stage(found: Found) -> Stage {
    let missing = |previous, stale, reason| Stage::Missing(Wanted { previous, stale, reason });
    match found {
        Found::Usable(usable) if usable.left.is_err() => missing(Some(usable.entry), Some(usable.age), UncachedReason::Expired),
        Found::Usable(usable) if !is_a_part(&usable.entry) => missing(Some(usable.entry), None, UncachedReason::Status),
        Found::Usable(usable) => Stage::Known(usable),
        Found::Call { previous, stale, reason } => missing(previous, stale, reason),
        Found::Bypass(reason) => Stage::Rides(reason),
    }
}

/// Whether a copy can stand in a list's answer: it is one of success, and not compressed.
pub(super) fn is_a_part(entry: &Arc<Cached>) -> bool {
    entry.status() == StatusCode::OK && entry.headers().all(&CONTENT_ENCODING).all(|coding| coding.eq_ignore_ascii_case(b"identity"))
}
