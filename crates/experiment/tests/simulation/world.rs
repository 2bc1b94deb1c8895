//! Worlds whose truth is known, and an experiment in them, steered and looked at in every window.

use farthing_experiment::{AllocationKind, Assigned, Experiment, ExperimentSpec, Life, Observation, Order, Steered, Trial, Variant, steer};
use farthing_types::{Draw, KeyHash, Money, Overrides, Span, Time};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, LogNormal};

pub const WINDOW_S: u64 = 3_600;
const CAP_USD: f64 = 0.4;

/// How a unit-window's cost is distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// 30 % zeros, log-normal with sigma 0.8.
    Light,
    /// 60 % zeros, log-normal with sigma 2.
    HeavyTail,
    /// As light, times a daily cycle common to all variants.
    Cycle,
    /// Keys that are asked for at their own rate and answered from a copy, which outlives the window in which it was fetched.
    CarryOver,
}

#[derive(Clone, Debug)]
pub struct World {
    pub law: Law,
    pub allocation: AllocationKind,
    pub shares: Vec<f64>,
    /// Cost of the last variant relative to control.
    pub factor: f64,
    pub units: u128,
    pub windows: u64,
}

impl World {
    pub fn pair(law: Law, factor: f64) -> Self {
        Self { law, allocation: AllocationKind::Fixed, shares: vec![0.5, 0.5], factor, units: 120, windows: 80 }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    pub ever_excludes_zero: bool,
    pub ever_differs: bool,
    pub ever_misses_truth: bool,
    /// Unit-windows until the interval, and until the bets, told the difference.
    pub rows_to_find: Option<u64>,
    pub rows_to_bet: Option<u64>,
    /// Unit-windows in the last variant.
    pub in_last: u64,
    pub rows: u64,
    pub guard_tripped: bool,
    pub ratio_alarm: bool,
}

pub fn experiment(world: &World) -> Experiment {
    Experiment::new(spec("sim", world)).unwrap()
}

pub fn spec(name: &str, world: &World) -> ExperimentSpec {
    let variant = |index: usize, share: f64| Variant { name: format!("v{index}").into(), overrides: Overrides::default(), share };
    let variants: Vec<_> = world.shares.iter().enumerate().map(|(i, &s)| variant(i, s)).collect();
    let mut spec = ExperimentSpec::pair(name, variants[0].clone(), variants[1].clone(), Span::from_secs(WINDOW_S));
    spec.variants = variants;
    spec.cap = Some(Money::from_nanos((CAP_USD * 1e9) as i64));
    spec.burn_in = Span::ZERO;
    spec.allocation = world.allocation;
    spec
}

/// A key whose copy may be older than the window.
#[derive(Clone, Copy)]
struct Key {
    level: f64,
    /// When its copy expires, in windows.
    expires: f64,
}

/// What a unit-window costs without the challenger.
fn cost(world: &World, key: &mut Key, window: u64, rng: &mut StdRng) -> f64 {
    let (zeros, sigma) = if world.law == Law::HeavyTail { (0.6, 2.0f64) } else { (0.3, 0.8) };
    match world.law {
        Law::CarryOver => {
            // A request comes at a rate that follows from the level; each that finds no copy pays, and the copy lives a quarter of a window.
            let rate = key.level * 200.0;
            let (from, end) = (window as f64, window as f64 + 1.0);
            let (mut at, mut paid) = (from.max(key.expires), 0.0);
            loop {
                at += -rng.random::<f64>().max(1e-300).ln() / rate;
                if at >= end {
                    return paid;
                }
                paid += 0.01;
                at += 0.25;
                key.expires = at;
            }
        }
        _ if rng.random::<f64>() < zeros => 0.0,
        _ => {
            let cycle = if world.law == Law::Cycle { 1.0 + 0.8 * (window as f64 * 0.26).sin() } else { 1.0 };
            key.level * cycle * LogNormal::new(-sigma * sigma / 2.0, sigma).unwrap().sample(rng)
        }
    }
}

/// Cost of each unit is its own persistent level times fresh noise; every window has a fresh coin, and is looked at when it has ended.
pub fn run(world: &World, seed: u64) -> Run {
    let mut rng = StdRng::seed_from_u64(seed);
    let spec = spec("sim", world);
    let last = world.shares.len() - 1;
    let draw = Draw::new(seed ^ 0x5eed);
    let mut life = Life::draft(Time::ZERO).step(&Order::Start, &spec, (Time::ZERO, 0)).unwrap();
    let mut experiment = life.snapshot(&spec).unwrap().unwrap();
    let mut trial = Trial::new(&experiment);
    let level = LogNormal::new(-4.0, 0.8).unwrap();
    let mut keys: Vec<Key> = (0..world.units).map(|_| Key { level: level.sample(&mut rng), expires: 0.0 }).collect();
    let mut out = Run::default();
    let (mut true_sum, mut true_weight) = (0.0, 0.0);
    for window in 0..world.windows {
        let now = Time::ZERO + Span::from_secs(window * WINDOW_S);
        let mut compared = Vec::new();
        for (unit, key) in keys.iter_mut().enumerate() {
            let usd = cost(world, key, window, &mut rng);
            let failed = u32::from(rng.random::<f64>() < 0.02);
            let unit = KeyHash((unit as u128) << 64);
            let assigned = experiment.assign(&draw, unit, now);
            let paid = if assigned.variant == last { usd * world.factor } else { usd };
            out.in_last += u64::from(assigned.variant == last);
            if assigned.variant == 0 || assigned.variant == last {
                compared.push((variance(&assigned, last), (usd * world.factor).min(CAP_USD) - usd.min(CAP_USD)));
            }
            let bill = Some(Money::from_nanos((paid * 1e9) as i64));
            trial.record(unit, &assigned, Observation { bill, requests: 1, errors: failed, ..Observation::default() });
        }
        let h = weight(&compared);
        true_sum += h * compared.iter().map(|(_, difference)| difference).sum::<f64>();
        true_weight += h * compared.len() as f64;
        trial.close_window();
        look(&mut out, &trial, true_sum / true_weight);
        // The next window's probabilities are published while this one runs.
        let middle = now + Span::from_secs(WINDOW_S * 6 / 10);
        if let Some(turn) = steer(&Steered { life: &life, spec: &spec, trial: &trial, draw: &draw, frozen: false }, middle) {
            life = turn.life;
            trial.follow(&life.allocations);
            experiment = life.snapshot(&spec).unwrap().unwrap();
        }
    }
    out
}

/// The estimator's weight of a window's rows: what it is about is the average effect so weighted.
fn weight(compared: &[(f64, f64)]) -> f64 {
    (compared.len() as f64 / compared.iter().map(|(variance, _)| 1.0 / variance).sum::<f64>().max(f64::MIN_POSITIVE)).sqrt()
}

fn variance(assigned: &Assigned, last: usize) -> f64 {
    let [control, own] = [assigned.pmf[0], assigned.pmf[last]].map(f64::from);
    let p = own / (control + own);
    p * (1.0 - p)
}

fn look(out: &mut Run, trial: &Trial, truth: f64) {
    let report = trial.report();
    let comparison = report.comparisons.last().unwrap();
    out.rows = report.variants.iter().map(|v| v.unit_windows).sum();
    if let Some(effect) = comparison.effect_usd {
        let excludes = effect.low > 0.0 || effect.high < 0.0;
        if excludes && out.rows_to_find.is_none() {
            out.rows_to_find = Some(out.rows);
        }
        if comparison.differs && out.rows_to_bet.is_none() {
            out.rows_to_bet = Some(out.rows);
        }
        out.ever_excludes_zero |= excludes;
        out.ever_differs |= comparison.differs;
        out.ever_misses_truth |= report.comparisons.len() == 1 && !(effect.low..=effect.high).contains(&truth);
    }
    out.guard_tripped |= !report.switched_off.is_empty();
    out.ratio_alarm |= report.ratio_alarm;
}

pub fn count(runs: u64, world: &World, what: impl Fn(&Run) -> bool) -> u64 {
    (0..runs).filter(|&seed| what(&run(world, seed))).count() as u64
}

/// The median; runs that never found anything count as the longest.
pub fn median(mut values: Vec<Option<u64>>) -> u64 {
    values.sort_unstable_by_key(|v| v.unwrap_or(u64::MAX));
    values[values.len() / 2].unwrap_or(u64::MAX)
}

/// Decisions of a variant with these error rates until its guardrail switches it off; `None` when it never does. Units are asked for once.
pub fn decisions_until_off(control: f64, variant: f64, most: u64, seed: u64) -> Option<u64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let experiment = experiment(&World::pair(Law::Light, 1.0));
    let draw = Draw::new(seed);
    let mut trial = Trial::new(&experiment);
    let (mut decisions, mut unit) = (0, 0u128);
    while decisions < most {
        // Five requests of one unit are one decision of the guard; here each unit has five that all fail or none.
        unit += 1;
        let now = Time::ZERO + Span::from_secs(unit as u64 / 4_096 * WINDOW_S);
        let key = KeyHash((unit % 4_096) << 64);
        let assigned = experiment.assign(&draw, key, now);
        decisions += u64::from(assigned.variant == 1);
        let failed = rng.random::<f64>() < if assigned.variant == 1 { variant } else { control };
        let seen = Observation { requests: 5, errors: if failed { 5 } else { 0 }, bill: Some(Money::ZERO), ..Observation::default() };
        if trial.record(key, &assigned, seen) {
            return Some(decisions);
        }
    }
    None
}
