//! The short form, in every test run.

use farthing_experiment::{AllocationKind, Observation, Trial};
use farthing_types::{Draw, KeyHash, Money, Span, Time};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::world::{Law, Run, WINDOW_S, World, count, decisions_until_off, experiment, median, run, spec};
use farthing_experiment::Experiment;

const FLOOR: AllocationKind = AllocationKind::Thompson { floor: 0.2 };

#[test]
fn nothing_is_found_where_nothing_is_though_looked_at_after_every_window() {
    for (law, allocation) in [(Law::HeavyTail, AllocationKind::Fixed), (Law::Cycle, FLOOR), (Law::CarryOver, FLOOR)] {
        let world = World { allocation, ..World::pair(law, 1.0) };
        let runs: Vec<Run> = (0..300).map(|seed| run(&world, seed)).collect();
        let interval = runs.iter().filter(|r| r.ever_excludes_zero).count();
        let bets = runs.iter().filter(|r| r.ever_differs).count();
        assert!(interval <= 27 && bets <= 27, "{law:?}: {interval} and {bets} of 300");
        assert!(runs.iter().filter(|r| r.guard_tripped).count() <= 3, "{law:?}");
        assert!(runs.iter().filter(|r| r.ratio_alarm).count() <= 1, "{law:?}");
    }
}

#[test]
fn the_interval_covers_the_truth_at_all_times() {
    for (factor, allocation) in [(1.0, AllocationKind::Fixed), (1.05, FLOOR), (1.2, FLOOR)] {
        let missed = count(120, &World { allocation, ..World::pair(Law::Light, factor) }, |r| r.ever_misses_truth);
        assert!(missed <= 10, "factor {factor}: {missed} of 120");
    }
}

#[test]
fn a_fifth_more_is_found_soon_and_little_of_it_is_paid() {
    let world = World { allocation: FLOOR, windows: 167, ..World::pair(Law::Light, 1.22) };
    let runs: Vec<Run> = (0..41).map(|seed| run(&world, seed)).collect();
    let (interval, bets) = (median(runs.iter().map(|r| r.rows_to_find).collect()), median(runs.iter().map(|r| r.rows_to_bet).collect()));
    let worse: u64 = runs.iter().map(|r| r.in_last).sum();
    let all: u64 = runs.iter().map(|r| r.rows).sum();
    let regret = worse as f64 / (0.5 * all as f64);
    assert!(interval <= 3_500 && bets <= 4_000, "{interval} {bets}");
    assert!(regret <= 0.45, "{regret} of an even split's regret");
}

#[test]
fn a_variant_that_fails_is_off_soon_and_a_good_one_is_not() {
    let mut taken: Vec<_> = (0..200).map(|seed| decisions_until_off(0.01, 0.10, 5_000, seed).unwrap_or(u64::MAX)).collect();
    taken.sort_unstable();
    assert!(taken[100] <= 200 && taken[190] <= 375, "median {}, p95 {}", taken[100], taken[190]);
    assert_eq!((0..10).filter(|seed| decisions_until_off(0.01, 0.01, 20_000, *seed).is_some()).count(), 0);
}

/// The same units are in both, each with its own coin.
#[test]
fn two_experiments_on_the_same_units_keep_their_rates() {
    let world = World::pair(Law::Light, 1.0);
    let both = ["one", "other"].map(|name| Experiment::new(spec(name, &world)).unwrap());
    let mut found = [0; 2];
    for seed in 0..100 {
        let (draw, mut rng) = (Draw::new(seed), StdRng::seed_from_u64(seed));
        let mut trials = [Trial::new(&both[0]), Trial::new(&both[1])];
        let mut differs = [false; 2];
        for window in 0..40u64 {
            let now = Time::ZERO + Span::from_secs(window * WINDOW_S);
            for unit in 0..120u128 {
                let bill = Some(Money::from_nanos((rng.random::<f64>().powi(4) * 1e8) as i64));
                let seen = Observation { bill, requests: 1, ..Observation::default() };
                for (trial, experiment) in trials.iter_mut().zip(&both) {
                    trial.record(KeyHash(unit << 64), &experiment.assign(&draw, KeyHash(unit << 64), now), seen);
                }
            }
            for (trial, differs) in trials.iter_mut().zip(&mut differs) {
                trial.close_window();
                let comparison = &trial.report().comparisons[0];
                *differs |= comparison.differs || comparison.effect_usd.is_some_and(|i| i.low > 0.0 || i.high < 0.0);
            }
        }
        found = [found[0] + u32::from(differs[0]), found[1] + u32::from(differs[1])];
    }
    assert!(found.iter().all(|found| *found <= 11), "{found:?} of 100");
}

#[test]
fn a_challenger_that_is_switched_off_gets_nothing_more() {
    let experiment = experiment(&World::pair(Law::Light, 1.0));
    let mut trial = Trial::new(&experiment);
    let draw = Draw::new(1);
    let tripped = (0..4_000u128).find(|unit| {
        let assigned = experiment.assign(&draw, KeyHash(unit << 64), Time::ZERO);
        let seen = Observation { requests: 5, errors: 5 * assigned.variant as u32, ..Observation::default() };
        trial.record(KeyHash(unit << 64), &assigned, seen)
    });
    assert!(tripped.is_some_and(|units| units < 60), "{tripped:?}");
    let off = trial.switch_off().next().unwrap();
    assert_eq!(experiment.without(off.variant).pmf(0), [1.0, 0.0, 0.0, 0.0]);
}
