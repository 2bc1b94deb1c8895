//! From sessions to trees.

use farthing_contract::features::{PREFETCH_FEATURES, PREFETCH_OUTPUTS, PREFETCH_SPEC};
use farthing_policy::Levels;
use farthing_policy::prefetch::{PrefetchParams, Tariff};
use farthing_replay::prefetch::{Engine, PrefetchRow, Sessions, Setup};
use farthing_types::{Money, Span};

use crate::error::TrainError;
use crate::learn::{Blend, Boost, Examples, Labelled, Learner, Loss, Setting, Table, Watch, enough};
use crate::predictor::Trees;
use crate::trees::Ensemble;

/// How practice runs fetch ahead: rows must look like those of a proxy that does.
const PRACTICE: [Practice; 3] = [Practice::Above(0.5), Practice::Above(0.75), Practice::Batches];
/// Most rows that are learned from; more are thinned evenly.
const MAX_ROWS: usize = 200_000;

/// What was learned.
#[derive(Clone, Debug)]
pub struct Learned {
    /// What is shipped: boosting and table together.
    pub model: Ensemble,
    /// The table alone, for proxies without the native library.
    pub table: Ensemble,
    /// The rows.
    pub rows: Labelled,
    /// Rows whose candidate was used.
    pub used: usize,
}

/// Learners as shipped: at most 41 trees of at most 6 questions. Rows of one visit resemble each other, so leaves are large and steps small: on a day of
/// sessions, learned on its first half to four fifths, trees of five questions at the usual rate had a log loss 2.5 % higher.
pub fn recipe() -> Blend {
    let cells = [("ratio", 6), ("ratio_earlier", 3), ("others_slow", 5), ("ratio_template", 2), ("since_session_asked", 2)];
    let boost = Boost { trees: 40, depth: 4, rate: 0.15, leaf_share: 0.015, ..Boost::default() };
    Blend { boost, table: Table { prior: 6.0, ..Table::over(PREFETCH_SPEC.names, &cells) }, weight: 0.8 }
}

/// What is fetched ahead in a run that makes rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Practice {
    /// Nothing.
    Nothing,
    /// At the price of a call, everything above this probability.
    Above(f64),
    /// Whatever rides for nothing with a miss, in batches of ten.
    Batches,
}

impl Practice {
    fn params(self, price: Money) -> PrefetchParams {
        let base = PrefetchParams { must_earn: false, ..PrefetchParams::default() };
        match self {
            Self::Nothing => base,
            // A use is worth 1/threshold calls.
            Self::Above(threshold) => {
                PrefetchParams { latency: Money::from_nanos((price.nanos() as f64 * (1.0 / threshold - 1.0)) as i64), ..base }
            }
            Self::Batches => PrefetchParams { tariff: Tariff::Batch(10), ..base },
        }
    }
}

/// Rows of a replay of the first `count` requests with `practice` by what `levels` says.
pub fn rows_of(sessions: &Sessions, count: usize, (levels, practice): (Levels, Practice), horizon: Span) -> Vec<PrefetchRow> {
    let mut terms = sessions.clone();
    terms.routes.iter_mut().for_each(|route| route.params = practice.params(route.price));
    let mut engine = Engine::new(&terms, Setup { collect: true, ..Setup::new(levels, horizon) });
    engine.run(&terms.visits[..count.min(terms.visits.len())]);
    engine.rows().copied().collect()
}

/// Learns from the first `count` requests.
///
/// # Errors
/// When there is too little to learn from.
pub fn learn(sessions: &Sessions, count: usize, horizon: Span, setting: &Setting<'_>) -> Result<Learned, TrainError> {
    let mut rows = rows_of(sessions, count, (Levels::default(), Practice::Nothing), horizon);
    if rows.is_empty() {
        let why = "no request follows another of the same session: requests need a tenant, service or tags that tell clients apart";
        return Err(TrainError::TooLittle(why.to_owned()));
    }
    let first = recipe().fit(&labelled(&rows, setting.watch)?, setting)?;
    for practice in PRACTICE {
        rows.extend(rows_of(sessions, count, (Trees::levels(&first), practice), horizon));
    }
    let labelled = labelled(&rows, setting.watch)?;
    let recipe = recipe();
    let table = recipe.table.fit(&labelled, setting)?;
    let boost = recipe.boost.fit(&labelled, setting)?;
    let model = recipe.of(&boost, &table)?;
    let used = rows.iter().filter(|r| r.used).count();
    Ok(Learned { model, table, rows: labelled, used })
}

fn labelled(rows: &[PrefetchRow], watch: &dyn Watch) -> Result<Labelled, TrainError> {
    watch.step("rows", rows.len(), rows.len());
    let n = rows.len();
    let mut out = Labelled::new(PREFETCH_FEATURES, PREFETCH_OUTPUTS, Loss::Logistic);
    for (i, row) in rows.iter().enumerate() {
        if n <= MAX_ROWS || i * MAX_ROWS / n != (i + 1) * MAX_ROWS / n {
            // A label is seen whatever was done, so rows weigh the same; the propensity serves evaluation.
            out.push(&row.features, &[f32::from(u8::from(row.used))], 1.0);
        }
    }
    enough(out.len())?;
    Ok(out)
}
