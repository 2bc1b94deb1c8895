//! Events from a real Redis: purges, outages, restarts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farthing_config::{EventRule, EventsConfig, EventsFrom, FilledBy, L2Config, L2Redis, L2Store, Purges, Template};
use farthing_proxy::events::SourceState;
use farthing_tests::origin::answer_of;
use farthing_tests::{Origin, Setup, Started};
use http::StatusCode;

use crate::l2::servers::Server;

const TTL_WHEN_DOWN: Duration = Duration::from_millis(1);

async fn origin() -> Origin {
    Origin::simple(|seen, n| {
        let tag = seen.target.replace("/items/", "item-");
        answer_of(StatusCode::OK, &[("surrogate-key", &tag), ("cache-control", "max-age=3600")], format!("answer {n}"))
    })
    .await
}

fn template(text: &str) -> Template {
    Template::parse(text, FilledBy::Event).unwrap()
}

/// The stream `changes` of a Redis, whose events purge items.
pub fn shop(url: String, down_after: Duration) -> EventsConfig {
    let purges = Purges { tags: vec![template("item-{subject}")], prefixes: vec![template("/items/{data:/below}")], ..Purges::default() };
    let server = L2Redis { addresses: vec![url], ..L2Redis::default() };
    EventsConfig {
        name: "shop".into(),
        from: EventsFrom::Redis { server, stream: "changes".to_owned() },
        down_after: Some(down_after),
        soft_on_gap: false,
        rules: vec![EventRule { kind: "item.*".into(), purges }],
    }
}

async fn start(origin: &Origin, redis: &Server, dir: &Path) -> Started {
    let mut setup = Setup::new(origin.addr).route(|route| {
        (route.events, route.ttl_when_down, route.stale_if_error) = (Some("shop".into()), TTL_WHEN_DOWN, Duration::ZERO);
    });
    setup.config.events = vec![shop(redis.url(), Duration::from_secs(1))];
    setup.config.state_dir = dir.join("state");
    let store = L2Store::Disk { dir: dir.join("l2"), max_bytes: 64 << 20 };
    setup.config.l2 =
        Some(L2Config { store, deadline: Duration::from_secs(2), max_value: 1_000_000, queue_bytes: 16_000_000, encrypt: None });
    setup.start().await
}

pub fn source(proxy: &Started) -> Arc<SourceState> {
    proxy.proxy.event_sources()[0].clone()
}

pub fn count(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(std::sync::atomic::Ordering::SeqCst)
}

/// Waits until `holds`, turn by turn of the sources' loop; fails after thirty seconds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let mut turn = tokio::time::interval(Duration::from_millis(5));
    let patience = async {
        while !holds() {
            turn.tick().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), patience).await.is_ok(), "{what}: not within thirty seconds");
}

pub fn add(redis: &Server, kind: &str, subject: &str, data: &str) {
    let event = format!(
        "{{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/shop\",\"type\":\"{kind}\",\"subject\":\"{subject}\",\"data\":{data}}}"
    );
    redis.ask(&["XADD", "changes", "*", "event", &event]);
}

async fn is_hit(proxy: &Started, n: u32) -> bool {
    proxy.client.get(&format!("/api/items/{n}"), &[]).await.is_hit()
}

#[tokio::test]
async fn a_stream_purges_and_its_outage_shortens_what_is_kept() {
    let Some(redis) = Server::start(&[]) else { return };
    let (origin, dir) = (origin().await, tempfile::tempdir().unwrap());
    let proxy = start(&origin, &redis, dir.path()).await;
    let shop = source(&proxy);
    until("connected", || count(&shop.counts.gaps) == 1).await;
    for n in [1, 2, 30, 31] {
        assert!(!is_hit(&proxy, n).await);
    }
    add(&redis, "item.changed", "1", "null");
    add(&redis, "item.moved", "none", "{\"below\": 3}");
    redis.ask(&["XADD", "changes", "*", "event", "no JSON"]);
    until("obeyed", || count(&shop.counts.events) == 2 && count(&shop.counts.malformed) == 1).await;
    // The counters count before the purges are done; the next arrival comes after.
    let heard = shop.heard();
    until("done", || shop.heard() > heard).await;
    assert_eq!(
        [is_hit(&proxy, 1).await, is_hit(&proxy, 2).await, is_hit(&proxy, 30).await, is_hit(&proxy, 31).await],
        [false, true, false, false]
    );

    redis.signal("-STOP");
    until("down", || shop.is_down()).await;
    let answer = proxy.client.get("/api/items/2", &[]).await;
    assert!(answer.header("cache-status").contains("detail=\"events-down\""), "{}", answer.header("cache-status"));
    let text = farthing_proxy::telemetry::render(&proxy.proxy).unwrap();
    assert!(
        text.contains("farthing_events_up{source=\"shop\"} 0") && text.contains("farthing_events_outages_total{source=\"shop\"} 1"),
        "{text}"
    );
    let parts = proxy.proxy.parts();
    assert!(parts.iter().any(|part| part.name == "events:shop" && part.problem.is_some()), "{parts:?}");
    redis.signal("-CONT");
    until("back", || !shop.is_down()).await;
    is_hit(&proxy, 2).await;
    assert!(is_hit(&proxy, 2).await);
    assert_eq!(count(&shop.counts.gaps), 1, "a stream repeats what nobody heard");
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was_and_purges_what_it_cannot_know() {
    let Some(redis) = Server::start(&[]) else { return };
    let (origin, dir) = (origin().await, tempfile::tempdir().unwrap());
    let proxy = start(&origin, &redis, dir.path()).await;
    let shop = source(&proxy);
    until("connected", || count(&shop.counts.gaps) == 1).await;
    for n in [1, 2] {
        is_hit(&proxy, n).await;
    }
    proxy.proxy.shutdown().await;
    drop((proxy, shop));
    add(&redis, "item.changed", "1", "{\"below\": \"x\"}");
    let proxy = start(&origin, &redis, dir.path()).await;
    let shop = source(&proxy);
    until("caught up", || count(&shop.counts.events) == 1).await;
    let heard = shop.heard();
    until("done", || shop.heard() > heard).await;
    assert_eq!([is_hit(&proxy, 1).await, is_hit(&proxy, 2).await], [false, true], "what L2 had, but for what has changed");
    proxy.proxy.shutdown().await;
    assert_eq!(count(&shop.counts.gaps), 0);
    drop((proxy, shop));
    // One that is trimmed before it was read may have been about anything.
    add(&redis, "item.changed", "1", "{\"below\": \"x\"}");
    redis.ask(&["XTRIM", "changes", "MAXLEN", "0"]);
    let proxy = start(&origin, &redis, dir.path()).await;
    let shop = source(&proxy);
    until("a gap", || count(&shop.counts.gaps) == 1).await;
    let heard = shop.heard();
    until("done", || shop.heard() > heard).await;
    assert_eq!([is_hit(&proxy, 1).await, is_hit(&proxy, 2).await], [false, false]);
    proxy.proxy.shutdown().await;
}
