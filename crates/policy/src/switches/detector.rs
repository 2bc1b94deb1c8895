//! Evidence for something that may begin at any time, and may be read at any time.

/// Sums of the wealth of bettors, of whom a new one begins at each [`Detector::begin`], for each of `K` ways to bet.
///
/// With fair bets the sum less the number of those who have begun is a martingale. So evidence reaches `a` on average no sooner than at the
/// `a`-th beginning (Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", New England
/// Journal of Statistics in Data Science 2024; the sum is that of Shiryaev and Roberts), and within `n` beginnings with a probability of at
/// most `n / a` (Doob's inequality). Someone always begins, so a long quiet past hides no change.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector<const K: usize>([f64; K]);

impl<const K: usize> Default for Detector<K> {
    fn default() -> Self {
        Self([1.0; K])
    }
}

/// What lies outside the range of a double is thrown away: less wealth keeps the bound.
const RANGE: std::ops::Range<f64> = 1e-200..1e200;

impl<const K: usize> Detector<K> {
    /// Another bettor begins.
    pub fn begin(&mut self) {
        self.0.iter_mut().for_each(|sum| *sum += 1.0);
    }

    /// One bet of all: by what each way multiplies its wealth. A fair factor has a mean of at most 1 given all that was before.
    pub fn bet(&mut self, factors: [f64; K]) {
        for (sum, factor) in self.0.iter_mut().zip(factors) {
            let next = *sum * factor;
            *sum = if next.is_nan() || next < RANGE.start { 0.0 } else { next.min(RANGE.end) };
        }
    }

    /// Evidence now: the mean over the ways to bet; 1 at the start.
    pub fn evidence(&self) -> f64 {
        self.0.iter().sum::<f64>() / K.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn someone_always_begins_and_nothing_leaves_the_numbers() {
        let mut detector = Detector::<2>::default();
        (0..10_000).for_each(|_| detector.bet([0.5, 0.9]));
        assert_eq!(detector.evidence(), 0.0);
        detector.begin();
        assert_eq!(detector.evidence(), 1.0);
        (0..10_000).for_each(|_| detector.bet([2.0, f64::NAN]));
        assert!(detector.evidence() > 1e100 && detector.evidence().is_finite());
    }
}
