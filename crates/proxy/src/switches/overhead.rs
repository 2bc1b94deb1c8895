//! What is not needed, where Farthing's own time is above its limit (SPEC R5). Left out is first what took most of the time of requests that were slow: L2
//! (with leases of calls), lists that are taken apart, or what takes processor time (batches, answers compressed for clients, fetching ahead,
//! predictors); the next where that was not enough. What protects stays, and so do the cache and joining: they spare time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_policy::switches::{Overhead, Standing};
use farthing_types::{By, Outcome, Span, Time};
use parking_lot::Mutex;

use super::own::{OwnPart, OwnTime, Slow};
use super::{LEAN, NO_L2, NO_LISTS, Strategy, SwitchView, Switches};
use crate::route::RouteState;
use crate::settle::{Account, Settled};
use crate::state::State;

/// What is watched: requests that went to the provider, and of these those above the limit. Read and set back by the control loop.
pub struct Watched {
    requests: AtomicU64,
    slow: AtomicU64,
    own: OwnTime,
    /// What those above the limit consist of, since the last look.
    slow_own: [AtomicU64; OwnPart::LEFT_OUT.len()],
    judged: Mutex<Judged>,
}

struct Judged {
    overhead: Overhead,
    /// What slow requests consist of lately: of a look a minute ago a few hundredths are left.
    slow: Slow,
    /// What was left out when it was tried again.
    before: u16,
}

impl Default for Watched {
    fn default() -> Self {
        Self {
            requests: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            own: OwnTime::default(),
            slow_own: Default::default(),
            judged: Mutex::new(Judged { overhead: Overhead::new(Time::ZERO), slow: Slow::default(), before: 0 }),
        }
    }
}

impl Switches {
    /// Says in a decision that no predictor was asked because what is not needed is left out.
    pub fn name_lean(&self, by: &mut By) {
        if self.is_lean() && *by == By::Fallback("no-model") {
            *by = By::Fallback("overhead");
        }
    }

    pub(super) fn overhead_view(&self) -> SwitchView {
        let flags = self.flags.load(Relaxed);
        let judged = self.overhead.judged.lock().overhead;
        let (standing, since) = judged.standing();
        SwitchView {
            strategy: Strategy::Optional,
            standing,
            since,
            evidence: judged.evidence(),
            tried_again: judged.tried_again(),
            judged: None,
            switched_off: self.switched_off(Strategy::Optional),
            left_out: OwnPart::LEFT_OUT.into_iter().zip(FLAGS).filter(|(_, flag)| flags & flag != 0).map(|(part, _)| part).collect(),
        }
    }

    /// Own time since the start, by part.
    pub(super) fn own_time(&self) -> Vec<(OwnPart, Span, u64)> {
        self.overhead.own.read()
    }
}

/// What is left out, in the order of [`OwnPart::LEFT_OUT`].
const FLAGS: [u16; OwnPart::LEFT_OUT.len()] = [NO_L2, NO_LISTS, LEAN];
const ALL: u16 = NO_L2 | NO_LISTS | LEAN;

/// What to leave out next: what takes most of slow requests, of what is there and not left out yet. `0` where nothing is.
fn costliest(slow: &Slow, may: u16) -> u16 {
    let candidates = FLAGS.iter().zip(slow).filter(|(flag, nanos)| may & **flag != 0 && (**nanos > 0 || **flag == LEAN));
    candidates.max_by_key(|(_, nanos)| **nanos).map_or(0, |(flag, _)| *flag)
}

impl State {
    /// Counts the own time of a request that went to the provider. A hit is no part of this, and pays nothing for it.
    pub fn learn_overhead(&self, account: &Account, settled: &Settled) {
        let limit = self.live().config.overhead.limit;
        if limit.is_zero() || !matches!(settled.outcome, Outcome::Lead | Outcome::Follow | Outcome::Bypass) {
            return;
        }
        let watched = &account.route.switches.overhead;
        watched.requests.fetch_add(1, Relaxed);
        let parts = watched.own.take(account, settled.overhead);
        if settled.overhead > limit {
            watched.slow.fetch_add(1, Relaxed);
            watched.slow_own.iter().zip(parts).for_each(|(sum, nanos)| {
                sum.fetch_add(nanos, Relaxed);
            });
        }
    }

    /// Judges what has come since the last time.
    pub fn judge_overheads(&self) {
        let now = self.real_now();
        for route in &self.live().routes {
            self.judge_overhead(route, now);
        }
    }

    fn judge_overhead(&self, route: &RouteState, now: Time) {
        let watched = &route.switches.overhead;
        let (requests, slow) = (watched.requests.swap(0, Relaxed), watched.slow.swap(0, Relaxed));
        let off = route.switches.flags.load(Relaxed) & ALL;
        let there = LEAN | if self.l2.is_some() { NO_L2 } else { 0 } | if route.splits_lists() { NO_LISTS } else { 0 };
        let mut judged = watched.judged.lock();
        for (sum, new) in judged.slow.iter_mut().zip(&watched.slow_own) {
            *sum = (*sum / 8 * 7).saturating_add(new.swap(0, Relaxed));
        }
        let next = costliest(&judged.slow, there & !off);
        let Some(to) = judged.overhead.take(requests, slow.min(requests), now, next != 0) else { return };
        let before = std::mem::replace(&mut judged.before, if to == Standing::Trial { off } else { 0 });
        let left_out = match to {
            // What was not enough stays out; what was out before a trial that failed is out again.
            Standing::Off => off | if before == 0 { next } else { before },
            Standing::Trial | Standing::On => 0,
        };
        drop(judged);
        for flag in FLAGS {
            route.switches.set(flag, left_out & flag != 0);
        }
        self.tell(route, Strategy::Optional, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_most_of_slow_requests_goes_first() {
        let slow = [900, 0, 100];
        assert_eq!(costliest(&slow, ALL), NO_L2);
        assert_eq!(costliest(&slow, ALL & !NO_L2), LEAN);
        assert_eq!(costliest(&slow, NO_LISTS), 0, "what takes no time is not left out");
        assert_eq!(costliest(&[0, 7, 3], ALL), NO_LISTS);
        assert_eq!((costliest(&Slow::default(), ALL), costliest(&slow, 0)), (LEAN, 0));
    }
}
