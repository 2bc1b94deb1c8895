//! How alike the keys of a route are: the weight of the route in what is said of a key.
//!
//! Keys of some routes all change alike, those of others each at a rate of their own, or one that jumps. Each of a few weights
//! foretells every observation before it is learned from (prequential, Dawid 1984); the one that has foretold best is used.

use super::key::{KeyStats, PRIOR_EVENTS};
use super::persist::persist;

/// Weights tried, in changes.
const WEIGHTS: [f64; 4] = [1.0, 2.0, PRIOR_EVENTS, 10.0];
/// Each log likelihood weighs this much of the next: the memory is two thousand observations.
const KEEP: f64 = 1.0 - 1.0 / 2_000.0;
/// How much better another weight must have foretold.
const LEAD: f64 = 3.0;

/// Log likelihoods, and the weight in use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Likeness {
    logs: [f64; 4],
    /// One more than the place of the weight in use; zero before any lead.
    used: u32,
}

persist!(Likeness { logs, used });

impl Likeness {
    /// Notes that a copy fetched when the key's statistics were `key` was watched while its kind would have changed `expected` times.
    pub fn note(&mut self, key: &KeyStats, expected: f64, changed: bool) {
        if expected <= 0.0 {
            return;
        }
        for (log, weight) in self.logs.iter_mut().zip(WEIGHTS) {
            let (mean, shape) = (expected * key.factor(weight), key.certainty(weight));
            let unchanged = -shape * (mean / shape).ln_1p();
            let told = if changed { (-unchanged.exp_m1()).max(1e-12).ln() } else { unchanged };
            *log = *log * KEEP + told;
        }
        let now = self.logs[self.place()];
        let best = (0..WEIGHTS.len()).max_by(|a, b| self.logs[*a].total_cmp(&self.logs[*b]));
        if let Some(best) = best.filter(|b| self.logs[*b] > now + LEAD) {
            self.used = best as u32 + 1;
        }
    }

    fn place(&self) -> usize {
        match self.used {
            0 => 2,
            n => (n as usize - 1).min(WEIGHTS.len() - 1),
        }
    }

    /// The weight in use.
    pub fn weight(&self) -> f64 {
        WEIGHTS[self.place()]
    }
}
