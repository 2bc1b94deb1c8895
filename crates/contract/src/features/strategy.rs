//! Features of the `strategy` predictor: what a route's live statistics say each strategy would save, to be corrected by a model.

use farthing_types::{Span, Time};

use super::calendar::{DAY_S, is_weekend, turn};
use super::spec::FeatureSpec;
use super::strategy_stats::{BatchWindow, StrategyStats};
use super::{KeyStats, RouteStats, TtlInput};

/// Number of features of the `strategy` predictor.
pub const STRATEGY_FEATURES: usize = 32;
/// Number of its outputs.
pub const STRATEGY_OUTPUTS: usize = 9;

/// The spec of the `strategy` predictor.
///
/// Outputs are differences to the live shares ([`StrategyStats::live`]) of the coming window, per request of the route: calls that remain with
/// joining, with the cache, stale answers with the cache, batch calls, items and batch calls with joining, batch calls with the cache. All
/// zeros mean "as the live statistics say". The last two are the expected absolute error of what remains with the cache and of the batch
/// calls: how sure the prediction is. Shares and not money, so that a new price needs no new model.
pub const STRATEGY_SPEC: FeatureSpec =
    FeatureSpec { kind: "strategy", version: 1, names: &STRATEGY_NAMES, horizons: &[], answers: &STRATEGY_ANSWERS };

const STRATEGY_ANSWERS: [&str; STRATEGY_OUTPUTS] = [
    "dedupe_items",
    "cache_items",
    "cache_stale",
    "batch_calls",
    "dedupe_batch_items",
    "dedupe_batch_calls",
    "cache_batch_calls",
    "cache_spread",
    "batch_spread",
];

const STRATEGY_NAMES: [&str; STRATEGY_FEATURES] = [
    "log_rate_fast",
    "log_rate_slow",
    "log_rate_ratio",
    "dedupe_items_fast",
    "dedupe_items_slow",
    "cache_items_fast",
    "cache_items_slow",
    "cache_stale_fast",
    "cache_stale_slow",
    "batch_calls_fast",
    "batch_calls_slow",
    "dedupe_batch_items",
    "dedupe_batch_calls",
    "cache_batch_calls",
    "cached_share",
    "repeats_minute",
    "repeats_day",
    "new_keys",
    "route_changed_share",
    "route_log_hazard",
    "route_stale_share",
    "route_stale_missing",
    "log_latency",
    "latency_missing",
    "log_window",
    "window_missing",
    "log_batch_max",
    "log_body_bytes",
    "log_observed",
    "hour_sin",
    "hour_cos",
    "weekend",
];

/// Everything a strategy decision knows when a request comes in.
#[derive(Clone, Copy, Debug)]
pub struct StrategyInput<'a> {
    /// What the strategies would have done on the route lately.
    pub stats: &'a StrategyStats,
    /// Changes on the route.
    pub route: &'a RouteStats,
    /// Batching as the provider and the operator allow it; `None` where there is no batch format or price.
    pub batch: Option<BatchWindow>,
    /// Now.
    pub now: Time,
}

/// The features in the order of [`STRATEGY_SPEC`]. Constant time, no allocation.
pub fn strategy_features(input: &StrategyInput<'_>) -> [f32; STRATEGY_FEATURES] {
    let StrategyInput { stats, route, batch, now } = input;
    let (fast, slow) = (stats.fast(), stats.live());
    let (rate_fast, rate_slow) = (stats.rate_fast(*now), stats.rate_slow(*now));
    let kinds = stats.key_shares();
    let now_s = now.secs_f64();
    let day = turn(now_s, DAY_S);
    let stale = route.stale_share();
    let latency = stats.latency();
    [
        log_rate(rate_fast),
        log_rate(rate_slow),
        (rate_fast / rate_slow).ln().clamp(-5.0, 5.0) as f32,
        fast.dedupe_items,
        slow.dedupe_items,
        fast.cache_items,
        slow.cache_items,
        10.0 * fast.cache_stale,
        10.0 * slow.cache_stale,
        fast.batch_calls,
        slow.batch_calls,
        slow.dedupe_batch_items,
        slow.dedupe_batch_calls,
        slow.cache_batch_calls,
        kinds.cached,
        kinds.repeats_minute,
        kinds.repeats_day,
        kinds.new_keys,
        route.changed_share().unwrap_or(0.0).clamp(0.0, 1.0) as f32,
        log_rate(route.hazard()),
        stale.map_or(0.0, |s| (10.0 * s).clamp(0.0, 10.0) as f32),
        flag(stale.is_none()),
        latency.map_or(0.0, |l| log_span(l.middle)),
        flag(latency.is_none()),
        batch.map_or(0.0, |b| log_span(b.window)),
        flag(batch.is_none()),
        batch.map_or(0.0, |b| f64::from(b.max).ln_1p() as f32 / 4.0),
        (stats.body_bytes().clamp(0.0, 1e15).ln_1p() / 8.0) as f32,
        log_span(stats.observed(*now)),
        day.sin() as f32,
        day.cos() as f32,
        flag(is_weekend(now_s)),
    ]
}

/// What the cache would do with a request, as far as the decision knows: reported with each request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CacheView {
    /// Probability that the request needs a call when the route is cached: 0 for a hit, 1 for a miss, and `1 / (1 + rate x TTL)` for a
    /// request that was passed by, under the TTL that its answer would have got.
    pub needs_call: f32,
    /// Probability that the answer is stale when the route is cached.
    pub stale: f32,
    /// Whether the route was cached at this request.
    pub cached: bool,
}

impl CacheView {
    /// What the cache would do with requests of a key that is passed by, if its answers were kept for `ttl`: a cycle is a call and the requests
    /// within the TTL (Poisson).
    pub fn passed_by(input: &TtlInput<'_>, ttl: Span) -> Self {
        let (rate, hazard, ttl) = (input.rate(), input.hazard(), ttl.as_secs_f64());
        let needs_call = 1.0 / (1.0 + rate * ttl);
        let changed_area = if hazard * ttl < 1e-6 { 0.5 * hazard * ttl * ttl } else { ttl + (-hazard * ttl).exp_m1() / hazard };
        let stale = rate * changed_area.max(0.0) * needs_call;
        Self { needs_call: needs_call as f32, stale: stale as f32, cached: false }
    }
}

/// What is known of the key of a request before it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySeen {
    /// Never.
    Never,
    /// This long ago.
    Ago(Span),
}

impl KeySeen {
    /// From the key's statistics as of before the request.
    pub fn of(key: &KeyStats, now: Time) -> Self {
        if key.last_request_s == 0 {
            return Self::Never;
        }
        Self::Ago(now.since(Time::from_millis(i64::from(key.last_request_s) * 1_000)))
    }
}

fn flag(on: bool) -> f32 {
    f32::from(u8::from(on))
}

/// Order one: 0 at one per hour.
fn log_rate(per_second: f64) -> f32 {
    ((per_second.clamp(1e-10, 1e8) * 3_600.0).ln() / 7.0) as f32
}

/// Order one: 0 at a millisecond, 1 at a second, 2.2 at an hour.
fn log_span(span: Span) -> f32 {
    ((span.as_secs_f64().min(1e10) * 1e3).ln_1p() / 7.0) as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn features_are_finite_and_of_order_one(
            start in 0..4_000_000_000_000i64,
            steps in proptest::collection::vec((prop_oneof![Just(0i64), 0..2_000i64, 0..1_000_000_000i64, Just(-5_000)], 0..5u64, any::<f32>()), 0..80),
            window in proptest::option::of((0..100_000_000u64, 0..5_000u32)),
        ) {
            let batch = window.map(|(ms, max)| BatchWindow { window: Span::from_millis(ms), max });
            let (mut stats, mut route, mut ms) = (StrategyStats::default(), RouteStats::default(), start);
            for (wait, key, number) in steps {
                ms += wait;
                let now = Time::from_millis(ms);
                let view = CacheView { needs_call: number, stale: number, cached: key == 0 };
                let seen = if key == 1 { KeySeen::Never } else { KeySeen::Ago(Span::from_millis(wait.unsigned_abs())) };
                stats.on_request(now, key, (seen, view), batch);
                stats.on_call(Span::from_millis(wait.unsigned_abs()), wait.unsigned_abs());
                route.on_request(now, key == 1);
            }
            let features = strategy_features(&StrategyInput { stats: &stats, route: &route, batch, now: Time::from_millis(ms) });
            let named: Vec<_> = STRATEGY_SPEC.names.iter().zip(features).collect();
            prop_assert!(features.iter().all(|f| f.is_finite() && f.abs() <= 12.0), "{named:?}");
            let live = stats.live();
            for share in [live.dedupe_items, live.cache_items, live.cache_stale, live.batch_calls, live.dedupe_batch_items] {
                prop_assert!((0.0..=1.0).contains(&share), "{live:?}");
            }
        }
    }

    #[test]
    fn what_is_absent_is_flagged_and_names_are_unique() {
        let (stats, route) = (StrategyStats::default(), RouteStats::default());
        let features = strategy_features(&StrategyInput { stats: &stats, route: &route, batch: None, now: Time::from_millis(5_000) });
        let of = |name: &str| features[STRATEGY_SPEC.names.iter().position(|n| *n == name).unwrap()];
        assert_eq!((of("latency_missing"), of("window_missing"), of("route_stale_missing")), (1.0, 1.0, 1.0));
        assert_eq!((of("dedupe_items_slow"), of("cache_items_slow"), of("batch_calls_slow")), (1.0, 1.0, 1.0), "nothing saves yet");
        let names: std::collections::BTreeSet<_> = STRATEGY_NAMES.iter().collect();
        assert_eq!((names.len(), STRATEGY_SPEC.outputs()), (STRATEGY_FEATURES, STRATEGY_OUTPUTS));
    }
}
