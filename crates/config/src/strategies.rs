//! The flags of strategies for all routes at once, and how it is decided which of them are used.

use farthing_types::Span;

use crate::{Prefetch, Route};

/// How it is decided which strategies a route uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanConfig {
    /// How often, for each route.
    pub interval: Span,
    /// How sure a predictor must be that the cache saves, 0 to 1.
    pub cache_threshold: f64,
    /// The same of batching.
    pub batch_threshold: f64,
    /// Promised latency up to which calls are not made together.
    pub batch_min_sla: Span,
}

impl Default for PlanConfig {
    fn default() -> Self {
        Self { interval: Span::from_secs(10), cache_threshold: 0.7, batch_threshold: 0.6, batch_min_sla: Span::from_millis(50) }
    }
}

/// How long Farthing itself may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverheadConfig {
    /// Of 19 in 20 requests that go to a provider; zero: no limit.
    pub limit: Span,
}

impl Default for OverheadConfig {
    fn default() -> Self {
        Self { limit: Span::from_millis(5) }
    }
}

/// Which strategies there are at all: what is off here is off on every route, whatever its own table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrategyFlags {
    /// Answer from the cache.
    pub cache: bool,
    /// Join equal requests.
    pub dedupe: bool,
    /// Make calls together.
    pub batch: bool,
    /// Fetch ahead.
    pub prefetch: bool,
    /// Mark prompts for providers' own caches.
    pub prompt_cache: bool,
    /// Let calls that can wait go to providers' batch endpoints.
    pub defer: bool,
}

impl Default for StrategyFlags {
    fn default() -> Self {
        Self { cache: true, dedupe: true, batch: true, prefetch: true, prompt_cache: true, defer: true }
    }
}

impl StrategyFlags {
    /// Takes what is off out of a route.
    pub(crate) fn apply(self, route: &mut Route) {
        route.cache &= self.cache;
        route.dedupe &= self.dedupe;
        if !self.batch {
            route.batch = None;
        }
        if !self.prefetch {
            route.prefetch = Prefetch::Off;
        }
        if !self.prompt_cache {
            route.prompt_cache = None;
        }
        if !self.defer {
            route.defer = None;
        }
    }
}
