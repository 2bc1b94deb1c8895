//! What the billing run is made of: routes and prices, requests, and a provider with a meter of its own.

pub mod provider;

use std::path::Path;
use std::sync::Arc;

use farthing_config::{BatchConfig, BatchFormat, BatchWindow, Config, Dialect, Mode, OnDisconnect, Prices, Provider, Route, TtlBy};
use farthing_types::{Body, Meter, MeterSource, Rate, Span, Tier, TokenRates};
use http::{Method, Request};
use rand::Rng;
use rand::rngs::StdRng;

fn rate(usd: &str) -> Rate {
    usd.parse().unwrap()
}

/// Input 2,500.5 nano-dollars a token, cached 1,250, output 10,000, reasoning 12,000: what `provider` charges.
fn tokens() -> Prices {
    let rates = TokenRates {
        input: Some(rate("0.0000025005")),
        cached_input: Some(rate("0.00000125")),
        output: Some(rate("0.00001")),
        reasoning: Some(rate("0.000012")),
        ..TokenRates::default()
    };
    Prices { targets: [("m".to_owned(), rates)].into(), ..Prices::default() }
}

fn points() -> Prices {
    let tiers = vec![Tier { up_to: 500, rate: rate("0.00001") }];
    let meter = Meter { free: 50, tiers, ..Meter::new("points", MeterSource::Pointer("/account/cost".to_owned()), rate("0.000007")) };
    Prices { meters: vec![meter], ..Prices::default() }
}

fn prices(name: &str) -> Prices {
    match name {
        "docs" => Prices { not_modified: Some(rate("0.0001")), ..Prices::per_call("0.002".parse().unwrap()) },
        "strict" => Prices { errors_billed: true, ..Prices::per_call("0.001".parse().unwrap()) },
        "tiles" => Prices { per_kb: Some(rate("0.0003")), ..Prices::default() },
        "points" => points(),
        "items" => Prices::per_call("0.0007".parse().unwrap()),
        _ => tokens(),
    }
}

fn batch(name: &str) -> Option<BatchConfig> {
    let format = match name {
        "items" => BatchFormat::Rest { path: "/batch".into() },
        "vectors" => BatchFormat::Embeddings,
        _ => return None,
    };
    Some(BatchConfig { window: BatchWindow::Fixed(Span::from_millis(20)), min_rate: 0.0, ..BatchConfig::new(format) })
}

fn one(config: &mut Config, name: &str) {
    let mut provider = Provider { name: name.into(), base_url: "http://provider.test".parse().unwrap(), ..Provider::default() };
    provider.prices = Some(prices(name));
    provider.dialect = match name {
        "chat" | "talk" | "vectors" => Dialect::OpenAi,
        "claude" => Dialect::Anthropic,
        _ => Dialect::Generic,
    };
    provider.upstream.breaker_share = 1.0;
    let mut route = Route { name: name.into(), provider: name.into(), mode: Mode::Override, ..Route::default() };
    route.matcher.path_prefix = format!("/{name}").into();
    route.strip_prefix = route.matcher.path_prefix.clone();
    (route.ttl, route.base_ttl, route.stale_while_revalidate) = (TtlBy::Fixed(Span::from_secs(5)), Span::from_secs(5), Span::from_secs(3));
    (route.cache, route.dedupe) = (name != "strict", name != "strict");
    route.idempotent = matches!(name, "chat" | "claude" | "vectors");
    route.batch = batch(name);
    route.on_disconnect = matches!(name, "chat" | "talk").then_some(OnDisconnect::Finish);
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
}

const ROUTES: [&str; 9] = ["docs", "strict", "tiles", "points", "chat", "talk", "claude", "items", "vectors"];

pub fn config(dir: &Path) -> Config {
    let mut config = Config::default();
    config.log.dir = dir.join("logs");
    config.log.row_rate = u32::MAX;
    config.log.queue_bytes = 4_000_000_000;
    config.holdout.share = 0.0;
    for name in ROUTES {
        one(&mut config, name);
    }
    config
}

/// A random request, now and then of those `among` the routes: its route, whether it asks for usage in its stream, and the request.
pub fn request(rng: &mut StdRng, among: Option<&'static str>) -> (&'static str, bool, Request<Body>) {
    let route = among.unwrap_or_else(|| ROUTES[rng.random_range(0..ROUTES.len())]);
    // Few keys are asked for often, many seldom.
    let key = rng.random_range(0..8) * rng.random_range(0..5);
    let builder = Request::builder().header("host", "farthing.test");
    if route == "vectors" {
        let inputs = vec![format!("\"text {key}\""); rng.random_range(1..4)].join(",");
        let body = format!(r#"{{"model":"m","input":[{inputs}]}}"#);
        let builder = builder.method(Method::POST).uri("/vectors/v1/embeddings").header("content-type", "application/json");
        return (route, false, builder.body(Body::full(body)).unwrap());
    }
    if !matches!(route, "chat" | "talk" | "claude") {
        return (route, false, builder.uri(format!("/{route}/{key}")).body(Body::empty()).unwrap());
    }
    let (stream, asks) = (rng.random_range(0..3) > 0, rng.random_range(0..2) > 0);
    let options = if asks { r#","stream_options":{"include_usage":true}"# } else { "" };
    let path = if route == "claude" { "/claude/v1/messages" } else { &format!("/{route}/v1/chat/completions") };
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{key}"}}],"stream":{stream}{options}}}"#);
    let request = builder.method(Method::POST).uri(path).header("content-type", "application/json").body(Body::full(body)).unwrap();
    (route, asks && stream, request)
}
