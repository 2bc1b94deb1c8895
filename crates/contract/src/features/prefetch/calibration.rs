//! What became of predicted probabilities, per range of the prediction: the live correction of a predictor that drifts.

/// Ranges of the prediction.
const BINS: usize = 10;
/// Outcomes after which an older one weighs 1/e, per range.
const MEMORY: f32 = 400.0;
/// Outcomes that the prediction itself is worth.
const PRIOR: f32 = 20.0;
/// Largest correction, either way, of log odds.
const MAX_SHIFT: f32 = 2.0;

/// Corrects probabilities by the outcomes seen so far; says nothing before it has seen some.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LiveOdds {
    expected: [f32; BINS],
    observed: [f32; BINS],
    count: [f32; BINS],
}

fn bin(p: f32) -> usize {
    ((p * BINS as f32) as usize).min(BINS - 1)
}

fn log_odds(p: f32) -> f32 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

/// The probability of these log odds; 0.5 for NaN.
pub fn probability(log_odds: f32) -> f32 {
    if log_odds.is_nan() { 0.5 } else { 1.0 / (1.0 + (-log_odds.clamp(-30.0, 30.0)).exp()) }
}

impl LiveOdds {
    /// Something that was given the (uncorrected) probability `p` came true or not.
    pub fn learn(&mut self, p: f32, came_true: bool) {
        if !p.is_finite() {
            return;
        }
        let (i, keep) = (bin(p), 1.0 - 1.0 / MEMORY);
        self.expected[i] = self.expected[i] * keep + p.clamp(0.0, 1.0);
        self.observed[i] = self.observed[i] * keep + f32::from(u8::from(came_true));
        self.count[i] = self.count[i] * keep + 1.0;
    }

    /// `p` with the correction of its range, drawn evenly from the middle of one range to that of the next.
    pub fn corrected(&self, p: f32) -> f32 {
        let p = if p.is_finite() { p.clamp(0.0, 1.0) } else { 0.5 };
        let place = (p * BINS as f32 - 0.5).clamp(0.0, (BINS - 1) as f32);
        let (low, share) = (place as usize, place.fract());
        let high = (low + 1).min(BINS - 1);
        let shift = self.shift(low) * (1.0 - share) + self.shift(high) * share;
        probability(log_odds(p) + shift)
    }

    fn shift(&self, i: usize) -> f32 {
        let middle = (i as f32 + 0.5) / BINS as f32;
        let mean = |sum: f32| (sum + PRIOR * middle) / (self.count[i] + PRIOR);
        (log_odds(mean(self.observed[i])) - log_odds(mean(self.expected[i]))).clamp(-MAX_SHIFT, MAX_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn corrected_probabilities_are_probabilities(seen in proptest::collection::vec((any::<f32>(), any::<bool>()), 0..200), p in any::<f32>()) {
            let mut odds = LiveOdds::default();
            seen.iter().for_each(|(p, y)| odds.learn(*p, *y));
            prop_assert!((0.0..=1.0).contains(&odds.corrected(p)));
        }
    }

    #[test]
    fn it_finds_what_is_true_and_says_nothing_before() {
        let mut odds = LiveOdds::default();
        assert!((odds.corrected(0.33) - 0.33).abs() < 1e-5);
        for i in 0..2_000 {
            odds.learn(0.35, i % 10 < 6);
            odds.learn(0.85, i % 10 < 9);
        }
        assert!((odds.corrected(0.35) - 0.6).abs() < 0.03, "{}", odds.corrected(0.35));
        assert!((odds.corrected(0.85) - 0.9).abs() < 0.03);
    }
}
