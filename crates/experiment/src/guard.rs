//! Guardrails: a variant with more errors or more stale answers than control is switched off.

use farthing_types::KeyHash;
use serde::{Deserialize, Serialize};

use crate::betting::{EProcess, Haste};

/// False-alarm probability of one guardrail over the whole life of an experiment; the three of a variant have less than 1 % together.
pub const GUARD_ALPHA: f64 = 0.003;

/// What is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardKind {
    /// Share of a unit's requests that failed.
    Errors,
    /// Share of a unit's answers that were stale.
    Stale,
    /// Share of a unit's answers that came later than promised, or than the experiment says.
    Latency,
}

impl GuardKind {
    /// Every guardrail.
    pub const ALL: [Self; 3] = [Self::Errors, Self::Stale, Self::Latency];
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Stale => "stale",
            Self::Latency => "latency",
        }
    }
}

/// One-sided e-process for "the challenger's share is above control's by more than the margin".
///
/// The unit is a unit-window with its own coin, never a request: a single broken key must not condemn a variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    margin: f64,
    process: EProcess,
}

impl Guard {
    /// A guard that tolerates an excess of `margin` (0.01 = one percentage point).
    pub fn new(margin: f64) -> Self {
        Self { margin, process: EProcess::new(Haste::Large) }
    }

    /// Takes one unit-window's share in [0, 1]; `propensity` is that of the challenger given the two.
    pub fn add(&mut self, treated: bool, propensity: f64, share: f64) {
        if propensity > 0.0 && propensity < 1.0 {
            let rest = 1.0 - propensity;
            let signed = if treated { share / propensity } else { -share / rest };
            // Nothing is lower than -1 / rest - margin, so this is never below -1.
            self.process.add((signed - self.margin) * rest / (1.0 + rest * self.margin));
        }
    }

    /// Evidence of harm now.
    pub fn evidence(&self) -> f64 {
        self.process.evidence()
    }
    /// Whether the variant must be switched off.
    pub fn tripped(&self) -> bool {
        self.tripped_at(GUARD_ALPHA)
    }
    /// The same with another false-alarm probability: several watch for the same and share it.
    pub fn tripped_at(&self, alpha: f64) -> bool {
        self.process.crossed(alpha)
    }
}

/// A variant that must be switched off, and why. Apply it with `Experiment::without`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
        let mut guard = Guard::new(0.005);
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
        // Half of them are decisions of the variant.
        assert!(taken[25] <= 400, "median {}", taken[25]);
    }

    #[test]
    fn equal_or_better_variants_stay_on() {
        let tripped = (0..200).filter(|&s| units_until_tripped(0.10, 0.10, 5_000, s).is_some()).count();
        assert!(tripped <= 1, "{tripped}");
        assert!((0..20).all(|s| units_until_tripped(0.10, 0.02, 5_000, s).is_none()));
    }
}
