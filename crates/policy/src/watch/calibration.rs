//! Observed changes against foretold ones, with evidence that may be read at any time.
//!
//! Each label is a copy that was fetched again after a gap: it has changed or not, and a [`Forecast`](crate::ttl::Forecast) made when it was
//! stored says how many changes were to be expected. Under the hypothesis that the true hazard is at most `tolerance` times the
//! foretold one, the likelihood ratio of a higher hazard against that bound is a fair bet, label by label, however the gaps came about (they
//! follow from demand, the TTL, an audit). The same downwards.

use crate::switches::Detector;

/// How many times beyond the tolerated hazard the bets expect it.
const BETS: [f64; 3] = [1.5, 3.0, 8.0];
/// A label counts as no more than so many expected changes downwards: what is nearly certain must not rest on one forecast.
const MOST: f64 = 3.0;
/// Fewest changes that a label counts as.
const LEAST: f64 = 1e-9;
/// Labels between two beginnings of bettors, of a detector that watches for what may begin at any time.
const BEGIN_EVERY: u64 = 64;
/// How the sums for the ratio fade per label: half is gone after some 350.
const FADE: f64 = 0.998;

/// Sums and evidence of one predictor.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    tolerance: f64,
    restless: bool,
    labels: u64,
    observed: f64,
    expected: f64,
    more: Detector<{ BETS.len() }>,
    fewer: Detector<{ BETS.len() }>,
}

/// What came against what was foretold, lately.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ratio {
    /// Labels in all.
    pub labels: u64,
    /// Changes seen; older labels fade.
    pub observed: f64,
    /// Changes foretold; older labels fade.
    pub expected: f64,
    /// Evidence that more change than `tolerance` times the forecast; 1 is none.
    pub more: f64,
    /// Evidence that fewer change than the forecast over `tolerance`.
    pub fewer: f64,
}

impl Ratio {
    /// Seen over foretold; `None` while less than one change was foretold.
    pub fn ratio(&self) -> Option<f64> {
        (self.expected >= 1.0).then(|| self.observed / self.expected)
    }
    /// The stronger evidence.
    pub fn evidence(&self) -> f64 {
        self.more.max(self.fewer)
    }
}

impl Calibration {
    /// Evidence against one hypothesis from the first label on: it reaches `a` with a probability of at most `2 / a`.
    pub fn once(tolerance: f64) -> Self {
        Self {
            tolerance: tolerance.max(1.0),
            restless: false,
            labels: 0,
            observed: 0.0,
            expected: 0.0,
            more: Detector::default(),
            fewer: Detector::default(),
        }
    }

    /// Evidence of a change that may begin at any time: within `n` labels it reaches `a` with a probability of at most `2 (1 + n / 64) / a`.
    pub fn always(tolerance: f64) -> Self {
        Self { restless: true, ..Self::once(tolerance) }
    }

    /// Learns of a label: changes that were foretold by its gap ([`Forecast::cumulated`](crate::ttl::Forecast::cumulated)), and whether there was any.
    pub fn add(&mut self, cumulated: f64, changed: bool) {
        if !cumulated.is_finite() {
            return;
        }
        let hazard = cumulated.max(LEAST);
        self.labels += 1;
        self.observed = self.observed * FADE + f64::from(u8::from(changed));
        self.expected = self.expected * FADE - (-hazard).exp_m1();
        if self.restless && self.labels.is_multiple_of(BEGIN_EVERY) {
            self.more.begin();
            self.fewer.begin();
        }
        let upper = hazard * self.tolerance;
        self.more.bet(BETS.map(|times| likelihood(upper * times, changed) / likelihood(upper, changed)));
        let lower = (hazard / self.tolerance).min(MOST);
        self.fewer.bet(BETS.map(|times| likelihood(lower / times, changed) / likelihood(lower, changed)));
    }

    /// What is known.
    pub fn ratio(&self) -> Ratio {
        let Self { labels, observed, expected, .. } = *self;
        Ratio { labels, observed, expected, more: self.more.evidence(), fewer: self.fewer.evidence() }
    }
}

/// Of one label under a cumulated hazard.
fn likelihood(hazard: f64, changed: bool) -> f64 {
    if changed { -(-hazard).exp_m1() } else { (-hazard).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    /// Labels until the evidence reaches `wanted`, at a true hazard of `times` the foretold one.
    fn labels_until(mut calibration: Calibration, (times, wanted): (f64, f64), most: usize, seed: u64) -> Option<usize> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..most).find(|_| {
            let foretold: f64 = 10f64.powf(rng.random_range(-2.5..0.3));
            calibration.add(foretold, rng.random::<f64>() < -(-foretold * times).exp_m1());
            calibration.ratio().evidence() >= wanted
        })
    }

    #[test]
    fn what_comes_as_foretold_or_nearly_so_is_no_evidence() {
        let alarms = |times| (0..300).filter(|seed| labels_until(Calibration::once(2.0), (times, 1_000.0), 2_000, *seed).is_some()).count();
        assert_eq!((alarms(1.0), alarms(0.6)), (0, 0));
        // At the bound itself one in a thousand may alarm.
        assert!(alarms(2.0) <= 2 && alarms(0.5) <= 2, "{} {}", alarms(2.0), alarms(0.5));
        let restless = (0..100).filter(|seed| labels_until(Calibration::always(1.5), (1.0, 1e4), 5_000, *seed).is_some()).count();
        assert_eq!(restless, 0);
    }

    #[test]
    fn ten_times_too_high_or_too_low_shows_within_some_hundred_labels() {
        for times in [10.0, 0.1] {
            let mut taken: Vec<_> =
                (0..200).map(|seed| labels_until(Calibration::once(2.0), (times, 1_000.0), 2_000, seed).unwrap_or(2_000)).collect();
            taken.sort_unstable();
            assert!(taken[100] <= 150 && taken[190] <= 250, "{times}: median {}, p95 {}", taken[100], taken[190]);
        }
    }

    #[test]
    fn a_long_quiet_past_hides_no_change() {
        let mut calibration = Calibration::always(1.5);
        let mut rng = StdRng::seed_from_u64(7);
        let mut label = |calibration: &mut Calibration, times: f64| {
            let foretold: f64 = rng.random_range(0.05..0.8);
            calibration.add(foretold, rng.random::<f64>() < -(-foretold * times).exp_m1());
        };
        (0..20_000).for_each(|_| label(&mut calibration, 1.0));
        assert!(calibration.ratio().evidence() < 1e4);
        let taken = (1..2_000).find(|_| {
            label(&mut calibration, 8.0);
            calibration.ratio().more >= 1e4
        });
        assert!(taken.is_some_and(|taken| taken <= 120), "{taken:?}");
        assert!(calibration.ratio().ratio().unwrap() > 1.0);
    }
}
