use farthing_types::{Draw, Overrides, Span, Time};

use super::*;
use crate::spec::{ExperimentSpec, Variant};

const WINDOW_S: u64 = 60;

fn experiment() -> Experiment {
    let variant = |name: &str| Variant { name: name.into(), overrides: Overrides::default(), share: 0.5 };
    Experiment::new(ExperimentSpec::pair("e", variant("a"), variant("b"), Span::from_secs(WINDOW_S))).unwrap()
}

fn usd(usd: f64) -> Option<Money> {
    Some(Money::from_nanos((usd * 1e9) as i64))
}

/// Each of 60 units once after the burn-in of a window; b costs less.
fn feed(trial: &mut Trial, window: u64) {
    let experiment = experiment();
    for unit in 0..60u128 {
        let key = KeyHash(unit << 64 | unit);
        let at = Time::ZERO + Span::from_secs(window * WINDOW_S + 20);
        let assigned = experiment.assign(&Draw::new(5), key, at);
        let cost = 0.01 * (1.0 + (unit as f64 * 7.0 + window as f64) % 5.0) * if assigned.variant == 1 { 0.8 } else { 1.0 };
        let errors = u32::from((unit as u64 + window).is_multiple_of(17));
        trial.record(key, &assigned, Observation { bill: usd(cost), requests: 1, errors, stale: 0.1, ..Observation::default() });
    }
}

fn over_a_restart(trial: &Trial) -> Trial {
    serde_json::from_str(&serde_json::to_string(trial).unwrap()).unwrap()
}

#[test]
fn what_was_kept_goes_on_as_if_nothing_had_been() {
    let mut whole = Trial::new(&experiment());
    (0..20).for_each(|window| feed(&mut whole, window));
    whole.close_window();
    let mut kept = over_a_restart(&whole);
    // The process begins anew in window 20, and measures from window 21 on; the one that ran on is left without window 20.
    kept = kept.resume(20);
    feed(&mut kept, 20);
    for window in 21..40 {
        feed(&mut whole, window);
        feed(&mut kept, window);
    }
    whole.close_window();
    kept.close_window();
    let (whole, kept) = (whole.report(), kept.report());
    assert_eq!(kept.dropped.partial, 60, "the rest of the window is left out for all");
    let (a, b) = (whole.comparisons[0].clone(), kept.comparisons[0].clone());
    assert!(a.effect_usd.is_some_and(|i| i.high < 0.0), "{a:?}");
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * a.abs().max(1e-12);
    assert!(near(a.effect_usd.unwrap().point, b.effect_usd.unwrap().point) && near(a.effect_usd.unwrap().low, b.effect_usd.unwrap().low));
    assert!(near(a.evidence, b.evidence), "{} {}", a.evidence, b.evidence);
    assert_eq!((whole.windows, kept.windows, whole.variants[1].bill_usd), (39, 39, kept.variants[1].bill_usd));
}

#[test]
fn a_kept_record_has_nothing_of_the_open_window() {
    let mut trial = Trial::new(&experiment());
    feed(&mut trial, 0);
    feed(&mut trial, 1);
    let mut kept = over_a_restart(&trial).resume(1);
    feed(&mut kept, 1);
    kept.close_window();
    let report = kept.report();
    assert_eq!((report.windows, report.dropped.partial), (1, 60), "window 1 is lost as a whole");
    assert_eq!(report.variants.iter().map(|v| v.unit_windows).sum::<u64>(), 60);
}

#[test]
fn a_window_in_which_it_began_is_left_out() {
    let mut trial = Trial::new(&experiment()).measuring_from(4);
    (3..6).for_each(|window| feed(&mut trial, window));
    trial.close_before(6);
    let report = trial.report();
    assert_eq!((report.windows, report.watched, report.dropped.partial), (2, 2, 60));
    let mut gap = Trial::new(&experiment());
    [1, 2, 9].into_iter().for_each(|window| feed(&mut gap, window));
    gap.close_before(9);
    assert_eq!(gap.report().windows, 2, "it may still learn of window 9");
    gap.close_before(10);
    assert_eq!((gap.report().windows, gap.report().watched), (3, 9), "windows without a request were watched too");
}

#[test]
fn a_window_in_which_it_ends_is_left_out() {
    for (now, windows, partial) in [(3, 3, 60), (4, 4, 0)] {
        let mut trial = Trial::new(&experiment());
        (0..4).for_each(|window| feed(&mut trial, window));
        trial.end(now);
        let report = trial.report();
        assert_eq!((report.windows, report.dropped.partial), (windows, partial), "ended in window {now}");
    }
}

#[test]
fn windows_in_which_nobody_takes_part_are_not_watched() {
    let mut trial = Trial::new(&experiment()).measuring_from(1);
    (0..6).for_each(|window| feed(&mut trial, window));
    // In the middle of window 7, after one without a request, until the middle of window 19.
    feed(&mut trial, 7);
    trial.ramped((1.0, 0.0), 7);
    assert_eq!((trial.report().windows, trial.report().watched, trial.report().dropped.partial), (5, 6, 120), "windows 0 and 7 are cut");
    let mut trial = over_a_restart(&trial);
    trial.ramped((0.0, 0.5), 19);
    trial.ramped((0.5, 1.0), 19);
    feed(&mut trial, 22);
    trial.close_before(23);
    assert_eq!((trial.report().windows, trial.report().watched), (6, 9), "and 20 to 22");
    let late = trial.report();
    feed(&mut trial, 5);
    assert_eq!((trial.report().dropped.late, trial.report().windows), (late.dropped.late + 60, 6), "what is over stays over");
}

#[test]
fn closed_unit_windows_are_handed_over_once() {
    let mut trial = Trial::new(&experiment()).keeping_rows();
    (0..6).for_each(|window| feed(&mut trial, window));
    let rows = trial.take_closed();
    assert_eq!((rows.len(), trial.take_closed().len()), (300, 0));
    assert!(rows.iter().take(200).all(|row| row.tests == 0) && rows.iter().skip(200).all(|row| row.tests == 2), "200 rows set the cap");
    assert_eq!(trial.report().comparisons[0].rows, 100, "the others of their window are compared");
    assert_eq!((rows[0].before_usd, rows[60].before_usd.is_some()), (None, true));
    let mut text = String::new();
    rows[299].line(&mut text);
    assert_eq!(text.trim_end().split(',').count(), COLUMNS.split(',').count(), "{text}");
    let total: f64 = rows.iter().map(|row| row.cost_usd).sum();
    let reported: f64 = trial.report().variants.iter().map(|v| v.cost_usd).sum();
    assert!((total - reported).abs() < 1e-12);
}

#[test]
fn guards_see_the_burn_in_and_count_a_unit_once() {
    let experiment = experiment();
    let mut trial = Trial::new(&experiment);
    let mut tripped = 0;
    for unit in 0..400u128 {
        let assigned = experiment.assign(&Draw::new(5), KeyHash(unit << 64), Time::ZERO + Span::from_secs(1));
        assert!(assigned.burn_in);
        let failed = u32::from(assigned.variant == 1);
        for _ in 0..10 {
            let seen = Observation { requests: 1, errors: failed, ..Observation::default() };
            tripped += u32::from(trial.record(KeyHash(unit << 64), &assigned, seen));
        }
    }
    assert_eq!(tripped, 1, "once");
    let late = Trial::new(&experiment).resume(0);
    assert_eq!(late.harm(), 1.0);
}
