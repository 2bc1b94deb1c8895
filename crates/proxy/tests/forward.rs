//! A2: which requests take a route, and what becomes of the others, on the whole request path.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::path::Path;
use std::sync::Arc;

use farthing_config::{Config, FarthingKey, ForwardConfig, Mode, Prices, Provider, Route, TtlBy};
use farthing_models::{Store, StoreOptions};
use farthing_types::{Body, Call, CallReport, Clock, Failure, Reply, Span, Time, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::DATE;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::BodyExt;
use parking_lot::Mutex;

use farthing_proxy::Inside;
use farthing_proxy::edge::PeerInfo;

const START: Time = Time::from_millis(1_767_225_600_000);

/// Remembers where calls went, with their credential.
struct Wire(String, Arc<Mutex<Vec<String>>>, Arc<VirtualClock>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let base = self.0.trim_end_matches('/');
        self.1.lock().push(format!("{base}{}", call.target));
        assert!(!call.headers.keys().any(|name| name.as_str().starts_with("proxy-") || name.as_str().starts_with("x-farthing")));
        call.sink.attempt(CallReport::only(&call, "wire", Some(StatusCode::OK)));
        let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + self.2.now().since(Time::ZERO));
        let headers = HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
        async move { Ok(Reply { status: StatusCode::OK, headers, body: Body::full("ok") }) }.boxed()
    }
}

struct World {
    inside: Inside,
    calls: Arc<Mutex<Vec<String>>>,
}

fn route(name: &str, prefix: &str, change: impl FnOnce(&mut Route)) -> Arc<Route> {
    let mut route = Route {
        name: name.into(),
        provider: name.into(),
        mode: Mode::Override,
        ttl: TtlBy::Fixed(Span::from_secs(60)),
        ..Route::default()
    };
    (route.matcher.path_prefix, route.strip_prefix) = (prefix.into(), prefix.into());
    change(&mut route);
    Arc::new(route)
}

/// Providers `chat` at https://chat.test, `geo` at https://maps.test/v1, `plain` at http://plain.test:8080; `hosted` takes api.own by its host.
fn world(change: impl FnOnce(&mut Config)) -> World {
    let mut config = Config::default();
    (config.log.enabled, config.holdout.share) = (false, 0.0);
    for (name, url) in [
        ("chat", "https://chat.test"),
        ("geo", "https://maps.test/v1/"),
        ("plain", "http://plain.test:8080"),
        ("bare", "http://bare.test"),
        ("hosted", "https://other.test"),
    ] {
        let mut provider = Provider { name: name.into(), base_url: url.parse().unwrap(), ..Provider::default() };
        (provider.prices, provider.upstream.attempts) = (Some(Prices::per_call("0.001".parse().unwrap())), 1);
        config.providers.push(Arc::new(provider));
    }
    config.routes = vec![
        route("hosted", "/", |route| (route.matcher.hosts, route.strip_prefix) = (vec!["api.own".into()], "".into())),
        // More special, and to another provider: what is meant for the chat never goes there.
        route("geo", "/chat/maps", |_| ()),
        route("chat", "/chat", |_| ()),
        route("plain", "/r/plain", |_| ()),
        route("bare", "/r/bare", |_| ()),
    ];
    config.forward = Some(ForwardConfig { names: vec!["proxy.own".into()], ..ForwardConfig::default() });
    change(&mut config);
    let (calls, clock) = (Arc::new(Mutex::new(Vec::new())), Arc::new(VirtualClock::new(START)));
    let client = |spec: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(spec.base.to_string(), calls.clone(), clock.clone())) };
    let store = Store::open(Path::new("none").to_owned(), StoreOptions::default());
    let inside = Inside::new(&Arc::new(config), clock.clone(), store, &client).unwrap();
    World { calls, inside }
}

impl World {
    async fn send(&self, request: http::request::Builder) -> (StatusCode, HeaderMap, String) {
        let addr = "127.0.0.1:8787".parse().unwrap();
        let peer = PeerInfo { addr: "127.0.0.1:40000".parse().unwrap(), local: addr, connection: 1 };
        let answer = self.inside.ask_over(request.body(Body::empty()).unwrap(), peer).await;
        let (head, body) = answer.into_parts();
        (head.status, head.headers, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    /// Where the call for a URL went, or the status without one.
    async fn goes(&self, url: &str) -> String {
        let uri: http::Uri = url.parse().unwrap();
        let host = uri.authority().unwrap().to_string();
        let (status, ..) = self.send(Request::builder().uri(uri).header("host", host)).await;
        self.calls.lock().drain(..).next_back().unwrap_or_else(|| status.as_str().to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn urls_of_providers_take_their_routes_and_go_out_as_the_providers_say() {
    let world = world(|_| ());
    for (url, goes) in [
        ("http://chat.test/v1/x?a=1&b=%2F", "https://chat.test/v1/x?a=1&b=%2F"),
        ("http://CHAT.test.:80/v1/y", "https://chat.test/v1/y"),
        ("https://chat.test/v1/z", "https://chat.test/v1/z"),
        ("http://chat.test:443/v1/q", "https://chat.test/v1/q"),
        ("http://chat.test", "https://chat.test/"),
        ("http://chat.test:8443/v1/x", "403"),
        // What the chat's own path would lead elsewhere by is refused and not sent elsewhere.
        ("http://chat.test/maps/x", "403"),
        ("http://maps.test/v1/tile", "https://maps.test/v1/tile"),
        ("http://maps.test/v1", "https://maps.test/v1/"),
        ("http://maps.test/v10/tile", "403"),
        ("http://maps.test/v2/tile", "403"),
        ("http://plain.test:8080/a", "http://plain.test:8080/a"),
        ("http://plain.test/a", "403"),
        ("http://bare.test/a", "http://bare.test/a"),
        ("https://bare.test/a", "403"),
        ("https://plain.test:8080/a", "403"),
        ("http://api.own./chat/x", "https://other.test/chat/x"),
        ("http://api.own/a", "https://other.test/a"),
        ("http://API.own:80/b", "https://other.test/b"),
        ("http://other.test/a", "403"),
        ("http://127.0.0.1:8787/chat/own", "https://chat.test/own"),
        ("http://localhost:8787/chat/own2", "https://chat.test/own2"),
        ("http://proxy.own/chat/own3", "https://chat.test/own3"),
        ("http://127.0.0.1:8788/chat/own", "403"),
        ("http://evil.test/chat/x", "403"),
    ] {
        assert_eq!(world.goes(url).await, goes, "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_by_the_url_and_by_the_route_is_one_entry() {
    let world = world(|_| ());
    let by_url = || Request::builder().uri("http://chat.test/v1/x").header("host", "chat.test");
    let by_route = || Request::builder().uri("/chat/v1/x").header("host", "127.0.0.1:8787");
    assert!(!world.send(by_url()).await.1["cache-status"].to_str().unwrap().contains("; hit"));
    for request in [by_url(), by_route()] {
        assert!(world.send(request).await.1["cache-status"].to_str().unwrap().contains("; hit"));
    }
    assert_eq!(world.calls.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_table_or_the_flag_nothing_is_taken_by_its_url() {
    let without = world(|config| config.forward = None);
    assert_eq!(without.goes("http://chat.test/v1/x").await, "404");
    // A server takes URLs for paths (RFC 9112 section 3.2.2).
    assert_eq!(without.goes("http://any.test/chat/x").await, "https://chat.test/x");
    let off = world(|config| config.forward.as_mut().unwrap().providers = false);
    assert_eq!(
        (off.goes("http://chat.test/v1/x").await, off.goes("http://api.own/a").await),
        ("403".into(), "https://other.test/a".into())
    );
    // In HTTP/2 every request has a scheme and a host.
    let request = Request::builder().version(Version::HTTP_2).uri("http://any.test/chat/v1/x");
    assert_eq!(off.send(request).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_what_to_set() {
    let world = world(|_| ());
    let connect = |to: &str| Request::builder().method("CONNECT").uri(to).header("host", to);
    let (status, _, text) = world.send(connect("chat.test:443")).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("http://127.0.0.1:8787/chat,") && text.contains("forward.tunnel"), "{text}");
    let (status, _, text) = world.send(connect("new.test:443")).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("base_url = \\\"https://new.test\\\""), "{text}");
    let (status, _, text) = world.send(Request::builder().uri("http://new.test/").header("host", "new.test")).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("forward.pass"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn keys_are_asked_for_as_of_a_proxy_and_act_as_on_any_request() {
    let (key, mut listed) = FarthingKey::generate("acme").unwrap();
    listed.rights.routes = Some(vec!["chat".into()]);
    let world = world(|config| {
        config.keys = vec![listed];
        config.forward.as_mut().unwrap().auth = true;
        config.forward.as_mut().unwrap().tunnel = vec!["*".parse().unwrap()];
        Arc::make_mut(&mut config.providers[0]).credential = Some(farthing_config::Secret::new("sk-real"));
    });
    let key = key.expose();
    let basic = |pair: String| format!("Basic {}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair));
    let ask = |url: &str| Request::builder().uri(url).header("host", url.trim_start_matches("http://").split('/').next().unwrap());
    let (status, headers, text) = world.send(ask("http://chat.test/a")).await;
    assert_eq!(
        (status, headers["proxy-authenticate"].to_str().unwrap()),
        (StatusCode::PROXY_AUTHENTICATION_REQUIRED, "Basic realm=\"farthing\""),
        "{text}"
    );
    for wrong in [basic("any:fth-000000000000-00".into()), basic("any:word".into()), "Basic ?".into(), "Bearer".into(), "Digest x".into()] {
        assert_eq!(world.send(ask("http://chat.test/a").header("proxy-authorization", &wrong)).await.0, 407, "{wrong}");
    }
    assert_eq!(world.calls.lock().len(), 0);
    for right in [basic(format!("any:{key}")), basic(format!("{key}:")), format!("Bearer {key}")] {
        assert_eq!(world.send(ask("http://chat.test/a").header("proxy-authorization", right)).await.0, StatusCode::OK);
    }
    assert_eq!(world.send(ask("http://chat.test/b").header("authorization", format!("Bearer {key}"))).await.0, StatusCode::OK);
    // The key's own bounds hold: another route, and what goes past all routes.
    let shown = |request: http::request::Builder| request.header("proxy-authorization", format!("Bearer {key}"));
    assert_eq!(world.send(shown(ask("http://maps.test/v1/x"))).await.0, StatusCode::FORBIDDEN);
    let connect = Request::builder().method("CONNECT").uri("h.test:443").header("host", "h.test:443");
    let (status, _, text) = world.send(shown(connect)).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("for some routes alone"), "{text}");
    // The tenant of the key pays.
    world.inside.settle().await;
    assert!(world.inside.totals().tenants.iter().any(|(tenant, _)| &**tenant == "acme"));
}
