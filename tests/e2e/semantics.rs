//! D2, D8: who may have what for how long, as the RFCs say, on the wire.

use std::time::Duration;

use farthing_config::{Mode, Profile};
use farthing_tests::origin::answer_of;
use farthing_tests::{Answer, Client, Origin, Setup, Started};
use http::{Method, StatusCode};

/// An origin that answers every request with its number and these fields.
async fn origin(fields: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::simple(move |_, n| answer_of(StatusCode::OK, fields, n.to_string())).await
}

async fn proxy(origin: &Origin, mode: Mode, shared: bool) -> Started {
    Setup::new(origin.addr).route(|r| (r.mode, r.shared) = (mode, shared)).start().await
}

async fn as_principal(client: Client, who: &str) -> Answer {
    client.get("/api/doc", &[("authorization", &format!("Bearer {who}"))]).await
}

fn uncached(started: &Started, reason: &str) -> u64 {
    started.proxy.totals().total.uncached.get(reason).map_or(0, |tally| tally.count)
}

#[tokio::test]
async fn an_authorised_answer_is_its_principals_alone() {
    for fields in [&[("cache-control", "max-age=60")], &[("cache-control", "private, max-age=60")]] {
        let origin = origin(fields).await;
        let started = proxy(&origin, Mode::Respect, false).await;
        assert_eq!(as_principal(started.client, "a").await.text(), "0");
        let hit = as_principal(started.client, "a").await;
        assert!(hit.is_hit() && hit.text() == "0", "{hit:?}");
        let other = as_principal(started.client, "b").await;
        assert!(!other.is_hit() && other.text() == "1", "{other:?}");
        assert_eq!(uncached(&started, "cold"), 2);

        let started = proxy(&origin, Mode::Respect, true).await;
        for n in 2..5 {
            assert_eq!(as_principal(started.client, "a").await.text(), n.to_string());
        }
        assert_eq!(uncached(&started, "private"), 3);
    }
}

#[tokio::test]
async fn a_silent_origin_is_cached_where_freshness_is_learned_and_the_reason_is_counted_where_not() {
    let origin = origin(&[]).await;
    let respect = proxy(&origin, Mode::Respect, false).await;
    for n in 0..2 {
        let answer = as_principal(respect.client, "a").await;
        assert_eq!(answer.text(), n.to_string());
        assert_eq!(answer.header("cache-status"), "farthing; fwd=uri-miss; detail=\"no-freshness\"");
    }
    assert_eq!(uncached(&respect, "no-freshness"), 2);
    let learned = proxy(&origin, Mode::Learned, false).await;
    assert_eq!(as_principal(learned.client, "a").await.text(), "2");
    assert!(as_principal(learned.client, "a").await.is_hit());
}

#[tokio::test]
async fn a_write_drops_what_its_answer_names_and_a_failed_one_nothing() {
    for profile in [Profile::Http, Profile::Api] {
        let origin = Origin::simple(|seen, n| match seen.method {
            Method::GET => answer_of(StatusCode::OK, &[("cache-control", "max-age=60")], n.to_string()),
            Method::DELETE => answer_of(StatusCode::CONFLICT, &[("location", "/made")], ""),
            _ => answer_of(StatusCode::CREATED, &[("location", "made?v=1"), ("content-location", "http://elsewhere.test/else")], ""),
        })
        .await;
        let started = Setup::new(origin.addr).route(|r| (r.mode, r.profile) = (Mode::Respect, profile)).start().await;
        let client = started.client;
        let targets = ["/api/items", "/api/made?v=1", "/api/else"];
        for target in targets {
            client.get(target, &[("accept", "text/plain")]).await;
        }
        client.send(Method::DELETE, targets[0], &[], "").await;
        for target in targets {
            assert!(client.get(target, &[("accept", "text/plain")]).await.is_hit(), "{target}");
        }
        client.send(Method::POST, targets[0], &[("content-type", "text/plain")], "new").await;
        for (target, hit) in targets.into_iter().zip([false, false, true]) {
            assert_eq!(client.get(target, &[("accept", "text/plain")]).await.is_hit(), hit, "{target}");
        }
    }
}

#[tokio::test]
async fn a_head_answer_that_tells_of_a_change_drops_the_entry() {
    let origin = Origin::simple(|seen, n| {
        let etag = if seen.target == "/changed" && n > 1 { "\"b\"" } else { "\"a\"" };
        let body = if seen.method == Method::HEAD { "" } else { "body" };
        answer_of(StatusCode::OK, &[("cache-control", "max-age=60, stale-if-error=600"), ("etag", etag)], body)
    })
    .await;
    let (started, clock) = Setup::new(origin.addr).route(|r| r.mode = Mode::Respect).start_virtual().await;
    let client = started.client;
    for target in ["/api/same", "/api/changed"] {
        client.get(target, &[]).await;
    }
    assert!(client.send(Method::HEAD, "/api/same", &[], "").await.is_hit());
    clock.advance(Duration::from_secs(61));
    for target in ["/api/same", "/api/changed"] {
        assert_eq!(client.send(Method::HEAD, target, &[], "").await.status, StatusCode::OK);
    }
    drop(origin);
    assert_eq!(client.get("/api/same", &[]).await.text(), "body", "it stands in for the origin that is gone");
    assert_eq!(client.get("/api/changed", &[]).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn shared_routes_obey_what_is_said_to_caches_in_front_of_the_origin() {
    let fields = &[("cache-control", "no-store"), ("cdn-cache-control", "max-age=60")];
    let origin = origin(fields).await;
    for (shared, hit) in [(true, true), (false, false)] {
        let started = proxy(&origin, Mode::Respect, shared).await;
        started.client.get("/api/doc", &[]).await;
        let answer = started.client.get("/api/doc", &[]).await;
        assert_eq!((answer.is_hit(), answer.header("cdn-cache-control")), (hit, "max-age=60"));
    }
}

#[tokio::test]
async fn fields_named_by_no_cache_are_sent_once_only() {
    let origin = origin(&[("cache-control", "no-cache=\"x-once\", max-age=60"), ("x-once", "1"), ("x-more", "1")]).await;
    let started = proxy(&origin, Mode::Respect, false).await;
    assert_eq!(started.client.get("/api/doc", &[]).await.header("x-once"), "1");
    let hit = started.client.get("/api/doc", &[]).await;
    assert!(hit.is_hit());
    assert_eq!((hit.header("x-once"), hit.header("x-more")), ("", "1"));
}

#[tokio::test]
async fn a_failure_with_freshness_is_kept_but_not_in_place_of_a_good_answer() {
    let origin = Origin::simple(|seen, n| match (&*seen.target, n) {
        ("/good", 0) => answer_of(StatusCode::OK, &[("cache-control", "max-age=10")], "good"),
        _ => answer_of(StatusCode::SERVICE_UNAVAILABLE, &[("cache-control", "max-age=100")], "bad"),
    })
    .await;
    let (started, clock) = Setup::new(origin.addr).route(|r| r.mode = Mode::Respect).start_virtual().await;
    let client = started.client;
    assert_eq!(client.get("/api/good", &[]).await.text(), "good");
    clock.advance(Duration::from_secs(11));
    for _ in 0..2 {
        assert_eq!(client.get("/api/good", &[]).await.text(), "good", "it stands in");
    }
    assert_eq!(client.get("/api/bad", &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let kept = client.get("/api/bad", &[]).await;
    assert!(kept.is_hit() && kept.status == StatusCode::SERVICE_UNAVAILABLE);
    clock.advance(Duration::from_secs(101));
    assert!(!client.get("/api/bad", &[]).await.is_hit(), "a stored failure stands in for nothing");
}

#[tokio::test]
async fn a_confirmed_answer_says_so() {
    let origin = Origin::simple(|seen, _| {
        let status = if seen.headers.contains_key("if-none-match") { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        answer_of(status, &[("cache-control", "no-cache"), ("etag", "\"a\"")], if status == StatusCode::OK { "body" } else { "" })
    })
    .await;
    let started = proxy(&origin, Mode::Respect, false).await;
    started.client.get("/api/doc", &[]).await;
    let confirmed = started.client.get("/api/doc", &[]).await;
    assert_eq!((confirmed.status, &*confirmed.text()), (StatusCode::OK, "body"));
    assert_eq!(confirmed.header("cache-status"), "farthing; fwd=stale; fwd-status=304; detail=\"expired\"");
}
