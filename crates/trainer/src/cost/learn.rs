//! Learns how far a call's output lies from the live quantiles of its route.

use farthing_contract::features::{COST_FEATURES, COST_LEVELS, COST_OUTPUTS, COST_SPEC, CostInput, CostStats, cost_features, log_units};

use super::source::Call;
use crate::error::TrainError;
use crate::learn::{Boost, Examples, Labelled, Learner, Loss, Setting, Table, Watch, enough};
use crate::trees::Ensemble;

/// Most rows that are learned from; more are thinned evenly.
const MAX_ROWS: usize = 200_000;

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

/// Learns from calls in order of time.
///
/// # Errors
/// [`TrainError::TooLittle`] with fewer than 20 calls.
pub fn learn(calls: &[Call], routes: usize, seed: u64, watch: &dyn Watch) -> Result<Learned, TrainError> {
    enough(calls.len())?;
    let rows = rows(calls, routes);
    let setting = Setting { seed, watch };
    let boost = Boost { trees: 48, depth: 5, rate: 0.3, leaf_share: 0.01, ..Boost::default() }.fit(&rows, &setting)?;
    let cells = [("prompt_over_live", 6), ("max_tokens_over_live", 3), ("live_log_output_sd", 3)];
    let table = Table::over(COST_SPEC.names, &cells).fit(&rows, &setting)?;
    Ok(Learned { model: levelled(boost, &rows), table: levelled(table, &rows), rows })
}

/// One row per call, thinned evenly.
fn rows(calls: &[Call], routes: usize) -> Labelled {
    let mut rows = Labelled::new(COST_FEATURES, COST_OUTPUTS, Loss::Quantiles(COST_LEVELS.to_vec()));
    let mut stats = vec![CostStats::default(); routes];
    let n = calls.len();
    for (i, call) in calls.iter().enumerate() {
        let Some(route) = stats.get_mut(call.route as usize) else { continue };
        let kept = n <= MAX_ROWS || i * MAX_ROWS / n != (i + 1) * MAX_ROWS / n;
        // The first calls of a route have nothing live to be compared with.
        if kept && route.calls() >= 10 {
            let y = log_units(call.output);
            let targets = route.live().map(|live| (y - live) as f32);
            rows.push(&cost_features(&CostInput { stats: route, facts: call.facts, now: call.at }), &targets, 1.0);
        }
        route.on_call(call.at, call.facts.prompt, call.output, None);
    }
    rows
}

/// Moves each output so that its share of the rows lies below it: steps of a fixed size end near a quantile, not on it.
fn levelled(mut ensemble: Ensemble, rows: &Labelled) -> Ensemble {
    let mut out = [0.0; COST_OUTPUTS];
    let mut rest: [Vec<f32>; COST_OUTPUTS] = Default::default();
    for i in 0..rows.len() {
        ensemble.eval(rows.row(i), &mut out);
        for k in 0..COST_OUTPUTS {
            rest[k].push(rows.target(i)[k] - out[k]);
        }
    }
    for (k, rest) in rest.iter_mut().enumerate() {
        rest.sort_by(f32::total_cmp);
        let place = (rest.len() as f64 * f64::from(COST_LEVELS[k])) as usize;
        if let Some(shift) = rest.get(place.min(rest.len().saturating_sub(1))) {
            ensemble.base[k] += shift;
        }
    }
    ensemble
}
