//! What is told of a sink.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_types::{Span, Time};
use parking_lot::Mutex;

use crate::{Fault, FaultReason};

/// A sink under way, as others see it.
#[derive(Debug)]
pub struct SinkState {
    /// Its name.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: &'static str,
    stats: Mutex<SinkStats>,
}

/// Figures of a sink; counts are since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SinkStats {
    /// Files shipped.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes in the log.
    pub bytes: u64,
    /// Files that had been there when they were shipped: by another process, or before an answer was lost.
    pub repeated: u64,
    /// Cells that the sink cannot hold as they are.
    pub altered: u64,
    /// Files that the sink lacks, as far as the log has been looked through.
    pub waiting: u64,
    /// When the oldest of them was finished.
    pub oldest: Option<Time>,
    /// Files that retention removed before they were shipped: their rows are not in the sink.
    pub missed: u64,
    /// Files that cannot be shipped for what is in them, tried again every ten minutes.
    pub set_aside: u64,
    /// Days removed for their age.
    pub expired_days: u64,
    /// Operations that were not done, by reason.
    pub faults: BTreeMap<FaultReason, u64>,
    /// Failures in a row.
    pub failures: u32,
    /// Whether the breaker is open.
    pub open: bool,
    /// What went wrong last, and when.
    pub last_fault: Option<(Fault, Time)>,
    /// When everything had been shipped last.
    pub complete: Option<Time>,
    /// Why rows may be removed from the log before they are shipped; `None` while all is well.
    pub behind: Option<String>,
}

impl SinkState {
    /// Of a sink that has done nothing yet.
    pub fn new(name: Arc<str>, kind: &'static str) -> Self {
        Self { name, kind, stats: Mutex::default() }
    }

    /// The figures.
    pub fn stats(&self) -> SinkStats {
        self.stats.lock().clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut SinkStats)) {
        change(&mut self.stats.lock());
    }

    /// What is wrong and what happens instead; `None` while all is well.
    pub fn problem(&self) -> Option<String> {
        let stats = self.stats.lock();
        if let Some(behind) = &stats.behind {
            return Some(behind.clone());
        }
        let last = || stats.last_fault.as_ref().map(|(fault, _)| fault.to_string()).unwrap_or_default();
        if stats.open {
            return Some(format!("{} files wait in the log: {}", stats.waiting, last()));
        }
        (stats.set_aside > 0).then(|| format!("{} files cannot be shipped, the others are: {}", stats.set_aside, last()))
    }
}

impl SinkStats {
    /// How long the oldest file has waited, at `now` on the file system's clock; zero when none does.
    pub fn lag(&self, now: Time) -> Span {
        self.oldest.map_or(Span::ZERO, |oldest| now.since(oldest))
    }
}
