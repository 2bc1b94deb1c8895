//! Experiments that may cost no more than a share of what control alone would have: how often they do.

use farthing_experiment::conserve::Conservative;
use farthing_experiment::{ExperimentSpec, Life, Observation, Order, Steered, Trial, steer};
use farthing_types::{Draw, KeyHash, Money, Span, Time};
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, LogNormal};

use crate::world::{Law, WINDOW_S, World, spec};

pub const MOST: f64 = 0.05;

/// What came of a run: whether it ever cost too much, how likely the challenger was in the end, and whether a difference was told.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub beyond: bool,
    pub share: f64,
    pub differs: bool,
    /// What was spent beyond control at the end, as a share of control's cost.
    pub excess: f64,
}

/// `units` with persistent levels of cost; the challenger costs `factor` as much. Judged by what is paid in the mean, in every window.
pub fn run((units, windows): (u128, u64), (factor, worst): (f64, Option<f64>), seed: u64) -> Kept {
    let (mut rng, draw) = (StdRng::seed_from_u64(seed), Draw::new(seed ^ 0xc0));
    let conservative = worst.map(|worst| Conservative { most: MOST, worst });
    let spec = ExperimentSpec { conservative, cap: None, ..spec("sim", &World::pair(Law::Light, factor)) };
    let mut life = Life::draft(Time::ZERO).step(&Order::Start, &spec, (Time::ZERO, 0)).unwrap();
    let mut experiment = life.snapshot(&spec).unwrap().unwrap();
    let mut trial = Trial::new(&experiment);
    let (level, noise) = (LogNormal::new(-4.0, 0.8).unwrap(), LogNormal::new(-0.32, 0.8).unwrap());
    let levels: Vec<f64> = (0..units).map(|_| level.sample(&mut rng)).collect();
    let (mut base, mut more, mut beyond) = (0.0, 0.0, false);
    for window in 0..windows {
        let now = Time::ZERO + Span::from_secs(window * WINDOW_S);
        for (unit, mean) in levels.iter().enumerate() {
            let key = KeyHash((unit as u128) << 64);
            let assigned = experiment.assign(&draw, key, now);
            let times = if assigned.variant == 1 { factor } else { 1.0 };
            base += mean;
            more += mean * (times - 1.0);
            let bill = Some(Money::from_nanos((mean * times * noise.sample(&mut rng) * 1e9) as i64));
            trial.record(key, &assigned, Observation { bill, requests: 1, ..Observation::default() });
        }
        beyond |= more > MOST * base;
        trial.close_window();
        let middle = now + Span::from_secs(WINDOW_S * 6 / 10);
        if let Some(turn) = steer(&Steered { life: &life, spec: &spec, trial: &trial, draw: &draw, frozen: false }, middle) {
            life = turn.life;
            trial.follow(&life.allocations);
            experiment = life.snapshot(&spec).unwrap().unwrap();
        }
    }
    Kept {
        beyond,
        share: 1.0 - life.allocations.last().unwrap().pmf[0],
        differs: trial.report().comparisons[0].differs,
        excess: more / base,
    }
}

#[test]
fn it_costs_no_more_than_it_may_whatever_the_challenger_costs() {
    for (factor, worst) in [(1.2, 3.0), (2.5, 3.0), (8.0, 10.0)] {
        let runs: Vec<Kept> = (0..20).map(|seed| run((300, 150), (factor, Some(worst)), seed)).collect();
        assert!(runs.iter().filter(|kept| kept.beyond).count() <= 1, "{factor}: {runs:?}");
    }
    let without = run((300, 20), (2.0, None), 1);
    assert!(without.beyond && without.excess > 0.2, "half of all units cost twice as much: {without:?}");
}

#[test]
fn what_is_cheaper_is_drawn_as_often_as_declared_and_is_found() {
    let runs: Vec<Kept> = (0..10).map(|seed| run((300, 120), (0.7, Some(10.0)), seed)).collect();
    assert!(runs.iter().filter(|kept| kept.share == 0.5 && kept.differs).count() >= 9, "{runs:?}");
}
