//! Purging from the data port and by what origins and writes say; that nothing older than a purge is answered after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_cache::Purge;
use farthing_config::{FilledBy, Mode, Profile, PurgeBy, Purges, Template, WriteRule};
use farthing_tests::origin::{answer_of, ok};
use farthing_tests::{Answer, Origin, Setup, Started};
use http::{Method, StatusCode};

async fn purge(proxy: &Started, target: &str, headers: &[(&str, &str)]) -> Answer {
    proxy.client.send(Method::from_bytes(b"PURGE").unwrap(), target, headers, "").await
}

/// Entries that a purge hit.
fn entries(answer: &Answer) -> u64 {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    serde_json::from_str::<serde_json::Value>(&answer.text()).unwrap()["entries"].as_u64().unwrap()
}

#[tokio::test]
async fn the_method_purge_is_nobodys_unless_the_route_says_so() {
    let origin = Origin::simple(|_, _| ok("x")).await;
    let proxy = Setup::new(origin.addr).start().await;
    proxy.client.get("/api/a", &[]).await;
    purge(&proxy, "/api/a", &[]).await;
    assert_eq!(origin.seen().last().unwrap().method.as_str(), "PURGE", "passed on like any other method");
}

#[tokio::test]
async fn a_client_purges_its_own_entries_with_their_variants_and_nobody_elses() {
    let origin = Origin::simple(|seen, n| {
        let vary = if seen.target.starts_with("/vary") { "accept-language" } else { "x-none" };
        answer_of(StatusCode::OK, &[("vary", vary), ("surrogate-key", "all some")], format!("answer {n}"))
    })
    .await;
    // A route's methods are about what goes to the provider.
    let setup = Setup::new(origin.addr).route(|route| (route.purge_by, route.matcher.methods) = (PurgeBy::Own, vec![Method::GET]));
    let proxy = setup.start().await;
    let (alice, bob) = (("authorization", "Bearer alice"), ("authorization", "Bearer bob"));
    for (who, language) in [(alice, "de"), (alice, "fr"), (bob, "de")] {
        proxy.client.get("/api/vary?q=1", &[who, ("accept-language", language)]).await;
        proxy.client.get("/api/other", &[who]).await;
    }
    let calls = origin.calls();
    assert_eq!(entries(&purge(&proxy, "/api/vary?q=2", &[alice]).await), 0, "another target; nothing there is no failure");
    assert_eq!(entries(&purge(&proxy, "/api/vary?q=1", &[alice, ("x-farthing-purge", "dry-run")]).await), 2);
    let done = purge(&proxy, "/api/vary?q=1", &[alice]).await;
    assert_eq!((entries(&done), done.header("cache-status")), (2, "farthing; detail=\"purged\""));
    assert!(!done.header("x-farthing-request-id").is_empty());
    assert!(proxy.client.get("/api/vary?q=1", &[bob, ("accept-language", "de")]).await.is_hit());
    assert!(proxy.client.get("/api/other", &[alice]).await.is_hit());
    assert_eq!(origin.calls(), calls, "a purge is no call");
    assert_eq!(entries(&purge(&proxy, "/api/", &[alice, ("surrogate-key", "some more")]).await), 1);
    assert!(!proxy.client.get("/api/other", &[alice]).await.is_hit());
    assert!(proxy.client.get("/api/other", &[bob]).await.is_hit());
    assert_eq!(purge(&proxy, "/api/", &[alice, ("cache-tag", " ,")]).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(purge(&proxy, "/api/", &[alice, ("x-farthing-purge", "hard")]).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn where_keys_hold_more_than_the_target_its_path_is_purged() {
    let origin = Origin::simple(|_, n| ok(format!("answer {n}"))).await;
    let proxy = Setup::new(origin.addr).route(|route| (route.purge_by, route.profile) = (PurgeBy::Own, Profile::Api)).start().await;
    for tool in ["a", "b"] {
        proxy.client.get("/api/x", &[("x-tool", tool)]).await;
    }
    assert_eq!(entries(&purge(&proxy, "/api/x", &[]).await), 2);
}

#[tokio::test]
async fn a_key_that_may_purge_purges_for_everybody() {
    let origin = Origin::simple(|_, n| answer_of(StatusCode::OK, &[("cache-tag", "all,x y")], format!("answer {n}"))).await;
    let mut setup = Setup::new(origin.addr).route(|route| route.purge_by = PurgeBy::Key);
    let (may, may_not) = (setup.key("acme"), setup.key("acme"));
    setup.config.keys[0].purge = true;
    let proxy = setup.start().await;
    let fill = async || {
        for who in ["alice", "bob"] {
            proxy.client.get("/api/a", &[("authorization", who)]).await;
        }
    };
    fill().await;
    for headers in [&[][..], &[("authorization", "alice")], &[("x-farthing-key", &*may_not)]] {
        assert_eq!(purge(&proxy, "/api/a", headers).await.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    assert_eq!(purge(&proxy, "/api/a", &[("x-farthing-key", "fth-000000000000-0")]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(entries(&purge(&proxy, "/api/a?any=1", &[("x-farthing-key", &may)]).await), 2);
    fill().await;
    assert_eq!(entries(&purge(&proxy, "/api/", &[("x-farthing-key", &may), ("cache-tag", "x y")]).await), 2);
    assert_eq!(origin.calls(), 4);
    let text = farthing_proxy::telemetry::render(&proxy.proxy).unwrap();
    assert!(text.contains("farthing_purge_requests_total{} 5.0"), "{text}");
}

#[tokio::test]
async fn tags_are_for_us_and_go_no_further() {
    let tags = [("surrogate-key", "a b"), ("Cache-Tag", "c, d")].map(|(name, value)| (name.to_ascii_lowercase(), value));
    let origin = Origin::simple(move |seen, _| {
        let mut answer = ok("x");
        for (name, value) in &tags {
            answer.headers_mut().insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        if seen.target.starts_with("/validated") {
            answer.headers_mut().insert("etag", "\"1\"".parse().unwrap());
            answer.headers_mut().insert("cache-control", "max-age=0".parse().unwrap());
        }
        if seen.headers.contains_key("if-none-match") {
            answer.headers_mut().remove("surrogate-key");
            answer.headers_mut().remove("cache-tag");
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            *answer.body_mut() = farthing_types::Body::empty();
        }
        answer
    })
    .await;
    let proxy = Setup::new(origin.addr).start().await;
    let stripped = |answer: &Answer| !answer.headers.contains_key("surrogate-key") && !answer.headers.contains_key("cache-tag");
    for target in ["/api/a", "/api/a", "/api/validated", "/api/validated"] {
        assert!(stripped(&proxy.client.get(target, &[]).await), "{target}");
    }
    assert!(stripped(&proxy.client.send(Method::POST, "/api/a", &[], "{}").await));
    // A confirmation that names no tags leaves them as they were.
    for tag in ["a", "b", "c", "d"] {
        assert_eq!(proxy.proxy.purge_dry_run(&Purge::Tag(tag.into())), 1, "{tag}: the written one is gone");
    }
    let watching = Setup::new(origin.addr).route(|route| route.mode = Mode::Observe).start().await;
    assert!(!stripped(&watching.client.get("/api/a", &[]).await), "a route that observes changes nothing");
}

#[tokio::test]
async fn an_answer_with_more_tags_than_are_kept_is_not_stored() {
    let many = (0..300).map(|n| format!("t{n}")).collect::<Vec<_>>().join(" ");
    let origin = Origin::simple(move |_, n| answer_of(StatusCode::OK, &[("surrogate-key", &many)], format!("answer {n}"))).await;
    let proxy = Setup::new(origin.addr).start().await;
    proxy.client.get("/api/a", &[]).await;
    let again = proxy.client.get("/api/a", &[]).await;
    assert_eq!((again.is_hit(), origin.calls()), (false, 2));
    assert!(again.header("cache-status").contains("detail=\"tags\""), "{}", again.header("cache-status"));
}

#[tokio::test]
async fn a_write_purges_what_the_rules_of_its_route_say() {
    let origin = Origin::simple(|seen, n| match (seen.method.as_str(), &*seen.target) {
        ("GET", target) => {
            let tags = format!("list {}", target.replace("/items/", "item-"));
            answer_of(StatusCode::OK, &[("surrogate-key", &tags)], format!("answer {n}"))
        }
        (_, "/orders/3") => answer_of(StatusCode::INTERNAL_SERVER_ERROR, &[], "no"),
        _ => ok("{}"),
    })
    .await;
    let rule = |tags: &[&str], paths: &[&str]| {
        let read = |texts: &[&str]| texts.iter().map(|text| Template::parse(text, FilledBy::Write).unwrap()).collect();
        let purges = Purges { tags: read(tags), paths: read(paths), ..Purges::default() };
        WriteRule { methods: Vec::new(), below: "/orders".into(), route: "api".into(), purges }
    };
    let rules = vec![rule(&["item-{body:/item}", "{query.tag}"], &["/items/{path.2}"])];
    let proxy = Setup::new(origin.addr).route(|route| (route.purges, route.cacheable_if) = (rules, Vec::new())).start().await;
    let held = async |n: usize| proxy.client.get(&format!("/api/items/{n}?q=1"), &[("authorization", "reader")]).await.is_hit();
    let json = [("content-type", "application/json"), ("authorization", "writer")];
    for n in 1..=4 {
        assert!(!held(n).await);
    }
    let write = async |method: Method, target: &str, body: &'static str| proxy.client.send(method, target, &json, body).await.status;
    assert_eq!(write(Method::POST, "/api/orders/2", "{\"item\": \"1?q=1\"}").await, StatusCode::OK);
    assert_eq!(
        [held(1).await, held(2).await, held(3).await, held(4).await],
        [false, false, true, true],
        "by body and by path, of everybody"
    );
    write(Method::PUT, "/api/elsewhere/3", "{\"item\": \"3?q=1\"}").await;
    write(Method::PUT, "/api/orders/3", "{\"item\": \"3?q=1\"}").await;
    assert!(held(3).await, "not below; failed");
    write(Method::DELETE, "/api/orders/x?tag=item-4%3Fq%3D1", "").await;
    assert_eq!([held(3).await, held(4).await], [true, false], "a method without a body");
    let text = farthing_proxy::telemetry::render(&proxy.proxy).unwrap();
    assert!(text.contains("farthing_rule_purges_unfilled_total{} 2.0") && text.contains("farthing_rule_purges_total{} 4.0"), "{text}");
}

/// D4: who writes knows the id as it is meant, who reads writes it into a path in one of several ways.
#[tokio::test]
async fn a_write_purges_a_path_however_its_reader_spells_it() {
    let origin = Origin::simple(|_, n| ok(format!("answer {n}"))).await;
    let template = |text| Template::parse(text, FilledBy::Write).unwrap();
    let purges =
        Purges { paths: vec![template("/products/{body:/id}")], prefixes: vec![template("/shops/{body:/id}/")], ..Purges::default() };
    let rules = vec![WriteRule { methods: Vec::new(), below: "/orders".into(), route: "api".into(), purges }];
    let proxy = Setup::new(origin.addr).route(|route| route.purges = rules).start().await;
    let json = [("content-type", "application/json")];
    for (id, spelled) in [
        ("sku:42", &["sku:42", "sku%3A42", "sku%3a42"][..]),
        ("a@b.c", &["a@b.c", "a%40b.c"]),
        ("a+b,c", &["a+b,c", "a%2Bb%2Cc"]),
        ("Köln", &["K%c3%b6ln", "K%C3%B6ln"]),
        ("a/b", &["a%2fb", "a%2Fb"]),
    ] {
        let paths: Vec<String> =
            spelled.iter().flat_map(|id| [format!("/api/products/{id}?q=1"), format!("/api/shops/{id}/opening")]).collect();
        for path in &paths {
            proxy.client.get(path, &[]).await;
            assert!(proxy.client.get(path, &[]).await.is_hit(), "{path}");
        }
        proxy.client.send(Method::POST, "/api/orders/1", &json, serde_json::json!({ "id": id }).to_string()).await;
        for path in &paths {
            assert!(!proxy.client.get(path, &[]).await.is_hit(), "{path}");
        }
    }
    proxy.client.get("/api/products/a%2Fb", &[]).await;
    assert!(proxy.client.get("/api/products/a%2Fb", &[]).await.is_hit());
    let within = |path: &str| Purge::Within { route: "api".into(), tenant: None, path: Some(path.into()), tag: None };
    assert_eq!(proxy.proxy.purge_dry_run(&within("/products/a/b")), 0, "a slash in an id divides nothing");
    // Both spellings of its query-less target, and the one with a query.
    assert_eq!(proxy.proxy.purge_dry_run(&within("/products/a%2fb")), 3);
}

#[tokio::test]
async fn what_was_purged_stands_in_for_nothing() {
    let (asked, go) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (tell, wait) = (asked.clone(), go.clone());
    let origin = Origin::start(Arc::new(move |_, n| {
        let (tell, wait) = (tell.clone(), wait.clone());
        Box::pin(async move {
            if n == 0 {
                return answer_of(StatusCode::OK, &[("cache-control", "max-age=0, stale-if-error=600"), ("etag", "\"1\"")], "old");
            }
            tell.notify_one();
            wait.notified().await;
            answer_of(StatusCode::BAD_GATEWAY, &[], "none")
        })
    }))
    .await;
    let (proxy, clock) = Setup::new(origin.addr).start_virtual().await;
    proxy.client.get("/api/a", &[]).await;
    for purged in [false, true] {
        // Until then the call that failed speaks for the next.
        clock.advance(std::time::Duration::from_secs(1));
        let client = proxy.client;
        let waiting = tokio::task::spawn(async move { client.get("/api/a", &[]).await });
        asked.notified().await;
        if purged {
            proxy.proxy.purge(&Purge::All, false);
        }
        go.notify_one();
        let answer = waiting.await.unwrap();
        assert_eq!(answer.status, if purged { StatusCode::BAD_GATEWAY } else { StatusCode::OK });
    }
}

/// Acceptance 5 over loopback: once a purge has returned, every request that is sent gets what the origin had by then, whatever was under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_stale_answer_after_the_purge_returned() {
    let version = Arc::new(AtomicUsize::new(0));
    let now = version.clone();
    let origin = Origin::start(Arc::new(move |_, n| {
        let seen = now.load(Ordering::SeqCst);
        Box::pin(async move {
            // Some answers are on their way for longer than others.
            for _ in 0..n % 7 * 40 {
                tokio::task::yield_now().await;
            }
            answer_of(StatusCode::OK, &[("cache-tag", "all")], seen.to_string())
        })
    }))
    .await;
    let proxy = Setup::new(origin.addr).route(|route| route.refresh_ahead = std::time::Duration::from_secs(3)).start().await;
    let (purged, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let mut asking = tokio::task::JoinSet::new();
    for reader in 0..8 {
        let (client, purged, over) = (proxy.client, purged.clone(), over.clone());
        asking.spawn(async move {
            let mut asked = 0u32;
            while !over.load(Ordering::SeqCst) {
                let least = purged.load(Ordering::SeqCst);
                let answer = client.get(&format!("/api/{}", (reader + asked) % 3), &[]).await;
                let got: usize = answer.text().parse().unwrap();
                assert!(got >= least, "{got} was answered after the purge of {least}: {:?}", answer.header("cache-status"));
                asked += 1;
            }
        });
    }
    let purges = [Purge::Tag("all".into()), Purge::Prefix { route: Some("api".into()), path: "/".into() }, Purge::All];
    for n in 1..=200 {
        version.store(n, Ordering::SeqCst);
        proxy.proxy.purge(&purges[n % 3], false);
        purged.store(n, Ordering::SeqCst);
        let answer = proxy.client.get(&format!("/api/{}", n % 3), &[]).await;
        assert_eq!(answer.text(), n.to_string());
    }
    over.store(true, Ordering::SeqCst);
    asking.join_all().await;
    assert!(proxy.proxy.cache_stats().invalidated + proxy.proxy.cache_stats().purged > 0);
}
