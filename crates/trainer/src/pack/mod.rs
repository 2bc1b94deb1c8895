//! Bring your own model: the rows as the learners see them, and a bundle around a model that another program has made of them.

mod matrix;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use farthing_contract::bundle::{Kind, OperatingPoint, Published, SigningKey, Training};
use farthing_contract::features::TTL_SPEC;
use farthing_policy::{Levels, Predictor};
use farthing_replay::Engine;

pub use matrix::{Matrix, write};

use crate::card::{self, Contents};
use crate::error::TrainError;
use crate::evaluate::points::{self, MARGIN, kappa_at};
use crate::evaluate::stream;
use crate::fit::{self, Options, TRAIN_SHARE};
use crate::foreign::{self, Checked};
use crate::gate::Champion;
use crate::gate::ttl::{Candidate, Rivals, Sample, Tuned, evidence};
use crate::gate::{Judgement, Setting as Bootstrap, Size, judge, latency};
use crate::history::History;
use crate::learn::{Learner as _, Setting, Watch, enough};
use crate::publish::{Card, Draft, Foreign, publish_foreign};
use crate::read::Log;
use crate::rows::Rows;
use crate::trees::Ensemble;

/// Rows of both parts of a log: what a candidate learns from, and what it is held against.
pub struct Parts {
    /// Of the first part alone, as the candidate of `fit` sees it: its labels know nothing of what came after.
    pub train: Rows,
    /// Of the rest.
    pub test: Rows,
    /// Where the log is cut, ns.
    pub cut_ns: i64,
}

/// The rows of a log for kind `ttl`, as its learners see them.
///
/// # Errors
/// When there is nothing to learn from.
pub fn ttl_parts(log: &Log, watch: &dyn Watch) -> Result<Parts, TrainError> {
    let history = History::of(log);
    let trace = stream::of_log(log, &history.nondeterministic);
    let Some(cut) = cut_of(&trace) else { return Err(TrainError::TooLittle("the log holds no whole answer from an origin".to_owned())) };
    let cut_ns = trace.events[cut].at.nanos();
    let before = History::of(&log.before(cut_ns)).teaching();
    enough(before.len())?;
    let train = fit::rows_of(&trace, cut, before, watch);
    let all = fit::rows_of(&trace, trace.events.len(), history.teaching(), watch);
    let test = all.filter(|i| all.at_ns[i] >= cut_ns);
    Ok(Parts { train, test, cut_ns })
}

fn cut_of(trace: &farthing_replay::Trace) -> Option<usize> {
    let cut = (trace.events.len() as f64 * TRAIN_SHARE) as usize;
    (!trace.events.is_empty()).then(|| cut.min(trace.events.len() - 1))
}

/// A foreign model and how it was judged.
pub struct Packed {
    checked: Checked,
    rows: Rows,
    table: Ensemble,
    points: Vec<OperatingPoint>,
    training: Training,
    card: Card,
    /// The gate's answer.
    pub judgement: Judgement,
}

/// Checks a foreign `ttl` model on every row of the log and judges it as `fit` judges its own.
///
/// # Errors
/// The model does not fit, with what to do; or there is too little to judge by.
pub fn ttl(
    log: &Log,
    onnx: &[u8],
    (options, champion): (Options, Result<&Champion, &str>),
    watch: &dyn Watch,
) -> Result<Packed, TrainError> {
    let history = History::of(log);
    let trace = stream::of_log(log, &history.nondeterministic);
    let Some(cut) = cut_of(&trace) else { return Err(TrainError::TooLittle("the log holds no whole answer from an origin".to_owned())) };
    let teaching = history.teaching();
    enough(teaching.len())?;
    let rows = fit::rows_of(&trace, trace.events.len(), teaching, watch);
    let wrong =
        |reason: String| TrainError::Foreign { path: "the ONNX file".into(), what: reason, remedy: "see docs/models.md".to_owned() };
    watch.step("checking", 0, 1);
    let checked = foreign::check(onnx, &TTL_SPEC, &rows).map_err(wrong)?;
    let setting = Setting { seed: options.seed, watch };
    let table = fit::recipe().table.fit(&rows, &setting)?;
    let model: Arc<dyn Predictor> = Arc::clone(&checked.model) as Arc<dyn Predictor>;
    let levels = Levels { model: Some(model), table: None };
    watch.step("operating points", 0, 2);
    let before = points::sweep(&Engine::new(&trace), (&trace, &trace.events[..cut]), &levels);
    watch.step("operating points", 1, 2);
    let all = points::sweep(&Engine::new(&trace), (&trace, &trace.events), &levels);
    let kappa = kappa_at(&before, options.stale_budget * MARGIN).unwrap_or(1e-4);
    watch.step("judging", 0, 1);
    let candidate = Candidate { levels: &levels, kappa, stale_budget: options.stale_budget };
    let (mut found, samples) = evidence((&trace, cut), &candidate, &Rivals { champion, tuned: Some(Tuned::default()) });
    found.size = size(&checked, &samples);
    let judgement = judge(&found, &Bootstrap { seed: options.seed, ..Bootstrap::default() });
    let (from_ns, to_ns) = log.range_ns();
    let training = Training { data_digest: log.digest.clone(), from_ns, to_ns, rows: rows.len() as u64, seed: options.seed };
    let card = card_of(&checked, &judgement, (&rows, &training, options));
    Ok(Packed { points: points::operating_points(&all), checked, rows, table, training, card, judgement })
}

/// Latency is that of ONNX Runtime, one row at a time with its features: what runs here is what will run in the proxy.
fn size(checked: &Checked, samples: &[Sample]) -> Size {
    let trees = checked.trees.as_ref().ok();
    let questions = trees.map(|e| e.trees.iter().map(crate::trees::Tree::depth).sum());
    let mut row = vec![0.0; TTL_SPEC.names.len()];
    let mut out = vec![0.0; TTL_SPEC.outputs()];
    let (p50_us, p99_us) = if samples.is_empty() {
        (0.0, 0.0)
    } else {
        latency::timed(|n| {
            samples[n % samples.len()].features(&mut row);
            let _ = std::hint::black_box(checked.model.predict(&row, &mut out));
        })
    };
    Size { trees: trees.map(|e| e.trees.len()), questions, p50_us, p99_us }
}

fn card_of(checked: &Checked, judgement: &Judgement, (rows, training, options): (&Rows, &Training, Options)) -> Card {
    let importance = checked.trees.as_ref().map_or_else(|_| Vec::new(), |trees| card::importance(trees, TTL_SPEC.names, rows));
    let apart = match &checked.trees {
        Ok(trees) => format!("{} trees, at most {} deep, read back from the file", trees.trees.len(), trees.depth()),
        Err(why) => format!("no tree ensemble of ours ({why}): its answers are not taken apart"),
    };
    card::card(&Contents {
        kind: Kind::Ttl,
        says: "A model of another program, packed. It predicts by what factor the change hazard of a cached answer differs from what live statistics say, per age interval.",
        facts: vec![
            format!(
                "log: digest {}, {} to {} ns, {} rows, all answered with finite numbers",
                training.data_digest, training.from_ns, training.to_ns, checked.rows
            ),
            apart,
            format!(
                "judged on the log's last {:.0} % of events: fair only if it learned from rows with split `train`",
                100.0 * (1.0 - TRAIN_SHARE)
            ),
        ],
        verdict: judgement.sentence(),
        judgement,
        importance,
        curves: &[],
        stale_budget: Some(options.stale_budget),
        limits: vec!["what it learned from is not known here; the data named is what it was judged by".to_owned()],
    })
}

impl Packed {
    /// Writes the bundle.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn publish(&self, root: &Path, parent: Option<String>, sign: Option<&SigningKey>) -> Result<Published, TrainError> {
        // Every row was answered when it was checked.
        let answer = |row: &[f32]| self.checked.model.run(row).unwrap_or_default();
        let trees = self.checked.trees.as_ref().ok();
        let draft = Draft {
            kind: Kind::Ttl,
            model: trees.unwrap_or(&self.table),
            table: &self.table,
            rows: &self.rows,
            training: self.training.clone(),
            metrics: self.metrics(),
            operating_points: self.points.clone(),
            gate: Some(self.judgement.record()),
            parent,
            card: self.card.clone(),
            sign,
        };
        publish_foreign(root, &draft, &Foreign { onnx: &self.checked.onnx, answer: &answer, trees })
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        metrics.insert("bill_usd".to_owned(), self.judgement.money_usd);
        metrics.insert("stale_share".to_owned(), self.judgement.stale_share);
        for against in &self.judgement.against {
            let name = match against.opponent {
                crate::gate::Opponent::Rules => "saving_against_rule",
                crate::gate::Opponent::Champion => "saving_against_champion",
                crate::gate::Opponent::Live => "saving_against_live",
            };
            metrics.insert(name.to_owned(), against.saving.value);
        }
        metrics
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let apart =
            self.checked.trees.as_ref().map_or_else(|why| format!("not as trees: {why}"), |e| format!("{} trees read back", e.trees.len()));
        format!(
            "model       {} rows answered, all finite; {apart}\n{}verdict     {}\n",
            self.checked.rows,
            self.judgement.text(),
            self.judgement.sentence()
        )
    }
}
