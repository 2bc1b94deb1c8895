//! What is not needed, where Farthing's own time is above its limit (SPEC R5). Left out are batches, lists that are taken apart, answers compressed for
//! clients, L2, fetching ahead, and predictors. What protects stays, and so do the cache and joining: they spare time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_policy::switches::{Overhead, Standing};
use farthing_types::{By, Outcome, Time};
use parking_lot::Mutex;

use super::{LEAN, Strategy, SwitchView, Switches};
use crate::route::RouteState;
use crate::settle::{Account, Settled};
use crate::state::State;

/// What is watched: requests that went to the provider, and of these those above the limit. Read and set back by the control loop.
pub struct Watched {
    requests: AtomicU64,
    slow: AtomicU64,
    judged: Mutex<Overhead>,
}

impl Default for Watched {
    fn default() -> Self {
        Self { requests: AtomicU64::new(0), slow: AtomicU64::new(0), judged: Mutex::new(Overhead::new(Time::ZERO)) }
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
        let judged = self.overhead.judged.lock();
        let (standing, since) = judged.standing();
        SwitchView {
            strategy: Strategy::Optional,
            standing,
            since,
            evidence: judged.evidence(),
            tried_again: judged.tried_again(),
            judged: None,
            switched_off: self.switched_off(Strategy::Optional),
        }
    }
}

impl State {
    /// Counts the own time of a request that went to the provider. A hit is no part of this, and pays nothing for it.
    pub fn learn_overhead(&self, account: &Account, settled: &Settled) {
        let limit = self.config.overhead.limit;
        if limit.is_zero() || !matches!(settled.outcome, Outcome::Lead | Outcome::Follow | Outcome::Bypass) {
            return;
        }
        let watched = &account.route.switches.overhead;
        watched.requests.fetch_add(1, Relaxed);
        watched.slow.fetch_add(u64::from(settled.overhead > limit), Relaxed);
    }

    /// Judges what has come since the last time.
    pub fn judge_overheads(&self) {
        let now = self.real_now();
        for route in &self.routes {
            self.judge_overhead(route, now);
        }
    }

    fn judge_overhead(&self, route: &RouteState, now: Time) {
        let watched = &route.switches.overhead;
        let (requests, slow) = (watched.requests.swap(0, Relaxed), watched.slow.swap(0, Relaxed));
        let turned = watched.judged.lock().take(requests, slow.min(requests), now);
        if let Some(to) = turned {
            route.switches.set(LEAN, to == Standing::Off);
            self.tell(route, Strategy::Optional, to);
        }
    }
}
