//! The conformance suite on real Redis servers and a real Cluster, and the tier over a server that is frozen, killed and full.

#![allow(clippy::disallowed_methods, reason = "waits of real servers are measured in real time")]

use std::sync::Weak;
use std::time::{Duration, Instant};

use farthing_fleet::{Handle, RedisConfig};
use tokio_util::task::TaskTracker;

use super::conformance::suite;
use super::*;

#[path = "../../../../fleet/tests/servers/mod.rs"]
mod servers;

use servers::{Cluster, Server};

const BOUND: usize = 400_000;
/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_millis(250);

async fn store(config: RedisConfig) -> Arc<dyn Store> {
    let handle = Handle::start(&config, &TaskTracker::new()).unwrap();
    let store = Arc::new(RedisStore::new(handle, BOUND));
    let waiting = Arc::clone(&store);
    until("connected", || async { waiting.handle().is_available(b"") }).await;
    store
}

/// With a deadline that a busy machine keeps.
fn patient(config: RedisConfig) -> RedisConfig {
    RedisConfig { deadline: Duration::from_secs(5), ..config }
}

suite!(single, async {
    let server = crate::l2::tests::redis::Server::start(&[])?;
    let config = crate::l2::tests::redis::patient(farthing_fleet::RedisConfig::single(server.url()));
    let store = crate::l2::tests::redis::store(config).await;
    Some((server, store))
});

/// The cases that run at the same time share a Cluster, one after the other: starting one takes seconds. Each case has it empty; it ends with
/// the last case that has it, so that nothing outlives the tests.
async fn shared_cluster() -> Option<tokio::sync::OwnedMutexGuard<Cluster>> {
    static CLUSTER: parking_lot::Mutex<Weak<tokio::sync::Mutex<Cluster>>> = parking_lot::Mutex::new(Weak::new());
    let cluster = {
        let mut shared = CLUSTER.lock();
        match shared.upgrade() {
            Some(cluster) => cluster,
            None => {
                let cluster = Arc::new(tokio::sync::Mutex::new(Cluster::start()?));
                *shared = Arc::downgrade(&cluster);
                cluster
            }
        }
    };
    let cluster = cluster.lock_owned().await;
    for master in &cluster.nodes[..3] {
        assert_eq!(master.ask(&["FLUSHALL"]), "+OK");
    }
    Some(cluster)
}

suite!(cluster, async {
    let cluster = crate::l2::tests::redis::shared_cluster().await?;
    let config = crate::l2::tests::redis::patient(farthing_fleet::RedisConfig::cluster(cluster.urls()));
    let store = crate::l2::tests::redis::store(config).await;
    Some((cluster, store))
});

/// Rights from before there were leases: to values only.
#[tokio::test]
async fn a_user_without_a_right_to_leases_still_deletes() {
    let Some(server) = Server::with_password("secret", &[]) else { return };
    assert_eq!(server.ask(&["ACL", "SETUSER", "values", "on", ">another", "~farthing:l2:*", "+@all"]), "+OK");
    let (user, password) = (Some("values".to_owned()), Some(farthing_fleet::Password::new("another")));
    let store = store(RedisConfig { user, password, ..patient(RedisConfig::single(server.url())) }).await;
    store.put(put(1, "x")).await.unwrap();
    assert!(store.get(KeyHash(1), now()).await.unwrap().is_some());
    store.delete(KeyHash(1)).await.unwrap();
    assert_eq!(store.get(KeyHash(1), now()).await.unwrap(), None);
}

fn quick() -> TierOptions {
    TierOptions { deadline: Span::from_millis(5), ..options() }
}

/// Looks until there is a hit, for at most ten seconds; no look may take longer than the deadline.
async fn hits_resume(tier: &Tier, n: u64) {
    until("a hit", || async {
        let start = Instant::now();
        let found = look(tier, &subject(n)).await;
        assert!(start.elapsed() < Duration::from_millis(5) + SLACK, "{:?}", start.elapsed());
        found.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_frozen_or_killed_costs_misses_within_the_deadline() {
    let Some(mut server) = Server::start(&[]) else { return };
    let tier = tier(store(RedisConfig::single(server.url())).await, None, quick());
    for how in ["-STOP", "-KILL"] {
        until("stored", || async {
            tier.put(cached(fetched(1, "x")), now());
            tier.flush().await && look(&tier, &subject(1)).await.is_ok()
        })
        .await;
        if how == "-STOP" {
            server.signal(how)
        } else {
            server.kill()
        }
        let mut waits = Vec::new();
        for _ in 0..200 {
            let start = Instant::now();
            let miss = look(&tier, &subject(1)).await.unwrap_err();
            assert!(matches!(miss, GetOutcome::Late | GetOutcome::Unavailable | GetOutcome::Failed), "{miss:?}");
            waits.push(start.elapsed());
            tier.put(cached(fetched(2, "y")), now());
        }
        waits.sort();
        println!("{how}: p50 {:?} p99 {:?} longest {:?}", waits[100], waits[197], waits[199]);
        assert!(waits[199] < Duration::from_millis(5) + SLACK && waits[180] < Duration::from_millis(5), "{waits:?}");
        assert!(tier.flush().await);
        assert!(tier.outcomes().put(PutOutcome::Unavailable) > 100);
        if how == "-STOP" {
            server.signal("-CONT");
            hits_resume(&tier, 1).await;
        } else {
            server.restart();
            // What it had is gone with it; what is put from now on is there.
            until("stored again", || async {
                tier.put(cached(fetched(3, "z")), now());
                tier.flush().await && look(&tier, &subject(3)).await.is_ok()
            })
            .await;
        }
    }
}

#[tokio::test]
async fn values_stand_under_a_versioned_prefix_and_expire_in_redis() {
    let Some(server) = Server::start(&[]) else { return };
    let store = store(patient(RedisConfig::single(server.url()))).await;
    store.put(Put { expires: now() + Span::from_secs(100), ..put(0xabc, "v") }).await.unwrap();
    let name = format!("farthing:l2:1:{:032x}", 0xabc);
    assert_eq!(server.ask(&["GET", &name]), "+v");
    let ttl: u64 = server.ask(&["PTTL", &name]).trim_start_matches(':').parse().unwrap();
    assert!((90_000..=100_000).contains(&ttl), "{ttl}");
    // What others put there is not read as ours, and never read beyond the bound.
    assert_eq!(server.ask(&["SET", &name, "x"]), "+OK");
    assert_eq!(store.get(KeyHash(0xabc), now()).await, Err(StoreFault::Damaged));
    assert_eq!(server.ask(&["SET", &name, &"+".repeat(BOUND + 2)]), "+OK");
    assert_eq!(store.get(KeyHash(0xabc), now()).await, Err(StoreFault::TooLarge));
    assert_eq!(server.ask(&["DEL", &name]), ":1");
    assert_eq!(server.ask(&["LPUSH", &name, "x"]), ":1");
    assert_eq!(store.get(KeyHash(0xabc), now()).await, Err(StoreFault::Failed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_a_master_goes_on() {
    let Some(mut cluster) = Cluster::start() else { return };
    let patient_tier = tier(store(patient(RedisConfig::cluster(cluster.urls()))).await, None, options());
    for n in 0..100 {
        patient_tier.put(cached(fetched(n, &format!("answer {n}"))), now());
    }
    assert!(patient_tier.flush().await);
    assert_eq!(patient_tier.outcomes().put(PutOutcome::Stored), 100);
    let tier = tier(store(RedisConfig::cluster(cluster.urls())).await, None, quick());
    cluster.wait_for_replicas();
    cluster.nodes[2].kill();
    let (mut hits, mut asked) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        for n in 0..100 {
            let one = Instant::now();
            match look(&tier, &subject(n)).await {
                Ok(found) => {
                    assert_eq!(found.body, format!("answer {n}"));
                    hits += 1;
                }
                Err(miss) => assert!(matches!(miss, GetOutcome::Late | GetOutcome::Unavailable | GetOutcome::Failed), "{miss:?}"),
            }
            asked += 1;
            assert!(one.elapsed() < Duration::from_millis(5) + SLACK, "{:?}", one.elapsed());
        }
    }
    println!("{hits} hits of {asked} while a master of three is gone");
    assert!(hits * 3 > asked, "{hits} of {asked}");
    cluster.wait_for_promotion(5);
    for n in 0..100 {
        hits_resume(&tier, n).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_meant_is_erased_from_a_server() {
    let Some(server) = Server::start(&[]) else { return };
    let store = store(patient(RedisConfig::single(server.url()))).await;
    for key in 0..1_500 {
        store.put(put(key, if key % 3 == 0 { "canary" } else { "other" })).await.unwrap();
    }
    let whose = Arc::new(|_: KeyHash, value: &bytes::Bytes| value == "canary");
    assert_eq!(store.erase(whose.clone()).await, Ok(500));
    assert_eq!(store.erase(whose).await, Ok(0));
    assert_eq!(server.ask(&["DBSIZE"]), ":1000");
}
