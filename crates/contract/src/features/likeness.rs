//! How alike the keys of a route are: the weight of the route in what is said of a key; and how much of a key stays unknown whatever it shows.
//!
//! Keys of some routes all change alike, those of others each at a rate of their own, or one that jumps. Each of a few weights
//! foretells every observation before it is learned from (prequential, Dawid 1984); the one that has foretold best is used. Then each
//! of a few doubts does the same under that weight: where keys drift, or are not as the Gamma distribution has them, what is known of
//! a key is never as certain as the changes counted say, and probabilities above a half come out too high.

use super::key::{KeyStats, PRIOR_EVENTS};
use super::persist::persist;

/// Weights tried, in changes.
const WEIGHTS: [f64; 4] = [1.0, 2.0, PRIOR_EVENTS, 10.0];
/// What is in use before anything has shown itself better.
const WEIGHT_START: usize = 2;
const DOUBT_START: usize = 1;
/// Each log likelihood weighs this much of the next: the memory is two thousand observations.
const KEEP: f64 = 1.0 - 1.0 / 2_000.0;
/// How much better another weight must have foretold.
const LEAD: f64 = 3.0;

/// Doubts tried: squared coefficients of variation of a key's factor that no evidence takes away.
const DOUBTS: [f64; 4] = [0.0, 0.04, 0.08, 0.12];

/// Log likelihoods, and the weight and the doubt in use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Likeness {
    weights: Contest,
    doubts: Contest,
}

/// Log likelihoods of what contends, and the place of what is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Contest {
    logs: [f64; 4],
    /// One more than the place of what is in use; zero before any lead.
    used: u32,
}

persist!(Likeness { weights, doubts });
persist!(Contest { logs, used });

impl Contest {
    fn note(&mut self, start: usize, told: impl Fn(usize) -> f64) {
        for (place, log) in self.logs.iter_mut().enumerate() {
            *log = *log * KEEP + told(place);
        }
        let now = self.logs[self.place(start)];
        let best = (0..self.logs.len()).max_by(|a, b| self.logs[*a].total_cmp(&self.logs[*b]));
        if let Some(best) = best.filter(|b| self.logs[*b] > now + LEAD) {
            self.used = best as u32 + 1;
        }
    }

    fn place(&self, start: usize) -> usize {
        match self.used {
            0 => start,
            n => (n as usize - 1).min(self.logs.len() - 1),
        }
    }
}

impl Likeness {
    /// Notes whether a copy fetched when the key's statistics were `key` had changed at the next look; `expected` are the changes that look would find on
    /// average were the key's factor known to be its argument.
    pub fn note(&mut self, key: &KeyStats, changed: bool, expected: impl Fn(f64) -> f64) {
        if expected(1.0) <= 0.0 {
            return;
        }
        let told = |weight: f64, doubt: f64| {
            let (mean, shape) = (expected(key.factor(weight)), doubted(key.certainty(weight), doubt));
            let unchanged = -shape * (mean / shape).ln_1p();
            if changed { (-unchanged.exp_m1()).max(1e-12).ln() } else { unchanged }
        };
        let weight = self.weight();
        self.weights.note(WEIGHT_START, |place| told(WEIGHTS[place], 0.0));
        self.doubts.note(DOUBT_START, |place| told(weight, DOUBTS[place]));
    }

    /// The weight in use.
    pub fn weight(&self) -> f64 {
        WEIGHTS[self.weights.place(WEIGHT_START)]
    }

    /// The doubt in use.
    pub fn doubt(&self) -> f64 {
        DOUBTS[self.doubts.place(DOUBT_START)]
    }
}

/// A Gamma shape whose squared coefficient of variation is larger by `doubt`.
pub(super) fn doubted(shape: f64, doubt: f64) -> f64 {
    1.0 / (1.0 / shape + doubt)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Doubt after keys of which much is known, that are foretold 1.5 changes, were seen changed in this share of the cases.
    fn after(share: f64) -> f64 {
        let mut key = KeyStats::default();
        (key.events, key.expected, key.slow_events, key.slow_expected) = (60.0, 60.0, 60.0, 60.0);
        let mut likeness = Likeness::default();
        for n in 0..2_000 {
            let changed = (f64::from(n) * share).floor() < (f64::from(n + 1) * share).floor();
            likeness.note(&key, changed, |factor| 1.5 * factor);
        }
        likeness.doubt()
    }

    #[test]
    fn doubt_is_learned_from_how_well_probabilities_held() {
        let certain = 1.0 - (-1.5f64).exp();
        let least = after(certain);
        let most = after(certain - 0.06);
        assert!(least <= DOUBTS[1], "{least}");
        assert_eq!(most, DOUBTS[3]);
        assert_eq!(Likeness::default().doubt(), DOUBTS[DOUBT_START]);
    }
}
