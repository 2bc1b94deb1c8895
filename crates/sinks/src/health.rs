//! When to try again: backoff with full jitter, and a breaker; pure.

use farthing_ledger::watch::pause;
use farthing_types::Span;

/// Failures in a row that open the breaker.
const THRESHOLD: u32 = 3;

/// How a sink has done lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    failures: u32,
}

impl Health {
    /// Something was done.
    pub fn done(&mut self) {
        self.failures = 0;
    }

    /// Something was not done; how long to wait before the next try. `uniform` is in [0, 1).
    pub fn failed(&mut self, uniform: f64) -> Span {
        self.failures = self.failures.saturating_add(1);
        pause(self.failures, uniform)
    }

    /// Whether the breaker is open: each try is one probe, and nothing else is done before one succeeds.
    pub const fn is_open(self) -> bool {
        self.failures >= THRESHOLD
    }

    /// Failures in a row.
    pub const fn failures(self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes_and_one_success_ends_them() {
        let mut health = Health::default();
        let most: Vec<u64> = (0..10).map(|_| health.failed(1.0).as_secs()).collect();
        assert_eq!(most, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(health.is_open());
        health.done();
        assert_eq!((health.is_open(), health.failed(0.5).as_secs()), (false, 1));
        assert!(!health.is_open());
    }
}
