//! Predictors that change under load: what clients notice, and whether memory stays. Blocks with and without swaps alternate at a quarter of what the
//! proxy can do; compared are the medians of the blocks' p99. Then a thousand swaps, and the resident memory after a hundred and after all.
//! The bars: p99 with swaps at most 1.2 times that without, or 300 us more; memory at most 5 % more.
//!
//! `--seconds N` (20) and `--blocks N` (12) shorten it.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use farthing_bench::{Median, median, quantile, resident, write};
use farthing_config::Mode;
use farthing_contract::bundle::disk::versions;
use farthing_contract::bundle::{Bundle, publish};
use farthing_models::{Alias, Kind};
use farthing_proxy::Proxy;
use farthing_tests::origin::ok;
use farthing_tests::{Origin, Setup, Started};
use farthing_types::{Clock, RealClock};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 8;
const KEYS: u64 = 1_000;
/// One request in so many is for something new: it is bought, and a TTL is decided.
const NEW_EVERY: u64 = 10;
/// More than are kept warm, so that each swap builds one.
const VERSIONS: usize = 4;
const SWAP_EVERY: Duration = Duration::from_secs(1);
const SHARE_OF_MOST: f64 = 0.25;
const SWAPS: u64 = 1_000;

#[derive(Serialize)]
struct Figures {
    most_per_s: f64,
    rate_per_s: f64,
    blocks: usize,
    seconds: u64,
    p99_still_us: Vec<f64>,
    p99_swapping_us: Vec<f64>,
    median_still_us: Median,
    median_swapping_us: Median,
    ratio: f64,
    more_us: f64,
    p99_holds: bool,
    swaps: u64,
    rss_after_100_kib: u64,
    rss_after_1000_kib: u64,
    rss_growth: f64,
    rss_holds: bool,
}

fn flag(name: &str, default: u64) -> anyhow::Result<u64> {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    args.next().map_or(Ok(default), |value| value.parse().with_context(|| format!("{name} {value}")))
}

/// The shipped predictor under several numbers.
fn bundles(root: &Path) -> anyhow::Result<Vec<u32>> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let newest = *versions(&from, Kind::Ttl)?.last().context("no shipped ttl predictor: make models")?;
    let bundle = Bundle::read(&from, Kind::Ttl, newest)?;
    let files: Vec<_> = bundle.manifest.files.keys().filter_map(|name| Some((name.as_str(), bundle.file(name)?))).collect();
    (0..VERSIONS).map(|_| Ok(publish(root, bundle.manifest.clone(), &files)?.manifest.version)).collect()
}

async fn swap(proxy: &Arc<Proxy>, version: u32) -> anyhow::Result<()> {
    let proxy = proxy.clone();
    let work = move || proxy.models().promote(Kind::Ttl, version, Alias::Champion, proxy.now()).map(drop);
    Ok(tokio::task::spawn_blocking(work).await??)
}

async fn connect(started: &Started) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let (sender, connection) = handshake(TokioIo::new(TcpStream::connect(started.client.addr).await?)).await?;
    let mut driven = JoinSet::new();
    driven.spawn(async move { connection.await.is_ok() });
    driven.detach_all();
    Ok(sender)
}

/// One connection's requests until then; `pause` between their starts, none: one after the other. Latencies from when a request was due, us.
async fn ask(
    mut sender: SendRequest<Empty<Bytes>>,
    (first, until, pause): (u64, tokio::time::Instant, Option<Duration>),
) -> anyhow::Result<Vec<f64>> {
    let clock = RealClock::default();
    let (mut number, mut took, mut due) = (first, Vec::new(), tokio::time::Instant::now());
    while tokio::time::Instant::now() < until {
        if let Some(pause) = pause {
            due += pause;
            tokio::time::sleep_until(due).await;
        }
        number += 1;
        let path = if number.is_multiple_of(NEW_EVERY) { format!("/api/new/{number}") } else { format!("/api/doc/{}", number % KEYS) };
        let request = Request::builder().uri(path).header("host", "farthing.test").body(Empty::new())?;
        let began = clock.now();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        anyhow::ensure!(response.status() == 200, "{}", response.status());
        response.into_body().collect().await?;
        took.push(clock.now().since(began).as_secs_f64() * 1e6);
    }
    Ok(took)
}

async fn block(started: &Started, block: u64, (time, pause): (Duration, Option<Duration>)) -> anyhow::Result<Vec<f64>> {
    let until = tokio::time::Instant::now() + time;
    let mut clients = JoinSet::new();
    for connection in 0..CONNECTIONS as u64 {
        clients.spawn(ask(connect(started).await?, ((block * 64 + connection) << 32, until, pause)));
    }
    let mut all = Vec::new();
    while let Some(took) = clients.join_next().await {
        all.extend(took??);
    }
    Ok(all)
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> anyhow::Result<()> {
    let (seconds, blocks) = (flag("--seconds", 20)?, flag("--blocks", 12)?.max(2) as usize);
    let origin = Origin::simple(|seen, _| ok(format!("{{\"document\":\"{}\"}}", seen.target))).await;
    let mut setup = Setup::new(origin.addr).route(|route| (route.trust_shipped, route.mode) = (true, Mode::Override));
    setup.config.models.deadline = Duration::from_secs(1);
    let known = bundles(&setup.config.models.dir)?;
    let started = setup.start().await;
    let proxy = started.proxy.clone();
    swap(&proxy, known[0]).await?;

    let most = block(&started, 0, (Duration::from_secs(5), None)).await?.len() as f64 / 5.0;
    // What it remembers would be most of the memory that is measured.
    origin.forget();
    let rate = most * SHARE_OF_MOST;
    let pause = Some(Duration::from_secs_f64(CONNECTIONS as f64 / rate));
    let (mut still, mut swapping) = (Vec::new(), Vec::new());
    for number in 0..blocks {
        let time = Duration::from_secs(seconds);
        let asked = block(&started, number as u64 + 1, (time, pause));
        let swaps = number % 2 == 1;
        let swapper = async {
            for n in 0..seconds.saturating_sub(1) {
                tokio::time::sleep(SWAP_EVERY).await;
                if swaps {
                    swap(&proxy, known[(n as usize + 1) % known.len()]).await?;
                }
            }
            anyhow::Ok(())
        };
        let (took, swapped) = tokio::join!(asked, swapper);
        swapped?;
        origin.forget();
        let p99 = quantile(&took?, 0.99);
        println!("block {number}: {} p99 {p99:.0} us", if swaps { "swaps" } else { "still" });
        if swaps { swapping.push(p99) } else { still.push(p99) }
    }
    let mut after_100 = 0;
    for n in 0..SWAPS {
        swap(&proxy, known[n as usize % known.len()]).await?;
        if n + 1 == 100 {
            after_100 = resident()? >> 10;
        }
    }
    let after_1000 = resident()? >> 10;
    let (median_still, median_swapping) = (median(&still), median(&swapping));
    let (ratio, more) = (median_swapping.value / median_still.value, median_swapping.value - median_still.value);
    let growth = after_1000 as f64 / after_100 as f64 - 1.0;
    let figures = Figures {
        most_per_s: most,
        rate_per_s: rate,
        blocks,
        seconds,
        p99_still_us: still,
        p99_swapping_us: swapping,
        median_still_us: median_still,
        median_swapping_us: median_swapping,
        ratio,
        more_us: more,
        p99_holds: ratio <= 1.2 || more <= 300.0,
        swaps: SWAPS,
        rss_after_100_kib: after_100,
        rss_after_1000_kib: after_1000,
        rss_growth: growth,
        rss_holds: growth <= 0.05,
    };
    println!("{}", serde_json::to_string_pretty(&figures)?);
    println!("{}", write("swaps", &figures)?.display());
    proxy.shutdown().await;
    Ok(())
}
