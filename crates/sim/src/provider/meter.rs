//! The provider's own meter: its bill is the truth that the ledger must match to the nano-dollar.

use std::sync::atomic::{AtomicU64, Ordering};

use farthing_types::Money;

/// Counts of one simulated route, updated by its handler.
#[derive(Debug, Default)]
pub struct Meter {
    calls: AtomicU64,
    not_modified: AtomicU64,
    errors: AtomicU64,
    billed_nanos: AtomicU64,
}

/// A reading of a [`Meter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Calls received.
    pub calls: u64,
    /// Of these, answered 304.
    pub not_modified: u64,
    /// Of these, answered with an injected error; not billed.
    pub errors: u64,
    /// The bill.
    pub billed: Money,
}

impl Meter {
    pub(crate) fn call(&self, price: Money) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.billed_nanos.fetch_add(u64::try_from(price.nanos()).unwrap_or(0), Ordering::Relaxed);
    }
    pub(crate) fn not_modified(&self, price: Money) {
        self.not_modified.fetch_add(1, Ordering::Relaxed);
        self.call(price);
    }
    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.call(Money::ZERO);
    }

    /// The counts now.
    pub fn read(&self) -> Reading {
        Reading {
            calls: self.calls.load(Ordering::Relaxed),
            not_modified: self.not_modified.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            billed: Money::from_nanos(i64::try_from(self.billed_nanos.load(Ordering::Relaxed)).unwrap_or(i64::MAX)),
        }
    }
}
