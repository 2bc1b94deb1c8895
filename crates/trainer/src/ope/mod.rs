//! Off-policy evaluation: what another policy would have cost, from decisions that were drawn with known probabilities.
//!
//! The estimators are `farthing_experiment::off_policy`; here are the target policies, the model of the cost that the doubly robust one
//! needs, and the export for Vowpal Wabbit. Formulas and sources: `docs/proving.md`.

mod direct;
pub mod dsjson;
mod report;
mod target;

use std::collections::BTreeSet;

use farthing_experiment::{Logged, OffPolicy, Refusal, off_policy};

pub use report::PolicyReport;
pub use target::Target;

use crate::error::TrainError;
use crate::learn::Watch;

/// A decision whose action was drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decided {
    /// Its id.
    pub id: u64,
    /// When, ns.
    pub at_ns: i64,
    /// Its route.
    pub route: String,
    /// The experiment that drew it; none where it was no experiment.
    pub experiment: Option<String>,
    /// Hash of the spec of the features.
    pub spec_hash: Option<String>,
    /// Digest of the bundle in use.
    pub model_digest: Option<String>,
    /// Features; empty when none were used.
    pub features: Vec<f32>,
    /// Bit i set: action i was eligible.
    pub eligible: u64,
    /// Probability of each action.
    pub pmf: Vec<f32>,
    /// The action taken.
    pub action: usize,
    /// Paid minus saved, dollars; `None` while the outcome or a price is not known.
    pub cost_usd: Option<f64>,
    /// Equal for decisions that share a draw: unit and window.
    pub cluster: u64,
    /// The key.
    pub key: u64,
}

impl Decided {
    /// Whether action `a` could have been taken.
    pub fn possible(&self, a: usize) -> bool {
        (a >= 64 || self.eligible & (1 << a) != 0) && self.pmf.get(a).is_some_and(|p| *p > 0.0)
    }
}

/// Decisions of one kind, by time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decisions {
    /// Those that were a choice.
    pub rows: Vec<Decided>,
    /// Those with fewer than two actions.
    pub no_choice: usize,
    /// End of the log, ns.
    pub end_ns: i64,
    /// Digest of the files.
    pub digest: String,
}

impl Decisions {
    /// The experiments that drew them, by name.
    pub fn experiments(&self) -> Vec<&str> {
        let names: BTreeSet<&str> = self.rows.iter().filter_map(|row| row.experiment.as_deref()).collect();
        names.into_iter().collect()
    }
}

/// How to evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decisions younger than this at the end of the log are left out: what became of them is seldom known, and those of which it is known are
    /// not like the others.
    pub mature_ns: i64,
    /// Parts, by time, of the cross-fitted model; below two there is no model.
    pub folds: usize,
    /// Seed of the model.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { mature_ns: 3_600_000_000_000, folds: 4, seed: 1 }
    }
}

/// Largest share of mature decisions without an outcome: beyond it those with one are a selection.
pub const MAX_UNSETTLED: f64 = 0.05;

/// What became of the decisions of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Counts {
    /// Decisions that were no choice.
    pub no_choice: usize,
    /// Choices.
    pub choices: usize,
    /// Of these, too young.
    pub young: usize,
    /// Of the others, without outcome or price.
    pub unsettled: usize,
}

/// Why there is no estimate, beyond [`Refusal`].
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// The rows say too little about the target.
    Rows(Refusal),
    /// Too many decisions without an outcome.
    Unsettled(f64),
    /// Every decision had one action only, so nothing was drawn.
    NoChoice,
    /// They are of these experiments: an action of one is no action of another, and nor is its cost.
    Several(Vec<String>),
}

impl Refused {
    /// The stable string.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Rows(refusal) => refusal.as_str(),
            Self::Unsettled(_) => "unsettled",
            Self::NoChoice => "no-choice",
            Self::Several(_) => "several-experiments",
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rows(refusal) => refusal.fmt(f),
            Self::Unsettled(share) => {
                write!(
                    f,
                    "{:.1} % of the mature decisions have no outcome or no price, at most {:.0} % may",
                    100.0 * share,
                    100.0 * MAX_UNSETTLED
                )
            }
            Self::NoChoice => write!(f, "no decision of this kind was a choice between actions with logged probabilities"),
            Self::Several(names) => write!(f, "the decisions are of {} experiments: name one of {}", names.len(), names.join(", ")),
        }
    }
}

/// Evaluates `target` on `decisions`.
///
/// # Errors
/// Only when the model of the cost cannot be fitted; a log that says too little is an answer ([`Refused`]).
pub fn evaluate(
    decisions: &Decisions,
    target: &Target,
    options: Options,
    watch: &dyn Watch,
) -> Result<(Counts, Result<OffPolicy, Refused>), TrainError> {
    let mut counts = Counts { no_choice: decisions.no_choice, choices: decisions.rows.len(), ..Counts::default() };
    let old = |row: &&Decided| row.at_ns <= decisions.end_ns.saturating_sub(options.mature_ns);
    let mature: Vec<&Decided> = decisions.rows.iter().filter(old).collect();
    counts.young = counts.choices - mature.len();
    let settled: Vec<&Decided> = mature.iter().copied().filter(|row| row.cost_usd.is_some()).collect();
    counts.unsettled = mature.len() - settled.len();
    if decisions.rows.is_empty() {
        return Ok((counts, Err(Refused::NoChoice)));
    }
    let experiments = decisions.experiments();
    if experiments.len() > 1 {
        return Ok((counts, Err(Refused::Several(experiments.into_iter().map(str::to_owned).collect()))));
    }
    let unsettled = counts.unsettled as f64 / mature.len().max(1) as f64;
    if unsettled > MAX_UNSETTLED {
        return Ok((counts, Err(Refused::Unsettled(unsettled))));
    }
    let models = direct::cross_fit(&settled, options, watch)?;
    let rows: Vec<Logged> = settled.iter().enumerate().map(|(i, row)| logged(row, target, &models.predict(i, row))).collect();
    Ok((counts, off_policy(&rows).map_err(Refused::Rows)))
}

/// The row as the target sees it; `model` is the cost of each action.
fn logged(row: &Decided, target: &Target, model: &[f64]) -> Logged {
    let pmf = target.pmf(row);
    let of = |list: &[f64], a: usize| list.get(a).copied().unwrap_or(0.0);
    let unsupported = pmf.iter().enumerate().filter(|(a, _)| !row.possible(*a)).map(|(_, p)| p).sum();
    Logged {
        propensity: row.pmf.get(row.action).map_or(0.0, |p| f64::from(*p)),
        target: of(&pmf, row.action),
        unsupported,
        cost: row.cost_usd.unwrap_or(f64::NAN),
        model_taken: of(model, row.action),
        model_target: pmf.iter().enumerate().map(|(a, p)| p * of(model, a)).sum(),
        cluster: row.cluster,
    }
}
