//! A search over one number, each value by an experiment of its own, in worlds whose best value is known.

use farthing_experiment::tuning::{Candidate, Knob, Outcome, Search, outcome};
use farthing_experiment::{Experiment, ExperimentSpec, Life, Observation, Order, Trial, UnitKind, Variant, answers};
use farthing_types::{Draw, KeyHash, Money, Overrides, Span, Time};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, LogNormal};

const WINDOW_S: u64 = 300;
/// Three weeks of windows.
const WITHIN: u64 = 21 * 86_400 / WINDOW_S;
/// So often it is looked at.
const LOOK: u64 = 12;

/// What a window costs under a value, as a share of what it costs at best.
pub type Curve = fn(f64) -> f64;

pub fn flat(_: f64) -> f64 {
    1.0
}

/// Best at 80 ms; half as long or twice as long costs a seventh more.
pub fn best_at_80(value: f64) -> f64 {
    1.0 + 0.3 * (value.max(0.5) / 80.0).ln().powi(2)
}

/// A route under one value for each window; all windows are one unit's, with a daily cycle and noise.
fn tried(candidate: &Candidate, curve: Curve, (seed, number): (u64, u64)) -> Outcome {
    let name = format!("tune.{number}");
    let variant = |name: &str| Variant { name: name.into(), overrides: Overrides::default(), share: 0.5 };
    let pair = ExperimentSpec::pair(name, variant("in-force"), variant("candidate"), Span::from_secs(WINDOW_S));
    let spec = ExperimentSpec { unit: UnitKind::Block, burn_in: Span::ZERO, alpha: Search::alpha(), ..pair };
    let life = Life::draft(Time::ZERO).step(&Order::Start, &spec, (Time::ZERO, 0)).unwrap();
    let experiment: Experiment = life.snapshot(&spec).unwrap().unwrap();
    let mut trial = Trial::new(&experiment);
    let (draw, mut rng) = (Draw::new(seed), StdRng::seed_from_u64(seed ^ number << 32));
    let noise = LogNormal::new(-0.08, 0.4).unwrap();
    let costs = [candidate.against, candidate.value].map(curve);
    let mut weather = 0.0f64;
    for window in 0..WITHIN {
        let assigned = experiment.assign(&draw, KeyHash(7), Time::ZERO + Span::from_secs(window * WINDOW_S));
        let cycle = 1.0 + 0.6 * (window as f64 * std::f64::consts::TAU / 288.0).sin();
        // What drifts for hours is common to neighbouring windows, whatever their variant.
        weather = 0.98 * weather + 0.05 * (rng.random::<f64>() - 0.5);
        let usd = 0.01 * costs[assigned.variant] * cycle * weather.exp() * noise.sample(&mut rng);
        let seen = Observation { bill: Some(Money::from_nanos((usd * 1e9) as i64)), requests: 50, ..Observation::default() };
        trial.record(KeyHash(7), &assigned, seen);
        trial.close_window();
        if window % LOOK == 0
            && let Some(found) = outcome(&answers(&trial.report(), &spec)[0].verdict, false)
        {
            return found;
        }
    }
    Outcome::Untold
}

/// Where a search that begins at 20 ms ends, how many values it promoted, and how many it tried.
pub fn ends(curve: Curve, seed: u64) -> (f64, u32, u64) {
    let mut search = Search::new(Knob::BatchWindow, 20.0, (5.0, 320.0));
    let (mut promoted, mut number) = (0, 0);
    while let Some(candidate) = search.candidate(Time::ZERO) {
        number += 1;
        let found = tried(&candidate, curve, (seed, number));
        promoted += u32::from(found == Outcome::Promoted);
        search.learn(&candidate, found);
    }
    (search.value(), promoted, number)
}

#[test]
fn where_nothing_helps_it_stays() {
    let moved = (0..60).filter(|seed| ends(flat, *seed).1 > 0).count();
    assert!(moved <= 6, "{moved} of 60 rounds moved a value that nothing hangs on");
}

#[test]
fn what_is_best_is_found_from_afar() {
    let found: Vec<f64> = (0..20).map(|seed| ends(best_at_80, seed).0).collect();
    assert!(found.iter().filter(|value| **value == 80.0).count() >= 18, "{found:?}");
    assert!(found.iter().all(|value| (40.0..=160.0).contains(value)), "{found:?}");
}
