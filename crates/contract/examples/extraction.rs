//! How many rows a second go through the live statistics and become features: `cargo run --release -p farthing-contract --example extraction`.
//!
//! A row is what a training row is: a fetch of a key, entered into the statistics of key and route, and the features of a decision about
//! it; requests that entered in between are counted apart. One thread.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::hint::black_box;

use farthing_contract::features::{HeadFacts, KeyStats, RouteStats, TTL_FEATURES, TtlInput, ttl_features};
use farthing_types::{Clock, Draw, DrawKind, RealClock, Span, Time};

const KEYS: usize = 50_000;
const ROUTES: usize = 20;
const ROWS: usize = 1_000_000;
const REQUESTS_PER_ROW: usize = 3;

fn main() {
    let clock = RealClock::default();
    let plan = plan();
    let (mut keys, mut routes) = (vec![KeyStats::default(); KEYS], vec![RouteStats::default(); ROUTES]);
    let mut sum = 0.0;
    let started = clock.now();
    for (n, (key, hash, ms)) in plan.iter().enumerate() {
        let (key, route) = (&mut keys[*key], &mut routes[*key % ROUTES]);
        let now = Time::from_millis(*ms);
        route.on_fetch(key, now, *hash);
        let head = HeadFacts { body_bytes: n as u64 % 9_000, has_etag: n % 3 == 0, ..HeadFacts::default() };
        sum += f64::from(black_box(ttl_features(&TtlInput { key, route, head, now }))[0]);
    }
    let extracted = clock.now().since(started);
    let started = clock.now();
    for (key, _, ms) in plan.iter().cycle().take(ROWS * REQUESTS_PER_ROW) {
        let (key, route) = (&mut keys[*key], &mut routes[*key % ROUTES]);
        let now = Time::from_millis(*ms);
        route.on_request(now, key.fetches() == 0);
        key.on_request(now);
    }
    let requested = clock.now().since(started);
    black_box(sum);
    let rate = |count: usize, span: Span| count as f64 / span.as_secs_f64();
    println!("{TTL_FEATURES} features: {:.0} rows/s (fetch, statistics, features)", rate(ROWS, extracted));
    println!("requests: {:.0} rows/s (statistics)", rate(ROWS * REQUESTS_PER_ROW, requested));
}

/// Keys by popularity, with digests that change now and then, over 30 days.
fn plan() -> Vec<(usize, u64, i64)> {
    let draw = Draw::new(1);
    let row = |n: usize| {
        let u = |k: i64| draw.uniform(DrawKind::Sample, "row", n as u128, k);
        let key = ((KEYS as f64).powf(u(0)) - 1.0) as usize;
        let ms = 1_700_000_000_000 + (n as f64 / ROWS as f64 * 30.0 * 86_400_000.0) as i64;
        let period = 60_000.0 * 1_000f64.powf(draw.uniform(DrawKind::Sample, "key", key as u128, 0));
        (key, (ms as f64 / period) as u64, ms)
    };
    (0..ROWS).map(row).collect()
}
