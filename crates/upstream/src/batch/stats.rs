//! What batches did, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use farthing_policy::batch::{Alone, Flush};

/// Counts of one route's batches.
#[derive(Debug, Default)]
pub struct BatchStats {
    flushed: [AtomicU64; Flush::ALL.len()],
    members: AtomicU64,
    failed: AtomicU64,
    concluded: AtomicU64,
    rested: AtomicU64,
    alone: [AtomicU64; Alone::ALL.len()],
}

impl BatchStats {
    pub(super) fn flushed(&self, reason: Flush, members: usize) {
        add(&self.flushed[reason as usize], 1);
        add(&self.members, members);
    }
    pub(super) fn failed(&self) {
        add(&self.failed, 1);
    }
    pub(super) fn concluded(&self, pieces: usize) {
        add(&self.concluded, pieces);
    }
    pub(super) fn rested(&self) {
        add(&self.rested, 1);
    }
    pub(super) fn alone(&self, reason: Alone) {
        add(&self.alone[reason as usize], 1);
    }

    /// Batch calls that were sent for this reason.
    pub fn batches(&self, reason: Flush) -> u64 {
        read(&self.flushed[reason as usize])
    }
    /// Calls in all of them.
    pub fn members(&self) -> u64 {
        read(&self.members)
    }
    /// Batch calls that failed as a whole.
    pub fn batches_failed(&self) -> u64 {
        read(&self.failed)
    }
    /// Answers that were concluded from a list that lacked what was asked for.
    pub fn answers_concluded(&self) -> u64 {
        read(&self.concluded)
    }
    /// Times that batches failed one after the other, so that all calls went alone for a while.
    pub fn rests(&self) -> u64 {
        read(&self.rested)
    }
    /// Calls that went alone for this reason.
    pub fn went_alone(&self, reason: Alone) -> u64 {
        read(&self.alone[reason as usize])
    }
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
