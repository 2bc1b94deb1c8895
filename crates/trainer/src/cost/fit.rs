//! The fit: a candidate on the first part of the time, its judgement on the rest, and what is shipped from all of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use farthing_contract::bundle::Training;

use super::judge::{Verdict, judge};
use super::learn::{Learned, learn};
use super::source::{Call, Source};
use crate::error::TrainError;
use crate::learn::{Examples, Watch};
use crate::predictor::Trees;

/// Share of the time that a candidate learns on.
pub const TRAIN_SHARE: f64 = 0.7;
/// Fewest held-out calls that judge.
const MIN_JUDGED: u64 = 200;

/// What a fit is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Seed of everything random.
    pub seed: u64,
    /// Share of the time that a candidate learns on.
    pub train_share: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 1, train_share: TRAIN_SHARE }
    }
}

/// A fit and how it was judged.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Learned from everything.
    pub learned: Learned,
    /// How the candidate did; else why it was not judged.
    pub judged: Result<Verdict, String>,
    /// What the manifest says of the training.
    pub training: Training,
    /// Figures for the manifest.
    pub metrics: BTreeMap<String, f64>,
}

impl Fit {
    /// Better than the rules on held-out time, beyond chance.
    pub fn passes(&self) -> bool {
        self.judged.as_ref().is_ok_and(Verdict::passes)
    }
}

/// Number of the first call at or after a share of the time.
fn split(calls: &[Call], share: f64) -> usize {
    let (Some(first), Some(last)) = (calls.first(), calls.last()) else { return 0 };
    let cut = first.at + last.at.since(first.at).mul_f64(share.clamp(0.0, 1.0));
    calls.partition_point(|c| c.at < cut)
}

/// Fits and judges.
///
/// # Errors
/// Only when there is nothing to learn from.
pub fn fit(source: &Source, options: Options, watch: &dyn Watch) -> Result<Fit, TrainError> {
    let (calls, routes) = (source.calls.as_slice(), source.routes.len());
    let cut = split(calls, options.train_share);
    let judged = learn(&calls[..cut], routes, options.seed, watch)
        .map_err(|e| e.to_string())
        .map(|candidate| judge((calls, cut), routes, &Trees::levels(&candidate.model), options.seed))
        .and_then(|verdict| {
            let few = format!("only {} calls in the held-out time, at least {MIN_JUDGED} judge a predictor", verdict.calls);
            if verdict.calls < MIN_JUDGED { Err(few) } else { Ok(verdict) }
        });
    let learned = learn(calls, routes, options.seed, watch)?;
    let at = |call: Option<&Call>| call.map_or(0, |c| c.at.nanos());
    let training = Training {
        data_digest: source.digest.clone(),
        from_ns: at(calls.first()),
        to_ns: at(calls.last()),
        rows: learned.rows.len() as u64,
        seed: options.seed,
    };
    let metrics = judged.as_ref().map(Verdict::metrics).unwrap_or_default();
    Ok(Fit { learned, judged, training, metrics })
}

/// For a terminal.
pub fn text(fit: &Fit) -> String {
    let mut out = String::new();
    let model = &fit.learned.model;
    let _ = writeln!(out, "rows        {}, {} trees of at most {} questions", fit.learned.rows.len(), model.trees.len(), model.depth());
    match &fit.judged {
        Err(why) => {
            let _ = writeln!(out, "not judged  {why}");
        }
        Ok(v) => {
            let _ = writeln!(out, "held out    {} calls, {:.1} % foretold by the predictor", v.calls, 100.0 * v.predicted);
            let _ = writeln!(out, "cover       {:.1} % at or below the upper forecast (wanted 88 to 92)", 100.0 * v.cover);
            let _ = writeln!(
                out,
                "error       {:.0} units in the middle; live quantile {:.0}, limit {:.0} ({:.0} % below)",
                v.error,
                v.live_error,
                v.limit_error,
                100.0 * v.below_limit()
            );
            let interval = v.interval.map_or_else(|| "too few blocks".to_owned(), |(low, high)| format!("{low:.4} to {high:.4}"));
            let _ = writeln!(out, "pinball     {:.4}, live quantiles {:.4}, difference {interval}", v.loss, v.live_loss);
            let _ = writeln!(out, "reserved    {:.0} % of what the limits reserve", 100.0 * v.reserved);
        }
    }
    let _ = writeln!(out, "verdict     {}", if fit.passes() { "better than the rules" } else { "not better than the rules beyond chance" });
    out
}

/// The model card.
pub fn card(fit: &Fit) -> String {
    let t = &fit.training;
    format!(
        "# Predictor of kind `cost`\n\nSays how far the middle and the upper quantile of a call's output lie from the live ones of its route, in logs. \
         Prices are the proxy's.\n\n- trained on {} rows, data {}, seed {}\n\n```\n{}```\n\nBlind spots: what a prompt asks for; only its length is seen.\n",
        t.rows,
        t.data_digest,
        t.seed,
        text(fit)
    )
}
