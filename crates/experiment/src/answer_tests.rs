use std::sync::Arc;

use farthing_types::{Overrides, Span};
use proptest::prelude::*;

use super::*;
use crate::report::{Dropped, VariantReport};
use crate::spec::Variant;

fn spec(worthwhile: f64) -> ExperimentSpec {
    let variant = |name: &str| Variant { name: name.into(), overrides: Overrides::default(), share: 0.5 };
    ExperimentSpec { worthwhile, slice: 0.2, ..ExperimentSpec::pair("e", variant("rule"), variant("model"), Span::from_secs(3_600)) }
}

fn variant(name: &str) -> VariantReport {
    VariantReport {
        name: name.into(),
        units: 100,
        unit_windows: 2_400,
        units_drawn: 2_400,
        units_expected: 2_400.0,
        requests: 10_000,
        bill_usd: 24.0,
        cost_usd: 24.0,
        square_usd: 0.5,
        stale_share: 0.001,
        error_share: 0.0,
        late_share: 0.0,
        off: None,
    }
}

/// Control costs one cent a unit-window.
fn report(effect: Option<Interval>, differs: bool) -> Report {
    let name: Arc<str> = "model".into();
    let comparison = Comparison {
        variant: name,
        control: "rule".into(),
        effect_usd: effect,
        relative: effect.map(|i| scaled(i, 100.0)),
        unweighted_usd: effect.map(|i| i.point),
        evidence: if differs { 50.0 } else { 1.0 },
        differs,
        found: differs,
        rows: 4_800,
        spread_usd: Some(0.02),
        note: None,
        alpha: 0.05,
    };
    Report {
        name: "e".into(),
        variants: vec![variant("rule"), variant("model")],
        comparisons: vec![comparison],
        windows: 48,
        watched: 48,
        population: 24_000.0,
        calls: 20_000,
        cap_usd: Some(0.1),
        capped_share: 0.0,
        ratio_evidence: 1.0,
        ratio_alarm: false,
        switched_off: Vec::new(),
        dropped: Dropped::default(),
        learned: None,
    }
}

fn interval(point: f64, half: f64) -> Option<Interval> {
    Some(Interval { point, low: point - half, high: point + half })
}

fn only(report: &Report, spec: &ExperimentSpec) -> Answer {
    answers(report, spec).remove(0)
}

#[test]
fn the_closed_list() {
    let say = |effect, differs| only(&report(effect, differs), &spec(0.02)).line;
    assert_eq!(say(interval(-0.002, 0.001), true), "better");
    assert_eq!(say(interval(0.002, 0.001), true), "worse");
    assert_eq!(say(interval(0.0, 0.000_1), false), "no worthwhile difference");
    assert_eq!(say(interval(-0.000_1, 0.000_05), true), "no worthwhile difference", "sure, but not worth it");
    assert!(say(interval(-0.002, 0.003), true).starts_with("keep running (about "), "the interval has both signs");
    assert!(say(interval(-0.002, 0.001), false).starts_with("keep running (about "), "the bets do not say so");
    assert!(say(None, false).starts_with("keep running"));
    let mut bad = report(interval(-0.002, 0.001), true);
    bad.ratio_alarm = true;
    assert!(only(&bad, &spec(0.02)).line.starts_with("not valid: "));
    let mut bad = report(interval(-0.002, 0.001), true);
    bad.dropped.unpriced = 5_000;
    assert_eq!(only(&bad, &spec(0.02)).line, "not valid: 25.0 % of the calls have no price");
    let mut harmful = report(interval(-0.002, 0.001), true);
    harmful.variants[1].off = Some(GuardKind::Stale);
    let answer = only(&harmful, &spec(0.02));
    assert_eq!((answer.line.as_str(), answer.guarded[0].stands.as_str()), ("worse", "switched off"), "cheaper does not make up for harm");
}

/// Effect and dollars would be about the units that were asked for first.
#[test]
fn more_units_than_have_room_are_told() {
    let mut all = report(interval(-0.002, 0.001), true);
    all.dropped.overflow = 2_000;
    assert_eq!(only(&all, &spec(0.02)).line, "better", "one in twenty may be left out");
    all.dropped.overflow = 10_000;
    let told =
        "not valid: 20.0 % of what was seen belongs to units beyond the 65536 that have room: give a new experiment a smaller `slice`";
    assert_eq!(only(&all, &spec(0.02)).line, told);
}

#[test]
fn dollars_are_those_of_all_units_in_a_month() {
    let answer = only(&report(interval(-0.002, 0.001), true), &spec(0.02));
    // 500 units in a window, 720 windows in a month, five sixths of each measured.
    let saved = answer.usd_per_month.unwrap();
    assert!((saved.point - -0.002 * 500.0 * 720.0 * 1.2).abs() < 1e-9, "{saved:?}");
    assert!((answer.days - 2.0).abs() < 1e-12);
    let text = answer.text();
    assert!(text.starts_with("better\n") && text.contains("-864.00 $") && text.contains("2.0 days, 100 units"), "{text}");
    assert!(answer.estimand.contains("`model` instead of `rule`"));
}

#[test]
fn the_rest_of_the_time_is_told_by_the_spread() {
    let days = |effect| match only(&report(interval(effect, 0.01), false), &spec(0.02)).verdict {
        Verdict::KeepRunning { days: Some(days) } => days,
        other => panic!("{other:?}"),
    };
    // Half-width 0.001 at spread 0.02 takes about 4,800 rows more, bets some more; 100 rows an hour.
    assert!((1..10).contains(&days(0.001)), "{}", days(0.001));
    assert!(days(0.000_11) > 20 * days(0.001), "a tenth of the effect takes a hundred times as long");
}

#[test]
fn of_several_the_best_comes_first() {
    let mut all = report(interval(0.002, 0.001), true);
    all.variants.push(variant("other"));
    let other = Comparison { variant: "other".into(), ..report(interval(-0.002, 0.001), true).comparisons.remove(0) };
    all.comparisons.push(other);
    let lines: Vec<_> = answers(&all, &spec(0.02)).into_iter().map(|a| (a.variant, a.line)).collect();
    assert_eq!(lines, [("other".to_owned(), "better".to_owned()), ("model".to_owned(), "worse".to_owned())]);
}

/// Where control costs nothing there is no share of it, and what costs something is dearer all the same.
#[test]
fn a_control_for_nothing_has_no_relative() {
    let mut free = report(interval(0.002, 0.001), true);
    free.comparisons[0].relative = None;
    let answer = only(&free, &spec(0.02));
    assert_eq!((answer.line.as_str(), answer.relative), ("worse", None));
    assert!(!answer.text().contains("relative"), "{}", answer.text());
    free.comparisons[0].differs = false;
    assert_eq!(only(&free, &spec(0.02)).verdict, Verdict::KeepRunning { days: None });
}

proptest! {
    #[test]
    fn a_verdict_never_says_more_than_interval_and_bets(point in -0.01f64..0.01, half in 0.0f64..0.01, differs: bool, worthwhile in 0.0f64..0.2, alarm: bool) {
        let mut report = report(interval(point, half), differs);
        report.ratio_alarm = alarm;
        let answer = only(&report, &spec(worthwhile));
        let Interval { low, high, .. } = answer.relative.unwrap();
        match answer.verdict {
            Verdict::Better => prop_assert!(differs && high < 0.0 && low < -worthwhile && !alarm),
            Verdict::Worse => prop_assert!(differs && low > 0.0 && high > worthwhile && !alarm),
            Verdict::NoWorthwhileDifference => prop_assert!(low > -worthwhile && high < worthwhile && !alarm),
            Verdict::KeepRunning { days } => prop_assert!(!alarm && days.is_none_or(|d| d >= 1)),
            Verdict::NotValid { .. } => prop_assert!(alarm),
        }
    }

    /// Dollars in another unit, or cents, are the same answer.
    #[test]
    fn the_scale_does_not_matter(point in -0.01f64..0.01, half in 0.0001f64..0.01, differs: bool, by in 0.001f64..1_000.0) {
        let (small, mut large) = (report(interval(point, half), differs), report(interval(point, half), differs));
        let c = &mut large.comparisons[0];
        (c.effect_usd, c.spread_usd) = (c.effect_usd.map(|i| scaled(i, by)), c.spread_usd.map(|s| s * by));
        let (a, b) = (only(&small, &spec(0.02)), only(&large, &spec(0.02)));
        match (&a.verdict, &b.verdict) {
            (Verdict::KeepRunning { days: a }, Verdict::KeepRunning { days: b }) => prop_assert!(a.zip(*b).is_none_or(|(a, b)| a.abs_diff(b) <= 1 + a / 100)),
            (a, b) => prop_assert_eq!(a, b),
        }
    }

    /// The same evidence seen from the other side.
    #[test]
    fn better_and_worse_are_mirrored(point in -0.01f64..0.01, half in 0.0f64..0.01, differs: bool) {
        let (one, other) = (only(&report(interval(point, half), differs), &spec(0.02)), only(&report(interval(-point, half), differs), &spec(0.02)));
        prop_assert_eq!(matches!(one.verdict, Verdict::Better), matches!(other.verdict, Verdict::Worse));
    }
}
