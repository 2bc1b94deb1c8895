//! Forecasts on held-out calls, made one by one as the proxy would, against what the rules know.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_contract::features::{COST_LEVELS, CostInput, CostStats, log_units};
use farthing_policy::cost::{Forecast, forecast};
use farthing_policy::{Guarded, Levels};
use farthing_replay::Paired;
use farthing_types::{Span, Time, VirtualClock};
use serde::Serialize;

use super::source::Call;

/// Blocks of held-out calls, in order of time, that the interval is drawn from.
const BLOCKS: usize = 100;
/// Losses are counted in millionths when they are compared.
const MICRO: f64 = 1e6;

/// What came of the held-out calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// Held-out calls.
    pub calls: u64,
    /// Share of them at or below the upper forecast.
    pub cover: f64,
    /// Middle absolute error of the middle forecast, units.
    pub error: f64,
    /// The same when the live quantile alone foretells.
    pub live_error: f64,
    /// The same when the limit (or the most ever seen on the training part, where requests name none) stands for the output.
    pub limit_error: f64,
    /// Mean pinball loss of both quantiles, in logs.
    pub loss: f64,
    /// The same of the live quantiles alone.
    pub live_loss: f64,
    /// Units that the upper forecasts reserve, over those that the limits reserve.
    pub reserved: f64,
    /// 95 % interval of the difference of the losses, model less live quantiles; `None` with too few calls.
    pub interval: Option<(f64, f64)>,
    /// Share of the calls that the predictor foretold.
    pub predicted: f64,
}

impl Verdict {
    /// How much smaller the middle error is than with the limit.
    pub fn below_limit(&self) -> f64 {
        if self.limit_error > 0.0 { 1.0 - self.error / self.limit_error } else { 0.0 }
    }
    /// Better than the live quantiles beyond chance, and than the limits.
    pub fn passes(&self) -> bool {
        self.interval.is_some_and(|(_, high)| high < 0.0) && self.error < self.limit_error
    }
    /// Figures for the manifest.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        [
            ("held_out_calls", self.calls as f64),
            ("cover_p90", self.cover),
            ("error_units", self.error),
            ("live_error_units", self.live_error),
            ("limit_error_units", self.limit_error),
            ("pinball", self.loss),
            ("live_pinball", self.live_loss),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

/// Walks all calls; those from number `from` on are judged.
pub fn judge((calls, from): (&[Call], usize), routes: usize, levels: &Levels, seed: u64) -> Verdict {
    let (ours, live) = (Walk::new(calls, routes, levels), Walk::new(calls, routes, &Levels::default()));
    let most = calls[..from.min(calls.len())].iter().map(|c| c.output).max().unwrap_or(0);
    let judged = || from.min(calls.len())..calls.len();
    let n = judged().count();
    let mut paired = Paired::default();
    let mut found = Verdict { calls: n as u64, ..Verdict::default() };
    let (mut errors, mut live_errors, mut limit_errors) = (Vec::new(), Vec::new(), Vec::new());
    let (mut reserved, mut limits) = (0.0, 0.0);
    for (place, i) in judged().enumerate() {
        let (call, (a, by), (b, _)) = (&calls[i], ours.0[i], live.0[i]);
        let limit = call.facts.max_tokens.unwrap_or(most);
        let off = |units: u64| units.abs_diff(call.output) as f64;
        found.cover += f64::from(u8::from(call.output <= a.p90));
        found.predicted += f64::from(u8::from(by));
        errors.push(off(a.p50));
        live_errors.push(off(b.p50));
        limit_errors.push(off(limit));
        (reserved, limits) = (reserved + a.p90 as f64, limits + limit as f64);
        let (loss, live_loss) = (pinball(&a, call.output), pinball(&b, call.output));
        found.loss += loss;
        found.live_loss += live_loss;
        let block = (place * BLOCKS / n.max(1)) as u64;
        paired.first(block, Time::from_nanos(0), (loss * MICRO) as i64);
        paired.second(block, Time::from_nanos(0), (live_loss * MICRO) as i64);
    }
    let count = n.max(1) as f64;
    for mean in [&mut found.cover, &mut found.predicted, &mut found.loss, &mut found.live_loss] {
        *mean /= count;
    }
    (found.error, found.live_error, found.limit_error) = (middle(errors), middle(live_errors), middle(limit_errors));
    found.reserved = if limits > 0.0 { reserved / limits } else { 1.0 };
    found.interval = paired.difference(seed).interval.map(|(low, high)| (low as f64 / MICRO / count, high as f64 / MICRO / count));
    found
}

/// Forecasts of all calls in order.
struct Walk(Vec<(Forecast, bool)>);

impl Walk {
    /// Without predictors the live quantiles foretell: the limit is judged beside them.
    fn new(calls: &[Call], routes: usize, levels: &Levels) -> Self {
        let guarded = Guarded::new(Arc::new(VirtualClock::default()), Span::from_secs(1), Span::from_secs(1));
        let mut stats = vec![CostStats::default(); routes];
        let ruled = levels.model.is_none() && levels.table.is_none();
        let mut one = |call: &Call| {
            let Some(route) = stats.get_mut(call.route as usize) else { return (Forecast::default(), false) };
            let mut facts = call.facts;
            facts.max_tokens = facts.max_tokens.filter(|_| !ruled);
            let decision = forecast(&guarded, levels, &CostInput { stats: route, facts, now: call.at });
            route.on_call(call.at, call.facts.prompt, call.output, decision.foretold);
            let by = decision.outputs.is_some();
            let mut value = decision.forecast.map(|c| c.value).unwrap_or_default();
            if let Some(most) = call.facts.max_tokens {
                value = Forecast { p50: value.p50.min(most), p90: value.p90.min(most) };
            }
            (value, by)
        };
        Self(calls.iter().map(&mut one).collect())
    }
}

/// Sum of the pinball losses of both quantiles, in logs.
fn pinball(forecast: &Forecast, output: u64) -> f64 {
    let y = log_units(output);
    let one = |units: u64, level: f32| {
        let (off, level) = (y - log_units(units), f64::from(level));
        if off > 0.0 { level * off } else { (level - 1.0) * off }
    };
    one(forecast.p50, COST_LEVELS[0]) + one(forecast.p90, COST_LEVELS[1])
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
