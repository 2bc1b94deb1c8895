//! Real change times of public API answers under seeded reads: the bill against fixed TTLs that hindsight finds.

use serde::Serialize;

use super::section::{Bar, Found, Ground, Measured, Section};
use crate::error::TrainError;
use crate::evaluate::{Comparison, Evaluation, evaluate, stream};
use crate::read::read_trace;

/// See the module.
pub struct ApiChanges;

/// Seeds of the overlaid reads.
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

/// What one overlay came to at one budget.
#[derive(Clone, Debug, Serialize)]
struct Run {
    seed: u64,
    budget: f64,
    stale: f64,
    bill: f64,
    to_fixed: f64,
    to_fixed_per_route: f64,
}

impl Run {
    fn of(seed: u64, budget: f64, c: &Comparison) -> Self {
        Self {
            seed,
            budget,
            stale: c.model.stale_share,
            bill: c.model.bill_share,
            to_fixed: c.ratio_to_fixed,
            to_fixed_per_route: 1.0 - c.saving_against_fixed_per_route,
        }
    }
}

impl Section for ApiChanges {
    fn name(&self) -> &'static str {
        "api_changes"
    }
    fn title(&self) -> &'static str {
        "Real changes, seeded reads"
    }
    fn run(&self, ground: &Ground<'_>) -> Result<Found, TrainError> {
        let mut runs = Vec::new();
        for (n, seed) in SEEDS.into_iter().enumerate() {
            ground.watch.step("api_changes", n, SEEDS.len());
            let path = match ground.overlay(seed) {
                Ok(path) => path,
                Err(why) => return Ok(Found::Absent(why)),
            };
            let trace = stream::of_trace(&read_trace(&path)?);
            for stale in [0.01, 0.001] {
                let evaluation = Evaluation { stale, thorough: false, ..Evaluation::default() };
                runs.push(Run::of(seed, stale, &evaluate(&trace, evaluation, ground.watch)?.comparison));
            }
        }
        Ok(Found::Measured(measured(&runs)))
    }
}

fn mean(runs: &[&Run], of: impl Fn(&Run) -> f64) -> f64 {
    runs.iter().map(|r| of(r)).sum::<f64>() / runs.len().max(1) as f64
}

fn worst(runs: &[&Run], of: impl Fn(&Run) -> f64) -> f64 {
    runs.iter().map(|r| of(r)).fold(f64::NEG_INFINITY, f64::max)
}

fn measured(runs: &[Run]) -> Measured {
    let at = |budget: f64| runs.iter().filter(|r| r.budget == budget).collect::<Vec<_>>();
    let (one, tenth) = (at(0.01), at(0.001));
    let bars = vec![
        Bar::at_most("stale share at a budget of 1 %, worst seed", worst(&one, |r| r.stale), 0.0115),
        Bar::at_most("bill at 1 % / best fixed TTL for all, mean", mean(&one, |r| r.to_fixed), 0.62).aiming_at(0.56),
        Bar::at_most("the same, worst seed", worst(&one, |r| r.to_fixed), 0.65),
        Bar::at_most("bill at 1 % / best fixed TTL per route, mean", mean(&one, |r| r.to_fixed_per_route), 0.74).aiming_at(0.67),
        Bar::at_most("the same, worst seed", worst(&one, |r| r.to_fixed_per_route), 0.78),
        Bar::at_most("bill at 0.1 % / best fixed TTL for all, mean", mean(&tenth, |r| r.to_fixed), 0.72).aiming_at(0.65),
    ];
    let text = "Change times of `api_changes`, reads laid over them by `make_reads.py` (keyfrac 0.12, speed 1.0, five seeds). The first 60 % of the time \
        is a pass-through log from which the model and its operating point are learned by digests alone; the rest is replayed as the proxy runs. \
        Fixed TTLs are the best that hindsight finds at our stale share, in steps of less than a tenth."
        .to_owned();
    Measured { text, bars, figures: serde_json::json!({ "runs": runs }) }
}
