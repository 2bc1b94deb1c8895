//! Purges on three instances under load: nothing older than a purge is answered later than a second after it, by none of them, whatever is under way
//! and whoever is cut off.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use farthing_cache::Purge;
use farthing_cache::l2::PutOutcome;
use farthing_config::{L2Config, L2Store, PurgeBy};
use farthing_tests::origin::answer_of;
use farthing_tests::{Client, Origin, Script, Started};
use farthing_types::{Clock, RealClock, ScaledClock};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::link::Link;
use super::{fleet, heard, start, start_on, stats};
use crate::events::until;
use crate::l2::redis;
use crate::l2::servers::Server;

const KEYS: usize = 40;
/// How long after a purge an older answer may still be given.
const GRACE: Duration = Duration::from_secs(1);

/// What is true, and since when everybody has to know.
#[derive(Default)]
struct World {
    versions: Vec<AtomicU64>,
    /// By key: when a purge was on the bus, and the version before which nothing may be answered since.
    purged: Vec<Mutex<Vec<(Instant, u64)>>>,
    answers: AtomicU64,
    hits: AtomicU64,
    stale: Mutex<Vec<String>>,
    /// Oldest answer within the grace, ms after its purge.
    latest: AtomicU64,
    over: AtomicBool,
}

impl World {
    fn new() -> Arc<Self> {
        let versions = (0..KEYS).map(|_| AtomicU64::new(1)).collect();
        Arc::new(Self { versions, purged: (0..KEYS).map(|_| Mutex::default()).collect(), ..Self::default() })
    }

    /// An origin that answers with the version when it was asked; some answers take their time.
    async fn origin(self: &Arc<Self>, seed: u64) -> Origin {
        let (world, draws) = (self.clone(), Mutex::new(StdRng::seed_from_u64(seed)));
        let script: Script = Arc::new(move |seen, _| {
            let key: usize = seen.target.rsplit('/').next().unwrap().parse().unwrap();
            let version = world.versions[key].load(Ordering::SeqCst);
            let takes = {
                let mut draws = draws.lock();
                if draws.random_bool(0.03) { draws.random_range(800..2_500) } else { draws.random_range(1..60) }
            };
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(takes)).await;
                let tags = format!("all item-{key}");
                answer_of(StatusCode::OK, &[("surrogate-key", &tags), ("cache-control", "max-age=3600")], version.to_string())
            })
        });
        Origin::start(script).await
    }

    /// Asks an instance for a key, and judges the answer.
    async fn ask(&self, client: Client, name: &str, key: usize) {
        let asked = Instant::now();
        let answer = client.get(&format!("/api/items/{key}"), &[]).await;
        let version: u64 = answer.text().parse().unwrap_or_else(|_| panic!("{name}: {} {}", answer.status, answer.text()));
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.hits.fetch_add(u64::from(answer.is_hit()), Ordering::Relaxed);
        for (at, least) in self.purged[key].lock().iter().rev().take_while(|(_, least)| *least > version) {
            let Some(after) = asked.checked_duration_since(*at) else { continue };
            if after >= GRACE {
                let told = answer.header("cache-status");
                self.stale.lock().push(format!("{name}: key {key} version {version}, {after:?} after it was purged for {least}: {told}"));
            } else {
                self.latest.fetch_max(after.as_millis() as u64, Ordering::Relaxed);
            }
        }
    }

    /// Changes a key at the origin and purges it at an instance, until that has told the others.
    async fn change(&self, proxy: &Started, key: usize, how: u32) {
        let version = self.versions[key].fetch_add(1, Ordering::SeqCst) + 1;
        let purge = match how {
            0..=1 => Purge::Within { route: "api".into(), tenant: None, path: Some(format!("/items/{key}").into()), tag: None },
            _ => Purge::Tag(format!("item-{key}").into()),
        };
        let (proxy, soft) = (proxy.proxy.clone(), how == 9);
        let told = move || {
            proxy.purge(&purge, soft);
            while proxy.is_told() == Some(false) {}
        };
        tokio::task::spawn_blocking(told).await.unwrap();
        self.purged[key].lock().push((Instant::now(), version));
    }
}

fn shared_l2(server: &Server) -> L2Config {
    redis(vec![server.url()], Duration::from_millis(100))
}

/// The clock of an instance that is some hours off.
fn off_by(hours: i64) -> Arc<dyn Clock> {
    let real = RealClock::default();
    let hours = Duration::from_secs(3_600 * hours.unsigned_abs()) * u32::from(hours != 0);
    let start = if hours.is_zero() { real.now() } else { real.now() - hours };
    Arc::new(ScaledClock::new(start, 1.0))
}

/// Three instances whose clocks differ by hours, readers on all of them, a number of purges; the third is cut off again and again.
async fn trials(seed: u64, purges: usize, apart: Duration) {
    let Some(server) = Server::start(&[]) else { return };
    let (world, link) = (World::new(), Link::to(server.port).await);
    let origin = world.origin(seed).await;
    let mut instances = Vec::new();
    for (name, url, hours) in [("a", server.url(), 0), ("b", server.url(), 5), ("c", link.url(), 2)] {
        let change = |setup: &mut farthing_tests::Setup| setup.config.l2 = Some(shared_l2(&server));
        instances.push((name, start_on(&origin, fleet(&url, name), off_by(hours), change).await));
    }
    for (_, proxy) in &instances {
        heard(proxy).await;
    }
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..9u64 {
        let (name, client) = (instances[reader as usize % 3].0, instances[reader as usize % 3].1.client);
        let world = world.clone();
        readers.spawn(async move {
            let mut draws = StdRng::seed_from_u64(seed ^ (reader + 1) << 32);
            let mut turn = tokio::time::interval(Duration::from_millis(6));
            turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !world.over.load(Ordering::Relaxed) {
                turn.tick().await;
                world.ask(client, name, draws.random_range(0..KEYS)).await;
            }
        });
    }
    let (cut_off, cutting) = (world.clone(), Arc::new(link));
    let cutter = tokio::task::spawn(cut_again_and_again(cut_off, cutting.clone(), seed));
    let mut draws = StdRng::seed_from_u64(seed);
    let mut turn = tokio::time::interval(apart);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for n in 0..purges {
        turn.tick().await;
        // The one that may be cut off waits until it is not.
        let (at, key, how) = (if n % 25 == 24 { 2 } else { n % 2 }, draws.random_range(0..KEYS), draws.random_range(0..10));
        world.change(&instances[at].1, key, how).await;
    }
    cutter.abort();
    cutting.thaw();
    // Who was cut off comes back, and then everything is as everywhere.
    heard(&instances[2].1).await;
    tokio::time::sleep(GRACE).await;
    world.over.store(true, Ordering::Relaxed);
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
    let told: Vec<_> = instances.iter().map(|(_, proxy)| stats(proxy)).collect();
    let (answers, hits, latest) =
        (world.answers.load(Ordering::Relaxed), world.hits.load(Ordering::Relaxed), world.latest.load(Ordering::Relaxed));
    let _nobody_reads = writeln!(
        std::io::stderr(),
        "{purges} purges, {answers} answers, {:.0} % hits, {} calls, latest older answer {latest} ms after its purge, {} silences, heard {:?}, gaps {:?}",
        100.0 * hits as f64 / answers as f64,
        origin.calls(),
        told[2].silences,
        told.iter().map(|stats| stats.heard).collect::<Vec<_>>(),
        told.iter().map(|stats| stats.gaps).collect::<Vec<_>>(),
    );
    let stale = world.stale.lock();
    assert!(
        stale.is_empty(),
        "seed {seed}: {} stale answers, such as\n{}",
        stale.len(),
        stale.iter().take(10).cloned().collect::<Vec<_>>().join("\n")
    );
    assert!(hits * 4 > answers, "the cache is of use: {hits} of {answers}");
    assert!(told[2].silences > 0 && told.iter().all(|stats| stats.heard > 0 && stats.gaps == 0 && !stats.silent), "{told:?}");
}

async fn cut_again_and_again(world: Arc<World>, link: Arc<Link>, seed: u64) {
    let mut draws = StdRng::seed_from_u64(!seed);
    while !world.over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(draws.random_range(200..1_200))).await;
        link.freeze();
        if draws.random_bool(0.3) {
            link.cut();
        }
        tokio::time::sleep(Duration::from_millis(draws.random_range(200..3_500))).await;
        link.thaw();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_older_than_a_purge_is_answered_a_second_later() {
    trials(1, 90, Duration::from_millis(50)).await;
}

/// The same ten thousand times; some ten minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes: make simulate"]
async fn nothing_older_than_a_purge_is_answered_a_second_later_in_ten_thousand_trials() {
    for seed in 0..10 {
        trials(seed, 1_000, Duration::from_millis(45)).await;
    }
}

/// An instance that is cut off gives tagged answers for a second, says why it does not any more, and knows what it missed when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_doubts_and_who_is_back_knows() {
    let Some(server) = Server::start(&[]) else { return };
    let (world, link) = (World::new(), Link::to(server.port).await);
    let script: Script = {
        let world = world.clone();
        Arc::new(move |seen, _| {
            let (version, tag) = (world.versions[0].load(Ordering::SeqCst), if seen.target == "/plain" { "" } else { "item" });
            let tags: Vec<(&str, &str)> = if tag.is_empty() { vec![] } else { vec![("surrogate-key", tag)] };
            let answer = answer_of(StatusCode::OK, &[&tags[..], &[("cache-control", "max-age=3600")]].concat(), version.to_string());
            Box::pin(std::future::ready(answer))
        })
    };
    let origin = Origin::start(script).await;
    let a = start(&origin, fleet(&server.url(), "a"), |_| ()).await;
    let c = start(&origin, fleet(&link.url(), "c"), |setup| {
        setup.config.routes[0] = Arc::new(farthing_config::Route { stale_if_error: Duration::ZERO, ..(*setup.config.routes[0]).clone() });
    })
    .await;
    heard(&a).await;
    heard(&c).await;
    for proxy in [&a, &c] {
        for target in ["/api/tagged", "/api/plain"] {
            let before = proxy.proxy.cache_stats().stored;
            proxy.client.get(target, &[]).await;
            // An answer is stored a moment after its client has it.
            until("stored", || proxy.proxy.cache_stats().stored > before).await;
            assert!(proxy.client.get(target, &[]).await.is_hit());
        }
    }
    // Everybody hears.
    world.versions[0].fetch_add(1, Ordering::SeqCst);
    a.proxy.purge(&Purge::Tag("item".into()), false);
    assert_eq!(a.proxy.is_told(), Some(true));
    until("heard", || stats(&c).heard == 1).await;
    assert_eq!(c.client.get("/api/tagged", &[]).await.text(), "2");
    // Cut off: for a second as ever, then it does not trust what it has, but for what has no tags.
    link.freeze();
    until("silent", || stats(&c).silent).await;
    tokio::time::sleep(GRACE).await;
    let doubted = c.client.get("/api/tagged", &[]).await;
    assert!(
        doubted.header("cache-status").contains("fwd=stale") && doubted.header("cache-status").contains("detail=\"fleet-unheard\""),
        "{}",
        doubted.header("cache-status")
    );
    assert!(c.client.get("/api/plain", &[]).await.is_hit());
    assert!(super::problem(&c).unwrap().contains("redis does not answer"), "{:?}", super::problem(&c));
    let text = farthing_proxy::telemetry::render(&c.proxy).unwrap();
    assert!(text.contains("farthing_fleet_silent{} 1.0"), "{text}");
    // Its own purge holds here at once, and is told later.
    c.proxy.purge(&Purge::Tag("none".into()), false);
    let proxy = c.proxy.clone();
    assert_eq!(tokio::task::spawn_blocking(move || proxy.is_told()).await.unwrap(), Some(false));
    world.versions[0].fetch_add(1, Ordering::SeqCst);
    a.proxy.purge(&Purge::Prefix { route: Some("api".into()), path: "/plain".into() }, false);
    let heard_before = stats(&a).heard;
    link.thaw();
    heard(&c).await;
    assert_eq!(c.client.get("/api/plain", &[]).await.text(), "3", "it knows what it missed before it trusts what it has");
    until("told", || stats(&a).heard > heard_before && stats(&c).waiting == 0).await;
    assert_eq!(super::problem(&c), None);
    assert_eq!(stats(&c).gaps, 0);
}

/// A call that began before a purge, on an instance that is cut off and whose clock is ahead, ends after it and is written where all look: nobody takes
/// it from there, not even who starts later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_writes_that_missed_a_purge_is_taken_by_nobody() {
    let Some(server) = Server::start(&[]) else { return };
    let (version, gate) = (Arc::new(AtomicU64::new(1)), Arc::new(tokio::sync::Notify::new()));
    let script: Script = {
        let (version, gate) = (version.clone(), gate.clone());
        Arc::new(move |_, _| {
            let (version, gate) = (version.load(Ordering::SeqCst), gate.clone());
            Box::pin(async move {
                if version == 1 {
                    gate.notified().await;
                }
                answer_of(StatusCode::OK, &[("surrogate-key", "item"), ("cache-control", "max-age=3600")], version.to_string())
            })
        })
    };
    let (origin, link) = (Origin::start(script).await, Link::to(server.port).await);
    let shared = |setup: &mut farthing_tests::Setup| setup.config.l2 = Some(shared_l2(&server));
    let a = start_on(&origin, fleet(&server.url(), "a"), off_by(2), shared).await;
    let c = start_on(&origin, fleet(&link.url(), "c"), off_by(0), shared).await;
    heard(&a).await;
    heard(&c).await;
    let client = c.client;
    let under_way = tokio::task::spawn(async move { client.get("/api/item", &[]).await.text() });
    until("the call is under way", || origin.calls() == 1).await;
    link.freeze();
    version.store(2, Ordering::SeqCst);
    let purging = a.proxy.clone();
    let told = move || {
        purging.purge(&Purge::Tag("item".into()), false);
        purging.is_told()
    };
    assert_eq!(tokio::task::spawn_blocking(told).await.unwrap(), Some(true));
    gate.notify_one();
    assert_eq!(under_way.await.unwrap(), "1", "asked before the purge");
    until("it is written", || c.proxy.l2_stats().unwrap().outcomes.put(PutOutcome::Stored) == 1).await;
    let late = start_on(&origin, fleet(&server.url(), "late"), off_by(3), shared).await;
    heard(&late).await;
    for proxy in [&late, &a] {
        assert_eq!(proxy.client.get("/api/item", &[]).await.text(), "2");
    }
    link.thaw();
    until("it knows, too", || stats(&c).position >= stats(&a).position).await;
    assert_eq!(c.client.get("/api/item", &[]).await.text(), "2");
}

/// What was not purged while an instance was down is answered from its disk; what was is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_outlives_a_restart_but_for_what_was_purged_meanwhile() {
    let Some(server) = Server::start(&[]) else { return };
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let origin = world.origin(5).await;
    let disk = |setup: &mut farthing_tests::Setup| {
        let store = L2Store::Disk { dir: dir.path().join("l2"), max_bytes: 64 << 20 };
        setup.config.l2 = Some(L2Config { store, ..shared_l2(&server) });
    };
    let a = start(&origin, fleet(&server.url(), "a"), |_| ()).await;
    let b = start_on(&origin, fleet(&server.url(), "b"), off_by(3), disk).await;
    heard(&a).await;
    heard(&b).await;
    for key in 0..10 {
        world.ask(b.client, "b", key).await;
    }
    b.proxy.shutdown().await;
    drop(b);
    world.change(&a, 1, 5).await;
    world.change(&a, 2, 0).await;
    let calls = origin.calls();
    let b = start_on(&origin, fleet(&server.url(), "b"), off_by(3), disk).await;
    heard(&b).await;
    for key in 0..10 {
        let answer = b.client.get(&format!("/api/items/{key}"), &[]).await;
        assert_eq!(answer.text(), if key == 1 || key == 2 { "2" } else { "1" }, "{key}");
    }
    assert_eq!(origin.calls(), calls + 2);
}

/// What a write drops, and what the data port purges, goes everywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_on_one_drops_the_answer_of_all() {
    let Some(server) = Server::start(&[]) else { return };
    let origin = World::new().origin(3).await;
    let own = |setup: &mut farthing_tests::Setup| {
        setup.config.routes[0] = Arc::new(farthing_config::Route { purge_by: PurgeBy::Own, ..(*setup.config.routes[0]).clone() });
    };
    let (a, b) = (start(&origin, fleet(&server.url(), "a"), own).await, start(&origin, fleet(&server.url(), "b"), own).await);
    heard(&a).await;
    heard(&b).await;
    let fill = async || {
        for key in [1, 2] {
            b.client.get(&format!("/api/items/{key}"), &[]).await;
        }
        until("both are kept", || b.proxy.cache_stats().entries == 2).await;
    };
    fill().await;
    assert_eq!(a.client.send(Method::PUT, "/api/items/1", &[], "new").await.status, StatusCode::OK);
    until("the other one is left", || b.proxy.cache_stats().entries == 1).await;
    assert!(b.client.get("/api/items/2", &[]).await.is_hit());
    fill().await;
    let purged = a.client.send(Method::from_bytes(b"PURGE").unwrap(), "/api/items/2", &[], "").await;
    assert_eq!(purged.text(), "{\"entries\":0,\"flights\":0,\"dry_run\":false,\"fleet\":\"told\"}");
    until("the other one is left", || b.proxy.cache_stats().entries == 1).await;
    assert!(b.client.get("/api/items/1", &[]).await.is_hit());
}

/// A Redis that has lost everything: nobody knows what was purged, so nobody trusts what it has; and then all goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_empties_memories_and_the_fleet_goes_on() {
    let Some(server) = Server::start(&[]) else { return };
    let world = World::new();
    let origin = world.origin(7).await;
    let (a, b) = (start(&origin, fleet(&server.url(), "a"), |_| ()).await, start(&origin, fleet(&server.url(), "b"), |_| ()).await);
    heard(&a).await;
    heard(&b).await;
    for proxy in [&a, &b] {
        world.ask(proxy.client, "", 1).await;
        assert_eq!(proxy.proxy.cache_stats().entries, 1);
    }
    until("they know of each other", || stats(&a).members == ["a", "b"]).await;
    server.ask(&["FLUSHALL"]);
    until("noticed", || [&a, &b].iter().all(|proxy| stats(proxy).gaps == 1 && proxy.proxy.cache_stats().entries == 0)).await;
    world.ask(b.client, "", 1).await;
    world.change(&a, 1, 5).await;
    until("heard", || stats(&b).heard == 1 && b.proxy.cache_stats().entries == 0).await;
    assert_eq!([stats(&a).gaps, stats(&b).gaps], [1, 1]);
    // A third comes: it is told nothing that it has to purge, and trusts nothing from before.
    let late = start(&origin, fleet(&server.url(), "late"), |_| ()).await;
    heard(&late).await;
    assert_eq!((stats(&late).gaps, stats(&late).heard), (0, 0));
}
