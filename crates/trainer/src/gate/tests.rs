use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

/// `n` blocks on four routes; `ours` and `theirs` give calls of a block, from a number of its own that both share.
fn evidence(n: usize, seed: u64, ours: impl Fn(u32, f64) -> f64, theirs: impl Fn(u32, f64) -> f64) -> Evidence {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut found = Evidence {
        routes: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
        stale_prices: vec![Money::from_nanos(1_000); 4],
        calibration: Some(vec![CalibrationBin { predicted: 0.1, observed: 0.11, count: 1_000 }]),
        size: Size { trees: Some(41), questions: Some(208), p50_us: 2.0, p99_us: 8.0 },
        no_champion: "none yet".to_owned(),
        ..Evidence::default()
    };
    let mut amounts = Vec::new();
    for i in 0..n {
        let (route, size) = ((i % 4) as u32, (-f64::ln(rng.random_range(1e-9..1.0))).powi(2));
        let mut amount = |level: f64| Amount {
            requests: 10,
            money: Money::from_nanos((1e6 * size * level * rng.random_range(0.5..1.5)) as i64),
            stale: 1,
        };
        let (us, them) = (amount(ours(route, size)), amount(theirs(route, size)));
        found.blocks.push(Block { key: i as u64, route, day: (i % 7) as i32 });
        found.ours.push(us);
        amounts.push(them);
    }
    found.rivals.push(Rival { opponent: Opponent::Rules, setting: "base TTL 60".to_owned(), amounts });
    found
}

fn verdict(judgement: &Judgement, name: CheckName) -> Verdict {
    judgement.checks.iter().find(|c| c.name == name).unwrap().verdict
}

#[test]
fn what_is_better_passes_and_what_is_not_fails_by_name() {
    let better = judge(&evidence(3_000, 1, |_, _| 0.8, |_, _| 1.0), &Setting::default());
    assert!(better.passed(), "{}", better.text());
    assert_eq!(better.checks.iter().map(|c| c.name).collect::<Vec<_>>(), CheckName::ALL);
    assert_eq!(verdict(&better, CheckName::SavingVsChampion), Verdict::Absent);
    assert_eq!(verdict(&better, CheckName::SavingVsLive), Verdict::Absent);
    let saving = better.against(Opponent::Rules).unwrap().saving;
    assert!(saving.low > 0.1 && saving.high < 0.3 && saving.low < saving.value && saving.value < saving.high, "{saving:?}");

    let same = judge(&evidence(800, 2, |_, _| 1.0, |_, _| 1.0), &Setting::default());
    assert!(same.failed().contains(&"saving-vs-rules"), "{}", same.text());
    let thin = judge(&evidence(20, 1, |_, _| 0.5, |_, _| 1.0), &Setting::default());
    assert!(thin.failed().contains(&"enough-blocks"), "{}", thin.text());
    let none = judge(&Evidence::default(), &Setting::default());
    assert_eq!(none.failed(), ["enough-blocks", "saving-vs-rules", "worst-route"], "{}", none.text());
}

#[test]
fn a_route_that_gets_dearer_fails_also_when_the_bill_falls() {
    let judged = judge(&evidence(4_000, 3, |route, _| if route == 2 { 1.2 } else { 0.5 }, |_, _| 1.0), &Setting::default());
    assert_eq!(judged.failed(), ["worst-route"], "{}", judged.text());
    assert!(judged.checks.iter().any(|c| c.note.starts_with("c against rules: +")), "{}", judged.text());
    // The same route without weight does not count.
    let small = |level: f64| move |route: u32, _: f64| if route == 2 { 0.004 * level } else { 1.0 };
    let judged = judge(&evidence(4_000, 3, |r, s| small(2.0)(r, s) * 0.7, small(1.0)), &Setting::default());
    assert!(judged.passed(), "{}", judged.text());
}

#[test]
fn stale_answers_are_exchanged_for_money_when_routes_are_compared() {
    let mut cheaper = evidence(2_000, 4, |_, _| 0.7, |_, _| 1.0);
    cheaper.stale_prices[1] = Money::from_nanos(50_000_000);
    for (block, ours) in cheaper.blocks.iter().zip(&mut cheaper.ours) {
        ours.stale += u64::from(block.route == 1);
    }
    assert_eq!(judge(&cheaper, &Setting::default()).failed(), ["worst-route"]);
}

#[test]
fn the_champion_binds_and_the_live_statistics_are_told() {
    let mut all = evidence(800, 5, |_, _| 0.8, |_, _| 1.0);
    let same = all.ours.clone();
    all.rivals.push(Rival { opponent: Opponent::Live, setting: "kappa".to_owned(), amounts: same.clone() });
    let judged = judge(&all, &Setting::default());
    assert!(judged.passed() && verdict(&judged, CheckName::SavingVsLive) == Verdict::Reported, "{}", judged.text());
    all.rivals.push(Rival { opponent: Opponent::Champion, setting: "ttl/1".to_owned(), amounts: same });
    let judged = judge(&all, &Setting::default());
    assert_eq!(judged.failed(), ["saving-vs-champion"], "the same again is no reason to publish\n{}", judged.text());
}

#[test]
fn calibration_latency_and_size_have_their_bounds() {
    let with = |change: fn(&mut Evidence)| {
        let mut e = evidence(800, 1, |_, _| 0.8, |_, _| 1.0);
        change(&mut e);
        judge(&e, &Setting::default()).failed().join(",")
    };
    assert_eq!(with(|e| e.calibration = Some(vec![CalibrationBin { predicted: 0.1, observed: 0.13, count: 900 }])), "calibration");
    assert_eq!(with(|e| e.calibration = Some(vec![CalibrationBin { predicted: 0.1, observed: 0.13, count: 90 }])), "", "chance");
    let ten = |e: &mut Evidence| e.calibration = Some(vec![CalibrationBin { predicted: 0.1, observed: 0.13, count: 500 }; 10]);
    assert_eq!(with(ten), "", "one of ten is so far off by chance in one log of four");
    assert_eq!(with(|e| e.calibration = Some(vec![CalibrationBin { predicted: 0.1, observed: 0.13, count: 500 }])), "calibration");
    assert_eq!(with(|e| e.calibration = Some(vec![CalibrationBin { predicted: 0.0, observed: 0.03, count: 500 }])), "calibration");
    assert_eq!(with(|e| e.calibration = Some(Vec::new())), "calibration");
    assert_eq!(with(|e| e.calibration = None), "");
    assert_eq!(
        with(|e| e.size = Size { trees: Some(51), questions: Some(301), p50_us: 11.0, p99_us: 51.0 }),
        "latency-p50,latency-p99,trees,questions"
    );
    assert_eq!(with(|e| e.size.trees = None), "");
}

#[test]
fn figures_of_the_machine_do_not_enter_the_manifest() {
    let judged = judge(&evidence(800, 1, |_, _| 0.8, |_, _| 1.0), &Setting::default());
    for record in judged.checks.iter().map(Check::record) {
        assert_eq!(record.value.is_some(), !record.name.starts_with("latency") && record.verdict != "absent", "{record:?}");
    }
}

#[test]
fn bins_hold_a_tenth_each() {
    let bins = CalibrationBin::deciles((0..1_005).map(|i| (f64::from(i) / 1_005.0, i % 10 == 0)).collect());
    assert_eq!((bins.len(), bins.iter().map(|b| b.count).sum::<u64>()), (10, 1_005));
    assert!(bins.windows(2).all(|w| w[0].predicted < w[1].predicted) && bins.iter().all(|b| (b.observed - 0.1).abs() < 0.01));
    assert!(CalibrationBin::deciles(vec![(0.5, true); 3]).iter().all(|b| b.count == 1 && b.observed == 1.0));
    assert!(CalibrationBin::deciles(Vec::new()).is_empty());
}

/// Heavy-tailed blocks, a true saving of 10 %: nominal 95 %, and the percentile bootstrap of a ratio runs a little below.
#[test]
fn intervals_cover_the_true_saving() {
    let covered = (0..150u64)
        .filter(|run| {
            let found = resample(&evidence(300, 1_000 + run, |_, _| 0.9, |_, _| 1.0), &Setting { draws: 300, seed: *run });
            found[0].saving.low <= 0.1 && 0.1 <= found[0].saving.high
        })
        .count();
    assert!((130..=149).contains(&covered), "{covered} of 150");
}

#[test]
fn many_blocks_are_grouped_without_changing_the_interval() {
    let width = |n: usize| {
        let found = resample(&evidence(n, 9, |_, _| 0.9, |_, _| 1.0), &Setting { draws: 300, seed: 1 });
        found[0].saving.high - found[0].saving.low
    };
    // 16 times the blocks: a quarter of the width, though only the larger is grouped.
    let ratio = width(5_000) / width(80_000);
    assert!((3.0..=5.3).contains(&ratio), "{ratio}");
}

proptest! {
    #[test]
    fn nothing_panics_whatever_the_evidence(
        money in proptest::collection::vec((any::<i32>(), any::<i32>(), 0..9u32), 0..40), routes in 0..4usize, extra in 0..3usize,
    ) {
        let amount = |money: i32| Amount { requests: 1, money: Money::from_nanos(i64::from(money)), stale: 1 };
        let evidence = Evidence {
            routes: vec!["r".to_owned(); routes],
            blocks: money.iter().map(|m| Block { key: 1, route: m.2, day: 0 }).collect(),
            ours: money.iter().map(|m| amount(m.0)).collect(),
            rivals: vec![Rival { opponent: Opponent::Rules, setting: String::new(), amounts: money.iter().skip(extra).map(|m| amount(m.1)).collect() }],
            ..Evidence::default()
        };
        let judged = judge(&evidence, &Setting { draws: 20, seed: 1 });
        prop_assert_eq!(judged.checks.len(), CheckName::ALL.len());
    }
}
