//! `fit ttl`: from a log to a judged model.
//!
//! The log is cut by time. A candidate learns on the first part, gets its operating points there, and is judged on the rest against
//! the rule and fixed TTLs, all by replay. What is published has learned from the whole log in the same way.

use std::collections::{BTreeMap, HashMap};

use farthing_contract::bundle::{OperatingPoint, Training};
use farthing_contract::features::{TTL_FEATURES, TTL_OUTPUTS, TTL_SPEC};
use farthing_policy::TtlParams;
use farthing_replay::{Decided, Engine, Event, EventKind, PassThroughAll, Trace, TrainingRow, training_rows};

use crate::card::{Curve, importance};
use crate::choice::{self, Choice, Chosen};
use crate::error::TrainError;
use crate::evaluate::points::{self, Tried};
use crate::evaluate::{Comparison, compare, stream};
use crate::gate::{self, Judgement};
use crate::history::History;
use crate::learn::{Blend, Boost, Learner, MIN_ROWS, Setting, Table, Watch, enough, log_likelihood};
use crate::predictor::Trees;
use crate::read::Log;
use crate::report::{Calibration, FitReport, calibration};
use crate::rows::{Row, Rows};
use crate::trees::Ensemble;

/// Share of the events that a candidate learns on.
pub const TRAIN_SHARE: f64 = 0.7;
/// Price ratios under which the log is replayed for training rows: rows must look like those a proxy in service will see,
/// whose knowledge comes from few fetches, also when the log passed everything through.
const PRACTICE: [f64; 3] = [0.003, 0.02, 0.1];
/// Most rows that are learned from; more are thinned evenly.
const MAX_ROWS: usize = 200_000;
/// Fewest held-out reads that judge a candidate.
const MIN_JUDGED: u64 = 200;
/// Rows of a key, in one pass over the log, beyond which each weighs less.
const MOST_OF_A_KEY: f32 = 200.0;

/// What a fit is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Largest share of stale answers, as configured on the routes.
    pub stale_budget: f64,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { stale_budget: 0.005, seed: 1 }
    }
}

/// What was learned from some part of a stream.
#[derive(Clone, Debug)]
pub struct Learned {
    /// The boosting alone.
    pub boost: Ensemble,
    /// The survival table.
    pub table: Ensemble,
    /// What is shipped: one of these or their blend.
    pub model: Ensemble,
    /// Which, and why.
    pub choice: Choice,
    /// The rows they learned from.
    pub rows: Rows,
    /// Operating points of the model on that part.
    pub points: Vec<OperatingPoint>,
    /// The sweep behind them.
    pub sweep: Vec<Tried>,
}

/// A fit and how it was judged.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Learned from the whole log.
    pub learned: Learned,
    /// How the candidate did.
    pub report: FitReport,
    /// What the manifest says of the training.
    pub training: Training,
    /// Figures for the manifest.
    pub metrics: BTreeMap<String, f64>,
}

/// The learners: a table of one tree of at most 8 questions, and 40 boosted trees of at most 5, below the 50 trees of depth 6 that the
/// request path allows.
pub fn recipe() -> Blend {
    let cells = [("key_changes", 4), ("key_log_age", 7), ("key_log_since_change", 7)];
    Blend { boost: Boost::default(), table: Table::over(TTL_SPEC.names, &cells), weight: 0.5 }
}

/// Chooses among the learners on the later part of the first `count` events of a trace, after they have learned from the part before.
pub fn choose(trace: &Trace, count: usize, options: Options, watch: &dyn Watch) -> Choice {
    let seen = Trace { routes: trace.routes.clone(), events: trace.events[..count.min(trace.events.len())].to_vec() };
    let cut = choice::cut(&seen.events);
    let Ok(fitted) = learners(&seen, cut, Rows::new(TTL_FEATURES, TTL_OUTPUTS), options, watch) else { return Choice::default() };
    let Ok(blend) = recipe().of(&fitted.boost, &fitted.table) else { return Choice::default() };
    watch.step("choosing", 0, 1);
    let choice = choice::choose((&seen, cut), &fitted.table, &fitted.boost, &blend);
    watch.step("choosing", 1, 1);
    choice
}

struct Fitted {
    boost: Ensemble,
    table: Ensemble,
    rows: Rows,
}

fn learners(trace: &Trace, count: usize, logged: Rows, options: Options, watch: &dyn Watch) -> Result<Fitted, TrainError> {
    let rows = rows_of(trace, count, logged, watch);
    let setting = Setting { seed: options.seed, watch };
    let recipe = recipe();
    Ok(Fitted { table: recipe.table.fit(&rows, &setting)?, boost: recipe.boost.fit(&rows, &setting)?, rows })
}

/// The rows that learners see of the first `count` events; `logged` are those that the log itself gives of that part.
pub fn rows_of(trace: &Trace, count: usize, logged: Rows, watch: &dyn Watch) -> Rows {
    let events = &trace.events[..count.min(trace.events.len())];
    let mut rows = thinned(practice(trace, events, logged, watch));
    weigh(&mut rows, events);
    rows
}

/// Learns from the first `count` events of a trace; `logged` are rows that the log itself gives of that part. What is shipped is as
/// chosen.
pub fn learn(
    (trace, count): (&Trace, usize),
    logged: Rows,
    choice: &Choice,
    options: Options,
    watch: &dyn Watch,
) -> Result<Learned, TrainError> {
    let events = &trace.events[..count.min(trace.events.len())];
    // Replays show the same refetches again: what is there to learn from is what the log holds.
    enough(logged.len())?;
    let Fitted { boost, table, rows } = learners(trace, count, logged, options, watch)?;
    let model = match choice.chosen {
        Chosen::Table => table.clone(),
        Chosen::Boost => boost.clone(),
        Chosen::Blend => recipe().of(&boost, &table)?,
    };
    watch.step("operating points", 0, 1);
    let sweep = points::sweep(&Engine::new(trace), (trace, events), &Trees::levels(&model));
    watch.step("operating points", 1, 1);
    let choice = choice.clone();
    Ok(Learned { boost, table, model, choice, rows, points: points::operating_points(&sweep), sweep })
}

/// Adds the rows of replays under the live statistics to those of the log.
fn practice(trace: &Trace, events: &[Event], logged: Rows, watch: &dyn Watch) -> Rows {
    let mut rows = Rows { routes: trace.routes.iter().map(|r| r.name.clone()).collect(), ..logged };
    let levels = Trees::levels(&zeros());
    for (n, kappa) in PRACTICE.into_iter().enumerate() {
        watch.step("replaying", n, PRACTICE.len());
        let params = TtlParams { kappa: Some(kappa), ..TtlParams::default() };
        let mut chooser = Decided::new(&levels, vec![params; trace.routes.len()]);
        push(&mut rows, &training_rows(&mut Engine::new(trace), trace, events, &mut chooser), n as u64 + 1);
    }
    watch.step("replaying", PRACTICE.len(), PRACTICE.len());
    rows
}

/// Adds the rows of a pass that tell something of statistics that have settled: a learner would take the error of the first guess for
/// theirs. Where hardly any has, as on routes that never change, all are added: better that error than nothing.
fn push(rows: &mut Rows, pass: &[TrainingRow], number: u64) {
    let tells = |row: &&TrainingRow| row.survived.iter().chain(&row.within).any(|e| *e > 0.0);
    let settled = pass.iter().filter(tells).filter(|row| row.settled).count();
    for row in pass.iter().filter(tells).filter(|row| row.settled || settled < MIN_ROWS) {
        let TrainingRow { features, survived, within, .. } = row;
        let (route, key) = (u32::from(row.route), number << 48 | u64::from(row.key));
        rows.push(&Row { features, survived, within, at_ns: row.at.nanos(), route, key, weight: 1.0 });
    }
}

/// Every fetch before a change has that change as its own, so there are many more rows with a change than changes. Weights count
/// each change about once, so that the learners' priors, in changes, weigh what they say. The rows of a key weigh no more than
/// [`MOST_OF_A_KEY`] of them, or a few hot keys would be all that is learned; how often a key is read says nothing of its changes,
/// while weighing each change alike would count short times between changes too often.
fn weigh(rows: &mut Rows, events: &[Event]) {
    let changes = events.iter().filter(|e| e.kind == EventKind::Change).count();
    let mut counts: HashMap<u64, u32> = HashMap::new();
    rows.keys.iter().for_each(|key| *counts.entry(*key).or_default() += 1);
    let of_key = |key: &u64| (MOST_OF_A_KEY / counts.get(key).map_or(1.0, |n| *n as f32)).min(1.0);
    rows.weights = rows.keys.iter().map(of_key).collect();
    let seen: f32 = (0..rows.len()).filter(|i| rows.changed(*i)).map(|i| rows.weights[i]).sum();
    let each = (changes as f32 / seen.max(1.0)).clamp(1e-3, 1.0);
    rows.weights.iter_mut().for_each(|weight| *weight *= each);
}

fn thinned(rows: Rows) -> Rows {
    let n = rows.len();
    if n <= MAX_ROWS { rows } else { rows.filter(|i| i * MAX_ROWS / n != (i + 1) * MAX_ROWS / n) }
}

/// Fits and judges where there is no champion. `Err` only when there is nothing to learn from.
pub fn fit(log: &Log, options: Options, watch: &dyn Watch) -> Result<Fit, TrainError> {
    fit_against(log, options, Err("no bundle decides yet"), watch)
}

/// Fits and judges, also against the bundle that decides at present (or why there is none).
pub fn fit_against(log: &Log, options: Options, champion: Result<&gate::Champion, &str>, watch: &dyn Watch) -> Result<Fit, TrainError> {
    let history = History::of(log);
    let trace = stream::of_log(log, &history.nondeterministic);
    if trace.events.is_empty() {
        return Err(TrainError::TooLittle(nothing_left(log, &history)));
    }
    let cut = (trace.events.len() as f64 * TRAIN_SHARE) as usize;
    let cut_ns = trace.events[cut.min(trace.events.len() - 1)].at.nanos();
    let before = History::of(&log.before(cut_ns));
    let choice = choose(&trace, cut, options, watch);
    let judged = learn((&trace, cut), before.teaching(), &choice, options, watch)
        .map(|candidate| judge((&trace, cut), &candidate, (options, champion), watch));
    let learned = learn((&trace, trace.events.len()), history.teaching(), &choice, options, watch)?;
    let judged = judged.map_err(|e| e.to_string()).and_then(|found| {
        let reads = found.comparison.reads;
        if reads < MIN_JUDGED {
            return Err(format!("only {reads} reads in the held-out time range, at least {MIN_JUDGED} judge a model"));
        }
        Ok(found)
    });
    Ok(finish(log, &history, learned, (judged, cut_ns), options))
}

fn nothing_left(log: &Log, history: &History) -> String {
    match (log.fetches.is_empty(), history.nondeterministic.is_empty()) {
        (true, _) => "the log holds no whole answer from an origin".to_owned(),
        (false, true) => "the log holds no request".to_owned(),
        (false, false) => format!("every route answers differently each time ({})", history.nondeterministic.join(", ")),
    }
}

/// What the held-out part said of the candidate.
struct HeldOut {
    comparison: Comparison,
    calibration: Vec<Calibration>,
    judgement: Judgement,
    curves: Vec<Curve>,
}

type Judge<'a> = (Options, Result<&'a gate::Champion, &'a str>);

/// Replays the candidate and its competitors on the held-out part.
fn judge((trace, cut): (&Trace, usize), candidate: &Learned, (options, champion): Judge<'_>, watch: &dyn Watch) -> HeldOut {
    watch.step("judging", 0, 2);
    let comparison = compare((trace, cut), candidate, options.stale_budget, false);
    let mut engine = Engine::new(trace);
    engine.run(trace, &trace.events[..cut], &mut PassThroughAll);
    let mut rows = Rows::new(TTL_FEATURES, TTL_OUTPUTS);
    push(&mut rows, &training_rows(&mut engine, trace, &trace.events[cut..], &mut PassThroughAll), 0);
    let calibration = calibration(&candidate.model, &rows);
    watch.step("judging", 1, 2);
    let judgement = gate::ttl::judge_model((trace, cut), &candidate.model, &comparison, (champion, options.seed));
    let curves = gate::ttl::curves((trace, cut), &candidate.model, &comparison);
    watch.step("judging", 2, 2);
    HeldOut { comparison, calibration, judgement, curves }
}

type Judged = (Result<HeldOut, String>, i64);

fn finish(log: &Log, history: &History, learned: Learned, (judged, cut_ns): Judged, options: Options) -> Fit {
    let rows = &learned.rows;
    let (from_ns, to_ns) = log.range_ns();
    let training = Training { data_digest: log.digest.clone(), from_ns, to_ns, rows: rows.len() as u64, seed: options.seed };
    let mut metrics = BTreeMap::new();
    metrics.insert("log_likelihood".to_owned(), log_likelihood(&learned.model, rows));
    metrics.insert("log_likelihood_live".to_owned(), log_likelihood(&zeros(), rows));
    let (held_out, unjudged) = judged.map_or_else(|reason| (None, Some(reason)), |held_out| (Some(held_out), None));
    let (comparison, calibration, judgement, curves) = match held_out {
        Some(HeldOut { comparison, calibration, judgement, curves }) => (Some(comparison), calibration, judgement, curves),
        None => Default::default(),
    };
    if let Some(comparison) = &comparison {
        metrics.extend(comparison.metrics());
    }
    let report = FitReport {
        files: log.files,
        fetches: log.fetches.len(),
        reads: log.reads.len(),
        rows: rows.len(),
        changes: rows.changes(),
        recomputed: log.recomputed,
        repeated: log.repeated,
        impossible: log.impossible,
        passed: log.passed,
        unknown: log.unknown(),
        routes: log.routes.clone(),
        left_out: history.nondeterministic.clone(),
        from_ns,
        split_ns: cut_ns,
        to_ns,
        trees: learned.model.trees.len(),
        depth: learned.model.depth(),
        choice: learned.choice.clone(),
        comparison,
        unjudged,
        judgement,
        curves,
        importance: importance(&learned.model, TTL_SPEC.names, rows),
        calibration,
        operating_points: learned.points.clone(),
    };
    Fit { learned, report, training, metrics }
}

/// The ensemble that leaves the live statistics as they are.
pub fn zeros() -> Ensemble {
    Ensemble { features: TTL_FEATURES, base: vec![0.0; TTL_OUTPUTS], trees: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hot_key_weighs_no_more_than_its_share_and_changes_count_once() {
        let mut rows = Rows::new(1, 1);
        for (key, count) in [(1, 1_000), (2, 100)] {
            for n in 0..count {
                let (survived, within) = ([0.5], [if n % 2 == 0 { 0.5 } else { 0.0 }]);
                rows.push(&Row { features: &[0.0], survived: &survived, within: &within, at_ns: n, route: 0, key, weight: 1.0 });
            }
        }
        let change = Event { at: farthing_types::Time::ZERO, key: 0, route: 0, kind: EventKind::Change, bytes: 0 };
        weigh(&mut rows, &vec![change; 30]);
        let of = |key: u64| (0..rows.len()).filter(|i| rows.keys[*i] == key).map(|i| rows.weights[i]).sum::<f32>();
        assert!((of(1) / of(2) - 2.0).abs() < 1e-3, "{} {}", of(1), of(2));
        let changes: f32 = (0..rows.len()).filter(|i| rows.changed(*i)).map(|i| rows.weights[i]).sum();
        assert!((changes - 30.0).abs() < 1e-2, "{changes}");
    }
}
