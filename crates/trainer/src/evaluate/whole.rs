//! `evaluate ttl`: learning from the first part of a trace as from a log, judged on the rest with the truth known.

use std::fmt::Write as _;
use std::path::Path;

use farthing_replay::{Recipe, Trace};
use farthing_types::Money;
use serde::Serialize;

use super::compare::{Comparison, compare, money_cost};
use super::stream;
use crate::error::TrainError;
use crate::fit::{self, Learned, Options};
use crate::history::History;
use crate::learn::{Watch, log_likelihood};
use crate::report;

/// What an evaluation is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation {
    /// Staleness budget.
    pub stale: f64,
    /// Share of the time that is learned from.
    pub train_share: f64,
    /// Seed of the learners.
    pub seed: u64,
    /// Whether each learner is also tuned to the budget in hindsight.
    pub thorough: bool,
    /// Price of a stale answer in the money cost; none leaves that out.
    pub stale_price: Option<Money>,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self { stale: 0.01, train_share: 0.6, seed: 1, thorough: true, stale_price: None }
    }
}

/// What an evaluation found.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluated {
    /// Training rows.
    pub rows: usize,
    /// Which learner was chosen, and why.
    pub choice: String,
    /// Mean log likelihood of the training rows: live statistics, table, boosting, model.
    pub log_likelihood: [f64; 4],
    /// The comparison on the rest.
    pub comparison: Comparison,
    /// 1 - money cost of the model / that of the best fixed TTL per route; none without a price of stale answers.
    pub money_saving_against_fixed_per_route: Option<f64>,
}

impl Evaluated {
    /// For a terminal.
    pub fn text(&self) -> String {
        let [live, table, boost, model] = self.log_likelihood;
        let mut out =
            format!("rows        {}\nlikelihood  live {live:.4}, table {table:.4}, boosting {boost:.4}, model {model:.4}\n", self.rows);
        let _ = writeln!(out, "chosen      {}", self.choice);
        out.push_str(&report::table(&self.comparison));
        let c = &self.comparison;
        out.push_str(&format!("against best fixed TTL {:.3}x, per route {:.3}x", c.ratio_to_fixed, 1.0 - c.saving_against_fixed_per_route));
        if let Some(saving) = self.money_saving_against_fixed_per_route {
            out.push_str(&format!("; money cost {:.1} % below the best fixed TTL per route", 100.0 * saving));
        }
        out.push('\n');
        out
    }
}

/// What is learned from the pass-through log of the first `count` events, by digests alone.
///
/// # Errors
/// When they have too little to learn from.
pub fn learned(trace: &Trace, count: usize, options: Options, watch: &dyn Watch) -> Result<Learned, TrainError> {
    let log = stream::pass_through(trace, count);
    let history = History::of(&log);
    let seen = stream::of_log(&log, &history.nondeterministic);
    let choice = fit::choose(&seen, seen.events.len(), options, watch);
    fit::learn((&seen, seen.events.len()), history.teaching(), &choice, options, watch)
}

/// Evaluates on a trace with known changes.
///
/// # Errors
/// When the training part has too little to learn from.
pub fn evaluate(trace: &Trace, evaluation: Evaluation, watch: &dyn Watch) -> Result<Evaluated, TrainError> {
    let cut = trace.split(evaluation.train_share);
    let options = Options { stale_budget: evaluation.stale, seed: evaluation.seed };
    let learned = learned(trace, cut, options, watch)?;
    watch.step("judging", 0, 1);
    let comparison = compare((trace, cut), &learned, evaluation.stale, evaluation.thorough);
    watch.step("judging", 1, 1);
    let money = |price| 1.0 - money_cost(&comparison.model, price) / money_cost(&comparison.fixed_per_route, price).max(1e-12);
    let rows = &learned.rows;
    Ok(Evaluated {
        rows: rows.len(),
        choice: learned.choice.why(),
        log_likelihood: [&fit::zeros(), &learned.table, &learned.boost, &learned.model].map(|e| log_likelihood(e, rows)),
        money_saving_against_fixed_per_route: evaluation.stale_price.map(money),
        comparison,
    })
}

/// Reads a recipe of a generated trace.
///
/// # Errors
/// With the file and what is wrong in it.
pub fn read_recipe(path: &Path) -> Result<Recipe, TrainError> {
    let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
    let wrong = |reason: String| TrainError::Recipe { path: path.to_path_buf(), reason };
    let recipe: Recipe = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    recipe.check().map_err(|e| wrong(e.to_string()))?;
    Ok(recipe)
}
