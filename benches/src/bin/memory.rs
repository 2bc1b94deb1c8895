//! What an entry costs in memory beyond its body and its head as it travels: 100,000 distinct answers of 1 KiB go through the whole request
//! path into L1; the process's resident memory says the rest. With the allocator that the program has. The bar is 400 bytes. Then they are asked for again,
//! because what takes less room must not take longer: one after the other, so that each comes from cold memory, and one of them over and over.
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use farthing_bench::{quantile, resident, write};
use farthing_config::{Config, Prices, Provider, Route, TtlBy};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, Call, Clock, Failure, RealClock, Reply, Span};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OBJECTS: usize = 100_000;
/// Stored before the first look: tables of fixed size have been made by then.
const BEFORE: usize = 10_000;
const BODY: usize = 1_024;
/// Bytes beyond body and head that an entry may cost.
const BAR: f64 = 400.0;
/// Rounds in which the answers are asked for again.
const ROUNDS: usize = 7;

#[derive(Serialize)]
struct Figures {
    objects: usize,
    body_bytes: usize,
    head_bytes: usize,
    resident_bytes_each: f64,
    beyond_each: f64,
    bar_beyond: f64,
    accounted_bytes_each: f64,
    holds: bool,
    /// Nanoseconds of an answer from memory, median of rounds: each answer in turn, and one answer.
    hit_ns: f64,
    hot_hit_ns: f64,
}

struct Documents;

fn head() -> HeaderMap {
    let pairs = [
        ("content-type", "application/json; charset=utf-8"),
        ("content-length", "1024"),
        ("date", "Thu, 26 Nov 2026 10:00:00 GMT"),
        ("server", "provider/1.0"),
        ("x-request-id", "0123456789abcdef0123456789abcdef"),
    ];
    // Each answer has values of its own, as those that came over a wire have.
    let own = |value: &str| HeaderValue::from_bytes(&bytes::Bytes::copy_from_slice(value.as_bytes()));
    pairs.iter().filter_map(|(name, value)| Some((name.parse().ok()?, own(value).ok()?))).collect()
}

fn serialised(head: &HeaderMap) -> usize {
    "HTTP/1.1 200 OK\r\n\r\n".len() + head.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>()
}

impl Origin for Documents {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let path = call.target.path().to_owned();
        async move {
            let mut body = format!("{{\"path\":\"{path}\",\"text\":\"").into_bytes();
            body.resize(BODY - 2, b'x');
            body.extend_from_slice(b"\"}");
            Ok(Reply { status: StatusCode::OK, headers: head(), body: Body::full(body) })
        }
        .boxed()
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.log.enabled = false;
    config.holdout.share = 0.0;
    config.cache.l1_bytes = 4_000_000_000;
    let base_url = http::Uri::from_static("http://documents.test");
    let provider =
        Provider { name: "docs".into(), base_url, prices: Some(Prices { free: true, ..Prices::default() }), ..Provider::default() };
    let route = Route { name: "docs".into(), provider: "docs".into(), ttl: TtlBy::Fixed(Span::from_secs(86_400)), ..Route::default() };
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    config
}

fn request(number: usize) -> anyhow::Result<Request<Body>> {
    Ok(Request::get(format!("/v1/documents/{number:08}?language=en")).header("host", "farthing.test").body(Body::empty())?)
}

async fn ask(inside: &Inside, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    for number in numbers {
        let response = inside.ask(request(number)?).await;
        anyhow::ensure!(response.status() == StatusCode::OK, "{:?}", response.status());
        http_body_util::BodyExt::collect(response.into_body()).await?;
    }
    // The fills' tasks end a moment after their readers have everything.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Nanoseconds of each of these requests, median of rounds.
async fn timed(inside: &Inside, clock: &RealClock, numbers: impl Iterator<Item = usize> + Clone) -> anyhow::Result<f64> {
    let mut each = Vec::new();
    for _ in 0..ROUNDS {
        let (began, mut count) = (clock.now(), 0u32);
        for number in numbers.clone() {
            let response = inside.ask(request(number)?).await;
            anyhow::ensure!(response.status() == StatusCode::OK, "{:?}", response.status());
            count += 1;
        }
        each.push(clock.now().since(began).as_secs_f64() * 1e9 / f64::from(count.max(1)));
    }
    Ok(quantile(&each, 0.5))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (dir, clock) = (tempfile::tempdir()?, RealClock::default());
    let client = |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Documents) };
    let store = Store::open(dir.path(), StoreOptions::default());
    let inside = Inside::new(&Arc::new(config()), Arc::new(RealClock::default()), store, &client)?;
    ask(&inside, 0..BEFORE).await?;
    let (before, counted) = (resident()?, inside.cache_stats());
    ask(&inside, BEFORE..OBJECTS).await?;
    let (after, stats) = (resident()?, inside.cache_stats());
    anyhow::ensure!(stats.entries == OBJECTS, "{} of {OBJECTS} are stored", stats.entries);
    let added = (OBJECTS - BEFORE) as f64;
    let each = (after - before) as f64 / added;
    let head_bytes = serialised(&head());
    let beyond_each = each - (BODY + head_bytes) as f64;
    let figures = Figures {
        objects: OBJECTS,
        body_bytes: BODY,
        head_bytes,
        resident_bytes_each: each,
        beyond_each,
        bar_beyond: BAR,
        accounted_bytes_each: (stats.bytes - counted.bytes) as f64 / added,
        holds: beyond_each <= BAR,
        hit_ns: timed(&inside, &clock, 0..OBJECTS).await?,
        hot_hit_ns: timed(&inside, &clock, std::iter::repeat_n(1, OBJECTS)).await?,
    };
    println!(
        "memory: {each:.0} B an entry: {BODY} body + {head_bytes} head + {beyond_each:.0} (bar {BAR:.0}); accounted {:.0}",
        figures.accounted_bytes_each
    );
    println!("a hit: {:.0} ns in turn, {:.0} ns of one answer", figures.hit_ns, figures.hot_hit_ns);
    println!("{}", write("memory", &figures)?.display());
    Ok(())
}
