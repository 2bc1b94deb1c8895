//! The driver against the provider, without a proxy between them.
#![expect(clippy::unwrap_used, reason = "a loopback that cannot be set up must stop the test")]

use std::sync::Arc;

use bytes::Bytes;
use farthing_sim::{ApiSpec, Driver, DriverSpec, ListedChanges, Planned, Provider, Target, Truth};
use farthing_types::{Clock, Money, ScaledClock, Span, Time, VirtualClock};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio_util::sync::CancellationToken;

const PRICE: Money = Money::from_nanos(2_000_003);

struct World {
    provider: Provider,
    truth: Arc<dyn Truth>,
    clock: Arc<VirtualClock>,
}

async fn world() -> World {
    let truth: Arc<dyn Truth> = Arc::new(ListedChanges::new([(0, 1, 5_000), (0, 2, 6_000)]));
    let clock = Arc::new(VirtualClock::new(Time::from_millis(1_000)));
    let geo = ApiSpec { last_modified: true, ..ApiSpec::new("geo", PRICE) };
    let dice = ApiSpec { nondeterministic: true, ..ApiSpec::new("dice", PRICE) };
    let provider = Provider::start(vec![geo, dice], truth.clone(), clock.clone()).await.unwrap();
    World { provider, truth, clock }
}

impl World {
    fn driver(&self) -> Driver {
        let target = |path: &str, nondeterministic| Target { path: path.into(), nondeterministic };
        Driver::new(DriverSpec {
            server: self.provider.addr(),
            targets: vec![target("/geo/", false), target("/dice/", true)],
            workers: 8,
            truth: self.truth.clone(),
            clock: self.clock.clone(),
        })
    }
}

fn plan(n: u32, route: u16) -> Arc<[Planned]> {
    (0..n).map(|i| Planned { at: Time::from_millis(i64::from(i)), route, key: i % 7 }).collect()
}

async fn send(request: http::request::Builder, body: &'static str) -> Response<Bytes> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let (head, body) = client.request(request.body(Full::from(body)).unwrap()).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

fn get(world: &World, path: &str) -> http::request::Builder {
    Request::get(format!("http://{}{path}", world.provider.addr()))
}

#[tokio::test]
async fn every_direct_answer_is_true_and_billed() {
    let world = world().await;
    let driver = world.driver();
    driver.steady(plan(200, 0), 1e6, CancellationToken::new()).await;
    driver.steady(plan(50, 1), 1e6, CancellationToken::new()).await;
    let total = driver.tally().total();
    assert_eq!((total.requests, total.failed, total.stale, total.hits, total.decided), (250, 0, 0, 0, 0));
    assert_eq!(driver.tally().latency.count(), 250);
    assert_eq!(world.provider.bill(), PRICE.times(250));
    assert_eq!(world.provider.reading(0).calls, 200);
    world.provider.stop().await;
}

#[tokio::test]
async fn injected_errors_fail_and_are_not_billed() {
    let world = world().await;
    world.provider.fail(0, 1.0);
    let driver = world.driver();
    driver.steady(plan(20, 0), 1e6, CancellationToken::new()).await;
    assert_eq!(driver.tally().route(0).failed, 20);
    assert_eq!((world.provider.reading(0).errors, world.provider.bill()), (20, Money::ZERO));
    world.provider.fail(0, 0.0);
    driver.steady(plan(20, 0), 1e6, CancellationToken::new()).await;
    assert_eq!(driver.tally().route(0).failed, 20);
}

#[tokio::test]
async fn a_dead_server_is_a_failure_and_no_hang() {
    let world = world().await;
    let driver = world.driver();
    world.provider.stop().await;
    driver.steady(plan(10, 0), 1e6, CancellationToken::new()).await;
    assert_eq!(driver.tally().total().failed, 10);
}

#[tokio::test]
async fn a_replay_keeps_the_traces_time_and_can_be_stopped() {
    let world = world().await;
    let clock = Arc::new(ScaledClock::new(Time::ZERO, 1_000_000.0));
    let driver = world.driver();
    driver.replay(plan(100, 0), clock.clone(), CancellationToken::new()).await;
    assert_eq!(driver.tally().total().requests, 100);
    assert!(clock.now() >= Time::from_millis(99));
    let never: Arc<[Planned]> = Arc::new([Planned { at: clock.now() + Span::from_secs(1 << 40), route: 0, key: 1 }]);
    let stop = CancellationToken::new();
    stop.cancel();
    driver.replay(never, clock, stop).await;
    assert_eq!(driver.tally().total().requests, 100);
}

#[tokio::test]
async fn validators_follow_the_documents() {
    let world = world().await;
    let first = send(get(&world, "/geo/items/1"), "").await;
    let etag = first.headers()["etag"].clone();
    let again = send(get(&world, "/geo/items/1").header("if-none-match", etag.clone()), "").await;
    assert_eq!((again.status(), again.body().len()), (StatusCode::NOT_MODIFIED, 0));
    world.clock.set(Time::from_millis(5_000));
    let changed = send(get(&world, "/geo/items/1").header("if-none-match", etag), "").await;
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(changed.headers()["last-modified"], "Thu, 01 Jan 1970 00:00:05 GMT");
    assert_ne!(changed.body(), first.body());
    let reading = world.provider.reading(0);
    assert_eq!((reading.calls, reading.not_modified, reading.billed), (3, 1, PRICE.times(3)));
    assert_eq!(send(get(&world, "/nothing/1"), "").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_nondeterministic_api_never_answers_the_same_twice() {
    let world = world().await;
    let (a, b) = (send(get(&world, "/dice/1"), "").await, send(get(&world, "/dice/1"), "").await);
    assert_ne!(a.body(), b.body());
    assert!(!a.headers().contains_key("etag"));
}

#[tokio::test]
async fn chat_is_answered_plain_and_streamed_and_billed_by_the_token() {
    let world = world().await;
    let request = |auth: bool| {
        let builder = Request::builder().method(Method::POST).uri(format!("http://{}/v1/chat/completions", world.provider.addr()));
        if auth { builder.header("authorization", "Bearer k") } else { builder }
    };
    let plain = send(request(true), r#"{"model":"m","messages":[{"role":"user","content":"a b c"}]}"#).await;
    let json: serde_json::Value = serde_json::from_slice(plain.body()).unwrap();
    assert_eq!(json["usage"]["prompt_tokens"], 3);
    let streamed = send(request(true), r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"a b c"}]}"#).await;
    assert_eq!(streamed.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert!(streamed.body().ends_with(b"data: [DONE]\n\n"));
    // 3 input tokens at 2.5 micro-dollars and 5 output tokens at 10, twice.
    assert_eq!(world.provider.chat_reading().billed.nanos(), 2 * (3 * 2_500 + 5 * 10_000));
    assert_eq!(send(request(false), "{}").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(send(request(true), "{}").await.status(), StatusCode::BAD_REQUEST);
}
