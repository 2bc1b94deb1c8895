//! J1: calls in Gemini's words: the path names the target, the answer's own words are what is charged, plain, as events and as a list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::sync::Arc;

use bytes::Bytes;
use farthing_config::{Config, Dialect, Flags, Mode, Provider, Route, System};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, BudgetSpec, Call, CallReport, Failure, Money, RealClock, Reply};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ledger/tests/golden");

/// Answers with the file that the path's method stands for.
struct Gemini;

impl Origin for Gemini {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let target = call.target.to_string();
        let (file, media, tier) = match target.as_str() {
            t if t.ends_with("alt=sse") => ("gemini-stream.sse", "text/event-stream", "standard"),
            t if t.contains(":stream") => ("gemini-stream-list.json", "application/json; charset=UTF-8", "standard"),
            t if t.ends_with("audio") => ("gemini-audio.json", "application/json", "standard"),
            t if t.ends_with("search") => ("gemini-tools-grounded.json", "application/json", "standard"),
            t if t.ends_with("fast") => ("gemini-generate.json", "application/json", "priority"),
            _ => ("gemini-generate.json", "application/json", "standard"),
        };
        call.sink.attempt(CallReport::only(&call, "gemini", Some(StatusCode::OK)));
        let headers = [("content-type", media), ("x-gemini-service-tier", tier)];
        let headers = HeaderMap::from_iter(headers.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))));
        let body = Bytes::from(std::fs::read(format!("{GOLDEN}/{file}")).unwrap());
        async move { Ok(Reply { status: StatusCode::OK, headers, body: Body::full(body) }) }.boxed()
    }
}

struct World {
    inside: Inside,
    _dir: tempfile::TempDir,
}

impl World {
    /// The preset as it ships, before a provider that answers by file.
    fn new(budget: Option<BudgetSpec>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = "[providers.gemini]\n[routes.gemini]\nprovider = \"gemini\"\npath_prefix = \"/\"\n";
        let shipped = Config::parse(text, "farthing.toml", &Flags::default(), &System).unwrap();
        let provider: Provider = (*shipped.providers[0]).clone();
        assert_eq!(provider.dialect, Dialect::Gemini);
        let mut config = Config { state_dir: dir.path().to_owned(), ..Config::default() };
        (config.log.enabled, config.holdout.share, config.budgets) = (false, 0.0, budget.into_iter().collect());
        config.providers.push(Arc::new(provider));
        let route = Route { name: "gemini".into(), provider: "gemini".into(), mode: Mode::Respect, ..Route::default() };
        config.routes.push(Arc::new(route));
        let store = Store::open(dir.path(), StoreOptions::default());
        let client = |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Gemini) };
        let inside = Inside::new(&Arc::new(config), Arc::new(RealClock::default()), store, &client).unwrap();
        Self { inside, _dir: dir }
    }

    async fn ask(&self, target: &str, body: &str) -> Response<Bytes> {
        let request = Request::builder().method(Method::POST).uri(target).header("host", "f.test");
        let request = request.header("content-type", "application/json").body(Body::full(body.to_owned())).unwrap();
        let (head, body) = self.inside.ask(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        self.inside.settle().await;
        Response::from_parts(head, body)
    }

    fn bill(&self) -> Money {
        self.inside.totals().total.bill_usd
    }
}

const ASK: &str = r#"{"contents":[{"parts":[{"text":"How do tides come?"}]}],"generationConfig":{"maxOutputTokens":400}}"#;

/// Nano-dollars of tokens at dollars per million.
fn cost(parts: &[(i64, f64)]) -> Money {
    Money::from_nanos(parts.iter().map(|(tokens, rate)| tokens * (rate * 1_000.0).round() as i64).sum())
}

#[tokio::test]
async fn what_the_answer_tells_is_charged_plain_as_events_and_as_a_list() {
    let flash = cost(&[(92, 0.30), (2048, 0.03), (6, 2.50), (325, 2.50)]);
    let pro = cost(&[(12, 2.00), (106, 12.00)]);
    for (target, bill) in [
        ("/v1beta/models/gemini-2.5-flash:generateContent", flash),
        ("/v1beta/models/gemini-3.1-pro-preview:streamGenerateContent?alt=sse", pro),
        ("/v1beta/models/gemini-3.1-pro-preview:streamGenerateContent", pro),
        ("/v1beta/models/gemini-2.5-flash:generateContent?fast", Money::from_nanos(flash.nanos() * 18 / 10)),
    ] {
        let world = World::new(None);
        assert_eq!(world.ask(target, ASK).await.status(), StatusCode::OK);
        assert_eq!(world.bill(), bill, "{target}");
        let stats = world.inside.pricing_stats();
        assert_eq!((stats.estimated, stats.contradictory, stats.unpriced.len()), (0, 0, 0), "{target}");
    }
}

#[tokio::test]
async fn sound_and_searches_cost_more_than_tokens_tell_and_are_unpriced() {
    for kind in ["audio", "search"] {
        let world = World::new(None);
        world.ask(&format!("/v1beta/models/gemini-2.5-flash:generateContent?{kind}"), ASK).await;
        let stats = world.inside.pricing_stats();
        let told: Vec<_> = stats.unpriced.iter().map(|(_, target, reason, n)| (&**target, reason.as_str(), *n)).collect();
        assert_eq!(told, [("gemini-2.5-flash", "unknown-service", 1)], "{kind}");
        assert_eq!(world.bill(), Money::ZERO);
    }
}

#[tokio::test]
async fn a_budget_bounds_a_call_by_what_the_path_names_and_refuses_in_googles_words() {
    let most = |limit: &str| BudgetSpec { limit: limit.parse().unwrap(), ..BudgetSpec::default() };
    // 103 bytes and 400 tokens of output at the dearest: priority, long.
    let path = "/v1beta/models/gemini-2.5-flash:generateContent";
    assert_eq!(World::new(Some(most("0.01"))).ask(path, ASK).await.status(), StatusCode::OK);
    let world = World::new(Some(most("0.0005")));
    let refused = world.ask(path, ASK).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let document: serde_json::Value = serde_json::from_slice(refused.body()).unwrap();
    assert_eq!(document["error"]["code"], 429);
    assert_eq!(document["error"]["status"], "RESOURCE_EXHAUSTED");
    assert_eq!(document["error"]["details"][0]["reason"], "budget_exceeded");
    // What lies in a file of the provider has no bound.
    let filed = r#"{"contents":[{"parts":[{"fileData":{"fileUri":"files/x"}}]}],"generationConfig":{"maxOutputTokens":4}}"#;
    let unbounded = World::new(Some(most("0.01"))).ask(path, filed).await;
    assert_eq!(unbounded.status(), StatusCode::FORBIDDEN, "{:?}", unbounded.body());
}
