//! What was fetched ahead, and what became of it. Whether a call was used is noted where its answer is, exactly once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

use farthing_policy::prefetch::PermitState;
use farthing_types::{CallId, Money, RouteName, Time};
use parking_lot::Mutex;

use super::reasons::{Off, Refused};
use crate::route::RouteState;

/// Calls whose use is awaited at a time.
const AWAITED: usize = 65_536;

/// See the module.
pub struct Books {
    routes: Vec<Counts>,
    unused: Mutex<Unused>,
    /// How many are unused, so that most hits need no lock.
    awaited: AtomicUsize,
}

#[derive(Default)]
struct Unused {
    calls: HashMap<CallId, u16>,
    /// When their copies expire, soonest first; a call that was used is left behind until then.
    expiring: BinaryHeap<Reverse<(Time, CallId)>>,
}

#[derive(Default)]
struct Counts {
    candidates: AtomicU64,
    started: AtomicU64,
    used: AtomicU64,
    wasted: AtomicU64,
    failed: AtomicU64,
    unpriced: AtomicU64,
    spent: AtomicI64,
    saved: AtomicI64,
    refused: [AtomicU64; Refused::ALL.len()],
    /// The permit as it was told last.
    permit: AtomicU8,
}

/// How fetching ahead stands on a route, since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteBooks {
    /// The route.
    pub route: RouteName,
    /// What its record permits, or why it never fetches ahead.
    pub permit: Result<PermitState, Off>,
    /// Things without a fresh copy that might have been asked for next.
    pub candidates: u64,
    /// Calls made ahead.
    pub started: u64,
    /// Of these, used while fresh.
    pub used: u64,
    /// Of these, not used while fresh.
    pub wasted: u64,
    /// Of these, without an answer that is kept.
    pub failed: u64,
    /// Of these, without a known cost.
    pub unpriced: u64,
    /// What they cost.
    pub spent: Money,
    /// What those that were used would have cost their clients.
    pub saved: Money,
    /// Likely things that were not fetched, by reason.
    pub refused: Vec<(Refused, u64)>,
}

impl Books {
    pub(super) fn new(routes: usize) -> Self {
        Self { routes: (0..routes).map(|_| Counts::default()).collect(), unused: Mutex::default(), awaited: AtomicUsize::new(0) }
    }

    fn counts(&self, route: u16) -> Option<&Counts> {
        self.routes.get(usize::from(route))
    }

    /// Whether the use of one more call can be awaited.
    pub(super) fn has_room(&self) -> bool {
        self.unused.lock().expiring.len() < AWAITED
    }

    pub(super) fn candidates(&self, routes: impl Iterator<Item = u16>) {
        routes.filter_map(|route| self.counts(route)).for_each(|counts| {
            counts.candidates.fetch_add(1, Relaxed);
        });
    }

    pub(super) fn refused(&self, route: u16, why: Refused) {
        if let Some(counts) = self.counts(route) {
            counts.refused[why as usize].fetch_add(1, Relaxed);
        }
    }

    /// Whether the permit is another than was told last; it has been told now.
    pub(super) fn changed(&self, route: u16, permit: PermitState) -> bool {
        let now = match permit {
            PermitState::Shadow => 0,
            PermitState::Live => 1,
            PermitState::Off => 2,
        };
        self.counts(route).is_some_and(|counts| counts.permit.swap(now, Relaxed) != now)
    }

    /// A call ahead begins on a route; its copy will be fresh until then.
    pub(super) fn began(&self, (call, route): (CallId, u16), until: Time) {
        let Some(counts) = self.counts(route) else { return };
        counts.started.fetch_add(1, Relaxed);
        let mut unused = self.unused.lock();
        unused.calls.insert(call, route);
        unused.expiring.push(Reverse((until, call)));
        self.awaited.fetch_add(1, Relaxed);
    }

    /// A call ahead has ended, at this cost; without an answer that is kept it can have no use.
    pub(super) fn ended(&self, (call, route): (CallId, u16), cost: Option<Money>, kept: bool) {
        let Some(counts) = self.counts(route) else { return };
        match cost {
            Some(cost) => counts.spent.fetch_add(cost.nanos(), Relaxed),
            None => counts.unpriced.fetch_add(1, Relaxed).cast_signed(),
        };
        if !kept && self.remove(call).is_some() {
            counts.failed.fetch_add(1, Relaxed);
        }
    }

    /// Whether this is the first use of what a call ahead brought, by a request that would have cost `price`.
    pub fn used(&self, call: CallId, price: Option<Money>) -> bool {
        if self.awaited.load(Relaxed) == 0 {
            return false;
        }
        let Some(counts) = self.remove(call).and_then(|route| self.counts(route)) else { return false };
        counts.used.fetch_add(1, Relaxed);
        counts.saved.fetch_add(price.unwrap_or_default().nanos(), Relaxed);
        true
    }

    /// Calls whose copies have expired were wasted.
    pub(super) fn expire(&self, now: Time) {
        if self.awaited.load(Relaxed) == 0 && self.unused.lock().expiring.is_empty() {
            return;
        }
        let mut unused = self.unused.lock();
        while let Some(Reverse((_, call))) = unused.expiring.peek().filter(|Reverse((until, _))| *until < now).copied() {
            unused.expiring.pop();
            if let Some(route) = unused.calls.remove(&call) {
                self.awaited.fetch_sub(1, Relaxed);
                if let Some(counts) = self.counts(route) {
                    counts.wasted.fetch_add(1, Relaxed);
                }
            }
        }
    }

    fn remove(&self, call: CallId) -> Option<u16> {
        let route = self.unused.lock().calls.remove(&call);
        if route.is_some() {
            self.awaited.fetch_sub(1, Relaxed);
        }
        route
    }

    pub(super) fn of(&self, route: &RouteState, permit: PermitState) -> RouteBooks {
        let none = Counts::default();
        let counts = self.counts(route.index).unwrap_or(&none);
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        RouteBooks {
            route: route.route.name.clone(),
            permit: route.ahead.map(|_| permit),
            candidates: read(&counts.candidates),
            started: read(&counts.started),
            used: read(&counts.used),
            wasted: read(&counts.wasted),
            failed: read(&counts.failed),
            unpriced: read(&counts.unpriced),
            spent: Money::from_nanos(counts.spent.load(Relaxed)),
            saved: Money::from_nanos(counts.saved.load(Relaxed)),
            refused: Refused::ALL.iter().map(|why| (*why, read(&counts.refused[*why as usize]))).filter(|(_, count)| *count > 0).collect(),
        }
    }
}
