//! How many requests a second one core replays under a policy that only caches (fixed TTLs: no inference), as `farthing replay` does
//! after the log is read (the bar is 200,000), and how many training rows of the `ttl` predictor it makes, statistics, features and labels
//! (the bar is 300,000).
#![allow(clippy::print_stdout)]

use farthing_bench::{quantile, write};
use farthing_experiment::Holdout;
use farthing_freshness::semantics::{CacheControl, Facts};
use farthing_freshness::{Mode, RequestFacts, Rules};
use farthing_policy::{Champion, RouteEconomics, RouteFacts, TtlParams, TtlSource, plan};
use farthing_replay::path::{Acting, AskedRow, CalledRow, Log, Policy, RequestClass, RoutePolicy, Settings, replay};
use farthing_replay::{Engine, EventKind, PassThroughAll, Recipe, Trace, training_rows};
use farthing_types::{Clock, Draw, Outcome, Overrides, Purpose, RealClock, Span, Time};
use http::{HeaderMap, Method};
use serde::Serialize;

/// Requests and rows a second that must be reached.
const BAR: f64 = 200_000.0;
const ROWS_BAR: f64 = 300_000.0;
/// Repetitions; the median counts.
const ROUNDS: usize = 5;

#[derive(Serialize)]
struct Figures {
    requests: usize,
    calls_logged: usize,
    requests_per_s: f64,
    bar: f64,
    hit_share: f64,
    rows: usize,
    rows_per_s: f64,
    rows_bar: f64,
}

fn main() -> anyhow::Result<()> {
    let recipe: Recipe = toml::from_str(include_str!("../../../data/demo.toml"))?;
    let trace = recipe.generate(recipe.seed)?;
    let (rows, rows_per_s) = extraction(&trace);
    println!("training rows: {rows_per_s:.0}/s on one core (bar {ROWS_BAR:.0}), {rows} of them");
    let log = pass_through(&trace);
    let policy = caching(&log)?;
    let clock = RealClock::default();
    let mut speeds = Vec::new();
    let mut hits = 0.0;
    for _ in 0..ROUNDS {
        let started = clock.now();
        let settings = Settings { seed: 7, pay: &mut |_, _, _| (), progress: &mut |_| () };
        let (tally, _) = replay(&log, &policy, settings);
        speeds.push(log.asked.len() as f64 / clock.now().since(started).as_secs_f64());
        hits = tally.total().of(Outcome::Hit) as f64 / log.asked.len() as f64;
    }
    let requests_per_s = quantile(&speeds, 0.5);
    let (requests, calls_logged) = (log.asked.len(), log.called.len());
    let figures = Figures { requests, calls_logged, requests_per_s, bar: BAR, hit_share: hits, rows, rows_per_s, rows_bar: ROWS_BAR };
    println!("replay, cache only: {requests_per_s:.0} requests/s on one core (bar {BAR:.0}), {:.1} % hits", hits * 100.0);
    write("replay", &figures)?;
    Ok(())
}

/// Rows of a log in which everything was passed through, and how many a second.
fn extraction(trace: &Trace) -> (usize, f64) {
    let (clock, mut count) = (RealClock::default(), 0);
    let speeds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let started = clock.now();
            count = training_rows(&mut Engine::new(trace), trace, &trace.events, &mut PassThroughAll).len();
            count as f64 / clock.now().since(started).as_secs_f64()
        })
        .collect();
    (count, quantile(&speeds, 0.5))
}

/// The log of a proxy that passed everything through.
fn pass_through(trace: &Trace) -> Log {
    let facts = RequestFacts::read(&Method::GET, &HeaderMap::new());
    let mut log = Log {
        routes: trace.routes.iter().map(|r| r.name.as_str().into()).collect(),
        keys: (0..trace.keys() as u64).map(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect(),
        classes: vec![RequestClass { facts, control: CacheControl::On }],
        ..Log::default()
    };
    let mut versions = vec![0u64; trace.keys()];
    for event in &trace.events {
        let (key, route) = (event.key, event.route);
        if event.kind == EventKind::Change {
            versions[key as usize] += 1;
            continue;
        }
        let id = log.called.len() as u64 + 1;
        let price = trace.routes.get(usize::from(route)).map(|r| r.price);
        log.asked.push(asked(event.at, (key, route), id, log.keys[key as usize]));
        let answered = event.at + Span::from_millis(20);
        log.called.push(CalledRow {
            id,
            key,
            route,
            start: event.at,
            head: answered,
            end: answered,
            purpose: Purpose::User,
            paid: price,
            attempts: 1,
            price,
            status: Some(200),
            hash: Some(versions[key as usize]),
            bytes: 900,
            facts: Facts::default(),
            bans: Default::default(),
            not_stored: None,
            query_parameters: 0,
        });
    }
    log.sort();
    log
}

fn asked(at: Time, (key, route): (u32, u16), call: u64, unit: u64) -> AskedRow {
    AskedRow {
        at,
        place: 0,
        key,
        class: 0,
        route,
        weight: 1,
        unit,
        outcome: Outcome::Bypass,
        reason: None,
        call,
        gave_up: false,
        upstream_failed: false,
        base: None,
    }
}

fn caching(log: &Log) -> anyhow::Result<Policy> {
    let ttl = TtlParams { source: TtlSource::Fixed(Span::from_secs(1_800)), ..TtlParams::default() };
    let facts = RouteFacts { ttl, ..RouteFacts::default() };
    let plan = plan::compile(&facts, &Overrides::default())?;
    let economics = RouteEconomics { price_stale: None, stale_budget: 0.005, stale_share_of_ttl: 0.0, trust_shipped: false };
    let route = |name: &std::sync::Arc<str>| {
        Some(RoutePolicy {
            name: name.clone(),
            rules: Rules::new(Mode::Learned),
            idempotent: false,
            refresh_ahead: farthing_types::Span::ZERO,
            chosen: false,
            economics,
            main: Acting { plan: plan.clone(), champion: Champion::default() },
            experiment: None,
        })
    };
    Ok(Policy {
        routes: log.routes.iter().map(route).collect(),
        draw: Draw::new(7),
        holdout: Holdout::new(0.0, Span::from_secs(3_600)),
        hit_for_miss: Span::from_secs(5),
        max_followers: 10_000,
    })
}
