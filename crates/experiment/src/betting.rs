//! Betting e-processes: evidence against "no effect" that may be read at any time.
//!
//! Source: betting on bounded means (Waudby-Smith and Ramdas), with a fixed grid of bets; docs/proving.md.

use serde::{Deserialize, Serialize};

/// Bets of a process.
pub(crate) const STEPS: i32 = 10;
/// The largest bet: it may lose nearly all of its own wealth on one value, and is one of many.
const LARGEST: f64 = 0.85;
/// Each bet to the next larger one. The smallest still finds effects of some thousandths.
const RATIO: f64 = 0.55;

/// What is to be found soonest: the smaller a bet, the less wealth it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Large effects before all, as for harm.
    Large,
    /// Effects of any size, larger ones somewhat sooner.
    Any,
}

/// Wealth of a bettor who stakes fixed fractions on values being positive, while their mean is 0 or below under the null hypothesis.
///
/// # Contract
/// Each value given to [`EProcess::add`] is at least -1 and has a conditional mean of at most 0 given all earlier ones; then the
/// probability that [`EProcess::evidence`] ever reaches 1/a is at most a, whatever the distribution. Values may be multiplied by anything
/// positive that is known before they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EProcess {
    lambdas: Vec<f64>,
    wealth: Vec<f64>,
    most: f64,
}

impl EProcess {
    /// A process at its start.
    pub fn new(haste: Haste) -> Self {
        let lambdas: Vec<f64> = (0..STEPS).map(|i| LARGEST * RATIO.powi(i)).collect();
        let smaller: f64 = match haste {
            Haste::Large => 0.5,
            Haste::Any => 0.75,
        };
        let shares: Vec<f64> = (0..STEPS).map(|i| smaller.powi(i)).collect();
        let all: f64 = shares.iter().sum();
        let wealth = shares.into_iter().map(|share| share / all).collect();
        Self { lambdas, wealth, most: 1.0 }
    }

    /// Bets on one value; values that are not finite are ignored.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let mut evidence = 0.0;
        for (wealth, lambda) in self.wealth.iter_mut().zip(&self.lambdas) {
            // The lower clamp only matters for a caller who breaks the contract: wealth then stays positive.
            grow(wealth, (1.0 + lambda * value).max(0.001));
            evidence += *wealth;
        }
        self.most = self.most.max(evidence);
    }

    /// Evidence now: the wealth of all bets; 1 at the start.
    pub fn evidence(&self) -> f64 {
        self.wealth.iter().sum()
    }
    /// Whether the evidence has at some time reached 1/`alpha`.
    pub fn crossed(&self, alpha: f64) -> bool {
        self.most * alpha >= 1.0
    }
}

/// Multiplies wealth. Throwing wealth away keeps an e-process valid, so what lies outside the range of a double is thrown away.
pub(crate) fn grow(wealth: &mut f64, factor: f64) {
    let next = *wealth * factor;
    *wealth = if next < 1e-200 { 0.0 } else { next.min(1e200) };
}

/// The mean; 0 for an empty slice.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / (values.len() as f64).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wealth_grows_only_with_an_effect() {
        let mut none = EProcess::new(Haste::Any);
        let (mut up, mut down) = (none.clone(), none.clone());
        for i in 0..2_000 {
            let noise = if i % 2 == 0 { 0.5 } else { -0.5 };
            none.add(noise);
            up.add(noise + 0.1);
            down.add(noise - 0.1);
        }
        assert!(!none.crossed(0.05) && none.evidence() < 1.0, "{}", none.evidence());
        assert!(up.crossed(0.001));
        assert!(!down.crossed(0.05), "it must not find the other side");
        none.add(f64::NAN);
        assert!(none.evidence().is_finite());
    }

    proptest! {
        /// The expectation over one fair step is exactly the wealth before it, for any two-point law with mean zero.
        #[test]
        fn a_fair_step_keeps_the_expected_wealth(a in 0.01f64..3.0, b in 0.01f64..1.0, past in proptest::collection::vec(-1.0f64..1.0, 0..20)) {
            let mut process = EProcess::new(Haste::Any);
            past.iter().for_each(|&v| process.add(v));
            let before = process.evidence();
            let (mut up, mut down) = (process.clone(), process);
            up.add(a);
            down.add(-b);
            let expected = up.evidence() * b / (a + b) + down.evidence() * a / (a + b);
            prop_assert!((expected / before - 1.0).abs() < 1e-9);
        }
    }
}
