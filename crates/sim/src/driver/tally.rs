//! What the driver has seen so far, readable at any time.

use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::Histogram;

/// Counters of one route.
#[derive(Debug, Default)]
struct RouteTally {
    requests: AtomicU64,
    failed: AtomicU64,
    hits: AtomicU64,
    stale: AtomicU64,
    by_model: AtomicU64,
    decided: AtomicU64,
}

/// A reading of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests answered or failed.
    pub requests: u64,
    /// No answer, a 5xx, or a body that is not the document.
    pub failed: u64,
    /// Answered from the cache.
    pub hits: u64,
    /// Answers that differ from what the origin would have answered at the moment they were sent.
    pub stale: u64,
    /// Answers whose caching a model decided.
    pub by_model: u64,
    /// Answers that say who decided.
    pub decided: u64,
}

impl Counts {
    /// What was counted since an `earlier` reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests - earlier.requests,
            failed: self.failed - earlier.failed,
            hits: self.hits - earlier.hits,
            stale: self.stale - earlier.stale,
            by_model: self.by_model - earlier.by_model,
            decided: self.decided - earlier.decided,
        }
    }
    /// Hits per request.
    pub fn hit_ratio(&self) -> f64 {
        share(self.hits, self.requests)
    }
    /// Stale answers per request.
    pub fn stale_share(&self) -> f64 {
        share(self.stale, self.requests)
    }
    /// Share of decisions taken by a model.
    pub fn model_share(&self) -> f64 {
        share(self.by_model, self.decided)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / (whole as f64).max(1.0)
}

impl std::ops::Add for Counts {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            failed: self.failed + other.failed,
            hits: self.hits + other.hits,
            stale: self.stale + other.stale,
            by_model: self.by_model + other.by_model,
            decided: self.decided + other.decided,
        }
    }
}

/// What one answer was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// See [`Counts::failed`].
    pub failed: bool,
    /// See [`Counts::hits`].
    pub hit: bool,
    /// See [`Counts::stale`].
    pub stale: bool,
    /// Whether a model decided; `None` when the answer does not say.
    pub by_model: Option<bool>,
    /// From sending to the last byte, ns.
    pub latency_ns: u64,
    /// From when it was due to the last byte, ns: free of the driver's own waiting.
    pub from_due_ns: u64,
    /// What Farthing says it took itself (`Server-Timing`), ns.
    pub overhead_ns: Option<u64>,
}

/// Live counters of a driver.
#[derive(Debug)]
pub struct Tally {
    routes: Vec<RouteTally>,
    /// From sending to the last byte, ns.
    pub latency: Histogram,
    /// From when the request was due to the last byte, ns.
    pub from_due: Histogram,
    /// Farthing's own time, ns.
    pub overhead: Histogram,
}

impl Tally {
    /// Counters of `routes` routes.
    pub fn new(routes: usize) -> Self {
        Self {
            routes: (0..routes).map(|_| RouteTally::default()).collect(),
            latency: Histogram::default(),
            from_due: Histogram::default(),
            overhead: Histogram::default(),
        }
    }

    pub(crate) fn add(&self, route: usize, seen: &Seen) {
        let Some(tally) = self.routes.get(route) else { return };
        let count = |counter: &AtomicU64, yes: bool| {
            if yes {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        };
        count(&tally.requests, true);
        count(&tally.failed, seen.failed);
        count(&tally.hits, seen.hit);
        count(&tally.stale, seen.stale);
        count(&tally.decided, seen.by_model.is_some());
        count(&tally.by_model, seen.by_model == Some(true));
        self.latency.record(seen.latency_ns);
        self.from_due.record(seen.from_due_ns);
        if let Some(overhead) = seen.overhead_ns {
            self.overhead.record(overhead);
        }
    }

    /// The counters of one route.
    pub fn route(&self, route: usize) -> Counts {
        let Some(tally) = self.routes.get(route) else { return Counts::default() };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (failed, hits, stale) = (read(&tally.failed), read(&tally.hits), read(&tally.stale));
        let by_model = read(&tally.by_model);
        // Wholes are counted first and read last, so that no share exceeds 1.
        Counts { requests: read(&tally.requests), failed, hits, stale, by_model, decided: read(&tally.decided) }
    }
    /// The counters of all routes.
    pub fn total(&self) -> Counts {
        (0..self.routes.len()).map(|r| self.route(r)).fold(Counts::default(), |a, b| a + b)
    }
}
