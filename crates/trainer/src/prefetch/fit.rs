//! `fit prefetch`: from sessions to a judged model. Cut by time: a candidate learns on the first part and is judged on the rest, by
//! replay, against the rule (the plain conditional share). What is published has learned from everything in the same way.

use std::collections::BTreeMap;

use farthing_contract::bundle::Training;
use farthing_policy::Levels;
use farthing_policy::prefetch::{PrefetchParams, PrefetchSource, Tariff};
use farthing_replay::prefetch::{Books, Engine, Reliability, Sessions, Setup};
use farthing_types::{Money, Span};

use super::learn::{Learned, learn};
use super::report::{Judged, PrefetchReport};
use crate::error::TrainError;
use crate::learn::{Examples, Setting, Watch};
use crate::predictor::Trees;
use crate::read::SessionLog;

/// Share of the time that a candidate learns on.
pub const TRAIN_SHARE: f64 = 0.6;
/// Fewest held-out candidates that judge a model.
const MIN_JUDGED: u64 = 200;

/// What a fit is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How far ahead a request counts as following.
    pub horizon: Span,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { horizon: Span::from_secs(30), seed: 1 }
    }
}

/// A fit and how it was judged.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Learned from the whole log.
    pub learned: Learned,
    /// How the candidate did.
    pub report: PrefetchReport,
    /// What the manifest says of the training.
    pub training: Training,
    /// Figures for the manifest.
    pub metrics: BTreeMap<String, f64>,
}

/// Replays the whole log under `params` on every route; books and reliability are those of the requests from `cut` on.
pub fn judge(sessions: &Sessions, cut: usize, levels: &Levels, params: PrefetchParams, horizon: Span) -> (Books, Reliability) {
    let mut terms = sessions.clone();
    terms.routes.iter_mut().for_each(|route| route.params = params);
    let mut engine = Engine::new(&terms, Setup::new(levels.clone(), horizon));
    engine.run(&terms.visits[..cut]);
    engine.judge_from_here();
    engine.run(&terms.visits[cut..]);
    (engine.total(), *engine.reliability())
}

/// The terms under which model and rule are compared: a batch endpoint of ten, and a wait that is worth one call.
fn reference(sessions: &Sessions, source: PrefetchSource) -> [PrefetchParams; 2] {
    let price = sessions.routes.iter().map(|r| r.price).max().unwrap_or(Money::ZERO);
    let base = PrefetchParams { source, ..PrefetchParams::default() };
    [PrefetchParams { latency: price, ..base }, PrefetchParams { tariff: Tariff::Batch(10), ..base }]
}

/// Fits and judges.
///
/// # Errors
/// When there is nothing to learn from.
pub fn fit(log: &SessionLog, options: Options, watch: &dyn Watch) -> Result<Fit, TrainError> {
    let sessions = &log.sessions;
    let (Some(first), Some(last)) = (sessions.visits.first(), sessions.visits.last()) else {
        return Err(TrainError::TooLittle("the log holds no request".to_owned()));
    };
    if log.anonymous == sessions.visits.len() {
        let why = "no request says who asked: prefetch needs a tenant, service or tags per session (`x-farthing-tags: session=..`)";
        return Err(TrainError::TooLittle(why.to_owned()));
    }
    let setting = Setting { seed: options.seed, watch };
    let cut = sessions.split(TRAIN_SHARE);
    let judged = learn(sessions, cut, options.horizon, &setting).map(|candidate| compare(sessions, cut, &candidate, options.horizon));
    let judged = match judged {
        Ok(judged) if judged.candidates < MIN_JUDGED => {
            Err(format!("only {} candidates in the held-out time range, at least {MIN_JUDGED} judge a model", judged.candidates))
        }
        Ok(judged) => Ok(judged),
        Err(error) => Err(error.to_string()),
    };
    let learned = learn(sessions, sessions.visits.len(), options.horizon, &setting)?;
    let training = Training {
        data_digest: log.digest.clone(),
        from_ns: first.at.nanos(),
        to_ns: last.at.nanos(),
        rows: learned.rows.len() as u64,
        seed: options.seed,
    };
    let mut metrics = judged.as_ref().map(Judged::metrics).unwrap_or_default();
    metrics.insert("horizon_s".to_owned(), options.horizon.as_secs_f64());
    let report = PrefetchReport {
        files: log.files,
        requests: sessions.visits.len(),
        anonymous: log.anonymous,
        routes: sessions.routes.len(),
        rows: learned.rows.len(),
        used: learned.used,
        horizon_s: options.horizon.as_secs_f64(),
        trees: learned.model.trees.len(),
        depth: learned.model.depth(),
        judged,
    };
    Ok(Fit { learned, report, training, metrics })
}

fn compare(sessions: &Sessions, cut: usize, candidate: &Learned, horizon: Span) -> Judged {
    let model = Trees::levels(&candidate.model);
    let [wait, batch] = reference(sessions, PrefetchSource::Model);
    let [wait_rule, batch_rule] = reference(sessions, PrefetchSource::Rule);
    let (by_model, told) = judge(sessions, cut, &model, wait, horizon);
    let (by_rule, ruled) = judge(sessions, cut, &Levels::default(), wait_rule, horizon);
    let (in_batch, _) = judge(sessions, cut, &model, batch, horizon);
    let (in_batch_rule, _) = judge(sessions, cut, &Levels::default(), batch_rule, horizon);
    Judged {
        candidates: told.count.iter().sum(),
        net: (by_model.net() + in_batch.net()).as_usd_f64(),
        net_rule: (by_rule.net() + in_batch_rule.net()).as_usd_f64(),
        log_loss: told.mean_log_loss(),
        log_loss_rule: ruled.mean_log_loss(),
        calibration: told.error(),
        calibration_rule: ruled.error(),
        precision: by_model.precision(),
        removed: by_model.removed(),
        more_calls: by_model.more_calls(),
        fewer_billed: in_batch.fewer_billed(),
    }
}
