//! What became of requests that carry lists, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use farthing_policy::batch::Whole;
use farthing_types::reasons;

reasons! {
    /// Where an item of a list came from.
    Source {
        /// A copy.
        Known = "known",
        /// A call that somebody else had made.
        Joined = "joined",
        /// The list's own call.
        Called = "called",
        /// Another place of the same list.
        Repeated = "repeated",
        /// A copy past its time, because the list's call failed.
        Stale = "stale",
    }
}

/// Counts of one route's lists.
#[derive(Debug, Default)]
pub struct ListStats {
    answered: AtomicU64,
    items: [AtomicU64; Source::ALL.len()],
    whole: [AtomicU64; Whole::ALL.len()],
}

impl ListStats {
    pub(super) fn answered(&self, sources: [usize; Source::ALL.len()]) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        for (counter, count) in self.items.iter().zip(sources) {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
    pub(super) fn whole(&self, reason: Whole) {
        self.whole[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Lists that were answered item by item.
    pub fn lists(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
    /// Items of them that came from there.
    pub fn items(&self, source: Source) -> u64 {
        self.items[source as usize].load(Ordering::Relaxed)
    }
    /// Lists that went whole for this reason.
    pub fn went_whole(&self, reason: Whole) -> u64 {
        self.whole[reason as usize].load(Ordering::Relaxed)
    }
}
