//! Worlds whose truth is known: money against an oracle and against fixed TTLs, staleness per route and day, calibration.

mod play;
mod truth;

use farthing_replay::Recipe;
use serde::Serialize;

use super::section::{Bar, Found, Ground, Measured, Section};
use crate::error::TrainError;
use crate::gate::CalibrationBin;
use crate::learn::Watch;
use play::{Arrival, Count, Days, Played, play};

/// See the module.
pub struct Worlds;

/// The worlds.
pub const NAMES: [&str; 5] = ["stable", "cold", "drifting", "periodic", "informative"];

const RECIPES: [(&str, &str); 5] = [
    ("stable", include_str!("../../../../../data/worlds/stable.toml")),
    ("cold", include_str!("../../../../../data/worlds/cold.toml")),
    ("drifting", include_str!("../../../../../data/worlds/drifting.toml")),
    ("periodic", include_str!("../../../../../data/worlds/periodic.toml")),
    ("informative", include_str!("../../../../../data/worlds/informative.toml")),
];

impl Section for Worlds {
    fn name(&self) -> &'static str {
        "worlds"
    }
    fn title(&self) -> &'static str {
        "Worlds whose truth is known"
    }
    fn run(&self, ground: &Ground<'_>) -> Result<Found, TrainError> {
        let found = measure(&NAMES, &(1..=ground.seeds).collect::<Vec<_>>(), 1.0, ground.watch)?;
        let text = "Recipes in `data/worlds/`. The first 60 % of the time is a pass-through log from which the model is learned; the rest is \
            replayed. The oracle knows each key's hazard and request rate at every moment, and uses the TTL that is cheapest for a constant hazard \
            (`docs/learning.md`, section 1); in the periodic world that TTL is the exponential one. Money is bill + price of stale answers; fixed TTLs \
            are the cheapest of each route in hindsight. Staleness is that of the steered proxy at a budget of 0.5 %; a route-day is over when the lower \
            end of its 95 % Wilson interval is above the budget. Calibration: ten bins of equal size; at each read of a key whose reads are all \
            passed through, as a holdout's are, the probability that its next read finds a change."
            .to_owned()
            + &format!(" Seeds: {}.", ground.seeds)
            + &least(&found);
        let figures = serde_json::to_value(&found).unwrap_or_default();
        Ok(Found::Measured(Measured { text, bars: bars(&found), figures }))
    }
}

/// A world over its seeds.
#[derive(Clone, Debug, Serialize)]
pub struct WorldFound {
    /// Name of the recipe.
    pub name: &'static str,
    /// Money cost over the oracle's, per seed.
    pub to_oracle: Vec<f64>,
    /// Money cost over that of the best fixed TTL per route, per seed.
    pub to_fixed: Vec<f64>,
    /// What the best TTL of each key by the truth would cost over that of the best fixed TTL per route, per seed: the least that can be reached by TTLs per key alone.
    /// Only where changes draw their readers.
    pub least_to_fixed: Vec<f64>,
    /// Days of routes with enough answers, and those of them over the budget.
    pub days: Days,
    /// Largest stale share of a route over the whole time, over the seeds' mean, in budgets.
    pub worst_route: f64,
    /// Stale share of the first hour and day of the route that appears after training, in budgets.
    pub newcomer: Option<(f64, f64)>,
    /// Largest distance of predicted and observed changes by the next read among ten bins, where every read is passed through.
    pub calibration: f64,
    /// The bins behind it.
    pub bins: Vec<CalibrationBin>,
    /// The same of copies in service, by a drawn age.
    pub calibration_in_service: f64,
}

/// Plays the worlds called `names` under `seeds`; `length` shortens or lengthens them.
///
/// # Errors
/// When a recipe is wrong or has too little to learn from.
pub fn measure(names: &[&str], seeds: &[u64], length: f64, watch: &dyn Watch) -> Result<Vec<WorldFound>, TrainError> {
    let mut found = Vec::new();
    for (n, (name, text)) in RECIPES.into_iter().filter(|(name, _)| names.contains(name)).enumerate() {
        let wrong = |reason: String| TrainError::Recipe { path: format!("data/worlds/{name}.toml").into(), reason };
        let mut recipe: Recipe = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        recipe.duration_s *= length;
        let mut played = Vec::new();
        for (i, seed) in seeds.iter().enumerate() {
            watch.step("worlds", n * seeds.len() + i, names.len() * seeds.len());
            played.push(play(&recipe, *seed, name == "stable").map_err(|e| wrong(e.to_string()))?);
        }
        found.push(together(name, played));
    }
    Ok(found)
}

fn together(name: &'static str, played: Vec<Played>) -> WorldFound {
    let routes = played.first().map_or(0, |p| p.routes.len());
    let pooled = |r: usize| {
        let (answers, stale) = played.iter().filter_map(|p| p.routes.get(r)).fold((0, 0), |(a, s), x| (a + x.0, s + x.1));
        stale as f64 / answers.max(1) as f64 / play::BUDGET
    };
    let newcomers: Vec<_> = played.iter().filter_map(|p| p.newcomer).collect();
    let share = |of: fn(&Arrival) -> Count| {
        let (answers, stale) = newcomers.iter().map(of).fold((0, 0), |(a, s), x| (a + x.0, s + x.1));
        stale as f64 / answers.max(1) as f64 / play::BUDGET
    };
    let bins = CalibrationBin::deciles(played.iter().flat_map(|p| p.sentinel.iter().copied()).collect());
    let worst = |bins: &[CalibrationBin]| bins.iter().map(CalibrationBin::error).fold(0.0, f64::max);
    WorldFound {
        name,
        to_oracle: played.iter().map(|p| p.money / p.oracle).collect(),
        to_fixed: played.iter().map(|p| p.money / p.fixed).collect(),
        least_to_fixed: played.iter().filter_map(|p| Some(p.known? / p.fixed)).collect(),
        days: played.iter().fold(Days::default(), |sum, p| sum.and(p.days)),
        worst_route: (0..routes).map(pooled).fold(0.0, f64::max),
        newcomer: (!newcomers.is_empty()).then(|| (share(|n| n.0), share(|n| n.1))),
        calibration: worst(&bins),
        bins,
        calibration_in_service: worst(&CalibrationBin::deciles(played.into_iter().flat_map(|p| p.judged).collect())),
    }
}

/// How far the cheapest fixed TTL per route is from the best that TTLs per key can do, in words.
fn least(found: &[WorldFound]) -> String {
    let said = |world: &WorldFound| {
        format!(
            " Where changes draw their readers ({}), the TTL of each key that is cheapest in the long run, chosen with its true rates in ten times as much \
                time, costs {:.4} of the best fixed TTL per route: one TTL for each key does no better but by luck; ours also differ by what the fetch found, and are doubted when requests say that something has changed.",
            world.name,
            mean(&world.least_to_fixed)
        )
    };
    found.iter().filter(|world| !world.least_to_fixed.is_empty()).map(said).collect()
}

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len().max(1) as f64
}

/// The promises.
pub fn bars(found: &[WorldFound]) -> Vec<Bar> {
    let mut bars = Vec::new();
    for world in found {
        let oracle = mean(&world.to_oracle);
        match world.name {
            "stable" | "cold" => bars.push(Bar::at_most(format!("{}: money cost / oracle", world.name), oracle, 1.05)),
            "drifting" => bars.push(Bar::at_most("drifting: money cost / oracle", oracle, 1.15)),
            "periodic" => bars.push(Bar::at_most("periodic: money cost / exponential TTL", oracle, 0.70)),
            _ => {}
        }
        // The keys of a cold route are alike: one TTL for all is what an oracle would choose.
        if world.name != "cold" {
            bars.push(Bar::at_most(format!("{}: money cost / best fixed TTL per route", world.name), mean(&world.to_fixed), 0.90));
        }
        bars.push(Bar::at_most(format!("{}: worst of ten calibration bins", world.name), world.calibration, 0.02));
        bars.push(Bar::at_most(format!("{}: highest stale share of a route / budget", world.name), world.worst_route, 1.0));
        if let Some((hour, day)) = world.newcomer {
            bars.push(Bar::at_most("a route that appears after training: stale share of its first hour / budget", hour, 1.0));
            bars.push(Bar::at_most("the same of its first day", day, 1.0));
        }
    }
    let days = found.iter().fold(Days::default(), |sum, w| sum.and(w.days));
    bars.push(Bar::at_most("share of route-days over the budget", days.share_over(), 0.02));
    bars
}
