//! The learner alone in a world of contexts: six actions, ten features, a value that is nearly but not quite linear in them. Regret is the share of what the
//! best action of each context would have brought that was missed.

use farthing_experiment::contextual::{Learner, Scored};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, StandardNormal};

const ACTIONS: usize = 6;
const FEATURES: usize = 10;
/// Decisions between two fits: a window's.
const BATCH: usize = 200;

/// How an action is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Chooser {
    Random,
    Greedy,
    Epsilon(f64),
    SquareCb { uniform: f64 },
}

#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub chooser: Chooser,
    pub decisions: usize,
    /// Every coefficient is another one from this decision on.
    pub switch: Option<usize>,
    /// What counts after each batch of what did.
    pub keep: f64,
    /// Deviation of a value from its mean.
    pub noise: f64,
    /// Everything that is paid times this.
    pub scale: f64,
}

impl Setting {
    pub const fn of(chooser: Chooser) -> Self {
        Self { chooser, decisions: 20_000, switch: None, keep: 1.0, noise: 0.3, scale: 1.0 }
    }
}

struct World {
    theta: Vec<Vec<f64>>,
}

fn normal(rng: &mut StdRng) -> f64 {
    StandardNormal.sample(rng)
}

impl World {
    fn new(rng: &mut StdRng) -> Self {
        Self { theta: (0..ACTIONS).map(|_| (0..FEATURES).map(|_| normal(rng)).collect()).collect() }
    }

    fn value(&self, action: usize, x: &[f64]) -> f64 {
        let z = self.theta[action].iter().zip(&x[1..]).map(|(t, v)| t * v).sum::<f64>() / (FEATURES as f64).sqrt();
        0.3 + 0.28 * z + 0.06 * (3.0 * z).sin()
    }
}

fn pmf(chooser: Chooser, scored: &Scored) -> Vec<f64> {
    match chooser {
        Chooser::Random => scored.uniform.clone(),
        Chooser::Greedy => scored.greedy.clone(),
        Chooser::Epsilon(share) => scored.mixed(share, 0.0),
        Chooser::SquareCb { uniform } => scored.mixed(uniform, 1.0),
    }
}

/// The share that was missed.
pub fn regret(setting: &Setting, seed: u64) -> f64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(&mut rng);
    let mut learner = Learner::new(ACTIONS, FEATURES + 1);
    let (mut best_sum, mut missed) = (0.0, 0.0);
    for n in 0..setting.decisions {
        if setting.switch == Some(n) {
            world = World::new(&mut rng);
        }
        if n.is_multiple_of(BATCH) {
            learner.forget(setting.keep);
            learner.fit();
        }
        let x: Vec<f64> = std::iter::once(1.0).chain((0..FEATURES).map(|_| normal(&mut rng))).collect();
        let values: Vec<f64> = (0..ACTIONS).map(|a| world.value(a, &x)).collect();
        let pmf = pmf(setting.chooser, &learner.score(&x, &[true; ACTIONS]));
        let mut u = rng.random::<f64>();
        let action = pmf
            .iter()
            .position(|p| {
                u -= p;
                u < 0.0
            })
            .unwrap_or(ACTIONS - 1);
        let best = values.iter().copied().fold(f64::MIN, f64::max);
        best_sum += best;
        missed += best - values[action];
        learner.take(action, &x, -setting.scale * (values[action] + setting.noise * normal(&mut rng)));
    }
    missed / best_sum
}

/// Mean over seeds.
pub fn mean(setting: &Setting, seeds: u64) -> f64 {
    (0..seeds).map(|seed| regret(setting, seed)).sum::<f64>() / seeds as f64
}

/// Four in a hundred evenly, as configured by default.
pub const SQUARE_CB: Chooser = Chooser::SquareCb { uniform: 0.04 };

pub const fn turning(chooser: Chooser, keep: f64) -> Setting {
    Setting { switch: Some(10_000), keep, ..Setting::of(chooser) }
}

#[test]
fn little_is_missed_where_nothing_changes() {
    let missed = |chooser| mean(&Setting::of(chooser), 4);
    let (square, tenth, random) = (missed(SQUARE_CB), missed(Chooser::Epsilon(0.1)), missed(Chooser::Random));
    assert!(square <= 0.05 && square < tenth && random > 0.5, "{square} {tenth} {random}");
}

#[test]
fn what_is_paid_in_does_not_matter() {
    let [one, cents] = [1.0, 0.01].map(|scale| mean(&Setting { scale, ..Setting::of(SQUARE_CB) }, 2));
    assert!((one - cents).abs() < 0.01, "{one} {cents}");
}

/// The bars: a quarter less than a tenth at random without forgetting, a tenth less than that with it.
#[test]
fn after_everything_has_changed_it_recovers() {
    let missed = |chooser, keep| mean(&turning(chooser, keep), 4);
    let (square, never) = (missed(SQUARE_CB, 0.98), missed(Chooser::Epsilon(0.1), 1.0));
    let forgets = missed(Chooser::Epsilon(0.1), 0.98);
    assert!(square <= 0.75 * never && square <= 0.9 * forgets, "{square} against {never} and {forgets}");
}
