//! What the requests for a copy say of it where changes draw readers: the probability that it has changed, kept up to date from one request
//! to the next (a Bayes filter of two states), and from which probability on the copy is doubted.
//!
//! Either nothing has changed since the fetch, or something has. A request at a gap `g` after the last one, at hazard `h`, with `v(x)`,
//! `I(v, g)`, `r` and `e(g)` as in [`super::drawn`], moves the odds `w` of a change to
//!
//! `w e^(hg) e^(-rho (1 - e^(-g/d))) (r + e + rho e^(-g/d) / d) / (r + e)  +  e^(h I(v, g)) (1 + h (1 - v(g)) / (r + e)) - 1`
//!
//! where `rho` readers were still to come had there been a change: silence speaks against it, a request for it, and new changes are added. Of the moment of the
//! change only the mean of `rho` is kept, so a request costs the same however many came before it.

use super::drawn::Draws;

/// Logarithms of odds lie between this and its negative.
const LOG_ODDS: f64 = 20.0;
/// Steps of the logarithm of odds, of a number of readers, of one of answers.
const LOG_STEPS: f64 = 65_534.0 / (2.0 * LOG_ODDS);
const READER_STEPS: f64 = 1_024.0;
const ANSWER_STEPS: f64 = 64.0;

/// What is believed of a copy after a request for it; zero after its fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Belief {
    /// Probability that it has changed over that it has not.
    pub odds: f64,
    /// If it has: readers that the change still draws, in the mean.
    pub coming: f64,
    /// If it has: answers given from it since, in the mean.
    pub stale: f64,
}

/// The same in six bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept([u16; 3]);

impl Kept {
    pub fn belief(self) -> Belief {
        let [odds, coming, stale] = self.0;
        let log = f64::from(odds.saturating_sub(1)) / LOG_STEPS - LOG_ODDS;
        let odds = if odds == 0 { 0.0 } else { log.exp() };
        Belief { odds, coming: f64::from(coming) / READER_STEPS, stale: f64::from(stale) / ANSWER_STEPS }
    }
}

impl Belief {
    pub fn kept(&self) -> Kept {
        let steps = (self.odds.max(1e-12).ln().clamp(-LOG_ODDS, LOG_ODDS) + LOG_ODDS) * LOG_STEPS;
        let odds = if self.odds > 0.0 { steps.round() as u16 + 1 } else { 0 };
        // What is too large for its place takes the largest.
        Kept([odds, (self.coming * READER_STEPS).round() as u16, (self.stale * ANSWER_STEPS).round() as u16])
    }

    /// After one more request, `gap_s` after the last one or the fetch; `draws` are as of then, and `expected` changes were expected since.
    /// `answered`: the last request was answered from the copy.
    pub fn after(&self, draws: &Draws, (expected, gap_s): (f64, f64), answered: bool) -> Self {
        let left = self.coming * (1.0 - draws.come(gap_s));
        let before =
            (expected + left - self.coming).min(2.0 * LOG_ODDS).exp() * (1.0 + left / draws.delay_s / draws.others(gap_s)) * self.odds;
        let (newly, newly_coming) = draws.newly(expected, gap_s);
        let most = LOG_ODDS.exp();
        let (before, newly) = (before.min(most), newly.min(most));
        let share = if before > 0.0 { before / (before + newly) } else { 0.0 };
        let stale = self.stale + f64::from(u8::from(answered));
        Self { odds: before + newly, coming: share * left + (1.0 - share) * newly_coming, stale: share * stale }
    }
}

/// The probability of a change above which a copy is doubted, in two bytes; by default there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubt(u16);

impl Doubt {
    /// No copy is doubted.
    pub const NEVER: Self = Self(0);

    /// Above this probability; never, if that is 1 or more.
    pub fn above(probability: f64) -> Self {
        if probability < 1.0 { Self((probability.max(0.0) * 65_535.0).ceil().max(1.0) as u16) } else { Self::NEVER }
    }

    /// Whether there is such a probability at all.
    pub const fn is_possible(self) -> bool {
        self.0 > 0
    }

    /// Whether a copy is doubted that has changed with this probability.
    pub fn is_raised_by(self, probability: f64) -> bool {
        self.is_possible() && probability * 65_535.0 > f64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: Draws = Draws { reads: 3.0, delay_s: 180.0, background: 6e-4, since_s: f64::MAX };
    const HAZARD: f64 = 2.8e-4;

    /// Odds that it has changed after requests at these ages, by all moments of the change written out.
    fn written_out(ages: &[f64]) -> f64 {
        let end = ages[ages.len() - 1];
        let steps = 200_000;
        let width = end / f64::from(steps);
        let drawn = |x: f64| DRAWS.reads / DRAWS.delay_s * (-x / DRAWS.delay_s).exp();
        (0..steps)
            .map(|n| {
                let at = (f64::from(n) + 0.5) * width;
                let seen: f64 = ages.iter().map(|age| 1.0 + if *age > at { drawn(age - at) } else { 0.0 } / DRAWS.background).product();
                HAZARD * (HAZARD * (end - at)).exp() * DRAWS.silent(end - at) * seen * width
            })
            .sum()
    }

    fn filtered(ages: &[f64]) -> Belief {
        let gaps = ages.iter().scan(0.0, |last, age| Some(age - std::mem::replace(last, *age)));
        gaps.enumerate().fold(Belief::default(), |b, (n, gap)| b.after(&DRAWS, (HAZARD * gap, gap), n > 0).kept().belief())
    }

    #[test]
    fn the_filter_is_near_all_moments_written_out() {
        for ages in
            [&[900.0][..], &[40.0], &[500.0, 560.0], &[500.0, 560.0, 1_500.0], &[20.0, 40.0, 60.0, 300.0], &[3_000.0, 3_100.0, 3_150.0]]
        {
            let (told, truth) = (filtered(ages).odds, written_out(ages));
            let share = |odds: f64| odds / (1.0 + odds);
            assert!((share(told) - share(truth)).abs() < 0.08, "{ages:?}: {told} {truth}");
        }
    }

    #[test]
    fn a_crowd_speaks_for_a_change_and_silence_against_it() {
        let (alone, crowd) = (filtered(&[1_000.0]), filtered(&[1_000.0, 1_030.0, 1_070.0]));
        assert!(crowd.odds > 5.0 * alone.odds && crowd.stale > 1.0, "{alone:?} {crowd:?}");
        let after = filtered(&[1_000.0, 3_000.0]);
        // What answers were stale by then is the probability that it is the change that was suspected first.
        assert!(alone.odds > 0.4 && after.stale < 0.25, "{alone:?} {after:?}");
        assert!(alone.coming > 1.0 && alone.stale == 0.0, "{alone:?}");
    }

    #[test]
    fn numbers_stay_numbers() {
        let mut belief = Belief::default();
        for (expected, gap) in [(0.0, 0.0), (1e9, 1e9), (1e-12, 1e-3), (5.0, 0.0), (0.0, 1e12)] {
            for draws in [DRAWS, Draws { background: 0.0, ..DRAWS }, Draws { reads: 1e-9, since_s: 0.0, ..DRAWS }] {
                belief = belief.after(&draws, (expected, gap), true).kept().belief();
                assert!(belief.odds.is_finite() && belief.coming.is_finite() && belief.stale.is_finite(), "{belief:?}");
            }
        }
        assert!(Doubt::above(0.2).is_raised_by(0.201) && !Doubt::above(0.2).is_raised_by(0.2));
        assert!(!Doubt::above(1.0).is_possible() && !Doubt::NEVER.is_raised_by(1.0) && Doubt::above(0.0).is_raised_by(0.1));
    }
}
