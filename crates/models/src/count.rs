//! Counting of generations, so that a leak shows: what was built and is not live must have been freed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counts since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Generations built, verified and warmed.
    pub built: u64,
    /// Generations that somebody still holds.
    pub live: u64,
    /// Generations whose last borrower has gone.
    pub freed: u64,
    /// Times an alias went to another generation.
    pub swaps: u64,
    /// Bundles refused.
    pub refused: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    built: AtomicU64,
    freed: AtomicU64,
    pub(crate) swaps: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl Counters {
    pub(crate) fn counts(&self) -> Counts {
        // Freed first: a generation that ends in between is then counted as live, never as less than none.
        let freed = self.freed.load(Ordering::Acquire);
        let built = self.built.load(Ordering::Acquire);
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { built, live: built.saturating_sub(freed), freed, swaps: of(&self.swaps), refused: of(&self.refused) }
    }
}

/// Lives as long as its generation, and notes both ends.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Counters>);

impl Counted {
    pub(crate) fn new(counters: &Arc<Counters>) -> Self {
        counters.built.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(counters))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.freed.fetch_add(1, Ordering::AcqRel);
    }
}
