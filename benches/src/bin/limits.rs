//! What limits cost: operations per second of one core on the book alone, and requests through the whole path with limits and without, in turn.
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use farthing_bench::write;
use farthing_config::{Config, Mode, Provider, Route};
use farthing_ledger::limit::{Ask, Book, Cost, Mood, Stage, Verdict, Who};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{
    Body, Call, CallReport, Clock, Failure, LimitScope, LimitSpec, OnLimit, Priority, RateSpec, RealClock, Reply, Span, Time,
};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde::Serialize;

const ROUNDS: usize = 7;

#[derive(Serialize)]
struct Figures {
    /// Operations per second of one core: let through and settled.
    passes: f64,
    /// Refused.
    refusals: f64,
    /// Queued behind 5,000 others of 500 tenants, and let through in turn.
    waits: f64,
    /// Time of a request with limits over that without, each round.
    with_over_without: Vec<f64>,
    /// Its median.
    ratio: f64,
    /// What limits add to a request, microseconds (median).
    added_us: f64,
}

fn spec(scope: LimitScope, count: u64) -> LimitSpec {
    let rate = |count| Some(RateSpec { count, period: Span::from_secs(1), burst: count });
    LimitSpec {
        name: scope.as_str().into(),
        scope,
        requests: rate(count),
        tokens: rate(count * 1_000),
        concurrency: Some(1_000_000),
        on_limit: [OnLimit::Pass, OnLimit::Wait, OnLimit::Refuse],
        ..LimitSpec::default()
    }
}

fn ask(tenant: &str, priority: Priority, now: Time) -> Ask<'_> {
    Ask {
        who: Who { tenant, route: "r", provider: "p", ..Who::default() },
        stage: Stage::Call,
        priority,
        mood: Mood::Usual,
        cost: Cost { tokens: 500 },
        bytes: 1_000,
        deadline: Time::from_nanos(i64::MAX),
        now,
    }
}

/// Operations per second.
fn per_second(count: usize, mut operation: impl FnMut(usize)) -> f64 {
    let clock = RealClock::default();
    let began = clock.now();
    (0..count).for_each(&mut operation);
    count as f64 / clock.now().since(began).as_secs_f64()
}

fn passes(tenants: &[String]) -> f64 {
    let mut book = Book::new([spec(LimitScope::Tenant, 1_000_000_000), spec(LimitScope::Route, 1_000_000_000)]);
    per_second(200_000, |n| {
        let now = Time::from_nanos(n as i64 * 1_000);
        if let Verdict::Passed(pass) = book.ask(&ask(&tenants[n % tenants.len()], Priority::Medium, now)) {
            book.end(&pass);
            book.settle(&pass, Some(300), now);
        }
        assert!(book.pump(now).is_empty());
    })
}

fn refusals(tenants: &[String]) -> f64 {
    let mut book = Book::new([spec(LimitScope::Tenant, 1), spec(LimitScope::Route, 1)]);
    per_second(200_000, |n| drop(book.ask(&ask(&tenants[n % tenants.len()], Priority::Low, Time::ZERO))))
}

/// One comes as one goes, behind 5,000 that wait.
fn waits(tenants: &[String]) -> f64 {
    let mut book = Book::new([spec(LimitScope::Route, 1_000)]);
    for n in 0..6_000 {
        let _ = book.ask(&ask(&tenants[n % tenants.len()], Priority::Medium, Time::ZERO));
    }
    let _ = book.pump(Time::ZERO);
    let mut went = 0;
    let rate = per_second(50_000, |n| {
        let now = Time::from_millis(n as i64 + 1);
        let _ = book.ask(&ask(&tenants[n % tenants.len()], Priority::Medium, now));
        for woken in book.pump(now) {
            if let Ok(pass) = woken.result {
                book.end(&pass);
                book.settle(&pass, None, now);
                went += 1;
            }
        }
    });
    assert!(went > 49_000, "{went} went");
    rate
}

struct Wire;

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        async move {
            call.sink.attempt(CallReport::only(&call, "wire", Some(StatusCode::OK)));
            Ok(Reply { status: StatusCode::OK, headers: HeaderMap::new(), body: Body::full("answer") })
        }
        .boxed()
    }
}

fn inside(limits: Vec<LimitSpec>) -> anyhow::Result<Inside> {
    let mut config = Config { limits, ..Config::default() };
    config.log.enabled = false;
    config.providers.push(Arc::new(Provider { name: "p".into(), base_url: "http://p.test".parse()?, ..Provider::default() }));
    config.routes.push(Arc::new(Route { name: "r".into(), provider: "p".into(), mode: Mode::Respect, ..Route::default() }));
    let store = Store::open(std::env::temp_dir().join("farthing-no-models"), StoreOptions::default());
    let client = |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire) };
    Ok(Inside::new(&Arc::new(config), Arc::new(RealClock::default()), store, &client)?)
}

/// Seconds of a request that memory cannot answer.
async fn request(inside: &Inside, count: usize) -> anyhow::Result<f64> {
    let clock = RealClock::default();
    let began = clock.now();
    for n in 0..count {
        let request = Request::get(format!("/{n}")).header("host", "h").header("cache-control", "no-store").body(Body::empty())?;
        let response = inside.ask(request).await;
        anyhow::ensure!(response.status() == StatusCode::OK, "answered {}", response.status());
        response.into_body().collect().await?;
    }
    Ok(clock.now().since(began).as_secs_f64() / count as f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let tenants: Vec<String> = (0..500).map(|n| format!("tenant-{n}")).collect();
    let best = |measure: fn(&[String]) -> f64| (0..3).map(|_| measure(&tenants)).fold(0.0, f64::max);
    let limits = [LimitScope::Tenant, LimitScope::Route, LimitScope::Provider].map(|scope| spec(scope, 1_000_000_000));
    let (with, without) = (inside(limits.into())?, inside(Vec::new())?);
    let (mut ratios, mut added) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (with, without) = (request(&with, 5_000).await?, request(&without, 5_000).await?);
        // The first one warms up.
        if round > 0 {
            ratios.push(with / without);
            added.push((with - without) * 1e6);
        }
    }
    let (passes, refusals, waits) = (best(passes), best(refusals), best(waits));
    let figures = Figures { passes, refusals, waits, ratio: median(ratios.clone()), with_over_without: ratios, added_us: median(added) };
    println!("operations per second of one core: {passes:.0} let through, {refusals:.0} refused, {waits:.0} after a wait");
    println!("a request with three limits over one without: {:.3} ({:+.1} us)", figures.ratio, figures.added_us);
    println!("{}", write("limits", &figures)?.display());
    Ok(())
}
