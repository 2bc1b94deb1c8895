//! Keeps a route's stale share at its budget where the operating point of a bundle alone would miss it.
//!
//! An operating point is chosen on the past of some routes. On another route, or later, the same price of a stale answer can
//! give another stale share. The statistics see that: each refetch tells how many answers were probably stale
//! (of a change somewhere in the gap, and of the ages at which answers were given). After enough answers to expect a few stale ones, the factor on kappa moves toward the budget.

use super::persist::persist;

/// Share of the budget that is aimed at.
const AIM: f64 = 0.85;
/// A window ends when this many stale answers would be within its budget.
const WINDOW: f64 = 6.0;
/// Weight of "as the budget says" in a window, in stale answers.
const PRIOR: f64 = 2.0;
/// Exponent of the correction: the stale share moves about as the square root of kappa, and a window is noisy.
const GAIN: f64 = 0.6;
/// The least that the exponent falls to as windows pass: enough to follow a route that changes its ways.
const SLOWEST: f64 = 0.1;
/// Largest step of the log factor.
const STEP: f64 = 0.7;
/// Bounds of the log factor: down to a 55th, up to four times.
const LOWEST: f64 = -4.0;
const HIGHEST: f64 = 1.4;

/// The factor on kappa, and the window being counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Steering {
    pub budget: f64,
    log_factor: f64,
    answers: f64,
    stale: f64,
    total_answers: f64,
    total_stale: f64,
    windows: f64,
}

persist!(Steering { budget, log_factor, answers, stale, total_answers, total_stale, windows });

impl Default for Steering {
    fn default() -> Self {
        Self { budget: 0.005, log_factor: 0.0, answers: 0.0, stale: 0.0, total_answers: 0.0, total_stale: 0.0, windows: 0.0 }
    }
}

impl Steering {
    pub fn note(&mut self, answers: u32, stale: f64) {
        self.answers += f64::from(answers);
        self.stale += stale;
        self.total_answers += f64::from(answers);
        self.total_stale += stale;
        let within = self.budget * AIM * self.answers;
        if within < WINDOW && self.stale < 2.0 * WINDOW {
            return;
        }
        let gain = (GAIN / (1.0 + 0.25 * self.windows)).max(SLOWEST);
        self.windows += 1.0;
        let step = gain * ((within + PRIOR) / (self.stale + PRIOR)).ln();
        self.log_factor = (self.log_factor + step.clamp(-STEP, STEP)).clamp(LOWEST, HIGHEST);
        (self.answers, self.stale) = (0.0, 0.0);
    }
    pub fn factor(&self) -> f64 {
        self.log_factor.exp()
    }
    /// Share of answers that were probably stale, over all that were noted.
    pub fn stale_share(&self) -> Option<f64> {
        (self.total_answers > 0.0).then(|| self.total_stale / self.total_answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_settles_at_the_budget() {
        // A plant whose stale share is the root of kappa, eight times too high at first.
        let mut steering = Steering { budget: 0.01, ..Steering::default() };
        let share = |s: &Steering| 0.08 * s.factor().sqrt();
        for _ in 0..4_000 {
            let stale = share(&steering) * 10.0;
            steering.note(10, stale);
        }
        assert!((0.006..0.012).contains(&share(&steering)), "{}", share(&steering));
    }

    #[test]
    fn an_unused_budget_is_spent_and_no_more_than_the_bound() {
        let mut steering = Steering::default();
        for _ in 0..100_000 {
            steering.note(100, 0.0);
        }
        assert!((steering.factor() - HIGHEST.exp()).abs() < 1e-9);
    }
}
