//! F2, K8: a thousand requests for one cold key, GET and POST, and whatever happens to the call: never more than one extra call, and everybody
//! is answered. The whole request path in paused time; the provider does what a test says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests may fail the test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use farthing_config::{Config, Mode, Prices, Provider, Route, TtlBy};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, BodyError, Call, CallReport, Failure, FailureKind, RealClock, Reply};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::time::Instant;

const WAITERS: usize = 1_000;
/// How long the provider takes.
const UPSTREAM: Duration = Duration::from_millis(100);

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answers,
    Fails(StatusCode),
    Breaks,
    /// The one who makes the call dies.
    Dies,
    /// The body ends before its time.
    Cut,
    Freezes,
}

/// A provider whose first call has a fate; all others are answered.
struct Fateful {
    fate: Fate,
    calls: Arc<AtomicUsize>,
}

impl Origin for Fateful {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let first = self.calls.fetch_add(1, Ordering::SeqCst) == 0;
        let fate = if first { self.fate } else { Fate::Answers };
        async move {
            tokio::time::sleep(UPSTREAM).await;
            let (status, body) = match fate {
                Fate::Answers => (StatusCode::OK, Body::full("answer")),
                Fate::Fails(status) => (status, Body::full("no")),
                Fate::Breaks => return Err(Failure::sent(FailureKind::Broken, "gone")),
                Fate::Dies => panic!("the leader dies"),
                Fate::Cut => (StatusCode::OK, cut()),
                Fate::Freezes => std::future::pending().await,
            };
            call.sink.attempt(CallReport::only(&call, "provider", Some(status)));
            Ok(Reply { status, headers: HeaderMap::new(), body })
        }
        .boxed()
    }
}

fn cut() -> Body {
    let parts = [Ok(Frame::data(Bytes::from_static(b"ans"))), Err(BodyError("cut".into()))];
    Body::stream(StreamBody::new(stream::iter(parts)))
}

fn config() -> Config {
    let mut config = Config::default();
    config.log.enabled = false;
    config.holdout.share = 0.0;
    let mut provider = Provider { name: "llm".into(), base_url: "http://llm.test".parse().unwrap(), ..Provider::default() };
    provider.prices = Some(Prices::per_call("0.002".parse().unwrap()));
    provider.upstream.attempts = 1;
    let mut route = Route { name: "llm".into(), provider: "llm".into(), mode: Mode::Override, idempotent: true, ..Route::default() };
    (route.ttl, route.deadline) = (TtlBy::Fixed(Duration::from_secs(60)), Duration::from_secs(10));
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    config
}

fn request(method: &Method, deadline_ms: Option<u64>) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri("/v1/chat/completions").header("host", "farthing.test");
    if let Some(ms) = deadline_ms {
        builder = builder.header("x-farthing-deadline-ms", ms);
    }
    let body = if *method == Method::POST { r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"# } else { "" };
    builder.body(Body::full(body)).unwrap()
}

struct World {
    inside: Inside,
    calls: Arc<AtomicUsize>,
    _dir: tempfile::TempDir,
}

/// An answer as a waiter got it: status, whole body if it came whole, time it took.
type Got = (StatusCode, Option<String>, Duration);

impl World {
    fn new(fate: Fate) -> Self {
        let (dir, calls) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(0)));
        let store = Store::open(dir.path(), StoreOptions::default());
        let origin = calls.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Fateful { fate, calls: origin.clone() }) };
        let inside = Inside::new(&Arc::new(config()), Arc::new(RealClock::default()), store, &client).unwrap();
        Self { inside, calls, _dir: dir }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn ask(&self, method: &Method, deadline_ms: Option<u64>) -> Got {
        let asked = Instant::now();
        let response: Response<Body> = self.inside.ask(request(method, deadline_ms)).await;
        let (head, body) = response.into_parts();
        let whole = body.collect().await.ok().map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap());
        (head.status, whole, asked.elapsed())
    }

    async fn crowd(&self, method: &Method) -> Vec<Got> {
        join_all((0..WAITERS).map(|_| self.ask(method, None))).await
    }
}

async fn both(fate: Fate, calls: usize, good: impl Fn(&Got) -> bool) {
    for method in [Method::GET, Method::POST] {
        let world = World::new(fate);
        for got in world.crowd(&method).await {
            assert!(good(&got), "{fate:?} {method}: {got:?}");
        }
        assert_eq!(world.calls(), calls, "{fate:?} {method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_cold_requests_are_one_call_and_wait_for_nothing_else() {
    both(Fate::Answers, 1, |got| got.0 == 200 && got.1.as_deref() == Some("answer") && got.2 < UPSTREAM + Duration::from_millis(150)).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_provider_is_everyones_and_costs_no_further_call() {
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
        both(Fate::Fails(status), 1, |got| got.0 == status).await;
    }
    both(Fate::Breaks, 1, |got| got.0 == StatusCode::BAD_GATEWAY).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_costs_one_more_call() {
    both(Fate::Dies, 2, |got| got.0 == 200 && got.1.as_deref() == Some("answer")).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_is_cut_for_all_and_not_bought_again() {
    both(Fate::Cut, 1, |got| got.0 == 200 && got.1.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_frozen_provider_is_a_504_for_all() {
    both(Fate::Freezes, 1, |got| got.0 == StatusCode::GATEWAY_TIMEOUT && got.2 <= Duration::from_secs(11)).await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_whose_deadline_ends_buys_nothing_and_a_leader_that_leaves_changes_nothing() {
    for method in [Method::GET, Method::POST] {
        let world = World::new(Fate::Answers);
        let leader = tokio::time::timeout(Duration::from_millis(10), world.ask(&method, None));
        let hasty = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            world.ask(&method, Some(20)).await
        };
        let patient = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            world.ask(&method, None).await
        };
        let (leader, hasty, patient) = tokio::join!(leader, hasty, patient);
        assert!(leader.is_err(), "it left");
        assert_eq!((hasty.0, patient.0), (StatusCode::GATEWAY_TIMEOUT, StatusCode::OK));
        assert_eq!(world.calls(), 1, "{method}");
    }
}
