//! What an experiment costs: drawing a variant and writing it into a row of the log, adding a request to its unit-window, and the analysis of
//! ten million unit-windows. Prints JSON: `cargo run --release -p farthing-experiment --example cost`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::hint::black_box;
use std::sync::Arc;

use farthing_contract::log;
use farthing_experiment::{Experiment, ExperimentSpec, Observation, Trial, Variant};
use farthing_types::{Clock, Draw, KeyHash, Money, Overrides, RealClock, Span, Time};

const DRAWS: u64 = 5_000_000;
const UNITS: u64 = 50_000;
const WINDOWS: u64 = 200;

fn experiment() -> Option<Experiment> {
    let variant = |name: &str| Variant { name: name.into(), overrides: Overrides::default(), share: 0.5 };
    let spec = ExperimentSpec { slice: 0.2, ..ExperimentSpec::pair("cost", variant("control"), variant("other"), Span::from_secs(60)) };
    Experiment::new(spec).ok()
}

/// Seconds that `work` takes.
fn seconds(clock: &RealClock, work: impl FnOnce()) -> f64 {
    let started = clock.now();
    work();
    clock.now().since(started).as_secs_f64()
}

/// A digest as spread as those of keys.
fn key(unit: u64) -> KeyHash {
    KeyHash(u128::from(unit.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(unit))
}

fn assigned(clock: &RealClock, experiment: &Experiment) -> f64 {
    let draw = Draw::new(1);
    let rows = || {
        for unit in 0..DRAWS {
            let assigned = experiment.assign(&draw, key(unit), Time::from_millis(1_700_000_000_000));
            let row = log::Request {
                experiment: Some(experiment.name().clone()),
                variant: experiment.variants().get(assigned.variant).map(|v| Arc::clone(&v.name)),
                unit: Some(key(unit).short()),
                window: Some(assigned.window),
                propensity: Some(assigned.propensity),
                ..log::Request::default()
            };
            black_box(row);
        }
    };
    seconds(clock, rows)
}

/// Requests of all units in all windows, half a second of which is drawing; then how long that and the analysis took.
fn analysed(clock: &RealClock, spec: &ExperimentSpec) -> Option<(f64, u64)> {
    let experiment = Experiment::new(ExperimentSpec { slice: 1.0, burn_in: Span::ZERO, ..spec.clone() }).ok()?;
    let draw = Draw::new(2);
    let mut trial = Trial::new(&experiment);
    let took = seconds(clock, || {
        for window in 0..WINDOWS {
            let now = experiment.begins(window as i64);
            for unit in 0..UNITS {
                let assigned = experiment.assign(&draw, key(unit), now);
                let bill = Some(Money::from_nanos(((unit * 31 + window * 17) % 1_000) as i64 * 1_000));
                trial.record(key(unit), &assigned, Observation { bill, requests: 1, ..Observation::default() });
            }
        }
        trial.close_window();
    });
    let rows = trial.report().variants.iter().map(|v| v.unit_windows).sum();
    black_box(trial.report());
    Some((took, rows))
}

fn main() {
    let clock = RealClock::default();
    let Some(experiment) = experiment() else { return };
    let assignment = assigned(&clock, &experiment) / DRAWS as f64 * 1e6;
    let Some((analysis, rows)) = analysed(&clock, experiment.spec()) else { return };
    println!(
        "{{\n  \"assignment_and_row_us\": {assignment:.4},\n  \"unit_windows\": {rows},\n  \"recorded_and_analysed_s\": {analysis:.2}\n}}"
    );
}
