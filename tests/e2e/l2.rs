//! L2 under the whole proxy: restarts, purges, a Redis that is frozen, killed and shared.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use farthing_cache::Purge;
use farthing_cache::l2::GetOutcome;
use farthing_config::{L2Config, L2Redis, L2Store, Secret};
use farthing_tests::origin::ok;
use farthing_tests::{Origin, Setup, Started};

use crate::events::until;
use crate::program::{Serving, built};

#[path = "../../crates/fleet/tests/servers/mod.rs"]
pub mod servers;

use servers::{Cluster, Server};

const KEYS: usize = 100;

fn disk(dir: &Path) -> L2Config {
    with(L2Store::Disk { dir: dir.join("l2"), max_bytes: 64 << 20 }, Duration::from_secs(2))
}

pub fn redis(addresses: Vec<String>, deadline: Duration) -> L2Config {
    let cluster = addresses.len() > 1;
    with(L2Store::Redis(L2Redis { addresses, cluster, ..L2Redis::default() }), deadline)
}

pub fn with(store: L2Store, deadline: Duration) -> L2Config {
    L2Config { store, deadline, max_value: 1_000_000, queue_bytes: 16_000_000, encrypt: None }
}

async fn origin() -> Origin {
    Origin::simple(|seen, _| ok(format!("answer to {}", seen.target))).await
}

async fn start(origin: &Origin, l2: L2Config) -> Started {
    let mut setup = Setup::new(origin.addr);
    setup.config.l2 = Some(l2);
    setup.start().await
}

fn target(n: usize) -> String {
    format!("/api/items/{n}")
}

/// Asks for every key; how many were answered by a hit. No request may fail.
async fn hits(proxy: &Started) -> usize {
    let mut hits = 0;
    for n in 0..KEYS {
        let answer = proxy.client.get(&target(n), &[]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text(), format!("answer to /items/{n}"));
        hits += usize::from(answer.is_hit());
    }
    hits
}

#[tokio::test]
async fn after_a_restart_the_disk_answers_and_the_provider_is_not_asked() {
    let (origin, dir) = (origin().await, tempfile::tempdir().unwrap());
    let proxy = start(&origin, disk(dir.path())).await;
    assert_eq!(hits(&proxy).await, 0);
    proxy.proxy.shutdown().await;
    drop(proxy);
    let proxy = start(&origin, disk(dir.path())).await;
    let first = proxy.client.get(&target(0), &[]).await;
    assert!(
        first.header("cache-status").contains("hit") && first.header("cache-status").contains("detail=\"l2 "),
        "{:?}",
        first.header("cache-status")
    );
    let second = proxy.client.get(&target(0), &[]).await;
    assert!(second.header("cache-status").contains("detail=\"l1 "));
    assert_eq!(hits(&proxy).await, KEYS);
    assert_eq!(origin.calls(), KEYS, "nobody paid twice");
    let text = farthing_proxy::telemetry::render(&proxy.proxy).unwrap();
    assert!(text.contains("farthing_l2_gets_total{store=\"disk\",outcome=\"hit\"} 100"), "{text}");
}

/// D2: what the provider has below another path is another API, also for what outlives the process.
#[tokio::test]
async fn another_path_of_the_provider_is_not_answered_with_what_stood_below_the_old_one() {
    let (origin, dir) = (origin().await, tempfile::tempdir().unwrap());
    let at = async |base: &str| {
        let url = format!("http://{}{base}", origin.addr).parse().unwrap();
        let mut setup = Setup::new(origin.addr).provider(|provider| provider.base_url = url);
        setup.config.l2 = Some(disk(dir.path()));
        setup.start().await
    };
    for (base, asked) in [("/v1", "/v1/items/0"), ("/v2", "/v2/items/0"), ("/V2", "/V2/items/0"), ("/v2/", "/v2/items/0"), ("", "/items/0")]
    {
        let proxy = at(base).await;
        assert_eq!(proxy.client.get(&target(0), &[]).await.text(), format!("answer to {asked}"), "{base}");
        proxy.proxy.shutdown().await;
    }
    assert_eq!(origin.calls(), 4, "a slash at the end changes nothing");
}

#[tokio::test]
async fn a_thousand_who_wait_for_what_l2_has_cost_no_call() {
    let (origin, dir) = (origin().await, tempfile::tempdir().unwrap());
    let proxy = start(&origin, disk(dir.path())).await;
    proxy.client.get(&target(0), &[]).await;
    proxy.proxy.shutdown().await;
    drop(proxy);
    let proxy = start(&origin, disk(dir.path())).await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let client = proxy.client;
        all.spawn(async move { client.get(&target(0), &[]).await.is_hit() });
    }
    assert!(all.join_all().await.into_iter().all(|hit| hit));
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn what_was_purged_stays_away_over_restarts() {
    let (origin, dir) = (origin().await, tempfile::tempdir().unwrap());
    let proxy = start(&origin, disk(dir.path())).await;
    hits(&proxy).await;
    let purged = proxy.proxy.purge(&Purge::Prefix { route: Some("api".into()), path: "/items/1".into() }, false);
    assert_eq!(purged.entries, 11, "1 and 10 to 19");
    proxy.proxy.shutdown().await;
    drop(proxy);
    let proxy = start(&origin, disk(dir.path())).await;
    assert_eq!(hits(&proxy).await, KEYS - 11, "1 and 10 to 19");
}

#[tokio::test]
async fn encrypted_answers_are_for_those_with_the_secret() {
    let (origin, dir) = (origin().await, tempfile::tempdir().unwrap());
    for (secret, expected) in [
        ("a secret of more than thirty-two characters", 0),
        ("a secret of more than thirty-two characters", KEYS),
        ("another secret of more than thirty-two characters", 0),
    ] {
        let proxy = start(&origin, L2Config { encrypt: Some(Secret::new(secret)), ..disk(dir.path()) }).await;
        assert_eq!(hits(&proxy).await, expected);
        proxy.proxy.shutdown().await;
    }
}

#[tokio::test]
async fn a_second_principal_never_gets_the_firsts_answer_from_l2() {
    let (origin, dir) = (origin().await, tempfile::tempdir().unwrap());
    for (token, calls) in [("Bearer a", 1), ("Bearer a", 1), ("Bearer b", 2)] {
        let proxy = start(&origin, disk(dir.path())).await;
        proxy.client.get(&target(0), &[("authorization", token)]).await;
        assert_eq!(origin.calls(), calls, "{token}");
        proxy.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_share_what_one_of_them_paid_for() {
    let Some(server) = Server::start(&[]) else { return };
    let origin = origin().await;
    let l2 = || redis(vec![server.url()], Duration::from_secs(2));
    let (one, two) = (start(&origin, l2()).await, start(&origin, l2()).await);
    until_connected(&[&one, &two]).await;
    hits(&one).await;
    until("written", || one.proxy.l2_stats().unwrap().queued_bytes == 0).await;
    assert_eq!(hits(&two).await, KEYS);
    assert_eq!(origin.calls(), KEYS);
}

/// How long each of these requests took, in order.
async fn waits(proxy: &Started, keys: std::ops::Range<usize>) -> Vec<Duration> {
    let mut waits = Vec::new();
    for n in keys {
        let start = Instant::now();
        assert_eq!(proxy.client.get(&target(n), &[]).await.status, 200);
        waits.push(start.elapsed());
    }
    waits.sort();
    waits
}

/// Requests go on, and none of them waits for longer than it would without L2 plus the deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_costs_no_request() {
    let Some(server) = Server::start(&[]) else { return };
    let origin = origin().await;
    let proxy = start(&origin, redis(vec![server.url()], Duration::from_millis(5))).await;
    until_connected(&[&proxy]).await;
    let before = waits(&proxy, 0..300).await;
    server.signal("-STOP");
    let waits = waits(&proxy, 300..600).await;
    for (when, waits) in [("answering", &before), ("frozen", &waits)] {
        println!("{when}: p50 {:?} p99 {:?} longest {:?}", waits[150], waits[297], waits[299]);
    }
    // Which of our requests waited at all, and how many: not what a busy machine does to the others.
    let outcomes = proxy.proxy.l2_stats().unwrap().outcomes;
    let (late, unavailable) = (outcomes.get(GetOutcome::Late), outcomes.get(GetOutcome::Unavailable));
    assert!(late <= 20 && unavailable >= 250, "late {late}, unavailable {unavailable}");
    assert!(proxy.proxy.parts().iter().any(|p| p.name == "l2" && p.problem.is_some()));
    server.signal("-CONT");
    until_connected(&[&proxy]).await;
    let other = start(&origin, redis(vec![server.url()], Duration::from_secs(2))).await;
    until_connected(&[&other]).await;
    // A write may still be late on a busy machine; one of a few is not.
    for n in 1_000..1_100 {
        proxy.client.get(&target(n), &[]).await;
        until("written", || proxy.proxy.l2_stats().unwrap().queued_bytes == 0).await;
        if other.client.get(&target(n), &[]).await.is_hit() {
            return;
        }
    }
    panic!("hits do not resume");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_a_master_costs_no_request() {
    let Some(mut cluster) = Cluster::start() else { return };
    let origin = origin().await;
    let l2 = |deadline| redis(cluster.urls(), deadline);
    let first = start(&origin, l2(Duration::from_secs(2))).await;
    let second = start(&origin, l2(Duration::from_millis(5))).await;
    until_connected(&[&first, &second]).await;
    hits(&first).await;
    until("written", || first.proxy.l2_stats().unwrap().queued_bytes == 0).await;
    // Whoever has never heard of purges trusts nothing, and the list may be at the master that goes.
    second.client.get("/api/items/before", &[]).await;
    cluster.wait_for_replicas();
    cluster.nodes[0].kill();
    let while_away = hits(&second).await;
    println!("{while_away} of {KEYS} while a master of three is gone");
    assert!(while_away >= KEYS / 3, "the other masters go on: {while_away}");
    cluster.wait_for_promotion(3);
    let third = start(&origin, redis(cluster.nodes[1..].iter().map(Server::url).collect(), Duration::from_secs(2))).await;
    until_connected(&[&third]).await;
    assert!(hits(&third).await >= KEYS * 9 / 10, "hits resume");
}

/// The program with a disk L2, in a directory of its own.
async fn serve(program: &Path, origin: &Origin, dir: &Path) -> Serving {
    let config = format!(
        "state_dir = \"state\"\n[models]\ndir = \"no-models\"\n[holdout]\nshare = 0\n\
         [l2]\ndir = \"l2\"\ndeadline = \"2s\"\n[providers.geo]\nbase_url = \"http://{}\"\nprice = \"0.002\"\n",
        origin.addr
    );
    std::fs::write(dir.join("farthing.toml"), config).unwrap();
    let starting = Serving::start(program, dir, &["--config", "farthing.toml"]);
    tokio::time::timeout(Duration::from_secs(20), starting).await.expect("serve names its data port")
}

/// Fills the program's cache for more than a second, ends it with a signal, starts it again; the share of the answers that had been there for a second
/// or longer (with `all`: of all answers) and are served again, and how long the start took.
async fn share_after(signal: &str, all: bool) -> Option<(f64, Duration)> {
    let Some(program) = built("farthing") else {
        farthing_tests::skip::skip("L2 over kill -9: the program is not built (cargo build -p farthing)");
        return None;
    };
    let (origin, dir) = (origin().await, tempfile::tempdir().unwrap());
    let first = serve(&program, &origin, dir.path()).await;
    let (start, mut answered) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_millis(2_500) {
        let n = answered.len();
        assert_eq!(first.data.get(&format!("/r/geo/doc/{n}"), &[]).await.status, 200);
        answered.push(Instant::now());
    }
    let ended = Instant::now();
    first.signal(signal).await;
    let starting = Instant::now();
    let second = serve(&program, &origin, dir.path()).await;
    let took = starting.elapsed();
    let asked = answered.iter().filter(|at| all || ended.duration_since(**at) >= Duration::from_secs(1)).count();
    let mut hits = 0;
    for n in 0..asked {
        hits += usize::from(second.data.get(&format!("/r/geo/doc/{n}"), &[]).await.is_hit());
    }
    let _nobody_reads = writeln!(std::io::stderr(), "{signal}: {hits} of {asked} answers are served again; started in {took:?}");
    assert!(asked >= 100);
    Some((hits as f64 / asked as f64, took))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_what_is_older_than_a_second_is_served_again() {
    if let Some((share, _)) = share_after("-KILL", false).await {
        assert!(share >= 0.95, "{share}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_sigterm_everything_is_served_again() {
    if let Some((share, _)) = share_after("-TERM", true).await {
        assert!(share >= 0.99, "{share}");
    }
}

pub async fn until_connected(proxies: &[&Started]) {
    until("connected", || proxies.iter().all(|p| p.proxy.parts().iter().all(|part| part.name != "l2" || part.problem.is_none()))).await;
}
