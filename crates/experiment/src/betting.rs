//! Betting e-processes: evidence against "no effect" that may be read at any time.
//!
//! Source: betting on bounded means (Waudby-Smith and Ramdas), with a fixed grid of bets; docs/proving.md.

/// Bets per direction.
const STEPS: usize = 12;

/// Which effects a process can find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sides {
    /// Effects of either sign.
    Two,
    /// Positive effects only.
    Upper,
}

/// Wealth of a bettor who stakes fixed fractions on the sign of bounded values with mean 0 (or below) under the null hypothesis.
///
/// # Contract
/// Each value given to [`EProcess::add`] lies in [-`bound`, `bound`] and has a conditional mean of 0 (two sides) or at most 0 (upper)
/// given all earlier ones; then the probability that [`EProcess::evidence`] ever reaches 1/a is at most a, whatever the distribution.
#[derive(Clone, Debug)]
pub struct EProcess {
    lambdas: Vec<f64>,
    wealth: Vec<f64>,
    most: f64,
}

impl EProcess {
    /// A process for values within [-`bound`, `bound`].
    pub fn new(bound: f64, sides: Sides) -> Self {
        // The largest bet loses at most half of the wealth on one value; the smallest still finds effects of a thousandth.
        let top = 0.5 / bound.max(f64::MIN_POSITIVE);
        let steps = (0..STEPS).map(|i| top * 0.56_f64.powi(i as i32));
        let lambdas: Vec<f64> = match sides {
            Sides::Upper => steps.collect(),
            Sides::Two => steps.flat_map(|l| [l, -l]).collect(),
        };
        let wealth = vec![1.0; lambdas.len()];
        Self { lambdas, wealth, most: 1.0 }
    }

    /// Bets on one value; values that are not finite are ignored.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        for (wealth, lambda) in self.wealth.iter_mut().zip(&self.lambdas) {
            // The lower clamp only matters for a caller who breaks the contract: wealth then stays positive.
            grow(wealth, (1.0 + lambda * value).max(0.001));
        }
        self.most = self.most.max(self.evidence());
    }

    /// Evidence now: mean wealth over the bets; 1 at the start.
    pub fn evidence(&self) -> f64 {
        mean(&self.wealth)
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
        let mut none = EProcess::new(1.0, Sides::Two);
        let mut down = none.clone();
        let mut upper = EProcess::new(1.0, Sides::Upper);
        for i in 0..2_000 {
            let noise = if i % 2 == 0 { 0.5 } else { -0.5 };
            none.add(noise);
            down.add(noise - 0.1);
            upper.add(noise - 0.1);
        }
        assert!(!none.crossed(0.05) && none.evidence() < 1.0, "{}", none.evidence());
        assert!(down.crossed(0.001));
        assert!(!upper.crossed(0.05), "a one-sided process must not find the other side");
        none.add(f64::NAN);
        assert!(none.evidence().is_finite());
    }

    proptest! {
        /// The expectation over one fair step is exactly the wealth before it, for any two-point law with mean zero.
        #[test]
        fn a_fair_step_keeps_the_expected_wealth(a in 0.01f64..1.0, b in 0.01f64..1.0, past in proptest::collection::vec(-1.0f64..1.0, 0..20)) {
            let mut process = EProcess::new(1.0, Sides::Two);
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
