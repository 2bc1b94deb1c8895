//! Sample-ratio check: do the variants' units come in the logged proportions?

use serde::{Deserialize, Serialize};

use crate::betting::{grow, mean};
use crate::spec::MAX_VARIANTS;

/// Evidence at which a mismatch is called, as a false-alarm probability.
pub const RATIO_ALPHA: f64 = 0.001;

/// Factors by which the alternatives tilt the odds of one variant, up and down.
const TILTS: [f64; 8] = [1.08, 1.0 / 1.08, 1.17, 1.0 / 1.17, 1.5, 1.0 / 1.5, 2.7, 1.0 / 2.7];

/// A sequential multinomial e-test against the propensities with which each unit was drawn (they may change over time).
///
/// The alternatives tilt one variant's probability by a fixed factor of its odds; the evidence is the mean of their likelihood ratios
/// (after Lindon and Malek; docs/proving.md). The probability that it ever reaches 1/a without a mismatch is at most a.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatioTest {
    ratio: Vec<f64>,
    variants: usize,
    units: [u64; MAX_VARIANTS],
    expected: [f64; MAX_VARIANTS],
    most: f64,
}

impl RatioTest {
    /// A test over `variants` variants.
    pub fn new(variants: usize) -> Self {
        let variants = variants.clamp(1, MAX_VARIANTS);
        Self { ratio: vec![1.0; variants * TILTS.len()], variants, units: [0; MAX_VARIANTS], expected: [0.0; MAX_VARIANTS], most: 1.0 }
    }

    /// Counts a unit that was seen in `variant` when the probabilities were `pmf`.
    pub fn add(&mut self, variant: usize, pmf: &[f32; MAX_VARIANTS]) {
        if variant >= self.variants {
            return;
        }
        self.units[variant] += 1;
        for (expected, p) in self.expected.iter_mut().zip(pmf) {
            *expected += f64::from(*p);
        }
        for (tilted, p) in pmf.iter().map(|p| f64::from(*p)).enumerate().take(self.variants) {
            for (step, tilt) in TILTS.into_iter().enumerate() {
                let own = if variant == tilted { tilt } else { 1.0 };
                grow(&mut self.ratio[tilted * TILTS.len() + step], own / (1.0 + p * (tilt - 1.0)));
            }
        }
        self.most = self.most.max(self.evidence());
    }

    /// Evidence of a mismatch now; 1 at the start.
    pub fn evidence(&self) -> f64 {
        mean(&self.ratio)
    }
    /// Whether a mismatch has been found: the read-out must then not be trusted.
    pub fn alarm(&self) -> bool {
        self.most * RATIO_ALPHA >= 1.0
    }
    /// Units counted and expected of `variant`.
    pub fn counts(&self, variant: usize) -> (u64, f64) {
        (self.units.get(variant).copied().unwrap_or(0), self.expected.get(variant).copied().unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    fn run(seed: u64, actual: f64, units: usize) -> RatioTest {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut test = RatioTest::new(2);
        for _ in 0..units {
            test.add(usize::from(rng.random::<f64>() < actual), &[0.5, 0.5, 0.0, 0.0]);
        }
        test
    }

    /// At 10,000 units a 52/48 split is four standard errors: no test with 0.1 % false alarms finds more than 76 % of them there.
    #[test]
    fn a_52_to_48_split_is_found_and_an_even_one_is_not() {
        let found = (0..100).filter(|&s| run(s, 0.52, 25_000).alarm()).count();
        assert!(found >= 95, "{found}");
        let early = (0..100).filter(|&s| run(s, 0.52, 10_000).alarm()).count();
        assert!(early >= 45, "{early}");
        let wrong = (1_000..1_200).filter(|&s| run(s, 0.5, 10_000).alarm()).count();
        assert!(wrong <= 1, "{wrong}");
    }

    #[test]
    fn changing_propensities_are_no_mismatch() {
        let mut rng = StdRng::seed_from_u64(5);
        let mut test = RatioTest::new(2);
        for i in 0..20_000 {
            let p: f64 = if i % 1000 < 500 { 0.2 } else { 0.7 };
            test.add(usize::from(rng.random::<f64>() < p), &[(1.0 - p) as f32, p as f32, 0.0, 0.0]);
        }
        assert!(!test.alarm(), "{}", test.evidence());
        let (seen, expected) = test.counts(1);
        assert!((seen as f64 - expected).abs() < 400.0);
    }
}
