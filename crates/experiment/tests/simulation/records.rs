//! What a record keeps and leaves out.

use farthing_experiment::{Experiment, Observation, Trial};
use farthing_types::{Draw, KeyHash, Money, Span, Time};

use crate::world::{Law, WINDOW_S, World, experiment};

#[test]
fn memory_is_bounded_and_what_finds_no_room_is_counted() {
    let mut spec = experiment(&World::pair(Law::Light, 1.0)).spec().clone();
    spec.max_units = 50;
    let experiment = Experiment::new(spec).unwrap();
    let mut trial = Trial::new(&experiment);
    for step in 0..1_000u64 {
        let now = Time::ZERO + Span::from_secs(step / 200 * WINDOW_S);
        // Digests differ in all their bits; room is made by one of the lower.
        let unit = KeyHash(u128::from(step) << 64 | u128::from(step));
        let assigned = experiment.assign(&Draw::new(1), unit, now);
        trial.record(unit, &assigned, Observation { bill: Some(Money::ZERO), requests: 1, ..Observation::default() });
    }
    trial.close_window();
    let report = trial.report();
    assert!(report.dropped.overflow > 0);
    let kept: u64 = report.variants.iter().map(|v| v.unit_windows).sum();
    assert!(kept > 50, "silent units make room for new ones: {kept}");
    assert_eq!(kept + report.dropped.overflow, 1_000);
}

#[test]
fn a_stale_answer_costs_what_its_own_route_says() {
    let mut spec = experiment(&World::pair(Law::Light, 1.0)).spec().clone();
    (spec.price_stale, spec.burn_in) = (Money::from_nanos(1_000_000_000), Span::ZERO);
    let experiment = Experiment::new(spec).unwrap();
    let mut trial = Trial::new(&experiment);
    for (unit, stale_price) in [(1u128, None), (2, Some(Money::from_nanos(10_000_000_000)))] {
        let assigned = experiment.assign(&Draw::new(1), KeyHash(unit << 64), Time::ZERO);
        trial.record(
            KeyHash(unit << 64),
            &assigned,
            Observation { bill: Some(Money::ZERO), stale: 1.0, stale_price, requests: 1, ..Observation::default() },
        );
    }
    trial.close_window();
    let cost: f64 = trial.report().variants.iter().map(|v| v.cost_usd).sum();
    assert!((cost - 11.0).abs() < 1e-9, "{cost}");
}
