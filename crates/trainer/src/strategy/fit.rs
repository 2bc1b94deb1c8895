//! The fit: a candidate on the first part of the time, its judgement on the rest, and what is shipped from all of it.

use std::collections::BTreeMap;

use farthing_contract::bundle::Training;
use farthing_policy::Levels;

use super::gate::judgement;
use super::judge::{Verdict, played, verdict};
use super::learn::{Learned, learn, window_of};
use super::source::Source;
use crate::error::TrainError;
use crate::gate::{Champion, Judgement};
use crate::learn::{Examples, Watch};
use crate::predictor::Trees;

/// Share of the time that a candidate learns on.
pub const TRAIN_SHARE: f64 = 0.7;
/// Fewest held-out requests that judge.
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
    /// The gate's answer; without any check when the candidate was not judged.
    pub judgement: Judgement,
    /// What the manifest says of the training.
    pub training: Training,
    /// Figures for the manifest.
    pub metrics: BTreeMap<String, f64>,
    /// Length of a window, seconds.
    pub window_s: f64,
}

impl Fit {
    /// Whether every check of the gate holds.
    pub fn passes(&self) -> bool {
        self.judgement.passed()
    }
}

/// Fits and judges, also against the bundle that decides at present (or why there is none).
///
/// # Errors
/// Only when there is nothing to learn from.
pub fn fit(source: &Source, options: Options, champion: Result<&Champion, &str>, watch: &dyn Watch) -> Result<Fit, TrainError> {
    let Source { trace, model, .. } = source;
    let (cut, all) = (trace.split(options.train_share), trace.events.len());
    let held_out = learn((trace, cut), model, options.seed, watch).map_err(|e| e.to_string()).and_then(|candidate| {
        let ours = played((trace, cut), model, &Trees::levels(&candidate.model));
        let rule = played((trace, cut), model, &Levels::default());
        let verdict = verdict((trace, cut), model, (&ours, &rule), options.seed);
        if verdict.requests < MIN_JUDGED {
            return Err(format!("only {} requests in the held-out time, at least {MIN_JUDGED} judge a predictor", verdict.requests));
        }
        Ok((verdict, judgement((trace, cut), model, &candidate, (&ours, &rule), (champion, options.seed))))
    });
    let (judged, judgement) = match held_out {
        Ok((verdict, judgement)) => (Ok(verdict), judgement),
        Err(why) => (Err(why), Judgement::default()),
    };
    let learned = learn((trace, all), model, options.seed, watch)?;
    let at = |i: usize| trace.events.get(i).map_or(0, |e| e.at.nanos());
    let training = Training {
        data_digest: source.digest.clone(),
        from_ns: at(0),
        to_ns: at(all.saturating_sub(1)),
        rows: learned.rows.len() as u64,
        seed: options.seed,
    };
    let metrics = judged.as_ref().map(Verdict::metrics).unwrap_or_default();
    Ok(Fit { learned, judged, judgement, training, metrics, window_s: window_of(trace, all).as_secs_f64() })
}
