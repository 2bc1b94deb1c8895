//! J3, S5: what is never kept because of what it holds, and why what was not saved was not saved.

use std::time::Duration;

use farthing_config::{CacheableIf, PersonalField, Profile, TtlBy};
use farthing_ledger::aggregate::Tallies;
use farthing_tests::origin::answer_of;
use farthing_tests::{Origin, Setup};
use http::{Method, StatusCode};

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
    for (body, kept) in [(r#"{"ssn":"1"}"#, false), (r#"{"name":"1"}"#, true)] {
        client.send(Method::POST, "/api/search", JSON, body).await;
        assert_eq!(client.send(Method::POST, "/api/search", JSON, body).await.is_hit(), kept, "{body}");
    }
    assert!(client.get("/api/doc?email=a", &[]).await.header("cache-status").contains("pii"));
    let uncached = started.proxy.totals().total.uncached;
    // Four are known to be personal by the request, with the last; of the answer it is known when it has come.
    assert!(counts(&uncached).contains(&("pii", 5)), "{:?}", counts(&uncached));
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
