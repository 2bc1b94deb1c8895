//! Which strategy pays: regret against hindsight in a stationary world and on real changes, and money against the rules on real traces.

pub mod costs;
pub mod prompts;
mod setup;
pub mod traces;

use serde::Serialize;

use super::section::{Bar, Found, Ground, Measured, Section};
use crate::error::TrainError;
use crate::learn::Watch;
use crate::predictor::Trees;
use crate::strategy::{Verdict, judge, learn};
use setup::Scene;

/// See the module.
pub struct Strategies;

/// Share of the time that is learned from.
const TRAIN: f64 = 0.6;
/// Seeds of the worlds and overlays.
const SEEDS: [u64; 2] = [1, 2];

/// One judged scene.
#[derive(Clone, Debug, Serialize)]
struct Judged {
    scene: String,
    regret: f64,
    below_single: f64,
    below_rules: f64,
    published: bool,
    verdict: Verdict,
}

impl Section for Strategies {
    fn name(&self) -> &'static str {
        "strategy"
    }
    fn title(&self) -> &'static str {
        "Strategies: regret against hindsight"
    }
    fn run(&self, ground: &Ground<'_>) -> Result<Found, TrainError> {
        let (mut bars, mut absent) = (Vec::new(), Vec::new());
        let mut judged =
            SEEDS.iter().map(|seed| judged_scene(&setup::services(*seed)?, *seed, ground.watch)).collect::<Result<Vec<_>, _>>()?;
        regret_bars("stationary world", &judged, &mut bars);
        if let Some(overlays) = there(overlays(ground, &SEEDS)?, &mut absent) {
            regret_bars("real changes, seeded reads", &overlays, &mut bars);
            judged.extend(overlays);
        }
        let figures = serde_json::json!({ "scenes": judged });
        Ok(Found::Measured(Measured { text: text(&judged, &absent), bars, figures }))
    }
}

/// What was found; what was absent is remembered in a sentence.
fn there<T>(found: Result<T, String>, absent: &mut Vec<String>) -> Option<T> {
    found.map_err(|why| absent.push(why)).ok()
}

fn overlays(ground: &Ground<'_>, seeds: &[u64]) -> Result<Result<Vec<Judged>, String>, TrainError> {
    let mut found = Vec::new();
    for seed in seeds.iter().copied() {
        let path = match ground.overlay(seed) {
            Ok(path) => path,
            Err(why) => return Ok(Err(why)),
        };
        found.push(judged_scene(&setup::api_changes(&path)?, seed, ground.watch)?);
    }
    Ok(Ok(found))
}

/// Learns on the first part of the time, judges on the rest.
fn judged_scene(scene: &Scene, seed: u64, watch: &dyn Watch) -> Result<Judged, TrainError> {
    watch.step("strategy", 0, 1);
    let cut = scene.trace.split(TRAIN);
    let learned = learn((&scene.trace, cut), &scene.model, seed, watch)?;
    let verdict = judge((&scene.trace, cut), &scene.model, &Trees::levels(&learned.model), seed);
    Ok(Judged {
        scene: scene.name.clone(),
        regret: verdict.regret(),
        below_single: verdict.below_single(),
        below_rules: verdict.below_rules(),
        published: verdict.passes(),
        verdict,
    })
}

fn regret_bars(what: &str, judged: &[Judged], bars: &mut Vec<Bar>) {
    let mean = |of: fn(&Judged) -> f64| judged.iter().map(of).sum::<f64>() / judged.len().max(1) as f64;
    bars.push(Bar::at_most(format!("{what}: regret against the per-route choice of hindsight"), mean(|j| j.regret), 0.03));
    bars.push(Bar::at_least(format!("{what}: below the best strategy for all of hindsight"), mean(|j| j.below_single), 0.12));
}

fn text(judged: &[Judged], absent: &[String]) -> String {
    let mut out = String::from(
        "Costs are bill, priced staleness and priced waiting of the last 40 % of the time; the predictor has learned from the first 60 %. Hindsight \
         knows the cheapest combination of every route (per route) or the cheapest one for all. Where a trace has no prices, ours are stated in \
         docs/strategy.md and are the same for every route of it. A predictor that is not better than the rules beyond chance is not published.\n\n\
         | scene | regret | below one for all | below the rules | published |\n|---|---|---|---|---|\n",
    );
    for j in judged {
        let percent = |x: f64| format!("{:.1} %", 100.0 * x);
        let published = if j.published { "yes" } else { "no" };
        out += &format!(
            "| {} | {} | {} (`{}`) | {} | {published} |\n",
            j.scene,
            percent(j.regret),
            percent(j.below_single),
            j.verdict.single,
            percent(j.below_rules)
        );
    }
    for why in absent {
        out += &format!("\nNot measured: {why}.\n");
    }
    out
}
