//! Events of a stream that all instances read, one of them late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farthing_cache::l2::PutOutcome;
use farthing_config::{FleetConfig, Route};
use farthing_tests::origin::answer_of;
use farthing_tests::{Origin, Script, Setup};
use http::StatusCode;

use super::link::Link;
use super::{fleet, heard, start, stats};
use crate::events::{add, count, shop, source, until};
use crate::l2::redis;
use crate::l2::servers::Server;

/// Long enough that nobody takes the source for down.
const PATIENCE: Duration = Duration::from_secs(600);

fn listening(setup: &mut Setup, redis: String) {
    setup.config.events = vec![shop(redis, PATIENCE)];
    setup.config.routes[0] =
        Arc::new(Route { events: Some("shop".into()), ttl_when_down: Duration::from_millis(1), ..(*setup.config.routes[0]).clone() });
}

/// Answers with the version when it was asked; the first version only when the gate opens.
async fn origin(version: &Arc<AtomicU64>, gate: &Arc<tokio::sync::Notify>) -> Origin {
    let (version, gate) = (version.clone(), gate.clone());
    let script: Script = Arc::new(move |seen, _| {
        let (version, gate) = (version.load(Ordering::SeqCst), gate.clone());
        let waits = version == 1 && seen.target == "/items/1";
        let tag = seen.target.replace("/items/", "item-");
        Box::pin(async move {
            if waits {
                gate.notified().await;
            }
            answer_of(StatusCode::OK, &[("surrogate-key", &tag), ("cache-control", "max-age=3600")], version.to_string())
        })
    });
    Origin::start(script).await
}

/// What is on its way to an instance that reads an event late, and cannot hear the others either, is written where all look: nobody takes it from there.
/// Who only reads late knows it from the others. And it is told once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_to_a_late_reader_is_taken_by_nobody() {
    let Some(server) = Server::start(&[]) else { return };
    let (version, gate) = (Arc::new(AtomicU64::new(1)), Arc::new(tokio::sync::Notify::new()));
    let origin = origin(&version, &gate).await;
    let (late, bus) = (Link::to(server.port).await, Link::to(server.port).await);
    // A busy machine keeps what it is to keep: neither a deadline nor a lease is in the way of the write.
    let l2 = || Some(redis(vec![server.url()], Duration::from_secs(10)));
    let of = |url: String, name: &str| FleetConfig { fill_leases: false, ..fleet(&url, name) };
    let a = start(&origin, of(server.url(), "a"), |setup| {
        setup.config.l2 = l2();
        listening(setup, server.url());
    })
    .await;
    let c = start(&origin, of(bus.url(), "c"), |setup| {
        setup.config.l2 = l2();
        listening(setup, late.url());
    })
    .await;
    for proxy in [&a, &c] {
        heard(proxy).await;
        until("it listens", || count(&source(proxy).counts.gaps) == 1 && !source(proxy).is_down()).await;
    }
    // The source's routes were purged in L2 when the two began to listen, and all that comes within the skew of clocks.
    assert_eq!(c.client.get("/api/items/2", &[]).await.text(), "1");
    until("kept", || c.proxy.cache_stats().entries == 1).await;
    let client = c.client;
    let under_way = tokio::task::spawn(async move { client.get("/api/items/1", &[]).await.text() });
    until("the call is under way", || origin.calls() == 2).await;
    // It reads late, and hears the others.
    late.freeze();
    add(&server, "item.changed", "2", "null");
    until("c has heard of it", || stats(&c).heard == 1 && c.proxy.cache_stats().entries == 0).await;
    assert_eq!((stats(&a).told, stats(&a).heard), (1, 0));
    // It hears nobody.
    bus.freeze();
    version.store(2, Ordering::SeqCst);
    add(&server, "item.changed", "1", "null");
    until("a has told it", || stats(&a).told == 2).await;
    gate.notify_one();
    assert_eq!(under_way.await.unwrap(), "1", "asked before the event");
    until("it is written", || c.proxy.l2_stats().unwrap().outcomes.put(PutOutcome::Stored) >= 2).await;
    assert_eq!(a.client.get("/api/items/1", &[]).await.text(), "2");
    // When it is back it knows, and repeats nothing.
    bus.thaw();
    late.thaw();
    until("c knows", || stats(&c).position >= stats(&a).position && count(&source(&c).counts.events) == 2 && stats(&c).waiting == 0).await;
    assert_eq!(c.client.get("/api/items/1", &[]).await.text(), "2");
    assert_eq!((stats(&a).told, stats(&c).told, stats(&a).heard), (2, 0, 0));
}
