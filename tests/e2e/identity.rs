//! B1, B2, B4, S3: tokens of an issuer whose keys are read over HTTP, what their holders may do, and the trace of a request from client to provider
//! and into the log.

use std::path::Path;
use std::sync::Arc;

use farthing_config::{
    CredentialMode, CredentialPlace, JwksPlace, JwksSource, JwtAlgorithm, JwtClaims, JwtIssuer, JwtKeys, Mode, Rights, Secret,
};
use farthing_contract::log::{Request, Row};
use farthing_tests::origin::{answer_of, ok};
use farthing_tests::skip::skip;
use farthing_tests::{Origin, Setup};
use farthing_types::{Priority, Span, Time, VirtualClock};
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use tokio::process::Command;

use super::clients::{chat_with, python, script, text};
use super::events::until;

const JWKS: &str = include_str!("../../crates/proxy/testdata/tokens/jwks.json");
/// When the tokens of the fixtures expire, seconds since 1970.
pub const EXP: i64 = 4_000_000_000;

/// A token made by another implementation.
pub fn token(pointer: &str) -> String {
    let all: Value = serde_json::from_str(include_str!("../../crates/proxy/testdata/tokens/tokens.json")).unwrap();
    all.pointer(pointer).and_then(Value::as_str).unwrap().to_owned()
}

fn issuer(place: JwksPlace) -> JwtIssuer {
    JwtIssuer {
        name: "idp".into(),
        issuer: "https://idp.test".into(),
        audiences: vec!["farthing".into()],
        algorithms: vec![JwtAlgorithm::Rs256, JwtAlgorithm::Es256],
        keys: JwtKeys::Set(JwksSource { place, refresh: Span::from_secs(300), keep: Span::from_secs(3_600) }),
        leeway: Span::ZERO,
        claims: JwtClaims { team: Some("/team".into()), ..JwtClaims::default() },
        default_tenant: None,
        rights: Rights::default(),
    }
}

/// The issuer of the tokens, with its keys in a file of `dir`.
pub fn issuer_of(dir: &Path) -> JwtIssuer {
    let path = dir.join("jwks.json");
    std::fs::write(&path, JWKS).unwrap();
    issuer(JwksPlace::File(path))
}

async fn idp() -> (Origin, JwtIssuer) {
    let idp = Origin::simple(|_, _| answer_of(StatusCode::OK, &[("content-type", "application/jwk-set+json")], JWKS)).await;
    let url = format!("http://{}/.well-known/jwks.json", idp.addr).parse().unwrap();
    (idp, issuer(JwksPlace::Url(url)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_client_works_with_a_token_as_its_key() {
    let Some(python) = python() else { return skip("OpenAI's Python client with a token: no target/venv (make deps)") };
    let (idp, issuer) = idp().await;
    let (_provider, started, _key) = chat_with(|config| config.jwt = vec![issuer]).await;
    let base = format!("http://{}/openai/v1", started.client.addr);
    let output = Command::new(&python).arg(script("openai_client.py")).args([&base, &token("/good/RS256")]).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!told["text"].as_str().unwrap().is_empty() && told["text"] == told["streamed"], "{told}");
    assert!(started.proxy.totals().tenants.contains_key("acme"));
    assert_eq!(idp.calls(), 1, "read once, before the first request");
    assert_eq!(idp.seen()[0].target, "/.well-known/jwks.json");

    // Told in the caller's dialect, and counted.
    let refused = started.client.get("/openai/v1/models", &[("authorization", &format!("Bearer {}", token("/hostile/alg none/0")))]).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let document: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(document["error"]["code"], "token-algorithm", "{document}");
    let metrics = farthing_proxy::telemetry::render(&started.proxy).unwrap();
    for line in [
        "farthing_identity_refused_total{reason=\"token-algorithm\"} 1",
        "farthing_jwks_up{issuer=\"idp\"} 1",
        "farthing_jwks_readings_total{issuer=\"idp\"} 1",
        "farthing_token_checks_total{} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(started.proxy.parts().iter().any(|part| part.name == "jwt:idp" && part.problem.is_none()));
}

/// Whatever the route does with credentials, wherever a token stands, and also where the provider wants none.
#[tokio::test]
async fn a_token_of_ours_never_goes_upstream() {
    let token = token("/good/ES256");
    for (mode, place, credential) in [
        (CredentialMode::Pass, CredentialPlace::Bearer, Some("sk-real")),
        (CredentialMode::Swap, CredentialPlace::Bearer, Some("sk-real")),
        (CredentialMode::Pass, CredentialPlace::Header("x-goog-api-key".parse().unwrap()), Some("sk-real")),
        (CredentialMode::Pass, CredentialPlace::Query("appid".into()), Some("sk-real")),
        (CredentialMode::Pass, CredentialPlace::None, None),
        (CredentialMode::Swap, CredentialPlace::None, None),
    ] {
        let origin = Origin::simple(|_, n| ok(n.to_string())).await;
        let mut setup = Setup::new(origin.addr)
            .provider(|p| (p.credential_place, p.credential) = (place.clone(), credential.map(Secret::new)))
            .route(|r| r.credential = mode);
        let (idp, issuer) = idp().await;
        setup.config.jwt = vec![issuer];
        let started = setup.start().await;
        let mut sent = 0;
        for name in ["authorization", "x-api-key", "x-goog-api-key", "api-key", "x-farthing-key"] {
            let value = if name == "authorization" { format!("Bearer {token}") } else { token.clone() };
            for method in [Method::GET, Method::POST] {
                let answer = started.client.send(method, &format!("/api/{name}"), &[(name, &value)], "").await;
                assert_eq!(answer.status, StatusCode::OK, "{mode:?} {place:?} {name}: {}", answer.text());
                sent += 1;
            }
        }
        let in_query = started.client.get(&format!("/api/q?key={token}"), &[]).await;
        assert_eq!(in_query.status, StatusCode::UNAUTHORIZED, "{}", in_query.text());
        assert_eq!((origin.calls(), idp.calls()), (sent, 1));
        let secret = |headers: &HeaderMap| headers.values().any(|value| value.to_str().unwrap().contains(&token));
        assert!(origin.seen().iter().all(|seen| !secret(&seen.headers) && !seen.target.contains(&token)), "{mode:?} {place:?}");
    }
}

#[tokio::test]
async fn a_foreign_token_passes_and_is_the_clients_own_credential() {
    let origin = Origin::simple(|seen, _| ok(seen.headers["authorization"].to_str().unwrap().to_owned())).await;
    let (_idp, issuer) = idp().await;
    let mut setup = Setup::new(origin.addr);
    setup.config.jwt = vec![issuer];
    let started = setup.start().await;
    let foreign = format!("Bearer {}", token("/hostile/another issuer/0"));
    let answer = started.client.get("/api/a", &[("authorization", &foreign), ("x-farthing-debug", "1")]).await;
    assert_eq!(answer.text(), foreign);
    assert!(answer.header("x-farthing-tenant").starts_with("p-"), "{:?}", answer.headers);
}

#[tokio::test]
async fn tenants_by_token_are_told_apart_and_called_where_they_may() {
    let origin = Origin::simple(|_, n| answer_of(StatusCode::OK, &[("cache-control", "max-age=60")], n.to_string())).await;
    let (_idp, issuer) = idp().await;
    let mut setup =
        Setup::new(origin.addr).provider(|p| (p.credential_place, p.credential) = (CredentialPlace::Bearer, Some(Secret::new("sk"))));
    setup.config.jwt = vec![JwtIssuer { rights: Rights { max_priority: Some(Priority::Medium), ..Rights::default() }, ..issuer }];
    let mut closed = farthing_config::Route::clone(&setup.config.routes[0]);
    (closed.name, closed.tenants) = ("closed".into(), vec!["acme".into()]);
    (closed.matcher.path_prefix, closed.strip_prefix) = ("/closed".into(), "/closed".into());
    setup.config.routes.push(Arc::new(closed));
    let started = setup.start().await;
    let bearer = |name: &str| format!("Bearer {}", token(name));
    let (acme, same, other) = (bearer("/good/RS256"), bearer("/good/ES256"), bearer("/another tenant"));
    let get = async |target: &str, who: &str| started.client.get(target, &[("authorization", who), ("x-farthing-debug", "1")]).await;
    let first = get("/api/a", &acme).await;
    assert_eq!((first.text().as_str(), first.header("x-farthing-tenant")), ("0", "acme"));
    assert!(get("/api/a", &same).await.is_hit(), "another token of the same tenant");
    assert_eq!(get("/api/a", &other).await.text(), "1", "another tenant");
    assert_eq!(get("/closed/a", &acme).await.status, StatusCode::OK);
    for stranger in [&other, &"Bearer sk-own".to_owned()] {
        let refused = get("/closed/a", stranger).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
        assert!(refused.text().contains("urn:farthing:problem:route-forbidden"), "{}", refused.text());
    }
    // A client does not raise itself above what its issuer lets it have.
    let urgent = [("authorization", &*acme), ("x-farthing-debug", "1"), ("x-farthing-priority", "user-facing")];
    assert_eq!(started.client.get("/api/a", &urgent).await.header("x-farthing-priority"), "medium");
    let background = [("authorization", &*acme), ("x-farthing-debug", "1"), ("x-farthing-priority", "background")];
    assert_eq!(started.client.get("/api/a", &background).await.header("x-farthing-priority"), "low");
}

#[tokio::test]
async fn an_issuer_that_is_down_at_the_start_stops_its_own_clients_alone() {
    let origin = Origin::simple(|_, _| ok("x")).await;
    let mut setup = Setup::new(origin.addr);
    // Nobody listens there any more.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    setup.config.jwt = vec![issuer(JwksPlace::Url(format!("http://{gone}/jwks.json").parse().unwrap()))];
    let started = setup.start().await;
    let refused = started.client.get("/api/a", &[("authorization", &format!("Bearer {}", token("/good/RS256")))]).await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"), "{}", refused.text());
    assert!(refused.text().contains("token-keys-unavailable"));
    assert_eq!(started.client.get("/api/a", &[("authorization", "Bearer sk-own")]).await.status, StatusCode::OK);
    let part = started.proxy.parts().into_iter().find(|part| part.name == "jwt:idp").unwrap();
    assert!(part.problem.unwrap().contains("its tokens are refused (503)"));
    assert_eq!(origin.calls(), 1);
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test]
async fn a_trace_goes_on_to_the_provider_and_into_the_log() {
    let origin = Origin::simple(|_, n| answer_of(StatusCode::OK, &[("cache-control", "max-age=60")], n.to_string())).await;
    let mut setup = Setup::new(origin.addr);
    let mut silent = farthing_config::Route::clone(&setup.config.routes[0]);
    (silent.name, silent.trace_context) = ("silent".into(), false);
    (silent.matcher.path_prefix, silent.strip_prefix) = ("/silent".into(), "/silent".into());
    setup.config.routes.push(Arc::new(silent));
    let started = setup.start().await;
    let traced = [("traceparent", PARENT), ("tracestate", "congo=t61rcWkgMzE , rojo=00f067aa0ba902b7"), ("x-farthing-debug", "1")];
    let answer = started.client.get("/api/a", &traced).await;
    assert_eq!(answer.header("x-farthing-trace-id"), TRACE);
    // Traces are no part of the key: a hit under another trace, which the provider never sees.
    let other = PARENT.replace("0af7", "ffff");
    let hit = started.client.get("/api/a", &[("traceparent", &other), ("x-farthing-debug", "1")]).await;
    assert!(hit.is_hit() && hit.header("x-farthing-trace-id").starts_with("ffff"));
    // Wrong in any way: a new trace, without the state of the old one.
    let broken = [("traceparent", &*PARENT.to_uppercase()), ("tracestate", "congo=t61rcWkgMzE"), ("x-farthing-debug", "1")];
    let anew = started.client.send(Method::POST, "/api/b", &broken, "").await;
    started.client.send(Method::POST, "/silent/c", &[("traceparent", PARENT), ("tracestate", "a=b"), ("baggage", "user=1")], "").await;

    let seen = origin.seen();
    let field = |at: usize, name: &str| seen[at].headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let sent = field(0, "traceparent").unwrap();
    assert!(sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-01") && sent != PARENT, "{sent}");
    assert_eq!(field(0, "tracestate").as_deref(), Some("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"));
    let begun = field(1, "traceparent").unwrap();
    assert!(!begun.contains(TRACE) && begun.contains(anew.header("x-farthing-trace-id")), "{begun}");
    assert_eq!((anew.header("x-farthing-trace-id").len(), field(1, "tracestate")), (32, None));
    for name in ["traceparent", "tracestate", "baggage"] {
        assert_eq!(field(2, name), None, "{name}");
    }

    started.proxy.flush_log().await.unwrap();
    let rows =
        farthing_ledger::read::tail(&started.dir.path().join("logs"), Request::TABLE, &["trace_id", "outcome", "priority"], 10).unwrap();
    let of = |outcome: &str| rows.iter().filter(|row| row[1] == outcome).map(|row| (row[0].clone(), row[2].clone())).collect::<Vec<_>>();
    assert_eq!(of("lead"), [(TRACE.to_owned(), "medium".to_owned())]);
    assert_eq!(of("hit")[0].0, other[3..35]);
    assert!(of("bypass").iter().any(|(trace, _)| trace == anew.header("x-farthing-trace-id")), "{rows:?}");
}

#[tokio::test]
async fn each_promise_of_time_is_counted_met_or_missed_and_whose_time_it_was() {
    let origin = Origin::simple(|_, n| answer_of(StatusCode::OK, &[("cache-control", "max-age=60")], n.to_string())).await;
    let mut setup = Setup::new(origin.addr).route(|r| r.sla = Some(Span::from_secs(50)));
    let route = |name: &str| {
        let mut route = farthing_config::Route::clone(&setup.config.routes[0]);
        (route.name, route.matcher.path_prefix, route.strip_prefix) = (name.into(), format!("/{name}").into(), format!("/{name}").into());
        route
    };
    let (mut tight, mut dead) = (route("tight"), route("dead"));
    (tight.sla, dead.sla, dead.provider) = (Some(Span::from_nanos(1)), Some(Span::from_secs(50)), "dead".into());
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut provider = farthing_config::Provider::clone(&setup.config.providers[0]);
    (provider.name, provider.base_url) = ("dead".into(), format!("http://{gone}").parse().unwrap());
    setup.config.providers.push(Arc::new(provider));
    setup.config.routes.extend([Arc::new(tight), Arc::new(dead)]);
    let started = setup.start().await;
    for target in ["/api/a", "/api/a", "/tight/a", "/tight/a", "/dead/a"] {
        started.client.get(target, &[]).await;
    }
    started.proxy.flush_log().await.unwrap();
    let totals = started.proxy.totals();
    let of = |route: &str| totals.routes[route].sla.clone();
    assert_eq!((of("api"), totals.routes["api"].sla_share()), ([("met", 2)].into(), Some(1.0)));
    assert_eq!((of("tight").values().sum::<u64>(), of("tight").get("met")), (2, None), "{:?}", of("tight"));
    assert_eq!(of("dead"), [("upstream", 1)].into());
    let rows = farthing_ledger::read::tail(&started.dir.path().join("logs"), Request::TABLE, &["route", "sla_ms", "sla"], 10).unwrap();
    assert!(rows.contains(&vec!["api".to_owned(), "50000".to_owned(), "met".to_owned()]), "{rows:?}");
    let metrics = farthing_proxy::telemetry::render(&started.proxy).unwrap();
    assert!(metrics.contains("farthing_sla_total{route=\"api\",outcome=\"met\"} 2"), "{metrics}");
}

/// Whoever gives up is counted, too: it is they who waited longest.
#[tokio::test]
async fn a_client_that_leaves_after_the_time_has_missed_it() {
    let origin = Origin::start(Arc::new(|_, _| Box::pin(std::future::pending()))).await;
    for (sla, counted) in [(Span::from_nanos(1), 1), (Span::from_secs(50), 0)] {
        let started = Setup::new(origin.addr).route(|r| r.sla = Some(sla)).start().await;
        let before = origin.calls();
        {
            let asked = started.client.try_get("/api/a", &[]);
            tokio::pin!(asked);
            let reached = until("reached", || origin.calls() > before);
            tokio::pin!(reached);
            let _first = futures_util::future::select(asked, reached).await;
        }
        until("settled", || started.proxy.totals().total.requests == 1).await;
        let missed = started.proxy.totals().total.sla;
        assert_eq!((missed.values().sum::<u64>(), missed.get("upstream").copied().unwrap_or(0)), (counted, counted), "{sla:?}");
    }
}

/// What expires is asked for at each request, however fresh its answer is.
#[tokio::test]
async fn a_key_past_its_time_is_refused_at_once() {
    let origin = Origin::simple(|_, _| answer_of(StatusCode::OK, &[("cache-control", "max-age=3600")], "x")).await;
    let mut setup = Setup::new(origin.addr)
        .route(|r| (r.credential, r.mode) = (CredentialMode::Swap, Mode::Respect))
        .provider(|p| (p.credential_place, p.credential) = (CredentialPlace::Bearer, Some(Secret::new("sk"))));
    let text = setup.key("acme");
    setup.config.keys[0].expires = Some(Time::from_millis(EXP * 1_000));
    let clock = Arc::new(VirtualClock::new(Time::from_millis((EXP - 30) * 1_000)));
    let started = setup.start_on(clock.clone()).await;
    let ask = async || started.client.get("/api/a", &[("authorization", &format!("Bearer {text}"))]).await.status;
    assert_eq!(ask().await, StatusCode::OK);
    clock.advance(Span::from_secs(30));
    assert_eq!(ask().await, StatusCode::UNAUTHORIZED);
}
