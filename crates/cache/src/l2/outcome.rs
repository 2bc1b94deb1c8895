//! Closed reasons of what became of a question to L2, and their counters.

use std::sync::atomic::{AtomicU64, Ordering};

use farthing_freshness::entry::DecodeError;
use farthing_types::reasons;

reasons! {
    /// Why a store did not do what it was asked.
    StoreFault {
        /// It took longer than its deadline.
        Late = "late",
        /// The peer is known to be away (breaker open, not connected), or the store has been closed.
        Unavailable = "unavailable",
        /// Too much is waiting already.
        Busy = "busy",
        /// The value is larger than the bound.
        TooLarge = "too-large",
        /// The bytes found are not those that were written.
        Damaged = "damaged",
        /// An error of the file system or of the server.
        Failed = "failed",
    }
}

reasons! {
    /// What became of a look into L2.
    GetOutcome {
        /// An entry was found.
        Hit = "hit",
        /// There is none.
        Absent = "absent",
        /// There is one that was purged, or is past all use.
        Outdated = "outdated",
        /// There is one from before the oldest purge of the fleet that is still known, so that nobody can tell whether it was purged.
        Forgotten = "forgotten",
        /// The answer did not come within the deadline.
        Late = "late",
        /// The peer is known to be away.
        Unavailable = "unavailable",
        /// Too many questions are waiting.
        Busy = "busy",
        /// The value is larger than the bound.
        TooLarge = "too-large",
        /// Not of this format, or of a version that this release cannot read.
        Foreign = "foreign",
        /// A checksum or a length does not fit.
        Damaged = "damaged",
        /// An entry, but of another key or tenant.
        OtherKey = "other-key",
        /// Encrypted with another key than ours, or encrypted differently than configured.
        OtherSecret = "other-secret",
        /// An error of the file system or of the server.
        Failed = "failed",
    }
}

reasons! {
    /// What became of a value for L2.
    PutOutcome {
        /// The store has accepted it.
        Stored = "stored",
        /// Too much was waiting to be written.
        Dropped = "dropped",
        /// Larger than the bound.
        TooLarge = "too-large",
        /// Another instance has purged it while its call was under way.
        Purged = "purged",
        /// The lease that its call was made under is another instance's meanwhile, or was taken away by a purge.
        Fenced = "fenced",
        /// The store took longer than its deadline; the value may be there or not.
        Late = "late",
        /// The peer is known to be away.
        Unavailable = "unavailable",
        /// An error of the file system, of the server or of the cipher.
        Failed = "failed",
    }
}

impl From<StoreFault> for GetOutcome {
    fn from(fault: StoreFault) -> Self {
        match fault {
            StoreFault::Late => Self::Late,
            StoreFault::Unavailable => Self::Unavailable,
            StoreFault::Busy => Self::Busy,
            StoreFault::TooLarge => Self::TooLarge,
            StoreFault::Damaged => Self::Damaged,
            StoreFault::Failed => Self::Failed,
        }
    }
}

impl From<DecodeError> for GetOutcome {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Foreign => Self::Foreign,
            DecodeError::Damaged => Self::Damaged,
            DecodeError::OtherKey => Self::OtherKey,
        }
    }
}

impl From<StoreFault> for PutOutcome {
    fn from(fault: StoreFault) -> Self {
        match fault {
            StoreFault::Late => Self::Late,
            StoreFault::Unavailable => Self::Unavailable,
            StoreFault::Busy => Self::Dropped,
            StoreFault::TooLarge => Self::TooLarge,
            StoreFault::Damaged | StoreFault::Failed => Self::Failed,
        }
    }
}

/// One counter per outcome.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    gets: [AtomicU64; GetOutcome::ALL.len()],
    puts: [AtomicU64; PutOutcome::ALL.len()],
}

impl Counts {
    pub(crate) fn get(&self, outcome: GetOutcome) {
        if let Some(counter) = self.gets.get(outcome as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
    pub(crate) fn put(&self, outcome: PutOutcome) {
        if let Some(counter) = self.puts.get(outcome as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
    pub(crate) fn read(&self) -> OutcomeCounts {
        let load = |c: &AtomicU64| c.load(Ordering::Relaxed);
        OutcomeCounts { gets: self.gets.each_ref().map(load), puts: self.puts.each_ref().map(load) }
    }
}

/// How often each outcome came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    gets: [u64; GetOutcome::ALL.len()],
    puts: [u64; PutOutcome::ALL.len()],
}

impl OutcomeCounts {
    /// Looks that ended so.
    pub fn get(&self, outcome: GetOutcome) -> u64 {
        self.gets.get(outcome as usize).copied().unwrap_or_default()
    }
    /// Values that ended so.
    pub fn put(&self, outcome: PutOutcome) -> u64 {
        self.puts.get(outcome as usize).copied().unwrap_or_default()
    }
    /// All looks.
    pub fn gets(&self) -> u64 {
        self.gets.iter().sum()
    }
}
