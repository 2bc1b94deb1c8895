//! Counter-based random numbers: a draw is a function of what it is for, so it does not depend on thread order
//! and can be recomputed from the log.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// What a draw decides. The number is part of the hash: never change or reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum DrawKind {
    /// Which variant of an experiment a unit gets in a window.
    Assignment = 1,
    /// Whether a unit belongs to an experiment's measurement slice.
    Slice = 2,
    /// Whether a unit belongs to the savings holdout in a window.
    Holdout = 3,
    /// How much earlier than its expiry an entry is refreshed.
    EarlyRefresh = 4,
    /// Whether and how a TTL is varied for exploration.
    Exploration = 5,
    /// Retry jitter.
    Jitter = 6,
    /// Whether a request is sampled for a trace or an audit.
    Sample = 7,
    /// Which two providers of a route are compared for a call.
    Route = 8,
    /// Whether a request or key belongs to the slice that a switched strategy is compared with or tried on.
    SwitchSlice = 9,
    /// What a variant's effect may be, for Thompson sampling.
    Posterior = 20,
    /// Which of the experiments of a layer a unit belongs to.
    Layer = 21,
}

/// A source of draws under one secret seed.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    seed: u64,
}

impl Draw {
    /// Draws under `seed`; equal on every instance that shares the seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// A uniform number in [0, 1) for (`kind`, `scope`, `unit`, `window`). `scope` names the experiment or route.
    pub fn uniform(&self, kind: DrawKind, scope: &str, unit: u128, window: i64) -> f64 {
        (self.bits(kind, scope, unit, window) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The 64 bits behind [`Draw::uniform`] (SipHash-1-3 keyed by the seed).
    pub fn bits(&self, kind: DrawKind, scope: &str, unit: u128, window: i64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.seed, kind as u64);
        hasher.write_u64(scope.len() as u64);
        hasher.write(scope.as_bytes());
        hasher.write(&unit.to_le_bytes());
        hasher.write(&window.to_le_bytes());
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_frozen_and_spread() {
        let draw = Draw::new(7);
        assert_eq!(draw.bits(DrawKind::Assignment, "ttl", 42, 0), Draw::new(7).bits(DrawKind::Assignment, "ttl", 42, 0));
        assert_ne!(draw.bits(DrawKind::Assignment, "ttl", 42, 0), draw.bits(DrawKind::Slice, "ttl", 42, 0));
        let mean = (0..20_000).map(|i| draw.uniform(DrawKind::Sample, "r", i, 3)).sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }
}
