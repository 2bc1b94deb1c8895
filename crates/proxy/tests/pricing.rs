//! J1, G2: what is charged, and what is set aside, is what providers bill: with the presets as they ship, before providers that answer as theirs do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::sync::Arc;

use bytes::Bytes;
use farthing_config::{Config, Flags, Provider, Route, System};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, BudgetSpec, Call, CallReport, Failure, Money, RealClock, Reply};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;

/// Answers the last part of a path.
const ANSWERS: &[(&str, &str)] = &[
    (
        "batch_1",
        r#"{"id":"batch_1","object":"batch","model":"gpt-4o","status":"completed","usage":{"input_tokens":1000000,"output_tokens":200000,"total_tokens":1200000}}"#,
    ),
    (
        "resp_1",
        r#"{"id":"resp_1","model":"gpt-4o","status":"completed","usage":{"input_tokens":1000,"output_tokens":100,"total_tokens":1100}}"#,
    ),
    ("responses", r#"{"id":"resp_1","model":"gpt-4o","status":"queued","output":[],"usage":null}"#),
    (
        "completions",
        r#"{"model":"gpt-4o","choices":[{"message":{"content":"Yes"}}],"usage":{"prompt_tokens":1000,"completion_tokens":100}}"#,
    ),
    (
        "search",
        r#"{"model":"gpt-4o","output":[{"type":"web_search_call"},{"type":"message"}],"usage":{"input_tokens":500,"output_tokens":100,"total_tokens":600}}"#,
    ),
    (
        "fast",
        r#"{"model":"claude-opus-4-6","content":[],"usage":{"input_tokens":500,"output_tokens":100,"service_tier":"standard","speed":"fast"}}"#,
    ),
    (
        "shortened",
        r#"{"model":"claude-opus-4-6","content":[],"usage":{"input_tokens":1000,"output_tokens":100,"iterations":[{"type":"compaction","input_tokens":9000,"output_tokens":200},{"type":"message","input_tokens":1000,"output_tokens":100}]}}"#,
    ),
    ("models", r#"{"object":"list","data":[{"id":"gpt-4o"}]}"#),
    ("count_tokens", r#"{"input_tokens":2500}"#),
];

struct Api;

impl Origin for Api {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let last = call.target.path().rsplit('/').next().unwrap().to_owned();
        let body = ANSWERS.iter().find(|(name, _)| *name == last).unwrap().1;
        call.sink.attempt(CallReport::only(&call, "api", Some(StatusCode::OK)));
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        async move { Ok(Reply { status: StatusCode::OK, headers, body: Body::full(body) }) }.boxed()
    }
}

struct World {
    inside: Inside,
    _dir: tempfile::TempDir,
}

impl World {
    /// The presets as they ship.
    fn new(budget: Option<BudgetSpec>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { state_dir: dir.path().to_owned(), ..Config::default() };
        (config.log.enabled, config.holdout.share, config.budgets) = (false, 0.0, budget.into_iter().collect());
        for name in ["openai", "anthropic"] {
            let text = format!("[providers.{name}]\n[routes.{name}]\nprovider = \"{name}\"\npath_prefix = \"/{name}\"\n");
            let shipped = Config::parse(&text, "farthing.toml", &Flags::default(), &System).unwrap();
            let provider: Provider = (*shipped.providers[0]).clone();
            let mut route: Route = (*shipped.routes[0]).clone();
            (route.cache, route.dedupe) = (false, false);
            config.providers.push(Arc::new(provider));
            config.routes.push(Arc::new(route));
        }
        let store = Store::open(dir.path(), StoreOptions::default());
        let client = |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Api) };
        let inside = Inside::new(&Arc::new(config), Arc::new(RealClock::default()), store, &client).unwrap();
        Self { inside, _dir: dir }
    }

    fn within(limit: &str) -> Self {
        Self::new(Some(BudgetSpec { limit: limit.parse().unwrap(), ..BudgetSpec::default() }))
    }

    async fn ask(&self, method: Method, target: &str, body: &str) -> StatusCode {
        let request = Request::builder().method(method).uri(target).header("host", "f.test");
        let request = request.header("content-type", "application/json").body(Body::full(body.to_owned())).unwrap();
        let (head, body) = self.inside.ask(request).await.into_parts();
        let _: Bytes = body.collect().await.unwrap().to_bytes();
        self.inside.settle().await;
        head.status
    }

    /// The bill, how much of it is estimated, and why calls have no price.
    fn told(&self) -> (Money, u64, Vec<(&'static str, u64)>) {
        let stats = self.inside.pricing_stats();
        let unpriced = stats.unpriced.iter().map(|(_, _, reason, n)| (reason.as_str(), *n)).collect();
        (self.inside.totals().total.bill_usd, stats.estimated, unpriced)
    }
}

fn long() -> String {
    format!(r#"{{"model":"claude-sonnet-4-5","messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(2_000))
}

/// What is asked after holds the usage of the call that made it; counting tokens is free.
async fn ask_after(world: &World) {
    for (method, target, body) in [
        (Method::GET, "/openai/v1/batches/batch_1", String::new()),
        (Method::GET, "/openai/v1/batches/batch_1", String::new()),
        (Method::GET, "/openai/v1/responses/resp_1", String::new()),
        (Method::GET, "/openai/v1/models", String::new()),
        (Method::POST, "/anthropic/v1/messages/count_tokens", long()),
    ] {
        assert_eq!(world.ask(method, target, &body).await, StatusCode::OK, "{target}");
    }
}

#[tokio::test]
async fn what_is_asked_after_is_not_billed_again() {
    let world = World::new(None);
    ask_after(&world).await;
    assert_eq!(world.told(), (Money::ZERO, 0, Vec::new()));
    let body = r#"{"model":"gpt-4o","max_completion_tokens":100,"messages":[{"role":"user","content":"Is it?"}]}"#;
    world.ask(Method::POST, "/openai/v1/chat/completions", body).await;
    assert_eq!(world.told().0, "0.0035".parse().unwrap(), "what is made is");
}

#[tokio::test]
async fn a_budget_lets_pass_what_costs_nothing() {
    let world = World::within("0.01");
    ask_after(&world).await;
    let made = r#"{"model":"gpt-4o","max_completion_tokens":100,"messages":[{"role":"user","content":"Is it?"}]}"#;
    assert_eq!(world.ask(Method::POST, "/openai/v1/chat/completions", made).await, StatusCode::OK);
    assert_eq!(world.ask(Method::POST, "/anthropic/v1/messages", &long()).await, StatusCode::FORBIDDEN, "without a bound");
}

#[tokio::test]
async fn work_that_is_done_later_is_unpriced_and_not_guessed() {
    let world = World::new(None);
    let later = r#"{"model":"gpt-4o","background":true,"max_output_tokens":100,"input":"Is it?"}"#;
    world.ask(Method::POST, "/openai/v1/responses", later).await;
    assert_eq!(world.told(), (Money::ZERO, 0, vec![("no-usage", 1)]));
    // What it may have cost stays set aside: 77 bytes and 100 tokens of output, of $0.002.
    let budgeted = World::within("0.002");
    assert_eq!(budgeted.ask(Method::POST, "/openai/v1/responses", later).await, StatusCode::OK);
    assert_eq!(budgeted.ask(Method::POST, "/openai/v1/responses", later).await, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn what_costs_more_than_its_tokens_tell_is_unpriced_and_what_is_told_beside_is_charged() {
    let world = World::new(None);
    world.ask(Method::POST, "/openai/v1/search", r#"{"model":"gpt-4o","input":"?"}"#).await;
    world.ask(Method::POST, "/anthropic/v1/fast", r#"{"model":"claude-opus-4-6","speed":"fast"}"#).await;
    assert_eq!(world.told(), (Money::ZERO, 0, vec![("unknown-service", 1), ("unknown-service", 1)]));
    world.ask(Method::POST, "/anthropic/v1/shortened", r#"{"model":"claude-opus-4-6"}"#).await;
    // 10,000 at $5 and 300 at $25.
    assert_eq!(world.told().0, "0.0575".parse().unwrap());
}

#[tokio::test]
async fn a_budget_does_not_bound_what_costs_more_by_the_plain_rates() {
    let world = World::within("1");
    let made = |more: &str| format!(r#"{{"model":"claude-opus-4-6","max_tokens":100,"messages":[]{more}}}"#);
    for more in [
        r#","speed":"fast""#,
        r#","inference_geo":"us""#,
        r#","context_management":{"edits":[{"type":"compact_20260112"}]}"#,
        r#","tools":[{"type":"image_generation"}]"#,
    ] {
        assert_eq!(world.ask(Method::POST, "/anthropic/v1/shortened", &made(more)).await, StatusCode::FORBIDDEN, "{more}");
    }
    for more in ["", r#","speed":"standard","inference_geo":"global""#] {
        assert_eq!(world.ask(Method::POST, "/anthropic/v1/shortened", &made(more)).await, StatusCode::OK, "{more}");
    }
}
