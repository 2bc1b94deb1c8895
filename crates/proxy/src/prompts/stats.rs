//! What came of marks in prompts, counted.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use farthing_policy::prompt_marks::MarkReason;
use farthing_types::{Money, RouteName};

/// Counts of one route.
#[derive(Debug, Default)]
pub struct PromptStats {
    decided: [AtomicU64; MarkReason::ALL.len()],
    read: AtomicU64,
    written: AtomicU64,
    ignored: AtomicU64,
    refused: AtomicU64,
    saved: AtomicI64,
    lost: AtomicI64,
}

/// The counts at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptReading {
    /// Calls by what was decided about their prompts.
    pub decided: Vec<(MarkReason, u64)>,
    /// Input tokens that marked calls read from the provider's cache.
    pub read: u64,
    /// Input tokens that they wrote to it.
    pub written: u64,
    /// Marked calls of which the provider kept nothing.
    pub ignored: u64,
    /// Calls that the provider refused for what was put into their prompts, and answered without.
    pub refused: u64,
    /// What calls have saved that read more than they wrote.
    pub saved: Money,
    /// What calls have cost that wrote more than they read.
    pub lost: Money,
}

/// What is told of a route whose prompts are marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptReport {
    /// The route.
    pub route: RouteName,
    /// Prefixes that are remembered.
    pub remembered: usize,
    /// Its counts.
    pub stats: PromptReading,
}

impl PromptStats {
    pub(super) fn decided(&self, why: MarkReason) {
        if let Some(count) = self.decided.get(why as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn ended(&self, (read, written): (u64, u64), saved: Money, ignored: bool) {
        self.read.fetch_add(read, Relaxed);
        self.written.fetch_add(written, Relaxed);
        self.ignored.fetch_add(u64::from(ignored), Relaxed);
        let into = if saved < Money::ZERO { &self.lost } else { &self.saved };
        into.fetch_add(saved.nanos().saturating_abs(), Relaxed);
    }

    /// The counts now.
    pub fn read(&self) -> PromptReading {
        let money = |nanos: &AtomicI64| Money::from_nanos(nanos.load(Relaxed));
        PromptReading {
            decided: MarkReason::ALL.iter().zip(&self.decided).map(|(why, count)| (*why, count.load(Relaxed))).collect(),
            read: self.read.load(Relaxed),
            written: self.written.load(Relaxed),
            ignored: self.ignored.load(Relaxed),
            refused: self.refused.load(Relaxed),
            saved: money(&self.saved),
            lost: money(&self.lost),
        }
    }
}
