//! Contextual allocation in an experiment: two kinds of units, of which the challenger is good for one and bad for the other, steered through the control loop.

use farthing_experiment::contextual::Contextual;
use farthing_experiment::{AllocationKind, Life, Observation, Order, Report, Steered, Trial, steer};
use farthing_types::{Draw, KeyHash, Money, Span, Time};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, LogNormal};

use crate::world::{Law, Run, WINDOW_S, World, run, spec};

/// Four in a hundred evenly, half of what was seen forgotten in two days.
pub const BY_CONTEXT: AllocationKind = AllocationKind::Contextual(CONTEXTUAL);
pub const CONTEXTUAL: Contextual = Contextual { uniform: 0.04, half_life: Some(Span::from_secs(48 * 3_600)), budget: None };

/// Mean cost of a dear unit in a window under control, and what the challenger makes of it; the same of a cheap one.
const DEAR: (f64, f64) = (0.05, 1.3);
const CHEAP: (f64, f64) = (0.02, 0.4);

#[derive(Clone, Debug)]
pub struct Kinds {
    pub allocation: AllocationKind,
    pub units: usize,
    pub windows: u64,
    /// From this window on the challenger is good for the other kind.
    pub turns: Option<u64>,
    /// The process is killed in the middle of each window with a number that this divides.
    pub killed_every: Option<u64>,
}

impl Kinds {
    pub const fn of(allocation: AllocationKind) -> Self {
        Self { allocation, units: 120, windows: 167, turns: None, killed_every: None }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Lived {
    /// Paid beyond what the better variant of each unit would have cost, as a share of that: in each window.
    pub regret: Vec<f64>,
    pub report: Report,
    pub ever_misses_truth: bool,
    pub ratio_alarm: bool,
}

impl Lived {
    pub fn mean_regret(&self, from: usize, upto: usize) -> f64 {
        self.regret[from..upto].iter().sum::<f64>() / (upto - from) as f64
    }
}

pub fn live(kinds: &Kinds, seed: u64) -> Lived {
    let mut rng = StdRng::seed_from_u64(seed);
    let spec = spec("sim", &World { allocation: kinds.allocation, ..World::pair(Law::Light, 1.0) });
    let draw = Draw::new(seed ^ 0x5eed);
    let mut life = Life::draft(Time::ZERO).step(&Order::Start, &spec, (Time::ZERO, 0)).unwrap();
    let mut trial = Trial::new(&life.snapshot(&spec).unwrap().unwrap());
    let spread = LogNormal::new(-0.125, 0.5).unwrap();
    let levels: Vec<f64> = (0..kinds.units).map(|_| spread.sample(&mut rng)).collect();
    let (mut regret, mut missed) = (Vec::new(), false);
    let (mut sum, mut weights) = (0.0, 0.0);
    for window in 0..kinds.windows {
        let now = Time::ZERO + Span::from_secs(window * WINDOW_S);
        let experiment = life.snapshot(&spec).unwrap().unwrap();
        let turned = kinds.turns.is_some_and(|turns| window >= turns);
        let (mut paid, mut best, mut rows) = (0.0, 0.0, Vec::new());
        for (unit, level) in levels.iter().enumerate() {
            let (mean, factor) = if unit.is_multiple_of(2) { DEAR } else { CHEAP };
            // The other way round: what was dearer is cheaper by as much.
            let factor = if turned { 1.0 / factor } else { factor };
            let noise: f64 = spread.sample(&mut rng);
            let cost = |variant: usize| mean * level * if variant == 1 { factor } else { 1.0 };
            let key = KeyHash((unit as u128) << 64);
            let assigned = experiment.assign(&draw, key, now);
            let own = cost(assigned.variant);
            paid += own;
            best += cost(0).min(cost(1));
            rows.push((f64::from(assigned.pmf[1]), (cost(1) * noise).min(0.4) - (cost(0) * noise).min(0.4)));
            let bill = Some(Money::from_nanos((own * noise * 1e9) as i64));
            let requests = rng.random_range(if unit.is_multiple_of(2) { 1..4 } else { 5..12 });
            trial.record(key, &assigned, Observation { bill, requests, ..Observation::default() });
        }
        regret.push(paid / best - 1.0);
        if kinds.killed_every.is_some_and(|every| window % every == every - 1) {
            // What is open is gone, and so are the contexts; the rest of the window is left out.
            (trial, life) = reopened(&trial, &life);
            trial = trial.resume(window as i64);
        }
        trial.close_window();
        let h = (rows.len() as f64 / rows.iter().map(|(p, _)| 1.0 / (p * (1.0 - p))).sum::<f64>()).sqrt();
        sum += h * rows.iter().map(|(_, difference)| difference).sum::<f64>();
        weights += h * rows.len() as f64;
        let report = trial.report();
        missed |= report.comparisons[0].effect_usd.is_some_and(|i| !(i.low..=i.high).contains(&(sum / weights)));
        let middle = now + Span::from_secs(WINDOW_S * 6 / 10);
        if let Some(turn) = steer(&Steered { life: &life, spec: &spec, trial: &trial, draw: &draw, frozen: false }, middle) {
            life = turn.life;
            trial.follow(&life.allocations);
        }
    }
    let report = trial.report();
    Lived { regret, ratio_alarm: report.ratio_alarm, report, ever_misses_truth: missed }
}

fn reopened(trial: &Trial, life: &Life) -> (Trial, Life) {
    let trial = serde_json::from_str(&serde_json::to_string(trial).unwrap()).unwrap();
    (trial, serde_json::from_str(&serde_json::to_string(life).unwrap()).unwrap())
}

fn mean(lives: &[Lived], from: usize, upto: usize) -> f64 {
    lives.iter().map(|lived| lived.mean_regret(from, upto)).sum::<f64>() / lives.len() as f64
}

fn many(kinds: &Kinds, runs: u64) -> Vec<Lived> {
    (0..runs).map(|seed| live(kinds, seed)).collect()
}

#[test]
fn each_kind_gets_its_better_variant_and_gets_another_when_that_is_better() {
    let turning = Kinds { turns: Some(84), ..Kinds::of(BY_CONTEXT) };
    let [by_context, thompson] =
        [turning.clone(), Kinds { allocation: AllocationKind::Thompson { floor: 0.2 }, ..turning }].map(|k| many(&k, 4));
    let (before, after) = (mean(&by_context, 24, 84), mean(&by_context, 124, 167));
    assert!(before <= 0.03 && after <= 0.06, "{before} and after the turn {after}");
    assert!(before < 0.2 * mean(&thompson, 24, 84), "one variant for all is not as good: {}", mean(&thompson, 24, 84));
    assert!(by_context.iter().all(|lived| !lived.ratio_alarm && !lived.ever_misses_truth));
    let told = by_context[0].report.learned.clone().unwrap();
    let leaning = told.variants[1].leaning.clone().unwrap();
    assert!((leaning.cheapest - 0.5).abs() < 0.1, "{leaning:?}");
    // After the turn the challenger is good for those that are asked for seldom.
    assert!(leaning.splits.iter().any(|s| s.feature.starts_with("log_rate") && s.low_usd < 0.0 && s.high_usd > 0.0), "{leaning:?}");
}

#[test]
fn what_was_learned_outlives_being_killed_in_every_tenth_window() {
    let kinds = Kinds { killed_every: Some(10), ..Kinds::of(BY_CONTEXT) };
    let all = many(&kinds, 4);
    assert!(mean(&all, 60, 167) <= 0.05, "{}", mean(&all, 60, 167));
    assert!(
        all.iter().all(|lived| !lived.ratio_alarm && lived.report.windows == 167 - 16),
        "each time the window that was open is left out"
    );
}

#[test]
fn exploring_costs_no_more_in_a_day_than_it_may() {
    // The first day: the later, the less is explored.
    let spent = |budget| {
        let contextual = Contextual { uniform: 0.02, budget, ..CONTEXTUAL };
        let all = many(&Kinds { windows: 24, ..Kinds::of(AllocationKind::Contextual(contextual)) }, 8);
        all.iter().map(|lived| lived.report.learned.clone().unwrap().explored_usd).sum::<f64>() / 8.0
    };
    let (free, held, none) = (spent(None), spent(Some(Money::from_nanos(450_000_000))), spent(Some(Money::ZERO)));
    // What is estimated anew as a window ends may be more than was planned.
    assert!(none < held && held <= 0.45 * 1.1 && held < 0.9 * free, "{free} {held} {none}");
}

#[test]
fn nothing_is_found_where_nothing_is_by_context_either() {
    for (law, factor) in [(Law::HeavyTail, 1.0), (Law::Cycle, 1.0), (Law::Light, 1.2)] {
        let world = World { allocation: BY_CONTEXT, ..World::pair(law, factor) };
        let runs: Vec<Run> = (0..60).map(|seed| run(&world, seed)).collect();
        let found = runs.iter().filter(|r| factor == 1.0 && (r.ever_excludes_zero || r.ever_differs)).count();
        let missed = runs.iter().filter(|r| r.ever_misses_truth).count();
        assert!(found <= 7 && missed <= 6, "{law:?} {factor}: found {found}, missed {missed} of 60");
        assert!(runs.iter().all(|r| !r.ratio_alarm && !r.guard_tripped), "{law:?}");
    }
}
