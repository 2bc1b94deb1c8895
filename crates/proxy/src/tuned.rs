//! Values that experiments have found for a route, in place of those configured. Read by requests: without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_experiment::tuning::Knob;
use farthing_types::Span;

/// Nothing was found: what is configured holds.
const NONE: u64 = u64::MAX;

/// See the module.
pub struct Tuned([AtomicU64; Knob::ALL.len()]);

impl Default for Tuned {
    fn default() -> Self {
        Self([const { AtomicU64::new(NONE) }; Knob::ALL.len()])
    }
}

impl Tuned {
    fn of(&self, knob: Knob) -> Option<u64> {
        Some(self.0[knob as usize].load(Relaxed)).filter(|found| *found != NONE)
    }

    /// Puts a value in force.
    pub(crate) fn put(&self, knob: Knob, value: f64) {
        let stored = match knob {
            Knob::BatchWindow | Knob::RefreshAhead => value.max(0.0).round() as u64,
            Knob::PrefetchConfidence => value.to_bits(),
        };
        self.0[knob as usize].store(stored, Relaxed);
    }

    /// How long calls of a batch wait for each other; `None` as configured.
    pub fn batch_window(&self) -> Option<Span> {
        self.of(Knob::BatchWindow).map(Span::from_millis)
    }

    /// Mean time before its expiry at which an entry is refreshed.
    pub fn refresh_ahead(&self, configured: Span) -> Span {
        self.of(Knob::RefreshAhead).map_or(configured, Span::from_millis)
    }

    /// Least probability of use at which a call is made ahead; `None` as configured.
    pub fn prefetch_confidence(&self) -> Option<f64> {
        self.of(Knob::PrefetchConfidence).map(f64::from_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_holds_in_place_of_what_is_configured() {
        let (tuned, second) = (Tuned::default(), Span::from_secs(1));
        assert_eq!((tuned.batch_window(), tuned.refresh_ahead(second), tuned.prefetch_confidence()), (None, second, None));
        tuned.put(Knob::BatchWindow, 40.0);
        tuned.put(Knob::RefreshAhead, 0.0);
        tuned.put(Knob::PrefetchConfidence, 0.6);
        let found = (tuned.batch_window(), tuned.refresh_ahead(second), tuned.prefetch_confidence());
        assert_eq!(found, (Some(Span::from_millis(40)), Span::ZERO, Some(0.6)));
    }
}
