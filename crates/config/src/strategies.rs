//! The flags of strategies for all routes at once.

use crate::{Prefetch, Route};

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
}

impl Default for StrategyFlags {
    fn default() -> Self {
        Self { cache: true, dedupe: true, batch: true, prefetch: true, prompt_cache: true }
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
    }
}
