//! D1, D3, D8, J1, S1: what one client gets, what it costs, and who else may have it.

use std::sync::Arc;
use std::time::Duration;

use farthing_config::{CredentialMode, CredentialPlace, Mode, PathTemplate, Profile, Secret, TtlBy};
use farthing_tests::origin::{answer_of, ok};
use farthing_tests::{Origin, Setup};
use http::{Method, StatusCode};

#[tokio::test]
async fn an_answer_is_kept_for_its_ttl_and_then_asked_for_again() {
    let origin = Origin::simple(|_, n| ok(format!("{{\"n\":{n}}}"))).await;
    let (started, clock) = Setup::new(origin.addr).route(|r| r.ttl = TtlBy::Fixed(Duration::from_secs(60))).start_virtual().await;
    let client = started.client;
    assert_eq!(client.get("/api/doc?a=1", &[]).await.text(), "{\"n\":0}");
    let hit = client.get("/api/doc?a=1", &[]).await;
    assert!(hit.is_hit() && hit.text() == "{\"n\":0}", "{hit:?}");
    assert_eq!((hit.header("x-farthing-cost-usd"), hit.header("x-farthing-saved-usd")), ("0", "0.002"));
    assert_eq!(origin.seen()[0].target, "/doc?a=1");
    clock.advance(Duration::from_secs(61));
    assert_eq!(client.get("/api/doc?a=1", &[]).await.text(), "{\"n\":1}");
    assert_eq!(client.get("/api/doc?a=2", &[]).await.text(), "{\"n\":2}");
    let totals = started.proxy.totals().total;
    assert_eq!((totals.bill_usd.to_string(), totals.base_usd.to_string()), ("0.006".into(), "0.008".into()));
}

#[tokio::test]
async fn a_confirmed_entry_serves_on() {
    let origin = Origin::simple(|seen, _| {
        if seen.headers.contains_key("if-none-match") {
            answer_of(StatusCode::NOT_MODIFIED, &[("etag", "\"v1\"")], "")
        } else {
            answer_of(StatusCode::OK, &[("etag", "\"v1\"")], "body")
        }
    })
    .await;
    let (started, clock) = Setup::new(origin.addr).route(|r| r.ttl = TtlBy::Fixed(Duration::from_secs(60))).start_virtual().await;
    let client = started.client;
    client.get("/api/doc", &[]).await;
    clock.advance(Duration::from_secs(61));
    let confirmed = client.get("/api/doc", &[]).await;
    assert_eq!((confirmed.status, confirmed.text()), (StatusCode::OK, "body".into()));
    assert_eq!(confirmed.header("x-farthing-cost-usd"), "", "a confirmation has a price of its own");
    assert!(client.get("/api/doc", &[]).await.is_hit());
    assert_eq!(origin.calls(), 2);
    let own = client.get("/api/doc", &[("if-none-match", "\"v1\"")]).await;
    assert_eq!(own.status, StatusCode::NOT_MODIFIED);
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn a_stale_answer_stands_in_for_a_dead_provider() {
    let origin = Origin::simple(|_, n| if n == 0 { ok("good") } else { answer_of(StatusCode::SERVICE_UNAVAILABLE, &[], "down") }).await;
    let (started, clock) = Setup::new(origin.addr).route(|r| r.ttl = TtlBy::Fixed(Duration::from_secs(60))).start_virtual().await;
    let client = started.client;
    client.get("/api/doc", &[]).await;
    clock.advance(Duration::from_secs(100));
    let stale = client.get("/api/doc", &[]).await;
    assert_eq!((stale.status, stale.text()), (StatusCode::OK, "good".into()));
    assert!(stale.header("cache-status").contains("ttl=-40"), "{}", stale.header("cache-status"));
    // For a second that failure speaks for others; then the provider is asked again.
    for _ in 0..20 {
        assert_eq!(client.get("/api/doc", &[]).await.text(), "good");
    }
    assert_eq!(origin.calls(), 2);
    clock.advance(Duration::from_secs(1));
    assert_eq!(client.get("/api/doc", &[]).await.text(), "good");
    assert_eq!(origin.calls(), 3);
    clock.advance(Duration::from_secs(10_000));
    assert_eq!(client.get("/api/doc", &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_refresh_that_failed_is_not_begun_again_for_a_second() {
    let origin = Origin::simple(|_, n| if n == 0 { ok("good") } else { answer_of(StatusCode::SERVICE_UNAVAILABLE, &[], "down") }).await;
    let window = Duration::from_secs(600);
    let setup = Setup::new(origin.addr).route(|r| (r.ttl, r.stale_while_revalidate) = (TtlBy::Fixed(Duration::from_secs(60)), window));
    let (started, clock) = setup.start_virtual().await;
    let client = started.client;
    client.get("/api/doc", &[]).await;
    for seconds in 1..=3 {
        clock.advance(Duration::from_secs(if seconds == 1 { 100 } else { 1 }));
        for _ in 0..20 {
            assert!(client.get("/api/doc", &[]).await.is_hit());
            // Each refresh has failed before the next one is wanted.
            while started.proxy.cache_stats().flights > 0 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(started.proxy.counters().refreshes.load(std::sync::atomic::Ordering::Relaxed), seconds);
    }
}

#[tokio::test]
async fn a_provider_that_is_gone_is_a_clear_502() {
    let origin = Origin::simple(|_, _| ok("{}")).await;
    let addr = origin.addr;
    drop(origin);
    let started = Setup::new(addr).start().await;
    let answer = started.client.get("/api/doc", &[]).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert!(answer.text().contains("urn:farthing:problem:connect"), "{}", answer.text());
}

#[tokio::test]
async fn a_second_principal_never_gets_the_firsts_answer() {
    let origin = Origin::simple(|seen, _| ok(seen.headers.get("authorization").map(|v| v.as_bytes().to_vec()).unwrap_or_default())).await;
    let started = Setup::new(origin.addr).start().await;
    let client = started.client;
    for who in ["Bearer sk-a", "Bearer sk-b", "Bearer sk-a", "Bearer sk-b"] {
        assert_eq!(client.get("/api/me", &[("authorization", who)]).await.text(), who);
    }
    assert_eq!(origin.calls(), 2);
    assert!(client.get("/api/me", &[("authorization", "Bearer sk-a")]).await.is_hit());
}

/// S1, D2: APIs have their credentials in headers of their own, and proxies in front of Farthing write whom they have signed in.
#[tokio::test]
async fn a_second_client_never_gets_the_firsts_answer_wherever_it_shows_itself() {
    let names = ["xi-api-key", "private-token", "ocp-apim-subscription-key", "x-rapidapi-key", "x-auth-token", "x-forwarded-user"];
    let origin = Origin::simple(move |seen, _| {
        ok(names.iter().find_map(|name| seen.headers.get(*name)).map(|value| value.as_bytes().to_vec()).unwrap_or_default())
    })
    .await;
    for profile in [Profile::Http, Profile::Api] {
        let started = Setup::new(origin.addr).route(|r| r.profile = profile).start().await;
        for name in names {
            let path = format!("/api/{name}");
            for who in ["alice", "bob", "alice", "bob"] {
                let answer = started.client.get(&path, &[(name, who)]).await;
                assert_eq!(answer.text(), who, "{name} {profile:?}");
            }
            assert!(started.client.get(&path, &[(name, "alice")]).await.is_hit(), "{name} {profile:?}");
        }
    }
    assert_eq!(origin.calls(), 2 * 2 * names.len());
}

#[tokio::test]
async fn a_farthing_key_goes_in_and_the_providers_credential_goes_out() {
    let origin = Origin::simple(|seen, _| ok(seen.headers.get("authorization").map(|v| v.as_bytes().to_vec()).unwrap_or_default())).await;
    let mut setup = Setup::new(origin.addr).provider(|p| {
        p.credential = Some(Secret::new("sk-real"));
        p.credential_place = CredentialPlace::Bearer;
    });
    let (acme, other) = (setup.key("acme"), setup.key("other"));
    let started = setup.start().await;
    let get = |key: &str| {
        let (client, bearer) = (started.client, format!("Bearer {key}"));
        async move { client.get("/api/me", &[("authorization", &bearer)]).await }
    };
    assert_eq!(get(&acme).await.text(), "Bearer sk-real");
    assert!(get(&acme).await.is_hit());
    assert!(!get(&other).await.is_hit(), "another tenant has a cache of its own");
    assert_eq!(get("fth-000000000000-nonsense").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(origin.calls(), 2);
    // Under another scheme it is the same key: S4, it never goes to a provider.
    for value in [format!("Token {acme}"), format!("Bearer Bearer {acme}")] {
        let answer = started.client.get("/api/me", &[("authorization", &value)]).await;
        assert!(answer.is_hit() && answer.text() == "Bearer sk-real", "{value}: {}", answer.text());
    }
    let misplaced = started.client.get("/api/other", &[("authorization", "Bearer sk-own"), ("x-auth-token", &acme)]).await;
    assert_eq!((misplaced.text(), origin.seen()[2].headers.get("x-auth-token")), ("Bearer sk-own".into(), None));
}

#[tokio::test]
async fn prohibitions_are_obeyed() {
    let cases: [(&str, &str); 3] = [("cache-control", "no-store"), ("set-cookie", "a=b"), ("cache-control", "max-age=0")];
    for (name, value) in cases {
        let origin = Origin::simple(move |_, _| answer_of(StatusCode::OK, &[(name, value)], "x")).await;
        let started = Setup::new(origin.addr).start().await;
        started.client.get("/api/doc", &[]).await;
        assert!(!started.client.get("/api/doc", &[]).await.is_hit(), "{name}: {value}");
        assert_eq!(origin.calls(), 2);
    }
}

#[tokio::test]
async fn a_marked_post_is_answered_from_the_cache_and_a_plain_one_never() {
    let origin = Origin::simple(|_, n| ok(format!("{n}"))).await;
    let started = Setup::new(origin.addr).start().await;
    for n in 0..2 {
        let answer = started.client.send(Method::POST, "/api/chat", &[], "{\"q\":1}").await;
        assert_eq!(answer.text(), n.to_string());
    }
    let marked = Setup::new(origin.addr).route(|r| {
        (r.idempotent, r.key_body, r.profile, r.mode) = (true, true, Profile::Api, Mode::Override);
        r.ttl = TtlBy::Fixed(Duration::from_secs(60));
    });
    let started = marked.start().await;
    let post = |body: &'static str| async move {
        started.client.send(Method::POST, "/api/chat", &[("content-type", "application/json")], body).await
    };
    assert_eq!(post("{\"q\":1,\"r\":2}").await.text(), "2");
    assert!(post("{\"r\":2, \"q\":1}").await.is_hit(), "member order does not matter");
    assert!(!post("{\"q\":1,\"r\":3}").await.is_hit());
}

#[tokio::test]
async fn an_error_that_is_not_billed_is_no_saving() {
    let origin = Origin::simple(|_, _| answer_of(StatusCode::INTERNAL_SERVER_ERROR, &[], "broken")).await;
    for mode in [Mode::Observe, Mode::Learned] {
        let started = Setup::new(origin.addr).route(|r| r.mode = mode).start().await;
        let answer = started.client.get("/api/doc", &[]).await;
        assert_eq!((answer.status, answer.header("x-farthing-cost-usd")), (StatusCode::INTERNAL_SERVER_ERROR, ""));
        let total = started.proxy.totals().total;
        assert_eq!((total.base_usd.to_string(), total.bill_usd.to_string(), total.unpriced), ("0".into(), "0".into(), 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_that_was_read_to_its_end_is_settled_with_its_price() {
    let origin = Origin::simple(|_, n| ok(format!("{{\"n\":{n}}}"))).await;
    for mode in [Mode::Observe, Mode::Learned] {
        let started = Setup::new(origin.addr).route(|r| r.mode = mode).start().await;
        for n in 0..400 {
            assert!(!started.client.get(&format!("/api/doc/{n}"), &[]).await.is_hit());
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        // A request is settled when its last byte went out, its call a moment later.
        let settled = |total: &farthing_ledger::aggregate::RouteSnapshot| total.requests >= 400 && total.attempts >= 400;
        while !settled(&started.proxy.totals().total) {
            assert!(tokio::time::Instant::now() < deadline, "{:?}", started.proxy.totals().total.outcomes);
            tokio::task::yield_now().await;
        }
        let total = started.proxy.totals().total;
        assert_eq!((total.base_usd.to_string(), total.bill_usd.to_string(), total.unpriced), ("0.8".into(), "0.8".into(), 0));
        assert_eq!(total.latency.count, 400);
    }
}

/// RFC 9111 section 3.5 is about a credential that the provider is sent: one of ours is not, and the provider's own is the same for all.
#[tokio::test]
async fn one_cache_for_all_takes_answers_to_keys_of_ours() {
    let origin = Origin::simple(|_, n| ok(format!("{n}"))).await;
    for mode in [CredentialMode::Swap, CredentialMode::Pass] {
        let before = origin.calls();
        let mut setup = Setup::new(origin.addr)
            .provider(|p| (p.credential_place, p.credential) = (CredentialPlace::Bearer, Some(Secret::new("sk-real"))))
            .route(|r| (r.shared, r.credential, r.ttl) = (true, mode, TtlBy::Fixed(Duration::from_secs(60))));
        let dir = tempfile::tempdir().unwrap();
        setup.config.jwt = vec![super::identity::issuer_of(dir.path())];
        let keys = [setup.key("acme"), setup.key("globex"), super::identity::token("/good/RS256")];
        let started = setup.start().await;
        let path = format!("/api/doc/{mode:?}");
        for (n, key) in keys.iter().enumerate() {
            let answer = started.client.get(&path, &[("authorization", &format!("Bearer {key}"))]).await;
            assert_eq!((answer.status, answer.is_hit()), (StatusCode::OK, n > 0), "{mode:?} {}", answer.text());
        }
        assert_eq!(origin.calls() - before, 1, "{mode:?}");
        assert_eq!(origin.seen()[before].headers["authorization"], "Bearer sk-real");
    }
    // What a client sends the provider itself is nobody else's.
    let started = Setup::new(origin.addr).route(|r| (r.shared, r.ttl) = (true, TtlBy::Fixed(Duration::from_secs(60)))).start().await;
    for _ in 0..2 {
        let answer = started.client.get("/api/own", &[("authorization", "Bearer of-a-client")]).await;
        assert!(!answer.is_hit() && answer.header("cache-status").contains("private"), "{}", answer.header("cache-status"));
    }
}

/// B1: where the provider takes no credential a key of ours goes no further; where it takes one and none is set, the request is refused.
#[tokio::test]
async fn a_key_of_ours_on_a_route_that_passes_credentials() {
    let origin = Origin::simple(|_, _| ok("{}")).await;
    for (place, status) in [(CredentialPlace::None, StatusCode::OK), (CredentialPlace::Bearer, StatusCode::UNAUTHORIZED)] {
        let mut setup = Setup::new(origin.addr).provider(|p| p.credential_place = place.clone());
        let key = setup.key("acme");
        let started = setup.start().await;
        let answer = started.client.get("/api/doc", &[("authorization", &format!("Bearer {key}"))]).await;
        assert_eq!(answer.status, status, "{place:?}");
        assert_eq!(answer.text().contains("no-provider-credential"), status != StatusCode::OK, "{}", answer.text());
    }
    assert_eq!(origin.calls(), 1);
    assert!(!origin.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn observe_changes_nothing_and_logs_all() {
    let origin = Origin::simple(|_, n| ok(format!("{n}"))).await;
    let started = Setup::new(origin.addr).route(|r| r.mode = Mode::Observe).start().await;
    for n in 0..3 {
        assert_eq!(started.client.get("/api/doc", &[]).await.text(), n.to_string());
    }
    started.proxy.flush_log().await.unwrap();
    let metrics = started.proxy.log_metrics().unwrap();
    assert_eq!(metrics.rows(), 6, "{metrics:?}");
}

#[tokio::test]
async fn a_write_drops_the_entry_of_its_target() {
    let origin = Origin::simple(|_, n| ok(format!("{n}"))).await;
    let started = Setup::new(origin.addr).route(|r| r.ttl = TtlBy::Fixed(Duration::from_secs(60))).start().await;
    let client = started.client;
    client.get("/api/doc", &[]).await;
    assert!(client.get("/api/doc", &[]).await.is_hit());
    client.send(Method::PUT, "/api/doc", &[], "new").await;
    assert!(!client.get("/api/doc", &[]).await.is_hit());
}

/// A1: what a template takes is told from what its start takes, and the two go by rules of their own.
#[tokio::test]
async fn a_path_with_names_is_a_route_of_its_own() {
    let origin = Origin::simple(|_, n| ok(format!("{n}"))).await;
    let mut setup = Setup::new(origin.addr).route(|r| r.ttl = TtlBy::Fixed(Duration::from_secs(60)));
    let mut live = (*setup.config.routes[0]).clone();
    (live.name, live.cache) = ("live".into(), false);
    live.matcher.path = Some(PathTemplate::new("/api/users/{id}/balance").unwrap());
    setup.config.routes.insert(0, Arc::new(live));
    let started = setup.start().await;
    for (path, hit) in [("/api/users/7/balance", false), ("/api/users/7", true), ("/api/users/7/balance/all", true)] {
        started.client.get(path, &[]).await;
        assert_eq!(started.client.get(path, &[]).await.is_hit(), hit, "{path}");
    }
    assert_eq!(origin.calls(), 4);
    assert_eq!(origin.seen()[0].target, "/users/7/balance");
}

#[tokio::test]
async fn what_no_route_takes_is_told() {
    let origin = Origin::simple(|_, _| ok("{}")).await;
    let started = Setup::new(origin.addr).start().await;
    let answer = started.client.get("/nowhere", &[]).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.text().contains("/api"), "{}", answer.text());
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413() {
    let origin = Origin::simple(|_, _| ok("{}")).await;
    let started = Setup::new(origin.addr).route(|r| r.max_body = 1_000).start().await;
    let answer = started.client.send(Method::POST, "/api/doc", &[], vec![b'x'; 2_000]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(origin.calls(), 0);
}
