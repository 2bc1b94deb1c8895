//! What batches did, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use farthing_policy::batch::{Alone, Flush};

/// Counts of one route's batches.
#[derive(Debug)]
pub struct BatchStats {
    flushed: [AtomicU64; Flush::ALL.len()],
    members: AtomicU64,
    failed: AtomicU64,
    concluded: AtomicU64,
    rested: AtomicU64,
    alone: [AtomicU64; Alone::ALL.len()],
}

impl Default for BatchStats {
    fn default() -> Self {
        Self {
            flushed: std::array::from_fn(|_| AtomicU64::new(0)),
            members: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            concluded: AtomicU64::new(0),
            rested: AtomicU64::new(0),
            alone: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

fn add(counter: Option<&AtomicU64>, n: usize) {
    if let Some(counter) = counter {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

fn read(counter: Option<&AtomicU64>) -> u64 {
    counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
}

impl BatchStats {
    pub(super) fn flushed(&self, reason: Flush, members: usize) {
        add(self.flushed.get(reason as usize), 1);
        add(Some(&self.members), members);
    }
    pub(super) fn failed(&self) {
        add(Some(&self.failed), 1);
    }
    pub(super) fn concluded(&self, pieces: usize) {
        add(Some(&self.concluded), pieces);
    }
    pub(super) fn rested(&self) {
        add(Some(&self.rested), 1);
    }
    pub(super) fn alone(&self, reason: Alone) {
        add(self.alone.get(reason as usize), 1);
    }

    /// Batch calls that were sent for this reason.
    pub fn batches(&self, reason: Flush) -> u64 {
        read(self.flushed.get(reason as usize))
    }
    /// Calls in all of them.
    pub fn members(&self) -> u64 {
        read(Some(&self.members))
    }
    /// Batch calls that failed as a whole.
    pub fn batches_failed(&self) -> u64 {
        read(Some(&self.failed))
    }
    /// Answers that were concluded from a list that lacked what was asked for.
    pub fn answers_concluded(&self) -> u64 {
        read(Some(&self.concluded))
    }
    /// Times that batches failed one after the other, so that all calls went alone for a while.
    pub fn rests(&self) -> u64 {
        read(Some(&self.rested))
    }
    /// Calls that went alone for this reason.
    pub fn went_alone(&self, reason: Alone) -> u64 {
        read(self.alone.get(reason as usize))
    }
}
