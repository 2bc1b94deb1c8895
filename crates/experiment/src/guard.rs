//! Guardrails: a variant with more errors or more stale answers than control is switched off.

use farthing_types::KeyHash;
use serde::Serialize;

use crate::betting::{EProcess, Sides};

/// False-alarm probability of one guardrail over the whole life of an experiment.
pub const GUARD_ALPHA: f64 = 0.001;

/// What is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardKind {
    /// Share of a unit's requests that failed.
    Errors,
    /// Share of a unit's answers that were stale.
    Stale,
}

impl GuardKind {
    /// Every guardrail.
    pub const ALL: [Self; 2] = [Self::Errors, Self::Stale];
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Stale => "stale",
        }
    }
}

/// One-sided e-process for "the challenger's share is above control's by more than the margin".
///
/// The unit is a unit-window with its own coin, never a request: a single broken key must not condemn a variant.
#[derive(Clone, Debug)]
pub struct Guard {
    margin: f64,
    process: EProcess,
}

impl Guard {
    /// A guard that tolerates an excess of `margin` (0.01 = one percentage point); `floor` as for the effect.
    pub fn new(margin: f64, floor: f64) -> Self {
        Self { margin, process: EProcess::new(1.0 / floor.clamp(0.005, 0.5) + margin, Sides::Upper) }
    }

    /// Takes one unit-window's share in [0, 1]; `propensity` is that of the challenger given the two.
    pub fn add(&mut self, treated: bool, propensity: f64, share: f64) {
        if propensity > 0.0 && propensity < 1.0 {
            let signed = if treated { share / propensity } else { -share / (1.0 - propensity) };
            self.process.add(signed - self.margin);
        }
    }

    /// Evidence of harm now.
    pub fn evidence(&self) -> f64 {
        self.process.evidence()
    }
    /// Whether the variant must be switched off.
    pub fn tripped(&self) -> bool {
        self.process.crossed(GUARD_ALPHA)
    }
}

/// A variant that must be switched off, and why. Apply it with `Experiment::without`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SwitchOff {
    /// Index of the variant.
    pub variant: usize,
    /// The guardrail it broke.
    pub guard: GuardKind,
    /// Evidence of harm.
    pub evidence: f64,
}

/// The order in which a window's units are looked at must not depend on a hash map.
pub(crate) fn by_unit<T>(rows: &mut [(KeyHash, T)]) {
    rows.sort_unstable_by_key(|(unit, _)| *unit);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    fn units_until_tripped(control: f64, variant: f64, most: usize, seed: u64) -> Option<usize> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut guard = Guard::new(0.0, 0.5);
        (0..most).find(|_| {
            let treated = rng.random::<bool>();
            let failed = rng.random::<f64>() < if treated { variant } else { control };
            guard.add(treated, 0.5, f64::from(u8::from(failed)));
            guard.tripped()
        })
    }

    #[test]
    fn a_variant_with_ten_times_the_errors_is_switched_off_soon() {
        let mut taken: Vec<_> = (0..50).map(|s| units_until_tripped(0.01, 0.10, 5_000, s).expect("must trip")).collect();
        taken.sort_unstable();
        assert!(taken[25] <= 800, "median {}", taken[25]);
    }

    #[test]
    fn equal_or_better_variants_stay_on() {
        let tripped = (0..200).filter(|&s| units_until_tripped(0.10, 0.10, 5_000, s).is_some()).count();
        assert!(tripped <= 1, "{tripped}");
        assert!((0..20).all(|s| units_until_tripped(0.10, 0.02, 5_000, s).is_none()));
    }
}
