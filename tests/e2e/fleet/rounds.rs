//! What one request costs in operations of Redis, by its outcome: docs/fleet.md has the table.

use std::path::Path;
use std::time::Duration;

use farthing_tests::origin::answer_of;
use farthing_tests::{Origin, Setup, Started};
use http::StatusCode;

use super::{fleet, heard, start};
use crate::events::until;
use crate::l2::servers::Server;
use crate::l2::{self, until_connected};

/// Requests of each outcome.
const EACH: usize = 200;

/// Operations on L2's Redis that an instance has waited for or written behind.
fn operations(proxy: &Started) -> u64 {
    proxy.proxy.l2_stats().unwrap().redis.unwrap().done
}

/// Those of a request of a kind, with what ran beside them.
async fn each(proxy: &Started, path: &str, status: &str) -> f64 {
    let before = operations(proxy);
    for n in 0..EACH {
        let answer = proxy.client.get(&format!("/api/{path}/{n}"), &[]).await;
        assert!(answer.status == StatusCode::OK && answer.header("cache-status").contains(status), "{:?}", answer.header("cache-status"));
    }
    until("written", || proxy.proxy.l2_stats().unwrap().queued_bytes == 0).await;
    (operations(proxy) - before) as f64 / EACH as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_asks_redis_nothing_and_a_miss_little() {
    let (Some(redis), Some(bus)) = (Server::start(&[]), Server::start(&[])) else { return };
    let origin = Origin::simple(|seen, _| {
        let control = if seen.target.contains("unkept") { "no-store" } else { "max-age=600" };
        answer_of(StatusCode::OK, &[("cache-control", control)], "an answer")
    })
    .await;
    let shared = |setup: &mut Setup| {
        setup.config.l2 = Some(l2::redis(vec![redis.url()], Duration::from_millis(500)));
        setup.config.models.dir = Path::new("no-models").to_owned();
    };
    let (a, b) = (start(&origin, fleet(&bus.url(), "a"), shared).await, start(&origin, fleet(&bus.url(), "b"), shared).await);
    heard(&a).await;
    heard(&b).await;
    until_connected(&[&a, &b]).await;
    let cold = each(&a, "kept", "fwd=uri-miss").await;
    let hit = each(&a, "kept", "l1 ").await;
    let below = each(&b, "kept", "l2 ").await;
    let unkept = each(&a, "unkept", "fwd=").await;
    println!("operations of L2's Redis a request: cold {cold:.2}, L1 hit {hit:.2}, L2 hit {below:.2}, not kept {unkept:.2}");
    // Whoever looks at the list of purges does so once a second.
    let beside = 0.1;
    assert!(hit < beside && below < 1.0 + beside && cold < 3.0 + beside && unkept < 3.0 + beside, "{cold} {hit} {below} {unkept}");
}
