//! J3, S5: what is never kept because of what it holds, and why what was not saved was not saved.

use std::sync::Arc;
use std::time::Duration;

use farthing_config::{CacheableIf, PersonalField, Profile, TtlBy};
use farthing_ledger::aggregate::Tallies;
use farthing_tests::origin::answer_of;
use farthing_tests::{Origin, Setup};
use http::{Method, StatusCode};
use tokio::sync::Semaphore;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// An origin that answers with the JSON that stands in the query after `say=`.
async fn parrot() -> Origin {
    Origin::simple(|seen, _| {
        let said =
            seen.target.split_once("say=").map_or("{}", |(_, said)| said).replace("%22", "\"").replace("%7B", "{").replace("%7D", "}");
        answer_of(StatusCode::OK, JSON, said)
    })
    .await
}

fn path(json: &str) -> String {
    format!("/api/doc?say={}", json.replace('"', "%22").replace('{', "%7B").replace('}', "%7D"))
}

fn counts(tallies: &Tallies) -> Vec<(&'static str, u64)> {
    tallies.iter().map(|(reason, tally)| (*reason, tally.count)).collect()
}

#[tokio::test]
async fn a_soft_error_is_given_and_not_kept() {
    let origin = parrot().await;
    let condition = CacheableIf { pointer: "/status".into(), is: vec!["OK".into(), "ZERO_RESULTS".into()], not: Vec::new() };
    let setup = Setup::new(origin.addr).route(|r| (r.cacheable_if, r.ttl) = (vec![condition], TtlBy::Fixed(Duration::from_secs(60))));
    let started = setup.start().await;
    for (json, kept) in [(r#"{"status":"OK"}"#, true), (r#"{"status":"OVER_QUERY_LIMIT"}"#, false), ("[1]", false)] {
        let first = started.client.get(&path(json), &[]).await;
        assert_eq!((first.status, first.text()), (StatusCode::OK, json.to_owned()));
        assert_eq!(started.client.get(&path(json), &[]).await.is_hit(), kept, "{json}");
    }
    assert_eq!(origin.calls(), 5);
    let unkept = || started.proxy.totals().total.unkept;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while unkept().get("soft-error").is_none_or(|tally| tally.count < 4) {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", counts(&unkept()));
        tokio::task::yield_now().await;
    }
    assert_eq!(counts(&unkept()), [("soft-error", 4)]);
}

/// Clients ask for compressed answers, and get them: their rules read those, too.
#[tokio::test]
async fn a_compressed_answer_is_judged_by_what_it_says() {
    // {"status":"OK"} and {"status":"OVER_QUERY_LIMIT"}.
    const GOOD: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\x2a\x2e\x49\x2c\x29\x2d\x56\xb2\x52\xf2\xf7\x56\xaa\x05\x00\x03\x04\x6c\x85\x0f\x00\x00\x00";
    const BAD: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\x2a\x2e\x49\x2c\x29\x2d\x56\xb2\x52\xf2\x0f\x73\x0d\x8a\x0f\x0c\x75\x0d\x8a\x8c\xf7\xf1\xf4\xf5\x0c\x51\xaa\x05\x00\x77\x77\xf5\x1d\x1d\x00\x00\x00";
    let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let origin = Origin::simple(move |seen, _| answer_of(StatusCode::OK, &headers, if seen.target == "/bad" { BAD } else { GOOD })).await;
    let condition = || CacheableIf { pointer: "/status".into(), is: vec!["OK".into()], not: Vec::new() };
    let personal = || PersonalField::Answer("/email".into());
    for rule in ["cacheable_if", "pii", "storable_fields"] {
        let setup = Setup::new(origin.addr).provider(|p| {
            p.terms.storable_fields = if rule == "storable_fields" { vec!["/status".into()] } else { Vec::new() };
        });
        let setup = setup.route(|r| {
            r.ttl = TtlBy::Fixed(Duration::from_secs(60));
            r.cacheable_if = if rule == "cacheable_if" { vec![condition()] } else { Vec::new() };
            r.pii = if rule == "pii" { vec![personal()] } else { Vec::new() };
        });
        let started = setup.start().await;
        let get = async |path: &str| {
            let hit = started.client.get(path, &[("accept-encoding", "gzip")]).await.is_hit();
            // It is kept a moment after who asked has it.
            while started.proxy.cache_stats().flights > 0 {
                tokio::task::yield_now().await;
            }
            hit
        };
        assert_eq!((get("/api/good").await, get("/api/good").await), (false, true), "{rule}");
        assert_eq!((get("/api/bad").await, get("/api/bad").await), (false, rule != "cacheable_if"), "{rule}");
    }
}

/// S5: until the body is there nobody knows whose it is.
#[tokio::test]
async fn an_answer_that_may_be_personal_goes_to_nobody_who_waits() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = gate.clone();
    let origin = Origin::start(Arc::new(move |seen, _| {
        let wait = wait.clone();
        Box::pin(async move {
            wait.acquire().await.unwrap().forget();
            let who = seen.headers.get("x-who").and_then(|who| who.to_str().ok()).unwrap_or_default();
            let body = if seen.target == "/me" { format!(r#"{{"email":"{who}"}}"#) } else { r#"{"city":"Ulm"}"#.to_owned() };
            answer_of(StatusCode::OK, JSON, body)
        })
    }))
    .await;
    let setup = Setup::new(origin.addr).route(|r| {
        (r.shared, r.profile, r.ttl) = (true, Profile::Http, TtlBy::Fixed(Duration::from_secs(60)));
        r.pii = vec![PersonalField::Answer("/email".into())];
    });
    let started = setup.start().await;
    let client = started.client;
    for target in ["/api/me", "/api/city"] {
        let calls = origin.calls();
        let ask = |who: &'static str| tokio::task::spawn(async move { client.get(target, &[("x-who", who)]).await });
        let (alice, bob) = (ask("alice"), ask("bob"));
        // Each by a call of its own.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while origin.calls() < calls + 2 {
            assert!(tokio::time::Instant::now() < deadline, "{} calls", origin.calls());
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
        let (alice, bob) = (alice.await.unwrap(), bob.await.unwrap());
        if target == "/api/me" {
            assert_eq!((&*alice.text(), &*bob.text()), (r#"{"email":"alice"}"#, r#"{"email":"bob"}"#));
        }
    }
    // What turned out not to be personal is kept, a moment after who asked has it.
    while started.proxy.cache_stats().flights > 0 {
        tokio::task::yield_now().await;
    }
    assert!(client.get("/api/city", &[]).await.is_hit());
}

#[tokio::test]
async fn what_is_personal_is_neither_kept_nor_shared() {
    let origin = parrot().await;
    let setup = Setup::new(origin.addr).route(|r| {
        (r.idempotent, r.profile, r.ttl) = (true, Profile::Api, TtlBy::Fixed(Duration::from_secs(60)));
        let answer = PersonalField::Answer("/user/email".into());
        r.pii = vec![PersonalField::Query("email".into()), PersonalField::Request("/ssn".into()), answer];
    });
    let started = setup.start().await;
    let client = started.client;
    for target in ["/api/doc?email=a", &path(r#"{"user":{"email":"a@b"}}"#)] {
        for _ in 0..2 {
            assert!(!client.get(target, &[]).await.is_hit(), "{target}");
        }
    }
    for (body, kept) in [(r#"{"ssn":"1"}"#, false), (r#"{"name":"1"}"#, true), ("\u{feff}{\"ssn\":\"1\"}", false)] {
        client.send(Method::POST, "/api/search", JSON, body).await;
        assert_eq!(client.send(Method::POST, "/api/search", JSON, body).await.is_hit(), kept, "{body}");
    }
    assert!(client.get("/api/doc?email=a", &[]).await.header("cache-status").contains("pii"));
    let uncached = started.proxy.totals().total.uncached;
    // Six are known to be personal by the request, with the last, or not known to be none; of the answer it is known when it has come.
    assert!(counts(&uncached).contains(&("pii", 7)), "{:?}", counts(&uncached));
}

#[tokio::test]
async fn only_what_the_terms_allow_to_keep_is_kept() {
    let origin = parrot().await;
    let setup = Setup::new(origin.addr).provider(|p| p.terms.storable_fields = vec!["/results/*/place_id".into(), "/status".into()]);
    let started = setup.route(|r| r.ttl = TtlBy::Fixed(Duration::from_secs(60))).start().await;
    for (json, kept) in [(r#"{"status":"OK","results":[{"place_id":"x"}]}"#, true), (r#"{"status":"OK","name":"Ulm"}"#, false)] {
        started.client.get(&path(json), &[]).await;
        assert_eq!(started.client.get(&path(json), &[]).await.is_hit(), kept, "{json}");
    }
}

#[tokio::test]
async fn each_answer_that_was_not_served_from_the_cache_has_one_reason_with_its_money() {
    let origin = Origin::simple(|_, n| answer_of(if n == 1 { StatusCode::NOT_FOUND } else { StatusCode::OK }, &[], "x")).await;
    let (started, clock) = Setup::new(origin.addr).route(|r| r.ttl = TtlBy::Fixed(Duration::from_secs(60))).start_virtual().await;
    let client = started.client;
    client.get("/api/a", &[]).await; // cold
    client.get("/api/b", &[]).await; // an error, which is not kept
    client.get("/api/a", &[]).await; // a hit
    client.get("/api/a", &[("cache-control", "no-cache")]).await;
    client.get("/api/a", &[("cookie", "a=b")]).await;
    client.send(Method::POST, "/api/a", &[], "x").await;
    clock.advance(Duration::from_secs(61));
    client.get("/api/a", &[]).await; // dropped by the write, so cold
    let total = started.proxy.totals().total;
    let counted: u64 = total.uncached.values().map(|tally| tally.count).sum();
    assert_eq!((total.requests, counted, total.hit_ratio()), (7, 6, Some(1.0 / 7.0)));
    let expected = vec![("cold", 2), ("method", 1), ("request-directive", 1), ("request-cookie", 1), ("status", 1)];
    let mut found = counts(&total.uncached);
    found.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let mut wanted = expected;
    wanted.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    assert_eq!(found, wanted);
    let money: i64 = total.uncached.values().map(|tally| tally.usd.nanos()).sum();
    assert_eq!(money, total.bill_usd.nanos(), "what was not saved is what was paid");
}
