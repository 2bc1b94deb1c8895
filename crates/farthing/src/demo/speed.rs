//! The speed phase: real time, a fixed rate, models swapped meanwhile; direct and proxied requests side by side.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use farthing_config::{Config, Route};
use farthing_ledger::aggregate::HistogramSnapshot;
use farthing_models::{Alias, Kind};
use farthing_proxy::Proxy;
use farthing_sim::{ApiSpec, Driver, DriverSpec, Histogram, ListedChanges, Planned, Provider, Target, Truth};
use farthing_types::{Clock, Draw, DrawKind, Money, RealClock, Span, Time};
use tokio_util::sync::CancellationToken;

use super::report::{Quantiles, Speed};
use super::stage::config;

/// Requests per second: cached routes, passed through, direct.
const RATES: [f64; 3] = [800.0, 100.0, 100.0];
/// Latency of the simulated API.
const LATENCY: Span = Span::from_millis(5);
/// How long the machine's capacity is measured.
const CAPACITY_FOR: Duration = Duration::from_millis(1_000);
/// Documents asked for on the cached route.
const KEYS: f64 = 2_000.0;
/// Time between swaps.
const SWAP_EVERY: Duration = Duration::from_millis(1_000);

/// A proxy in real time before a simulated API with a cached route (0) and one that only passes through (1).
struct Track {
    clock: Arc<dyn Clock>,
    truth: Arc<dyn Truth>,
    provider: Provider,
    proxy: Arc<Proxy>,
}

impl Track {
    async fn start(dir: &Path, seed: u64, latency: Span) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(RealClock::default());
        let truth: Arc<dyn Truth> = Arc::new(ListedChanges::default());
        let api = |name: &str| ApiSpec { latency, ..ApiSpec::new(name, Money::from_nanos(1_000_000)) };
        let apis = [api("cached"), api("through")];
        let provider = Provider::start(apis.to_vec(), truth.clone(), clock.clone()).await.context("simulated provider")?;
        let mut settings = Config { seed, ..config(&apis, &provider, dir) };
        settings.log.dir = dir.join("speed-logs");
        settings.routes[1] = Arc::new(Route { cache: false, dedupe: false, ..Route::clone(&settings.routes[1]) });
        let proxy = Proxy::start(Arc::new(settings), clock.clone()).await.context("proxy")?;
        Ok(Self { clock, truth, provider, proxy })
    }

    /// A driver that asks `server` for documents below `path`.
    fn driver(&self, server: SocketAddr, path: &str) -> Driver {
        let targets = vec![Target { path: path.to_owned(), nondeterministic: false }];
        Driver::new(DriverSpec { server, targets, workers: 32, truth: self.truth.clone(), clock: self.clock.clone() })
    }

    async fn stop(self) {
        self.proxy.shutdown().await;
        self.provider.stop().await;
    }
}

/// Requests per second that this machine can send, pass through and answer, all in one process.
pub async fn capacity(dir: &Path, seed: u64) -> anyhow::Result<f64> {
    let track = Track::start(dir, seed, Span::ZERO).await?;
    let driver = track.driver(track.proxy.data_addr(), "/r/through/through/items/");
    let stop = CancellationToken::new();
    let all = driver.steady(plan(1e6, seed), 1e9, stop.clone());
    tokio::pin!(all);
    let real = RealClock::default();
    let began = real.now();
    tokio::select! {
        () = &mut all => {}
        () = tokio::time::sleep(CAPACITY_FOR) => stop.cancel(),
    }
    all.await;
    let capacity = driver.tally().total().requests as f64 / real.now().since(began).as_secs_f64().max(0.1);
    track.stop().await;
    Ok(capacity)
}

/// Runs for `seconds`; `dir` holds the models of the phases before.
pub async fn run(dir: &Path, seconds: f64, seed: u64, version: Option<u32>) -> anyhow::Result<Speed> {
    let track = Track::start(dir, seed, LATENCY).await?;
    let (through, direct) = (track.proxy.data_addr(), track.provider.addr());
    let drivers = [
        track.driver(through, "/r/cached/cached/items/"),
        track.driver(through, "/r/through/through/items/"),
        track.driver(direct, "/cached/items/"),
    ];
    let swaps = drive(&drivers, &track.proxy, seconds, (seed, version)).await;
    let totals = track.proxy.totals().total;
    let counts: Vec<_> = drivers.iter().map(|d| d.tally().total()).collect();
    let speed = Speed {
        rate: RATES[0] + RATES[1],
        requests: counts[0].requests + counts[1].requests,
        overhead_ms: of_snapshot(&totals.overhead),
        cached_ms: quantiles(&drivers[0].tally().latency),
        through_ms: quantiles(&drivers[1].tally().latency),
        direct_ms: quantiles(&drivers[2].tally().latency),
        swaps,
        failed: counts[0].failed + counts[1].failed,
    };
    track.stop().await;
    Ok(speed)
}

async fn drive(drivers: &[Driver; 3], proxy: &Arc<Proxy>, seconds: f64, (seed, version): (u64, Option<u32>)) -> u64 {
    let stop = CancellationToken::new();
    let run = |index: usize| {
        let plan = plan(RATES[index] * seconds, seed + index as u64);
        drivers[index].steady(plan, RATES[index], stop.clone())
    };
    let load = async { tokio::join!(run(0), run(1), run(2)) };
    tokio::pin!(load);
    let mut swaps = 0;
    loop {
        tokio::select! {
            _ = &mut load => return swaps,
            () = tokio::time::sleep(SWAP_EVERY) => {
                if let Some(version) = version {
                    swaps += u64::from(promote(proxy, version).await.is_ok());
                }
            }
        }
    }
}

/// Loads a version afresh and makes it the champion, off the request path.
pub async fn promote(proxy: &Arc<Proxy>, version: u32) -> anyhow::Result<()> {
    let proxy = proxy.clone();
    let work = move || proxy.models().promote(Kind::Ttl, version, Alias::Champion, proxy.now()).map(|_| ());
    Ok(tokio::task::spawn_blocking(work).await??)
}

/// Requests whose documents are skewed towards the first ones.
fn plan(requests: f64, seed: u64) -> Arc<[Planned]> {
    let draw = Draw::new(seed);
    let key = |i: u64| KEYS.powf(draw.uniform(DrawKind::Sample, "speed", u128::from(i), 0)) as u32;
    (0..requests as u64).map(|i| Planned { at: Time::ZERO, route: 0, key: key(i) }).collect()
}

fn quantiles(histogram: &Histogram) -> Quantiles {
    let ms = |q| histogram.quantile(q).unwrap_or(0) as f64 / 1e6;
    Quantiles { p50: ms(0.5), p95: ms(0.95), p99: ms(0.99) }
}

fn of_snapshot(histogram: &HistogramSnapshot) -> Quantiles {
    let ms = |q| histogram.quantile(q).unwrap_or_default().as_secs_f64() * 1e3;
    Quantiles { p50: ms(0.5), p95: ms(0.95), p99: ms(0.99) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_seeded_and_skewed() {
        let (a, b) = (plan(10_000.0, 1), plan(10_000.0, 1));
        assert_eq!(a, b);
        assert_ne!(a, plan(10_000.0, 2));
        let first = a.iter().filter(|p| p.key < 45).count();
        assert!((4_500..5_500).contains(&first), "half of the requests go to the first 45 of 2,000 documents: {first}");
        assert!(a.iter().all(|p| f64::from(p.key) <= KEYS));
    }
}
