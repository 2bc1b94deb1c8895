use super::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

const SPEC: CanarySpec = CanarySpec { share: 0.05, labels: 200, stale_margin: 0.01, money_margin: 0.05 };

/// A copy whose true hazard is foretold by the champion, and `times` too high by the candidate.
fn copy(rng: &mut StdRng, times: f64) -> Matured {
    let (gap, hazard) = (rng.random_range(20.0..2_000.0), 1e-3);
    let told = |times: f64| Told { ttl: 200.0 / times.sqrt(), cumulated: hazard * times * gap };
    let changed = rng.random::<f64>() < -(-hazard * gap).exp_m1();
    Matured { champion: told(1.0), candidate: told(times), gap, requests: rng.random_range(1..50), changed, stale_price: 20.0 }
}

fn until_turn(times: f64, seed: u64) -> (Option<Turn>, u64) {
    let (mut rng, mut canary) = (StdRng::seed_from_u64(seed), Canary::new(SPEC));
    let turn = (0..5_000).find_map(|_| canary.matured(&copy(&mut rng, times), true));
    (turn, canary.report().candidate.labels)
}

#[test]
fn a_sound_candidate_begins_and_a_poisoned_one_never_does() {
    for seed in 0..100 {
        assert_eq!(until_turn(1.0, seed), (Some(Turn::Begin), SPEC.labels), "{seed}");
        for times in [10.0, 0.1] {
            let (turn, labels) = until_turn(times, seed);
            assert!(turn == Some(Turn::Reject(Guard::Changes)) && labels < SPEC.labels, "{seed}: {turn:?} after {labels}");
        }
    }
}

#[test]
fn a_world_that_changes_is_not_the_candidates_fault() {
    let (mut rng, mut canary) = (StdRng::seed_from_u64(4), Canary::new(SPEC));
    for _ in 0..500 {
        let copy = copy(&mut rng, 1.05);
        assert!(!matches!(canary.matured(&Matured { changed: true, ..copy }, true), Some(Turn::Reject(_))));
    }
    assert!(canary.report().champion.evidence() > ENOUGH);
}

#[test]
fn frozen_or_without_a_share_it_stays_in_the_shadow() {
    let (mut rng, mut frozen, mut shadow) = (StdRng::seed_from_u64(5), Canary::new(SPEC), Canary::new(CanarySpec { share: 0.0, ..SPEC }));
    for _ in 0..1_000 {
        let copy = copy(&mut rng, 1.0);
        assert_eq!((frozen.matured(&copy, false), shadow.matured(&copy, true)), (None, None));
    }
    assert_eq!(frozen.matured(&copy(&mut rng, 1.0), true), Some(Turn::Begin));
    assert!((frozen.report().bill.unwrap() - 1.0).abs() < 1e-9);
    assert_eq!(frozen.slice(), 0.1);
    frozen.set_share(0.25);
    assert_eq!(frozen.slice(), 0.5);
}

/// Observations until a guard takes the candidate back, when treated keys have `treated` where the others have `other`.
fn taken_back(seed: u64, (treated, other): (f64, f64), add: impl Fn(&mut Canary, bool, f64, &mut StdRng) -> Option<Turn>) -> Option<usize> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut canary = Canary { stage: Stage::Canary, ..Canary::new(SPEC) };
    (1..20_000).find(|_| {
        let arm = rng.random::<bool>();
        let seen = if arm { treated } else { other };
        add(&mut canary, arm, seen, &mut rng).is_some()
    })
}

/// Cycles of about so many requests, where ten are usual.
fn cycle(canary: &mut Canary, arm: bool, mean: f64, rng: &mut StdRng) -> Option<Turn> {
    let requests = 1.0 - (mean - 1.0).max(0.0) * (1.0 - rng.random::<f64>()).ln();
    canary.cycle(arm, requests.round() as u64, 10.0)
}

#[test]
fn harm_to_its_keys_takes_it_back_and_none_does_not() {
    let mut calls: Vec<_> = (0..100).map(|seed| taken_back(seed, (3.0, 10.0), cycle).unwrap_or(20_000)).collect();
    calls.sort_unstable();
    assert!(calls[50] <= 400, "three times the calls: median {}", calls[50]);
    let failing = |canary: &mut Canary, arm: bool, share: f64, rng: &mut StdRng| canary.called(arm, rng.random::<f64>() < share);
    let stale = |canary: &mut Canary, arm: bool, share: f64, rng: &mut StdRng| canary.audited(arm, rng.random::<f64>() < share);
    let mut failed: Vec<_> = (0..100).map(|seed| taken_back(seed, (0.10, 0.01), failing).unwrap_or(20_000)).collect();
    failed.sort_unstable();
    assert!(failed[50] <= 1_000, "ten times the errors: median {}", failed[50]);
    assert!((0..50).all(|seed| taken_back(seed, (0.3, 0.01), stale).is_some_and(|taken| taken < 500)));
    assert!((0..50).all(|seed| taken_back(seed, (10.0, 10.0), cycle).is_none()));
    assert!((0..50).all(|seed| taken_back(seed, (0.05, 0.05), failing).is_none()));
}

/// Windows until a turn, when the candidate's keys cost so many times as much.
fn windows_until_turn(times: f64, (seed, over): (u64, i64)) -> (Option<Turn>, i64, f64) {
    let (mut rng, mut canary) = (StdRng::seed_from_u64(seed), Canary { stage: Stage::Canary, ..Canary::new(SPEC) });
    for window in 0..100 {
        for key in 0..(600.0 * canary.slice()) as u64 {
            let treated = rng.random::<bool>();
            let money = rng.random_range(0.2..1.8) * if treated { times } else { 1.0 };
            canary.spent(Some(&Spent { key, route: 0, window, treated, money, requests: 10.0 }));
        }
        let turn = canary.close(window).or_else(|| canary.unattended(window >= over));
        if let Some(turn) = turn.filter(|turn| *turn != Turn::Widen) {
            return (Some(turn), window, canary.spec.share);
        }
    }
    (None, 100, canary.spec.share)
}

#[test]
fn unattended_it_gets_more_keys_and_then_all_or_none() {
    for seed in 0..20 {
        let (turn, windows, share) = windows_until_turn(0.9, (seed, 60));
        assert!(turn == Some(Turn::Promote) && windows <= 40 && share >= 0.2, "{seed}: {turn:?} {windows} {share}");
        let (turn, windows, share) = windows_until_turn(1.5, (seed, 60));
        assert!(turn == Some(Turn::Reject(Guard::Bill)) && windows <= 40 && share == 0.05, "{seed}: {turn:?} {windows} {share}");
        let (turn, windows, _) = windows_until_turn(1.05, (seed, 12));
        assert!(turn == Some(Turn::Withdraw) && windows == 12, "{seed}: {turn:?} {windows}");
    }
    let mut shadow = Canary::new(SPEC);
    assert_eq!((shadow.unattended(false), shadow.unattended(true)), (None, Some(Turn::Withdraw)));
}

#[test]
fn late_and_unusable_answers_take_it_back_in_the_shadow_already() {
    let mut canary = Canary::new(SPEC);
    assert_eq!(canary.asked((60.0, 60.0), 1e-5, (false, true)), None);
    assert_eq!(canary.asked((60.0, 60.0), 1.0, (true, true)), Some(Turn::Reject(Guard::Late)));
    assert_eq!(canary.asked((60.0, 60.0), 1.0, (true, true)), None, "told once");
    let mut canary = Canary::new(SPEC);
    let turns: Vec<_> = (0..3).map(|_| canary.asked((60.0, 120.0), 0.0, (false, false))).collect();
    assert_eq!(turns, [None, None, Some(Turn::Reject(Guard::Answers))]);
    assert!((canary.report().disagreement - 2f64.ln()).abs() < 1e-9);
}
