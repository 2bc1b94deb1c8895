//! Learns the differences between what a window had and what the live statistics said before it.

use farthing_contract::features::{STRATEGY_FEATURES, STRATEGY_OUTPUTS, STRATEGY_SPEC};
use farthing_replay::Trace;
use farthing_replay::strategies::{LabelOptions, Model, StrategyRow, labels};
use farthing_types::Span;

use crate::error::TrainError;
use crate::learn::{Boost, Examples, Labelled, Learner, Loss, Setting, Table, Watch, enough};
use crate::trees::Ensemble;

/// Windows that a trace is cut into, and their bounds.
const WINDOWS: u32 = 120;
const SHORTEST: Span = Span::from_secs(60);
const LONGEST: Span = Span::from_secs(6 * 3_600);
/// Rows per window and route.
const PER_WINDOW: u32 = 4;
/// Most rows that are learned from; more are thinned evenly.
const MAX_ROWS: usize = 120_000;
/// Outputs that belong together, with the trees they get: 48 in all, below the 50 that the request path allows.
const GROUPS: [(&[usize], usize); 5] = [(&[0, 4], 7), (&[1], 13), (&[2], 8), (&[3, 5, 6], 14), (&[7, 8], 6)];
/// The outputs that are expected errors, and the outputs that they are about.
const SPREADS: [(usize, usize); 2] = [(7, 1), (8, 3)];

/// What was learned.
#[derive(Clone, Debug)]
pub struct Learned {
    /// Boosted trees: what is shipped.
    pub model: Ensemble,
    /// The table that stands in.
    pub table: Ensemble,
    /// The rows.
    pub rows: Labelled,
}

/// Length of the windows of a trace.
pub fn window_of(trace: &Trace, count: usize) -> Span {
    let events = &trace.events[..count.min(trace.events.len())];
    let span = events.first().zip(events.last()).map_or(Span::ZERO, |(a, b)| b.at.since(a.at));
    (span / WINDOWS).clamp(SHORTEST, LONGEST)
}

/// Learns from the first `count` events.
///
/// # Errors
/// [`TrainError::TooLittle`] with fewer than 20 rows.
pub fn learn((trace, count): (&Trace, usize), model: &Model, seed: u64, watch: &dyn Watch) -> Result<Learned, TrainError> {
    let events = &trace.events[..count.min(trace.events.len())];
    watch.step("replaying", 0, 1);
    let rows = labels(trace, events, model, LabelOptions { window: window_of(trace, count), per_window: PER_WINDOW });
    watch.step("replaying", 1, 1);
    learn_rows(&thinned(rows), seed, watch)
}

fn thinned(rows: Vec<StrategyRow>) -> Vec<StrategyRow> {
    let n = rows.len();
    if n <= MAX_ROWS {
        return rows;
    }
    rows.into_iter().enumerate().filter(|(i, _)| i * MAX_ROWS / n != (i + 1) * MAX_ROWS / n).map(|(_, row)| row).collect()
}

fn learn_rows(rows: &[StrategyRow], seed: u64, watch: &dyn Watch) -> Result<Learned, TrainError> {
    enough(rows.len())?;
    let setting = Setting { seed, watch };
    let mean = rows.iter().map(weight).sum::<f32>() / rows.len() as f32;
    // The errors to expect are those on windows that the means have not seen: they learn on the earlier half and are tried on the later.
    let mut ordered: Vec<&StrategyRow> = rows.iter().collect();
    ordered.sort_by_key(|row| row.at);
    let half = ordered[ordered.len() / 2].at;
    let early: Vec<StrategyRow> = rows.iter().filter(|row| row.at < half).cloned().collect();
    let trial = if early.len() >= 200 { Some(boosted(&labelled(&early, mean, &|_, _| f32::NAN), &setting)?) } else { None };
    let spread = |row: &StrategyRow, output: usize| match &trial {
        Some(trial) if row.at >= half => (row.targets[output] - answer(trial, row, output)).abs(),
        Some(_) => f32::NAN,
        None => row.targets[output].abs(),
    };
    let rows = labelled(rows, mean, &spread);
    let model = boosted(&rows, &setting)?;
    let cells = [("cache_items_slow", 6), ("batch_calls_slow", 5), ("log_rate_ratio", 4)];
    let table = Table::over(STRATEGY_SPEC.names, &cells).fit(&rows, &setting)?;
    Ok(Learned { model, table, rows })
}

fn answer(ensemble: &Ensemble, row: &StrategyRow, output: usize) -> f32 {
    let mut out = [0.0; STRATEGY_OUTPUTS];
    ensemble.eval(&row.features, &mut out);
    out[output]
}

/// Windows with many requests say more, but a route with a thousand times the traffic is not a thousand routes.
fn weight(row: &StrategyRow) -> f32 {
    (row.requests as f32).sqrt().min(100.0)
}

fn labelled(rows: &[StrategyRow], mean: f32, spread: &dyn Fn(&StrategyRow, usize) -> f32) -> Labelled {
    let mut out = Labelled::new(STRATEGY_FEATURES, STRATEGY_OUTPUTS, Loss::Squared);
    for row in rows {
        let mut targets = row.targets;
        for (place, about) in SPREADS {
            targets[place] = spread(row, about);
        }
        out.push(&row.features, &targets, weight(row) / mean.max(1e-6));
    }
    out
}

/// One boosting per group of outputs, so that the trees of one do not have to serve what another needs; together one ensemble.
fn boosted(rows: &Labelled, setting: &Setting<'_>) -> Result<Ensemble, TrainError> {
    let part = |(group, trees): &(&[usize], usize)| {
        let mut only = Labelled::new(STRATEGY_FEATURES, STRATEGY_OUTPUTS, Loss::Squared);
        for i in 0..rows.len() {
            let mut targets = [f32::NAN; STRATEGY_OUTPUTS];
            group.iter().for_each(|k| targets[*k] = rows.target(i)[*k]);
            only.push(rows.row(i), &targets, rows.weight(i));
        }
        Boost { trees: *trees, depth: 5, rate: 0.25, leaf_share: 0.01, ..Boost::default() }.fit(&only, setting)
    };
    let parts = GROUPS.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    let weighted: Vec<(f32, &Ensemble)> = parts.iter().map(|e| (1.0, e)).collect();
    Ensemble::blend(&weighted).ok_or_else(|| TrainError::Learner { learner: "boost", reason: "its parts do not fit together".to_owned() })
}
