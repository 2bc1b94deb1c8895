//! Features of the `ttl` predictor.

use farthing_types::{Span, Time};

use super::baseline::since_change;
use super::calendar::{DAY_S, is_weekend, turn};
use super::spec::TTL_FEATURES;
use super::{Ahead, KeyStats, RouteStats};

/// What the head of an answer says that bears on its change rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeadFacts {
    /// Length of the body, bytes.
    pub body_bytes: u64,
    /// `Last-Modified`.
    pub last_modified: Option<Time>,
    /// Explicit freshness lifetime given by the origin.
    pub origin_ttl: Option<Span>,
    /// Whether the answer carries an ETag.
    pub has_etag: bool,
    /// Parameters in the request's query.
    pub query_parameters: u32,
}

/// Everything a TTL decision knows about a copy at the moment it was fetched. The key's statistics already hold that fetch.
#[derive(Clone, Copy, Debug)]
pub struct TtlInput<'a> {
    /// The key, after [`RouteStats::on_fetch`].
    pub key: &'a KeyStats,
    /// Its route.
    pub route: &'a RouteStats,
    /// The answer's head.
    pub head: HeadFacts,
    /// The time of the fetch.
    pub now: Time,
}

impl<'a> TtlInput<'a> {
    /// The live change hazard of the copy, 1/s: the key's posterior, which starts from keys of its age and kind on its route.
    /// To be multiplied by the route's rhythm.
    pub fn hazard(&self) -> f64 {
        self.ahead().now()
    }

    /// The live change hazard of the copy for the ages to come.
    pub fn ahead(&self) -> Ahead<'a> {
        self.route.ahead(self.key, self.now)
    }

    /// The key's request rate, 1/s, shrunk toward the route's average.
    pub fn rate(&self) -> f64 {
        self.key.rate(self.now, self.route.rate_per_key(self.now))
    }
}

/// The features in the order of [`super::TTL_SPEC`]. Constant time, no allocation.
pub fn ttl_features(input: &TtlInput<'_>) -> [f32; TTL_FEATURES] {
    let TtlInput { key, route, head, now } = input;
    let now_s = now.secs_f64();
    let (route_hazard, cell_hazard) = (route.hazard(), route.cell_hazard(key, *now));
    let likeness = route.likeness();
    let hazard = key.factor(likeness) * cell_hazard;
    let since = |second: u32| (now_s - f64::from(second)).max(0.0);
    let age = since(key.first_seen_s);
    let since_change = since_change(key, now_s);
    let day = turn(now_s, DAY_S);
    let hour = turn(now_s, 3_600.0);
    let modified = head.last_modified.map(|at| now.since(at).as_secs_f64());
    let origin = head.origin_ttl.map(|ttl| ttl.as_secs_f64());
    [
        log_hazard(hazard),
        log_hazard(key.slow_factor(likeness) * cell_hazard),
        (key.factor(likeness).clamp(1e-4, 1e4).ln() / 3.0) as f32,
        log1(f64::from(key.slow_expected).min(1e6)) / 2.0,
        log1(f64::from(key.fetches)) / 4.0,
        log1(f64::from(key.changes)) / 4.0,
        key.changed_share().unwrap_or(0.0) as f32,
        flag(key.fetches <= 1),
        log_seconds(age),
        log_seconds(since_change),
        flag(key.changes == 0),
        (since_change * hazard).min(8.0) as f32,
        log_hazard(input.rate()),
        log_seconds(f64::from(key.last_gap_s())),
        log_hazard(route_hazard),
        log_hazard(cell_hazard),
        route.changed_share().unwrap_or(0.0) as f32,
        log_hazard(route.rate_per_key(*now)),
        log1(head.body_bytes as f64) / 8.0,
        modified.map_or(0.0, log_seconds),
        flag(modified.is_none()),
        origin.map_or(0.0, log_seconds),
        flag(origin.is_none()),
        flag(head.has_etag),
        log1(f64::from(head.query_parameters)) / 4.0,
        day.sin() as f32,
        day.cos() as f32,
        hour.sin() as f32,
        hour.cos() as f32,
        flag(is_weekend(now_s)),
    ]
}

fn flag(on: bool) -> f32 {
    f32::from(u8::from(on))
}

fn log1(x: f64) -> f32 {
    x.clamp(0.0, 1e15).ln_1p() as f32
}

/// Logarithm of a span, order one: 0 at one second, 1.2 at an hour, 2.8 at ten years.
fn log_seconds(seconds: f64) -> f32 {
    log1(seconds) / 7.0
}

/// Logarithm of a rate in 1/s, order one: 0 at one in an hour, -1 at one in about 1,300 hours.
fn log_hazard(per_second: f64) -> f32 {
    ((per_second.clamp(1e-10, 1e6) * 3_600.0).ln() / 7.0) as f32
}

/// The rate (1/s) behind a feature that holds the logarithm of one.
pub fn rate_of_feature(feature: f32) -> f64 {
    (f64::from(feature) * 7.0).exp() / 3_600.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{KEY_STATS_BYTES, TTL_SPEC};
    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Request(i64),
        Fetch(i64, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let wait = prop_oneof![Just(0), 1..1_000i64, 1..100_000_000i64, Just(-5_000), 1..10_000_000_000_000i64];
        let step =
            (wait, any::<bool>(), 0..4u64).prop_map(|(w, request, hash)| if request { Step::Request(w) } else { Step::Fetch(w, hash) });
        proptest::collection::vec(step, 0..60)
    }

    fn play(start_ms: i64, steps: &[Step]) -> (KeyStats, RouteStats, Time) {
        let (mut key, mut route, mut ms) = (KeyStats::default(), RouteStats::default(), start_ms);
        for step in steps {
            match *step {
                Step::Request(wait) => {
                    ms += wait;
                    route.on_request(Time::from_millis(ms), key.fetches() == 0);
                    key.on_request(Time::from_millis(ms));
                }
                Step::Fetch(wait, hash) => {
                    ms += wait;
                    route.on_fetch(&mut key, Time::from_millis(ms), hash);
                }
            }
        }
        (key, route, Time::from_millis(ms))
    }

    fn of_order_one(features: &[f32]) -> bool {
        features.iter().all(|f| f.is_finite() && f.abs() <= 10.0)
    }

    proptest! {
        #[test]
        fn features_are_finite_and_of_order_one(
            start in 0..4_000_000_000_000i64, steps in steps(), bytes in any::<u64>(), modified in proptest::option::of(any::<i64>()),
            origin in proptest::option::of(any::<u64>()), query in any::<u32>(),
        ) {
            let (key, route, now) = play(start, &steps);
            let head = HeadFacts {
                body_bytes: bytes,
                last_modified: modified.map(Time::from_nanos),
                origin_ttl: origin.map(Span::from_secs),
                has_etag: true,
                query_parameters: query,
            };
            let input = TtlInput { key: &key, route: &route, head, now };
            let features = ttl_features(&input);
            prop_assert!(of_order_one(&features), "{:?}", TTL_SPEC.names.iter().zip(features).collect::<Vec<_>>());
            prop_assert!(input.rate() > 0.0 && input.rate().is_finite());
        }

        #[test]
        fn statistics_survive_the_cache(start in 0..4_000_000_000_000i64, steps in steps()) {
            let (key, _, _) = play(start, &steps);
            prop_assert_eq!(KeyStats::decode(&key.encode()), key);
        }

        #[test]
        fn foreign_bytes_give_usable_statistics(bytes in any::<[u8; KEY_STATS_BYTES]>(), now in any::<i64>(), hash in any::<u64>()) {
            let (mut key, mut route) = (KeyStats::decode(&bytes), RouteStats::default());
            let now = Time::from_nanos(now);
            key.on_request(now);
            route.on_fetch(&mut key, now, hash);
            let features = ttl_features(&TtlInput { key: &key, route: &route, head: HeadFacts::default(), now });
            prop_assert!(of_order_one(&features), "{features:?}");
        }
    }

    #[test]
    fn what_is_absent_is_flagged() {
        let (key, route) = (KeyStats::default(), RouteStats::default());
        let features = ttl_features(&TtlInput { key: &key, route: &route, head: HeadFacts::default(), now: Time::from_millis(1_000) });
        let of = |name: &str| features[TTL_SPEC.names.iter().position(|n| *n == name).unwrap()];
        assert_eq!((of("last_modified_missing"), of("origin_ttl_missing"), of("key_never_changed")), (1.0, 1.0, 1.0));
        assert_eq!((of("log_last_modified_age"), of("log_origin_ttl")), (0.0, 0.0));
    }
}
