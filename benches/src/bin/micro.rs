//! Micro measurements: decisions about a TTL and about a route's strategies, through ONNX Runtime and by the rule, a cache key, the route
//! among ten thousand. Each figure stands beside another from the same run, because only ratios of one run compare.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use farthing_bench::{quantile, write};
use farthing_config::{Matcher, PathTemplate, RouteIndex};
use farthing_contract::features::{
    BatchWindow, CacheView, HeadFacts, KeySeen, KeyStats, RouteStats, StrategyInput, StrategyStats, TtlInput,
};
use farthing_freshness::key::Credentials;
use farthing_freshness::{BodyKey, KeyParts, KeySpec, Keyer, Profile};
use farthing_models::{Alias, Kind, Runtime, Store, StoreOptions};
use farthing_policy::strategy::{Allowed, Ask, BatchTerms, Decider, StrategyParams, Terms, live::live};
use farthing_policy::{Guarded, Levels, TtlParams, TtlSource};
use farthing_types::{Clock, Money, RealClock, Span, Time};
use http::{HeaderMap, Method, Uri};
use serde::Serialize;

/// Timed repetitions of one case.
const ROUNDS: usize = 20_000;

#[derive(Serialize)]
struct Figure {
    case: &'static str,
    p50_us: f64,
    p99_us: f64,
    /// p50 over the p50 of the first case of its group.
    ratio: f64,
}

fn time(clock: &RealClock, mut work: impl FnMut(usize)) -> Vec<f64> {
    (0..ROUNDS)
        .map(|n| {
            let started = clock.now();
            work(n);
            clock.now().since(started).as_nanos() as f64 / 1e3
        })
        .collect()
}

/// A key with some history, different for each `n`.
fn history(n: usize) -> (KeyStats, RouteStats, Time) {
    let (mut key, mut route) = (KeyStats::default(), RouteStats::default());
    let mut now = Time::from_millis(1_700_000_000_000);
    for step in 0..8 + n % 5 {
        now = now + Span::from_secs(60 + 37 * (step as u64 + n as u64 % 11));
        key.on_request(now);
        route.on_request(now, step == 0);
        route.on_fetch(&mut key, now, (step / 3) as u64);
    }
    (key, route, now)
}

fn decisions(clock: &Arc<RealClock>) -> anyhow::Result<Vec<Figure>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let runtime = Runtime::load(None)?;
    let store = Store::open(root, StoreOptions { runtime: Some(runtime), slots: 2, ..StoreOptions::default() });
    let Some(champion) = store.current(Kind::Ttl, Alias::Champion) else { anyhow::bail!("models/ has no champion: make models") };
    let guarded = Guarded::new(clock.clone(), Span::from_secs(1), Span::from_secs(1));
    let histories: Vec<_> = (0..64).map(history).collect();
    let levels: Levels = champion.levels().clone();
    let mut figures: Vec<Figure> = Vec::new();
    for (case, source) in
        [("decision, rule", TtlSource::Rule), ("decision, table", TtlSource::Table), ("decision, model", TtlSource::Model)]
    {
        let params = TtlParams { source, kappa: champion.manifest().kappa(0.005), ..TtlParams::default() };
        let times = time(clock, |n| {
            let (key, route, now) = &histories[n % histories.len()];
            let input = TtlInput { key, route, head: HeadFacts { body_bytes: 900, ..HeadFacts::default() }, now: *now };
            black_box(guarded.decide(&levels, &params, &input));
        });
        let p50 = quantile(&times, 0.5);
        let ratio = figures.first().map_or(1.0, |first| p50 / first.p50_us);
        figures.push(Figure { case, p50_us: p50, p99_us: quantile(&times, 0.99), ratio });
    }
    Ok(figures)
}

/// The decision which strategies a route uses, and what one request costs on its way into the statistics that it is made from.
fn strategies(clock: &Arc<RealClock>) -> anyhow::Result<Vec<Figure>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let store = Store::open(root, StoreOptions { runtime: Some(Runtime::load(None)?), slots: 2, ..StoreOptions::default() });
    let Some(champion) = store.current(Kind::Strategy, Alias::Champion) else {
        anyhow::bail!("models/ has no strategy champion: make models")
    };
    let guarded = Guarded::new(clock.clone(), Span::from_secs(1), Span::from_secs(1));
    let window = BatchWindow { window: Span::from_millis(50), max: 20 };
    let (mut stats, route) = (StrategyStats::default(), RouteStats::default());
    let at = |n: usize| Time::from_millis(1_700_000_000_000 + 7 * n as i64);
    let view = |n: usize| CacheView { needs_call: (n % 3) as f32 / 3.0, stale: 0.001, cached: true };
    let noted = time(clock, |n| {
        stats.on_request(at(n), (n % 500) as u64, (KeySeen::Ago(Span::from_secs(4)), view(n)), Some(window));
    });
    let price = Money::from_nanos(1_000_000);
    let batch = Some(BatchTerms { window, per_call: 1_000, per_item: 0 });
    let terms = Terms { price, stale_price: price.times(20), sla: Some(Span::from_millis(400)), batch, ..Terms::default() };
    let (params, allowed) = (StrategyParams::default(), Allowed { cache: true, dedupe: true, batch: true });
    let input = StrategyInput { stats: &stats, route: &route, batch: Some(window), now: at(ROUNDS) };
    let ask = Ask { input, terms: &terms, params: &params, allowed };
    let mut figures = Vec::new();
    let mut push = |case, times: &[f64], first: f64| {
        let p50 = quantile(times, 0.5);
        figures.push(Figure { case, p50_us: p50, p99_us: quantile(times, 0.99), ratio: p50 / if first > 0.0 { first } else { p50 } });
        p50
    };
    let by_rule = time(clock, |_| drop(black_box(live(&guarded, champion.levels(), (Decider::Rule, true), &ask))));
    let first = push("strategies, rule", &by_rule, 0.0);
    let shadow = time(clock, |_| drop(black_box(live(&guarded, champion.levels(), (Decider::Shadow, true), &ask))));
    push("strategies, model in shadow", &shadow, first);
    push("strategies, a request noted", &noted, first);
    Ok(figures)
}

fn keys(clock: &RealClock) -> anyhow::Result<Vec<Figure>> {
    let keyer = Keyer::new([7; 16]);
    let target: Uri = "/v1/geocode/json?address=1600+Amphitheatre+Parkway&language=en&key=SECRET&region=us".parse()?;
    let mut headers = HeaderMap::new();
    for (name, value) in [("accept", "application/json"), ("accept-encoding", "gzip"), ("user-agent", "app/1.0"), ("x-team", "maps")] {
        headers.insert(name, value.parse()?);
    }
    let body = br#"{"model":"gpt-4o","messages":[{"role":"user","content":"What does a farthing buy?"}],"temperature":0}"#;
    let mut figures: Vec<Figure> = Vec::new();
    for (case, profile, body) in [("key, http", Profile::Http, &b""[..]), ("key, api with a JSON body", Profile::Api, &body[..])] {
        let spec = KeySpec { profile, body: BodyKey::CanonicalJson, credentials: Arc::new(Credentials::default()) };
        let times = time(clock, |_| {
            let parts = KeyParts {
                tenant: "acme",
                route: "geo",
                method: &Method::GET,
                authority: "maps.example.com",
                target: &target,
                headers: &headers,
                body,
            };
            black_box(keyer.primary(&spec, &parts));
        });
        let p50 = quantile(&times, 0.5);
        let ratio = figures.first().map_or(1.0, |first| p50 / first.p50_us);
        figures.push(Figure { case, p50_us: p50, p99_us: quantile(&times, 0.99), ratio });
    }
    Ok(figures)
}

/// The route of a request among many: by the index, and by asking each in order, which is what the index must be worth.
fn routes(clock: &RealClock) -> anyhow::Result<Vec<Figure>> {
    const MANY: usize = 10_000;
    let matcher = |n: usize| -> anyhow::Result<Matcher> {
        let path = n.is_multiple_of(2).then(|| PathTemplate::new(&format!("/api/{n}/users/{{id}}/orders"))).transpose()?;
        let hosts = if n.is_multiple_of(10) { vec![format!("host{n}.example.com").into()] } else { Vec::new() };
        Ok(Matcher { hosts, path_prefix: format!("/api/{n}").into(), path, methods: Vec::new() })
    };
    let matchers: Vec<Matcher> = (0..MANY).map(matcher).collect::<anyhow::Result<_>>()?;
    let index = RouteIndex::new(matchers.iter().cloned());
    // Spread over all of them, so that no cache of the processor flatters one.
    let asked: Vec<(String, String)> =
        (0..997).map(|n| n * 10_007 % MANY).map(|n| (format!("host{n}.example.com"), format!("/api/{n}/users/7/orders"))).collect();
    let ask = |n: usize| &asked[n % asked.len()];
    let by_index = time(clock, |n| {
        black_box(index.find(&ask(n).0, &ask(n).1, &Method::GET));
    });
    let in_order = time(clock, |n| {
        black_box(matchers.iter().position(|matcher| matcher.takes(&ask(n).0, &ask(n).1, &Method::GET)));
    });
    let first = quantile(&by_index, 0.5);
    let figure = |case, times: &[f64]| Figure {
        case,
        p50_us: quantile(times, 0.5),
        p99_us: quantile(times, 0.99),
        ratio: quantile(times, 0.5) / first,
    };
    Ok(vec![figure("route of 10,000, by index", &by_index), figure("route of 10,000, in order", &in_order)])
}

fn main() -> anyhow::Result<()> {
    let clock = Arc::new(RealClock::default());
    let mut figures = decisions(&clock)?;
    figures.extend(strategies(&clock)?);
    figures.extend(keys(&clock)?);
    figures.extend(routes(&clock)?);
    for figure in &figures {
        println!("{:<28} p50 {:>7.2} us   p99 {:>7.2} us   {:>5.2}x", figure.case, figure.p50_us, figure.p99_us, figure.ratio);
    }
    println!("{}", write("micro", &figures)?.display());
    Ok(())
}
