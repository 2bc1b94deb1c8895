//! The holdout and the saving.

use farthing_experiment::{Holdout, Savings};
use farthing_types::{Draw, KeyHash, Money, Span, Time};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, LogNormal};

use crate::world::WINDOW_S;

/// What the holdout must correct: the ledger claims `claim` times what the requests would really have cost.
fn savings_run(seed: u64, claim: f64, save: f64) -> (farthing_experiment::SavingReport, bool) {
    let mut rng = StdRng::seed_from_u64(seed);
    let holdout = Holdout::new(0.03, Span::from_secs(WINDOW_S));
    let draw = Draw::new(seed);
    let mut savings = Savings::new(0.05, 10_000);
    let mut ever_missed = false;
    let levels: Vec<f64> = (0..150).map(|_| LogNormal::new(0.0, 1.0).unwrap().sample(&mut rng)).collect();
    for window in 0..30u64 {
        let now = Time::ZERO + Span::from_secs(window * WINDOW_S);
        for (unit, level) in levels.iter().enumerate() {
            let key = KeyHash((unit as u128) << 64);
            let held = holdout.holds(&draw, "r", key, now);
            let requests = (level * 20.0 * rng.random::<f64>()) as i64;
            for _ in 0..requests {
                let pays = held || rng.random::<f64>() >= save;
                let bill = Money::from_nanos(if pays { 1_000_000 } else { 0 });
                savings.record(key, holdout.window(now), held.then_some(0.03), (Some(Money::from_nanos((claim * 1e6) as i64)), Some(bill)));
            }
        }
        if let Some(s) = savings.report().saving {
            // With a holdout share h, a share h of the requests is paid in full on purpose.
            let truth = save * (1.0 - 0.03);
            ever_missed |= !(s.low..=s.high).contains(&truth);
        }
    }
    (savings.report(), ever_missed)
}

#[test]
fn the_holdout_corrects_a_wrong_claim_and_the_interval_covers() {
    for claim in [1.0, 1.25] {
        let mut missed = 0;
        for seed in 0..40 {
            let (report, ever) = savings_run(seed, claim, 0.6);
            let s = report.saving.unwrap();
            assert!(s.low < s.point && s.point < s.high);
            assert!((s.point - (1.0 - report.bill_usd / report.base_usd)).abs() < 1e-9);
            assert!((report.claimed_base_usd / report.base_usd - claim).abs() < 0.05, "{report:?}");
            missed += u32::from(ever);
        }
        assert!(missed <= 3, "claim {claim}: {missed} of 40");
    }
}

#[test]
fn the_saving_of_a_span_is_the_difference_of_two_moments() {
    let mut savings = Savings::new(0.05, 10_000);
    let usd = |usd: i64| Some(Money::from_nanos(usd * 1_000_000_000));
    let feed = |savings: &mut Savings, from: i64, bill: i64| {
        for i in 0..1_000 {
            let held = i % 10 == 0;
            savings.record(
                KeyHash(i),
                from + i as i64 / 100,
                held.then_some(0.1),
                (usd(10), usd(if held { 10 } else { bill + i as i64 % 3 - 1 })),
            );
        }
    };
    feed(&mut savings, 0, 9);
    savings.close_window();
    let mark = savings.sums();
    feed(&mut savings, 100, 2);
    let (all, later) = (savings.report(), savings.sums().since(&mark).report(0.05));
    assert_eq!(later.base_usd, 10_000.0);
    let (all, later) = (all.saving.unwrap(), later.saving.unwrap());
    assert!((later.point - 0.72).abs() < 0.01 && (all.point - 0.405).abs() < 0.01, "{later:?} {all:?}");
    assert!(later.low < 0.72 && later.high > 0.72 && later.low > 0.6);
}

#[test]
fn without_holdout_units_there_is_no_interval() {
    let mut savings = Savings::new(0.05, 10);
    for unit in 0..500 {
        savings.record(KeyHash(unit), unit as i64 / 5, None, (Some(Money::from_nanos(10)), Some(Money::ZERO)));
    }
    savings.record(KeyHash(1), 200, None, (None, Some(Money::ZERO)));
    let report = savings.report();
    assert_eq!((report.saving, report.note, report.unpriced), (None, Some("not enough units"), 1));
}
