//! Totals at one moment, to be shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_types::{Money, Outcome, Purpose, SlaOutcome, UncachedReason};
use serde::Serialize;

use super::totals::{Counted, DECIDERS};
use super::{HistogramSnapshot, OTHER, RouteTotals, TenantTotals};
use crate::cost::SavedBy;

/// A count and the money that goes with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Their money, as far as priced.
    pub usd: Money,
    /// How many of them have no known price.
    pub unpriced: u64,
}

impl Tally {
    fn read(counted: &Counted) -> Self {
        Self {
            count: counted.count.load(Relaxed),
            usd: Money::from_nanos(counted.nanos.load(Relaxed)),
            unpriced: counted.unpriced.load(Relaxed),
        }
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.usd += other.usd;
        self.unpriced += other.unpriced;
    }
}

/// Tallies by a closed list of reasons; those that never happened are left out.
pub type Tallies = BTreeMap<&'static str, Tally>;

/// Totals of one route, or of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RouteSnapshot {
    /// Requests answered.
    pub requests: u64,
    /// Requests by outcome, with their base.
    pub outcomes: Tallies,
    /// Requests not served from the cache by reason, with what they cost.
    pub uncached: Tallies,
    /// Calls whose answer was not kept, by reason, with what they cost.
    pub unkept: Tallies,
    /// What the requests would have cost without Farthing, as far as priced.
    pub base_usd: Money,
    /// Paid to the provider for all purposes, as far as priced.
    pub bill_usd: Money,
    /// Requests whose answer saved something, by cause, with the saving.
    pub saved: Tallies,
    /// Calls by purpose, with the bill.
    pub calls: Tallies,
    /// Attempts that were sent to the provider.
    pub attempts: u64,
    /// Requests and calls without a known price.
    pub unpriced: u64,
    /// TTL decisions by kind of decider (`model`, `table`, `rule` ...).
    pub decisions: BTreeMap<&'static str, u64>,
    /// Answers from the cache that were later checked against the origin.
    pub checked: u64,
    /// Of these, how many had been stale.
    pub stale: u64,
    /// Requests with an SLA: `met`, or missed, by whose time it was (`farthing`, `upstream`, `queue`, `client`).
    pub sla: BTreeMap<&'static str, u64>,
    /// From head to last byte.
    pub latency: HistogramSnapshot,
    /// The part of it spent in Farthing.
    pub overhead: HistogramSnapshot,
}

impl RouteSnapshot {
    /// Reads the counters of one route.
    pub fn read(totals: &RouteTotals) -> Self {
        let tallies = |names: Vec<&'static str>, counted: &[Counted]| {
            let pairs = names.into_iter().zip(counted.iter().map(Tally::read));
            pairs.filter(|(_, tally)| tally.count > 0).collect::<Tallies>()
        };
        let outcomes = tallies(Outcome::ALL.iter().map(|o| o.as_str()).collect(), &totals.outcomes);
        let calls = tallies(Purpose::ALL.iter().map(|p| p.as_str()).collect(), &totals.calls);
        let sum = |tallies: &Tallies| {
            tallies.values().fold(Tally::default(), |mut sum, tally| {
                sum.add(tally);
                sum
            })
        };
        let (requests, bill) = (sum(&outcomes), sum(&calls));
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        Self {
            requests: requests.count,
            base_usd: requests.usd,
            bill_usd: bill.usd,
            unpriced: requests.unpriced + bill.unpriced,
            uncached: tallies(UncachedReason::ALL.iter().map(|r| r.as_str()).collect(), &totals.uncached),
            unkept: tallies(UncachedReason::ALL.iter().map(|r| r.as_str()).collect(), &totals.unkept),
            saved: tallies(SavedBy::ALL.iter().map(|s| s.as_str()).collect(), &totals.saved),
            outcomes,
            calls,
            attempts: load(&totals.attempts),
            decisions: DECIDERS.into_iter().zip(totals.decisions.iter().map(load)).filter(|(_, count)| *count > 0).collect(),
            checked: load(&totals.checked),
            stale: load(&totals.stale),
            sla: SlaOutcome::ALL.iter().map(|outcome| outcome.as_str()).zip(totals.sla.iter().map(load)).filter(|(_, n)| *n > 0).collect(),
            latency: totals.latency.snapshot(),
            overhead: totals.overhead.snapshot(),
        }
    }

    /// Requests with this outcome.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(outcome.as_str()).map_or(0, |tally| tally.count)
    }

    /// Share of requests served from the cache or from another request's call; `None` without requests.
    pub fn hit_ratio(&self) -> Option<f64> {
        let hits = self.outcome(Outcome::Hit) + self.outcome(Outcome::Stale) + self.outcome(Outcome::Follow);
        (self.requests > 0).then(|| hits as f64 / self.requests as f64)
    }

    /// Share of the requests with an SLA that were answered within it; `None` where none had one.
    pub fn sla_share(&self) -> Option<f64> {
        let all: u64 = self.sla.values().sum();
        (all > 0).then(|| self.sla.get(SlaOutcome::Met.as_str()).copied().unwrap_or(0) as f64 / all as f64)
    }

    /// `1 - bill / base`, as far as priced; `None` when the base is zero.
    pub fn saving_share(&self) -> Option<f64> {
        let base = self.base_usd.as_usd_f64();
        (base > 0.0).then(|| 1.0 - self.bill_usd.as_usd_f64() / base)
    }

    /// Share of TTL decisions made by a model; `None` without decisions.
    pub fn by_model_share(&self) -> Option<f64> {
        let all: u64 = self.decisions.values().sum();
        (all > 0).then(|| self.decisions.get("model").copied().unwrap_or(0) as f64 / all as f64)
    }

    fn add(&mut self, other: &Self) {
        let add = |to: &mut Tallies, from: &Tallies| from.iter().for_each(|(name, tally)| to.entry(name).or_default().add(tally));
        add(&mut self.outcomes, &other.outcomes);
        add(&mut self.uncached, &other.uncached);
        add(&mut self.unkept, &other.unkept);
        add(&mut self.saved, &other.saved);
        add(&mut self.calls, &other.calls);
        for (kind, count) in &other.decisions {
            *self.decisions.entry(kind).or_default() += count;
        }
        for (outcome, count) in &other.sla {
            *self.sla.entry(outcome).or_default() += count;
        }
        self.requests += other.requests;
        self.base_usd += other.base_usd;
        self.bill_usd += other.bill_usd;
        self.attempts += other.attempts;
        self.unpriced += other.unpriced;
        self.checked += other.checked;
        self.stale += other.stale;
        self.latency.merge(&other.latency);
        self.overhead.merge(&other.overhead);
    }
}

/// Totals of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TenantSnapshot {
    /// Requests answered, with what they would have cost without Farthing.
    pub base: Tally,
    /// Calls paid for.
    pub bill: Tally,
}

/// Totals since start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AggregatesSnapshot {
    /// All routes together.
    pub total: RouteSnapshot,
    /// By route; [`OTHER`] holds those beyond the bound.
    pub routes: BTreeMap<Arc<str>, RouteSnapshot>,
    /// By tenant; [`OTHER`] holds those beyond the bound.
    pub tenants: BTreeMap<Arc<str>, TenantSnapshot>,
}

impl AggregatesSnapshot {
    pub(super) fn new(routes: &[(Arc<str>, Arc<RouteTotals>)], tenants: &[(Arc<str>, Arc<TenantTotals>)]) -> Self {
        let mut snapshot = Self::default();
        for (name, totals) in routes {
            let route = RouteSnapshot::read(totals);
            if name.as_ref() != OTHER || route != RouteSnapshot::default() {
                snapshot.total.add(&route);
                snapshot.routes.insert(name.clone(), route);
            }
        }
        for (name, totals) in tenants {
            let tenant = TenantSnapshot { base: Tally::read(&totals.base), bill: Tally::read(&totals.bill) };
            if name.as_ref() != OTHER || tenant != TenantSnapshot::default() {
                snapshot.tenants.insert(name.clone(), tenant);
            }
        }
        snapshot
    }
}
