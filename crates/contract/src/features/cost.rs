//! Features of the `cost` predictor: how many units (tokens, bytes) a call will answer, before it is made.

use farthing_types::{Span, Time};

use super::calendar::{DAY_S, is_weekend, turn};
use super::spec::FeatureSpec;

/// Number of features of the `cost` predictor.
pub const COST_FEATURES: usize = 22;
/// Number of its outputs.
pub const COST_OUTPUTS: usize = 2;
/// The quantiles that the outputs correct.
pub const COST_LEVELS: [f32; COST_OUTPUTS] = [0.5, 0.9];

/// The spec of the `cost` predictor. Output `i` is the quantile [`COST_LEVELS`]`[i]` of ln(1 + output units), less the live one of the route
/// ([`CostStats::live`]): all zeros mean "as lately". Units and not money, so that a new price needs no new model.
pub const COST_SPEC: FeatureSpec = FeatureSpec { kind: "cost", version: 1, names: &COST_NAMES, horizons: &[], answers: &COST_ANSWERS };

const COST_ANSWERS: [&str; COST_OUTPUTS] = ["log_output_p50_over_live", "log_output_p90_over_live"];

const COST_NAMES: [&str; COST_FEATURES] = [
    "log_prompt",
    "prompt_missing",
    "log_max_tokens",
    "max_tokens_missing",
    "prompt_over_live",
    "max_tokens_over_live",
    "live_log_output_p50",
    "live_log_output_p90",
    "live_log_output_mean",
    "live_log_output_sd",
    "live_log_output_fast",
    "live_log_prompt_mean",
    "live_log_prompt_sd",
    "live_slope",
    "last_log_output",
    "log_calls",
    "log_since_last",
    "log_output_rate",
    "rate_missing",
    "hour_sin",
    "hour_cos",
    "weekend",
];

/// Weight of a call in the slow and the fast memory.
const SLOW: f64 = 1.0 / 512.0;
const FAST: f64 = 1.0 / 32.0;
/// Step of a live quantile: a share of the spread, falling with the calls to this.
const STEP: f64 = 0.01;
/// Step of the live correction of the upper quantile: it makes the coverage right whatever the model says.
const OFFSET_STEP: f64 = 0.02;
/// Calls up to which the quantiles are those of a normal distribution of the logs, and the upper one's distance in standard deviations.
const NORMAL: u32 = 30;
const Z90: f64 = 1.281_55;
/// Largest correction either way, in logs.
const MAX_OFFSET: f64 = 2.0;
/// Before anything was seen: the middle and the upper quantile of ln(1 + units), as wide as the field.
const START: [f64; COST_OUTPUTS] = [5.5, 7.0];

/// Live statistics of one route and target for the cost of a call; 120 bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostStats {
    calls: u32,
    last_ms: i64,
    mean: f64,
    square: f64,
    fast: f64,
    prompt_mean: f64,
    prompt_square: f64,
    product: f64,
    last: f64,
    quantiles: [f64; COST_OUTPUTS],
    offset: f64,
}

impl Default for CostStats {
    fn default() -> Self {
        Self {
            calls: 0,
            last_ms: 0,
            mean: 0.0,
            square: 0.0,
            fast: 0.0,
            prompt_mean: 0.0,
            prompt_square: 0.0,
            product: 0.0,
            last: 0.0,
            quantiles: START,
            offset: 0.0,
        }
    }
}

/// What is known of a call before it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallFacts {
    /// Units of the request: tokens of the prompt where they can be counted, else bytes of the body (always the same on a route).
    pub prompt: Option<u64>,
    /// Largest output that the request allows.
    pub max_tokens: Option<u64>,
    /// Price of an output unit, nano-dollars per million; tells classes of targets apart.
    pub output_rate: Option<i64>,
}

/// Everything a cost prediction knows.
#[derive(Clone, Copy, Debug)]
pub struct CostInput<'a> {
    /// The route's calls so far.
    pub stats: &'a CostStats,
    /// The request.
    pub facts: CallFacts,
    /// Now.
    pub now: Time,
}

/// ln(1 + units).
pub fn log_units(units: u64) -> f64 {
    (units as f64).min(1e15).ln_1p()
}

impl CostStats {
    /// Notes a finished call: its prompt, what it answered, and the upper quantile that was foretold for it
    /// (ln(1 + units), with the live offset), if one was.
    pub fn on_call(&mut self, now: Time, prompt: Option<u64>, output: u64, foretold: Option<f64>) {
        let y = log_units(output);
        if let Some(foretold) = foretold.filter(|f| f.is_finite()) {
            // Adaptive conformal inference: the offset rises after a miss and falls slowly, so that misses come to one in ten.
            let missed = f64::from(u8::from(y > foretold));
            let level = f64::from(COST_LEVELS[1]);
            self.offset = (self.offset + OFFSET_STEP * (missed - (1.0 - level))).clamp(-MAX_OFFSET, MAX_OFFSET);
        }
        self.calls = self.calls.saturating_add(1);
        let first = 1.0 / f64::from(self.calls);
        let (slow, fast) = (SLOW.max(first), FAST.max(first));
        self.mean += slow * (y - self.mean);
        self.square += slow * (y * y - self.square);
        self.fast += fast * (y - self.fast);
        if let Some(prompt) = prompt {
            let x = log_units(prompt);
            self.prompt_mean += slow * (x - self.prompt_mean);
            self.prompt_square += slow * (x * x - self.prompt_square);
            self.product += slow * (x * y - self.product);
        }
        self.step_quantiles(y);
        self.last = y;
        self.last_ms = self.last_ms.max(now.millis());
    }

    /// Robbins and Monro: a step up when the value lies above, down when below, in the proportion of the quantile.
    fn step_quantiles(&mut self, y: f64) {
        if self.calls < NORMAL {
            self.quantiles = [self.mean, self.mean + Z90 * self.sd().max(0.1)];
            return;
        }
        let step = STEP.max(1.0 / f64::from(self.calls)) * 3.0 * self.sd().max(0.1);
        for (quantile, level) in self.quantiles.iter_mut().zip(COST_LEVELS) {
            let level = f64::from(level);
            *quantile += step * if y > *quantile { level } else { level - 1.0 };
        }
        self.quantiles[1] = self.quantiles[1].max(self.quantiles[0]);
    }

    fn sd(&self) -> f64 {
        (self.square - self.mean * self.mean).max(0.0).sqrt()
    }

    /// Live quantiles of ln(1 + output units), at [`COST_LEVELS`].
    pub fn live(&self) -> [f64; COST_OUTPUTS] {
        self.quantiles
    }

    /// What the coverage of the upper quantile lately asks to be added to it, in logs.
    pub fn offset(&self) -> f64 {
        self.offset
    }

    /// Calls seen.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    fn prompt_sd(&self) -> f64 {
        (self.prompt_square - self.prompt_mean * self.prompt_mean).max(0.0).sqrt()
    }

    /// Slope of ln output on ln prompt, between -1 and 1.
    fn slope(&self) -> f64 {
        let variance = self.prompt_sd().powi(2);
        if variance < 1e-3 { 0.0 } else { ((self.product - self.mean * self.prompt_mean) / variance).clamp(-1.0, 1.0) }
    }
}

/// The features in the order of [`COST_SPEC`]. Constant time, no allocation.
pub fn cost_features(input: &CostInput<'_>) -> [f32; COST_FEATURES] {
    let CostInput { stats, facts, now } = input;
    let scale = |log: f64| (log / 8.0).clamp(-5.0, 5.0) as f32;
    let (prompt, most) = (facts.prompt.map(log_units), facts.max_tokens.map(log_units));
    let now_s = now.secs_f64();
    let day = turn(now_s, DAY_S);
    let since = if stats.last_ms == 0 { Span::ZERO } else { now.since(Time::from_millis(stats.last_ms)) };
    let rate = facts.output_rate.map(|r| (r.max(0) as f64).ln_1p());
    [
        prompt.map_or(0.0, scale),
        flag(prompt.is_none()),
        most.map_or(0.0, scale),
        flag(most.is_none()),
        prompt.filter(|_| stats.calls > 0).map_or(0.0, |p| (p - stats.prompt_mean).clamp(-8.0, 8.0) as f32),
        most.map_or(0.0, |m| (m - stats.quantiles[1]).clamp(-8.0, 8.0) as f32),
        scale(stats.quantiles[0]),
        scale(stats.quantiles[1]),
        scale(stats.mean),
        stats.sd().min(8.0) as f32,
        (stats.fast - stats.mean).clamp(-8.0, 8.0) as f32,
        scale(stats.prompt_mean),
        stats.prompt_sd().min(8.0) as f32,
        stats.slope() as f32,
        if stats.calls > 0 { (stats.last - stats.quantiles[0]).clamp(-8.0, 8.0) as f32 } else { 0.0 },
        (f64::from(stats.calls).ln_1p() / 8.0) as f32,
        (since.as_secs_f64().min(1e9).ln_1p() / 7.0) as f32,
        rate.map_or(0.0, |r| (r / 8.0) as f32),
        flag(rate.is_none()),
        day.sin() as f32,
        day.cos() as f32,
        flag(is_weekend(now_s)),
    ]
}

fn flag(on: bool) -> f32 {
    f32::from(u8::from(on))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn features_are_finite_and_of_order_one(
            calls in proptest::collection::vec((any::<i64>(), proptest::option::of(any::<u64>()), any::<u64>(), proptest::option::of(any::<f64>())), 0..60),
            prompt in proptest::option::of(any::<u64>()), most in proptest::option::of(any::<u64>()), rate in proptest::option::of(any::<i64>()),
            now in any::<i64>(),
        ) {
            let mut stats = CostStats::default();
            for (at, prompt, output, foretold) in calls {
                stats.on_call(Time::from_nanos(at), prompt, output, foretold);
            }
            let facts = CallFacts { prompt, max_tokens: most, output_rate: rate };
            let features = cost_features(&CostInput { stats: &stats, facts, now: Time::from_nanos(now) });
            prop_assert!(features.iter().all(|f| f.is_finite() && f.abs() <= 10.0), "{:?}", COST_SPEC.names.iter().zip(features).collect::<Vec<_>>());
            prop_assert!(stats.live()[0] <= stats.live()[1] && stats.offset().abs() <= MAX_OFFSET);
        }
    }

    #[test]
    fn live_quantiles_are_found_and_followed() {
        let mut stats = CostStats::default();
        // 1 to 1000 in a fixed scattered order.
        let value = |i: u64| (i * 617) % 1_000 + 1;
        for i in 0..20_000 {
            stats.on_call(Time::from_millis(i as i64), Some(100), value(i), None);
        }
        let [middle, high] = stats.live().map(f64::exp);
        assert!((450.0..=560.0).contains(&middle) && (850.0..=960.0).contains(&high), "{middle} {high}");
    }

    #[test]
    fn the_offset_makes_the_coverage_right() {
        let mut stats = CostStats::default();
        let (mut missed, n) = (0u32, 20_000u64);
        for i in 0..n {
            let output = (i * 617) % 1_000 + 1;
            // A model that always foretells the middle.
            let foretold = 500f64.ln() + stats.offset();
            missed += u32::from(log_units(output) > foretold);
            stats.on_call(Time::from_millis(i as i64), None, output, Some(foretold));
        }
        let share = f64::from(missed) / n as f64;
        assert!((0.095..=0.105).contains(&share), "{share}");
    }

    #[test]
    fn what_is_absent_is_flagged_and_names_are_unique() {
        let features = cost_features(&CostInput { stats: &CostStats::default(), facts: CallFacts::default(), now: Time::from_millis(1) });
        let of = |name: &str| features[COST_SPEC.names.iter().position(|n| *n == name).unwrap()];
        assert_eq!((of("prompt_missing"), of("max_tokens_missing"), of("rate_missing")), (1.0, 1.0, 1.0));
        let names: std::collections::BTreeSet<_> = COST_NAMES.iter().collect();
        assert_eq!((names.len(), COST_SPEC.outputs()), (COST_FEATURES, COST_OUTPUTS));
    }
}
