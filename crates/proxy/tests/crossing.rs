//! S1, D2: nobody is answered with another principal's answer, neither from an entry nor by following a call. Random requests of few clients
//! for few documents go through the whole request path in bursts; the origin answers each with what it saw of its sender.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests may fail the test"
)]

use std::sync::Arc;
use std::time::Duration;

use farthing_cache::Purge;
use farthing_config::{
    Config, CredentialMode, CredentialPlace, FarthingKey, JwtAlgorithm, JwtClaims, JwtFamily, JwtIssuer, JwtKeys, Mode, Profile, Provider,
    Rights, Route, Secret, TtlBy,
};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, Call, CallReport, Failure, RealClock, Reply};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const REQUESTS: usize = 100_000;
const BURST: usize = 16;
/// All that may tell two senders, or two things asked for, apart.
const CREDENTIAL_HEADERS: [&str; 5] = ["authorization", "x-api-key", "x-goog-api-key", "api-key", "x-ours"];

/// What the origin says of a request: everything but the order of parameters.
fn echo(method: &Method, target: &str, headers: &HeaderMap, body: &[u8]) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut parameters: Vec<&str> = query.split('&').collect();
    parameters.sort_by_key(|pair| pair.split('=').next());
    let credentials: Vec<String> = CREDENTIAL_HEADERS
        .iter()
        .flat_map(|name| headers.get_all(*name).iter().map(move |value| format!("{name}={}", value.to_str().unwrap())))
        .collect();
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    format!("{method} {path} {} {} {}", parameters.join("&"), credentials.join(";"), String::from_utf8_lossy(body))
}

struct Echo;

impl Origin for Echo {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        async move {
            // Others get the chance to come meanwhile.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            let text = echo(&call.method, call.target.path_and_query().unwrap().as_str(), &call.headers, &call.body.as_full().unwrap());
            let mut headers = HeaderMap::new();
            let about = call.target.path().bytes().last().unwrap_or_default() % 5;
            let control = ["max-age=60", "private, max-age=60", "", "no-store", "max-age=0, stale-while-revalidate=60"][usize::from(about)];
            if !control.is_empty() {
                headers.insert("cache-control", control.parse().unwrap());
            }
            if about == 0 {
                headers.insert("vary", "accept".parse().unwrap());
            }
            call.sink.attempt(CallReport::only(&call, "echo", Some(StatusCode::OK)));
            Ok(Reply { status: StatusCode::OK, headers, body: Body::full(text) })
        }
        .boxed()
    }
}

/// The issuer of the tokens of two tenants more, and the tokens.
fn issuer() -> (JwtIssuer, [String; 2]) {
    let issuer = JwtIssuer {
        name: "idp".into(),
        issuer: "https://idp.test".into(),
        audiences: vec!["farthing".into()],
        algorithms: vec![JwtAlgorithm::Rs256],
        keys: JwtKeys::Public { family: JwtFamily::Rsa, pem: include_str!("../testdata/tokens/rs.pub.pem").into() },
        leeway: Duration::ZERO,
        claims: JwtClaims::default(),
        default_tenant: None,
        rights: Rights::default(),
    };
    let all: serde_json::Value = serde_json::from_str(include_str!("../testdata/tokens/tokens.json")).unwrap();
    let token = |pointer: &str| all.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    (issuer, [token("/good/RS256"), token("/another tenant")])
}

/// Routes of every kind that is not shared, and a key or token for each of four tenants.
fn config() -> (Config, Vec<String>) {
    let mut config = Config::default();
    config.log.enabled = false;
    config.holdout.share = 0.0;
    let place = |name: &'static str, place: CredentialPlace| {
        let provider =
            Provider { name: name.into(), base_url: "http://echo.test".parse().unwrap(), credential_place: place, ..Provider::default() };
        let mut route = Route { name: name.into(), provider: name.into(), strip_prefix: format!("/{name}").into(), ..Route::default() };
        route.matcher.path_prefix = format!("/{name}").into();
        route.ttl = TtlBy::Fixed(Duration::from_secs(60));
        (provider, route)
    };
    let mut all = vec![
        place("pass", CredentialPlace::Bearer),
        place("api", CredentialPlace::Header("x-ours".parse().unwrap())),
        place("query", CredentialPlace::Query("our-place".into())),
        place("swap", CredentialPlace::Bearer),
    ];
    (all[1].1.profile, all[1].1.mode, all[1].1.idempotent, all[1].1.key_body) = (Profile::Api, Mode::Override, true, true);
    all[2].1.strip_query = vec!["our-place".into()];
    (all[3].0.credential, all[3].1.credential) = (Some(Secret::new("sk-real")), CredentialMode::Swap);
    for (provider, route) in all {
        config.providers.push(Arc::new(provider));
        config.routes.push(Arc::new(route));
    }
    let (issuer, tokens) = issuer();
    config.jwt = vec![issuer];
    let secrets = ["first", "second"].map(|tenant| {
        let (secret, key) = FarthingKey::generate(tenant).unwrap();
        config.keys.push(key);
        secret.expose().to_owned()
    });
    (config, secrets.into_iter().chain(tokens).collect())
}

/// A request and what only its sender may be answered.
fn request(rng: &mut StdRng, keys: &[String]) -> (Request<Body>, String) {
    let route = *["pass", "api", "query", "swap"].choose(rng).unwrap();
    let method = if rng.random_bool(0.1) { Method::HEAD } else { Method::GET };
    let method = if route == "api" && rng.random_bool(0.5) { Method::POST } else { method };
    let who = *["a", "b", "c"].choose(rng).unwrap();
    let mut parameters = vec![format!("page={}", rng.random_range(0..2))];
    if rng.random_bool(0.5) {
        let name = *["key", "KEY", "%6bey", "token", "Token", "our-place", "OUR-PLACE", "%6Fur-place", "sig", "appid"].choose(rng).unwrap();
        parameters.insert(rng.random_range(0..2), if rng.random_bool(0.9) { format!("{name}={who}") } else { name.to_owned() });
    }
    let target = format!("/{}?{}", rng.random_range(0..5), parameters.join("&"));
    let mut builder = Request::builder().method(&method).uri(format!("/{route}{target}")).header("host", "farthing.test");
    if route == "swap" {
        let name = if rng.random_bool(0.5) { "authorization" } else { "x-farthing-key" };
        builder = builder.header(name, format!("{}{}", if name == "authorization" { "Bearer " } else { "" }, keys.choose(rng).unwrap()));
    } else if rng.random_bool(0.7) {
        let name = *CREDENTIAL_HEADERS[..if route == "api" { 5 } else { 4 }].choose(rng).unwrap();
        builder = builder.header(name, format!("{}{who}", if name == "authorization" { "Bearer " } else { "" }));
    }
    builder = builder.header("accept", *["text/plain", "*/*"].choose(rng).unwrap());
    let body = if method == Method::POST { format!("{{\"q\":{}}}", rng.random_range(0..2)) } else { String::new() };
    let request = builder.body(Body::full(body.clone())).unwrap();
    let mut own = request.headers().clone();
    if let Some(key) = own.remove("x-farthing-key") {
        own.insert("authorization", format!("Bearer {}", key.to_str().unwrap()).parse().unwrap());
    }
    let expected = echo(&method, &target, &own, body.as_bytes());
    (request, expected)
}

/// On a route that swaps, the two ways to present a key are one sender.
fn sender(text: &str, keys: &[String], request: &str) -> String {
    let Some(key) = keys.iter().find(|key| request.contains(key.as_str())) else { return text.to_owned() };
    if text.contains("authorization=") { text.to_owned() } else { text.replacen("  ", &format!(" authorization=Bearer {key} "), 1) }
}

#[tokio::test]
async fn nobody_is_answered_with_anothers_answer() {
    let (config, keys) = config();
    let dir = tempfile::tempdir().unwrap();
    let client = |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Echo) };
    let store = Store::open(dir.path(), StoreOptions::default());
    let inside = Inside::new(&Arc::new(config), Arc::new(RealClock::default()), store, &client).unwrap();
    let mut rng = StdRng::seed_from_u64(17);
    let (mut hits, mut follows) = (0, 0);
    for number in 0..REQUESTS / BURST {
        // Or all that there is would soon be stored, and nobody would wait for anybody.
        if number % 400 == 0 {
            inside.purge(&Purge::All);
        }
        // Some ask for the very same at once.
        let mut seed = 0;
        let mut next = |rng: &mut StdRng| {
            seed = if rng.random_bool(0.3) { seed } else { rng.random() };
            request(&mut StdRng::seed_from_u64(seed), &keys)
        };
        let burst: Vec<_> = (0..BURST).map(|_| next(&mut rng)).collect();
        let (requests, expected): (Vec<_>, Vec<_>) = burst.into_iter().unzip();
        let heads: Vec<_> = requests.iter().map(|r| r.method().clone()).collect();
        let asked = requests.into_iter().map(|request| tokio::task::spawn(inside.ask(request)));
        for ((answer, expected), method) in join_all(asked).await.into_iter().zip(expected).zip(heads) {
            let (head, body) = answer.unwrap().into_parts();
            assert_eq!(head.status, StatusCode::OK, "{expected}");
            let status = head.headers["cache-status"].to_str().unwrap();
            hits += usize::from(status.contains("; hit"));
            follows += usize::from(status.contains("; collapsed"));
            let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            if method != Method::HEAD {
                assert_eq!(sender(&text, &keys, &expected), expected, "{status}");
            }
        }
    }
    assert!(hits > REQUESTS / 5 && follows > REQUESTS / 100, "{hits} hits, {follows} follow: too few to show anything");
}
