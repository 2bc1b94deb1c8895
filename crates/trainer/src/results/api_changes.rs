//! Real change times of public API answers under seeded reads: the bill against fixed TTLs that hindsight finds.

use farthing_replay::Trace;
use serde::Serialize;

use super::section::{Bar, Found, Ground, Measured, Section};
use crate::error::TrainError;
use crate::evaluate::{Against, Line, learned, stream};
use crate::fit::Options;
use crate::learn::Watch;
use crate::read::read_trace;

/// See the module.
pub struct ApiChanges;

/// Share of the time that is learned from.
const TRAIN: f64 = 0.6;
/// Groups of sources, by the first part of the route's name, each left out of the training in turn.
const FOLDS: usize = 2;

/// What one overlay came to at one budget.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Seed of the reads.
    pub seed: u64,
    /// Staleness budget.
    pub budget: f64,
    /// The group of routes that the training did not see and the test alone has; none when all are in both.
    pub unseen: Option<usize>,
    /// Share of answers that were stale.
    pub stale: f64,
    /// Bill as a share of that without a cache.
    pub bill: f64,
    /// Bill over that of the best fixed TTL for all.
    pub to_fixed: f64,
    /// Bill over that of the best fixed TTL per route.
    pub to_fixed_per_route: f64,
    /// Which learner was chosen, and why.
    pub choice: String,
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
        for seed in 1..=ground.seeds {
            ground.watch.step("api_changes", seed as usize - 1, ground.seeds as usize);
            let path = match ground.overlay(seed) {
                Ok(path) => path,
                Err(why) => return Ok(Found::Absent(why)),
            };
            runs.extend(overlay(seed, &stream::of_trace(&read_trace(&path)?), ground.watch)?);
        }
        Ok(Found::Measured(measured(&runs)))
    }
}

/// Everything about one overlay.
///
/// # Errors
/// When its training part has too little to learn from.
pub fn overlay(seed: u64, trace: &Trace, watch: &dyn Watch) -> Result<Vec<Run>, TrainError> {
    let cut = trace.split(TRAIN);
    let model = learned(trace, cut, Options { stale_budget: 0.01, seed: 1 }, watch)?;
    let against = Against::of(trace, cut);
    let run = |budget: f64, unseen: Option<usize>, why: &str, [ours, fixed, per_route]: [Line; 3]| Run {
        seed,
        budget,
        unseen,
        stale: ours.stale_share,
        bill: ours.bill_share,
        to_fixed: ours.bill_usd / fixed.bill_usd,
        to_fixed_per_route: ours.bill_usd / per_route.bill_usd,
        choice: why.to_owned(),
    };
    let mut runs: Vec<Run> = [0.01, 0.001].map(|b| run(b, None, &model.choice.why(), against.fixed(&model, b))).into();
    for fold in 0..FOLDS {
        let (seen, held) = parts(trace, cut, fold);
        let model = learned(&seen, seen.events.len(), Options { stale_budget: 0.01, seed: 1 }, watch)?;
        runs.push(run(0.01, Some(fold), &model.choice.why(), Against::of(&held, 0).fixed(&model, 0.01)));
    }
    Ok(runs)
}

/// The events before `cut` of the routes outside of a group, and those from `cut` on of the routes within it.
fn parts(trace: &Trace, cut: usize, fold: usize) -> (Trace, Trace) {
    let source = |name: &str| name.split('/').nth(1).unwrap_or(name).to_owned();
    let mut sources: Vec<String> = trace.routes.iter().map(|r| source(&r.name)).collect();
    let of = sources.clone();
    sources.sort();
    sources.dedup();
    let place = |name: &String| sources.iter().position(|s| s == name).unwrap_or(0);
    let held: Vec<bool> = of.iter().map(|name| place(name) % FOLDS == fold).collect();
    let part = |events: &[farthing_replay::Event], within: bool| Trace {
        routes: trace.routes.clone(),
        events: events.iter().filter(|e| held[usize::from(e.route)] == within).copied().collect(),
    };
    (part(&trace.events[..cut], false), part(&trace.events[cut..], true))
}

fn mean(runs: &[&Run], of: impl Fn(&Run) -> f64) -> f64 {
    runs.iter().map(|r| of(r)).sum::<f64>() / runs.len().max(1) as f64
}

fn worst(runs: &[&Run], of: impl Fn(&Run) -> f64) -> f64 {
    runs.iter().map(|r| of(r)).fold(f64::NEG_INFINITY, f64::max)
}

fn measured(runs: &[Run]) -> Measured {
    let at = |budget: f64, unseen: bool| runs.iter().filter(|r| r.budget == budget && r.unseen.is_some() == unseen).collect::<Vec<_>>();
    let (one, tenth, unseen) = (at(0.01, false), at(0.001, false), at(0.01, true));
    let bars = vec![
        Bar::at_most("stale share at a budget of 1 %, worst seed", worst(&one, |r| r.stale), 0.0115),
        Bar::at_most("bill at 1 % / best fixed TTL for all, mean", mean(&one, |r| r.to_fixed), 0.62).aiming_at(0.56),
        Bar::at_most("the same, worst seed", worst(&one, |r| r.to_fixed), 0.65),
        Bar::at_most("bill at 1 % / best fixed TTL per route, mean", mean(&one, |r| r.to_fixed_per_route), 0.74).aiming_at(0.67),
        Bar::at_most("the same, worst seed", worst(&one, |r| r.to_fixed_per_route), 0.78),
        Bar::at_most("stale share at a budget of 0.1 %, worst seed", worst(&tenth, |r| r.stale), 0.00115),
        Bar::at_most("bill at 0.1 % / best fixed TTL for all, mean", mean(&tenth, |r| r.to_fixed), 0.72).aiming_at(0.65),
        Bar::at_most("routes never seen: bill at 1 % / best fixed TTL for all, mean", mean(&unseen, |r| r.to_fixed), 0.70).aiming_at(0.60),
        Bar::at_most("routes never seen: stale share at a budget of 1 %, worst", worst(&unseen, |r| r.stale), 0.0115),
    ];
    let mut text = "Change times of `api_changes`, reads laid over them by `make_reads.py` (keyfrac 0.12, speed 1.0). The first 60 % of the time \
        is a pass-through log from which the model and its operating point are learned by digests alone; the rest is replayed as the proxy runs. \
        Fixed TTLs are the best that hindsight finds at our stale share, in steps of less than a tenth. For routes never seen, the sources are \
        cut into two groups; each is left out of the training in turn and tested alone, with nothing known of it at the start.\n\n\
        | seed | budget | routes | stale share | bill | to fixed | to fixed per route |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    for run in runs {
        let routes = run.unseen.map_or_else(|| "all".to_owned(), |fold| format!("never seen, group {}", fold + 1));
        text.push_str(&format!(
            "| {} | {} % | {routes} | {:.3} % | {:.4} | {:.3} | {:.3} |\n",
            run.seed,
            100.0 * run.budget,
            100.0 * run.stale,
            run.bill,
            run.to_fixed,
            run.to_fixed_per_route
        ));
    }
    if let Some(run) = runs.first() {
        text.push_str(&format!("\nChosen on the training part of seed {}: {}.\n", run.seed, run.choice));
    }
    Measured { text, bars, figures: serde_json::json!({ "runs": runs }) }
}
