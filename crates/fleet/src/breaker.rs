//! The breaker: closed, and open after a few failures in a row until a probe of the keeper's succeeds.

use std::sync::atomic::{AtomicU32, Ordering};

/// Failures in a row that open it.
const THRESHOLD: u32 = 3;

/// Knows no time: when to probe is the keeper's matter.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: AtomicU32,
}

impl Breaker {
    pub(crate) fn is_open(&self) -> bool {
        self.failures.load(Ordering::Acquire) >= THRESHOLD
    }

    /// An operation was answered. Does not close an open breaker: a straggler says nothing about the peer as it is now.
    pub(crate) fn success(&self) {
        let reset = |failures: u32| (failures > 0 && failures < THRESHOLD).then_some(0);
        let _closed_or_open = self.failures.fetch_update(Ordering::AcqRel, Ordering::Acquire, reset);
    }

    /// An operation was not answered; true when that opened the breaker.
    pub(crate) fn failure(&self) -> bool {
        let count = |failures: u32| (failures < THRESHOLD).then_some(failures + 1);
        self.failures.fetch_update(Ordering::AcqRel, Ordering::Acquire, count) == Ok(THRESHOLD - 1)
    }

    /// There is no use in trying; true when that opened the breaker.
    pub(crate) fn trip(&self) -> bool {
        self.failures.swap(THRESHOLD, Ordering::AcqRel) < THRESHOLD
    }

    /// A probe succeeded.
    pub(crate) fn close(&self) {
        self.failures.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_open_it_and_only_a_probe_closes_it() {
        let breaker = Breaker::default();
        for _ in 0..5 {
            assert!(!breaker.failure());
            assert!(!breaker.failure());
            breaker.success();
        }
        let opened: Vec<bool> = (0..5).map(|_| breaker.failure()).collect();
        assert_eq!(opened, [false, false, true, false, false], "told once");
        breaker.success();
        assert!(breaker.is_open());
        breaker.close();
        assert!(!breaker.is_open());
        assert!(breaker.trip() && !breaker.trip() && breaker.is_open());
    }
}
