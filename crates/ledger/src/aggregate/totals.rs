//! The counters of one route and of one tenant.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use farthing_types::{By, Money, Outcome, Purpose, SlaOutcome, UncachedReason};

use super::{CallSettled, Histogram, RequestSettled};
use crate::cost::{CostRecord, SavedBy};

/// The kinds of deciders, as in [`By::kind`].
pub(super) const DECIDERS: [&str; 5] = ["rule", "table", "model", "fallback", "override"];

/// A count and the money that goes with it.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) count: AtomicU64,
    pub(super) nanos: AtomicI64,
    /// How many of the count have no known price.
    pub(super) unpriced: AtomicU64,
}

impl Counted {
    fn add(&self, money: Option<Money>) {
        self.count.fetch_add(1, Relaxed);
        match money {
            Some(money) if money == Money::ZERO => {}
            Some(money) => {
                self.nanos.fetch_add(money.nanos(), Relaxed);
            }
            None => {
                self.unpriced.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Counters of one route.
#[derive(Debug)]
pub struct RouteTotals {
    /// By outcome, with the base.
    pub(super) outcomes: [Counted; Outcome::ALL.len()],
    /// Not served from the cache, by reason, with the cost.
    pub(super) uncached: [Counted; UncachedReason::ALL.len()],
    /// Calls whose answer was not kept, by reason, with their bill.
    pub(super) unkept: [Counted; UncachedReason::ALL.len()],
    /// By cause, with the saving.
    pub(super) saved: [Counted; SavedBy::ALL.len()],
    /// By purpose, with the bill.
    pub(super) calls: [Counted; Purpose::ALL.len()],
    pub(super) attempts: AtomicU64,
    pub(super) decisions: [AtomicU64; DECIDERS.len()],
    pub(super) checked: AtomicU64,
    pub(super) stale: AtomicU64,
    /// The largest price that a request would have had, nano-dollars.
    pub(super) largest: AtomicI64,
    /// Promises of time, by what became of them.
    pub(super) sla: [AtomicU64; SlaOutcome::ALL.len()],
    pub(super) latency: Histogram,
    pub(super) overhead: Histogram,
}

impl Default for RouteTotals {
    fn default() -> Self {
        Self {
            outcomes: Default::default(),
            uncached: std::array::from_fn(|_| Counted::default()),
            unkept: std::array::from_fn(|_| Counted::default()),
            saved: Default::default(),
            calls: Default::default(),
            attempts: AtomicU64::new(0),
            decisions: Default::default(),
            checked: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            largest: AtomicI64::new(0),
            sla: Default::default(),
            latency: Histogram::default(),
            overhead: Histogram::default(),
        }
    }
}

impl RouteTotals {
    /// Adds an answered request.
    pub fn request(&self, settled: &RequestSettled<'_>) {
        self.outcomes[settled.outcome as usize].add(settled.cost.base);
        // Hardly ever a new one, so that threads only read.
        if let Some(base) = settled.cost.base.map(Money::nanos).filter(|nanos| *nanos > self.largest.load(Relaxed)) {
            self.largest.fetch_max(base, Relaxed);
        }
        if let Some(reason) = settled.uncached {
            self.uncached[reason as usize].add(settled.cost.cost);
        }
        if let Some(cause) = settled.cost.by {
            self.saved[cause as usize].add(settled.cost.saved);
        }
        if let Some(latency) = settled.latency {
            self.latency.record(latency);
        }
        if let Some(outcome) = settled.sla {
            self.sla[outcome as usize].fetch_add(1, Relaxed);
        }
        if let Some(overhead) = settled.overhead {
            self.overhead.record(overhead);
        }
    }

    /// Adds a call.
    pub fn call(&self, settled: &CallSettled<'_>) {
        self.calls[settled.purpose as usize].add(settled.cost);
        if let Some(reason) = settled.unkept {
            self.unkept[reason as usize].add(settled.cost);
        }
        self.attempts.fetch_add(settled.attempts, Relaxed);
    }

    /// Adds a TTL decision.
    pub fn decision(&self, by: &By) {
        if let Some(index) = DECIDERS.iter().position(|kind| *kind == by.kind()) {
            self.decisions[index].fetch_add(1, Relaxed);
        }
    }

    /// Adds what was learned about answers served earlier.
    pub fn verdicts(&self, checked: u64, stale: u64) {
        self.checked.fetch_add(checked, Relaxed);
        self.stale.fetch_add(stale, Relaxed);
    }
}

/// Counters of one tenant.
#[derive(Debug, Default)]
pub struct TenantTotals {
    pub(super) base: Counted,
    pub(super) bill: Counted,
}

impl TenantTotals {
    pub(super) fn request(&self, cost: &CostRecord) {
        self.base.add(cost.base);
    }

    pub(super) fn call(&self, cost: Option<Money>) {
        self.bill.add(cost);
    }
}
