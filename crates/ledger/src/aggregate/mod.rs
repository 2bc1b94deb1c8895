//! Running totals for status, metrics and the demo: since start, per route and per tenant, in bounded memory.
//!
//! Recording takes a handful of relaxed atomic additions. Names beyond the bounds are counted together under
//! [`OTHER`]; that they were is visible in the snapshot.

mod histogram;
mod snapshot;
#[cfg(test)]
mod tests;
mod totals;
mod worth;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use farthing_types::{By, Money, Outcome, Purpose, RouteName, SlaOutcome, Span, Tenant, UncachedReason};
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::cost::CostRecord;

pub use histogram::{Histogram, HistogramSnapshot};
pub use snapshot::{AggregatesSnapshot, RouteSnapshot, Tallies, Tally, TenantSnapshot};
pub use totals::{RouteTotals, TenantTotals};
pub use worth::{CacheWorth, CameTo};

/// The name under which routes and tenants beyond the bounds are counted.
pub const OTHER: &str = "(other)";

/// A client request that was answered.
#[derive(Clone, Debug)]
pub struct RequestSettled<'a> {
    /// The route.
    pub route: &'a RouteName,
    /// The tenant who pays.
    pub tenant: &'a Tenant,
    /// How it was answered.
    pub outcome: Outcome,
    /// Why it was not served from the cache; `None` for hits.
    pub uncached: Option<UncachedReason>,
    /// What it cost and saved.
    pub cost: CostRecord,
    /// From head to last byte; `None` when the client left.
    pub latency: Option<Span>,
    /// The part of it spent in Farthing.
    pub overhead: Option<Span>,
    /// What became of the promise of its time; `None` where there was none.
    pub sla: Option<SlaOutcome>,
}

/// A call to a provider that ended, all attempts together.
#[derive(Clone, Debug)]
pub struct CallSettled<'a> {
    /// The route that ordered it.
    pub route: &'a RouteName,
    /// The tenant who pays.
    pub tenant: &'a Tenant,
    /// Why it was made.
    pub purpose: Purpose,
    /// Attempts that were sent.
    pub attempts: u64,
    /// What the provider charges for it; `None` when unpriced.
    pub cost: Option<Money>,
    /// Why its answer was not kept; `None` where it was, or nobody asked for that.
    pub unkept: Option<UncachedReason>,
}

/// Totals since start.
#[derive(Debug)]
pub struct Aggregates {
    routes: Bounded<RouteTotals>,
    tenants: Bounded<TenantTotals>,
}

impl Default for Aggregates {
    /// Room for 1,000 routes (about 5 MB when all are used) and 1,000 tenants.
    fn default() -> Self {
        Self::new(1_000, 1_000)
    }
}

impl Aggregates {
    /// Totals with room for so many routes and tenants.
    pub fn new(max_routes: usize, max_tenants: usize) -> Self {
        Self { routes: Bounded::new(max_routes), tenants: Bounded::new(max_tenants) }
    }

    /// Adds an answered request.
    pub fn request(&self, settled: &RequestSettled<'_>) {
        self.routes.with(settled.route, |totals| totals.request(settled));
        self.tenants.with(settled.tenant, |totals| totals.request(&settled.cost));
    }

    /// Adds a call. The bill is the sum of these, whatever they were made for.
    pub fn call(&self, settled: &CallSettled<'_>) {
        self.routes.with(settled.route, |totals| totals.call(settled));
        self.tenants.with(settled.tenant, |totals| totals.call(settled.cost));
    }

    /// Adds a TTL decision by its kind of decider.
    pub fn decision(&self, route: &RouteName, by: &By) {
        self.route(route).decision(by);
    }

    /// Adds what was learned about answers served earlier: so many were checked, of these so many were stale.
    pub fn verdicts(&self, route: &RouteName, checked: u64, stale: u64) {
        self.route(route).verdicts(checked, stale);
    }

    /// The totals of a route, to be held by whoever records for it often.
    pub fn route(&self, route: &RouteName) -> Arc<RouteTotals> {
        self.routes.get(route)
    }

    /// Whether a route has totals of its own: those beyond the bound share some.
    pub fn is_told_apart(&self, route: &RouteName) -> bool {
        !Arc::ptr_eq(&self.routes.get(route), &self.routes.other)
    }

    /// Drops the totals of a tenant; whether there were any. Sums over all, and those of routes, stay.
    pub fn forget(&self, tenant: &str) -> bool {
        self.tenants.remove(tenant)
    }

    /// The totals as they are now.
    pub fn snapshot(&self) -> AggregatesSnapshot {
        AggregatesSnapshot::new(&self.routes.list(), &self.tenants.list())
    }
}

/// A map that grows up to a bound; reading takes no lock.
#[derive(Debug)]
struct Bounded<T> {
    map: ArcSwap<HashMap<Arc<str>, Arc<T>, RandomState>>,
    growing: Mutex<()>,
    other: Arc<T>,
    max: usize,
}

impl<T: Default> Bounded<T> {
    fn new(max: usize) -> Self {
        Self { map: ArcSwap::default(), growing: Mutex::new(()), other: Arc::default(), max }
    }

    /// As [`Bounded::get`] without touching the count of references, which all threads would write to.
    fn with(&self, name: &Arc<str>, record: impl FnOnce(&T)) {
        match self.map.load().get(name) {
            Some(found) => record(found),
            None => record(&self.get(name)),
        }
    }

    fn get(&self, name: &Arc<str>) -> Arc<T> {
        let map = self.map.load();
        match map.get(name) {
            Some(found) => found.clone(),
            None if map.len() >= self.max => self.other.clone(),
            None => self.insert(name),
        }
    }

    fn insert(&self, name: &Arc<str>) -> Arc<T> {
        let _growing = self.growing.lock();
        let map = self.map.load_full();
        if let Some(found) = map.get(name) {
            return found.clone();
        }
        if map.len() >= self.max {
            return self.other.clone();
        }
        let (mut grown, new) = (HashMap::clone(&map), Arc::<T>::default());
        grown.insert(name.clone(), new.clone());
        self.map.store(Arc::new(grown));
        new
    }

    fn remove(&self, name: &str) -> bool {
        let _growing = self.growing.lock();
        let mut map = HashMap::clone(&self.map.load());
        let removed = map.remove(name).is_some();
        self.map.store(Arc::new(map));
        removed
    }

    /// All entries by name, `(other)` last.
    fn list(&self) -> Vec<(Arc<str>, Arc<T>)> {
        let mut list: Vec<_> = self.map.load().iter().map(|(name, totals)| (name.clone(), totals.clone())).collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list.push((OTHER.into(), self.other.clone()));
        list
    }
}
