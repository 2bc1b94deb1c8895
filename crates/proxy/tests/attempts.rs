//! I1: how often a provider may bill one request, by method, by what goes wrong and when, and by the way that the request takes. One attempt
//! unless repeating was opted into: by an idempotent method, by an `Idempotency-Key`, by the route. The whole request path in paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

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
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

/// What goes wrong with every attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// No connection: nothing was sent.
    BeforeSend,
    /// The connection breaks before an answer.
    AfterSend,
    /// No answer in time.
    Timeout,
    /// A server error that passes.
    Unavailable,
    /// The body breaks off.
    MidResponse,
}

/// How a request goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// For itself, its body held.
    Plain,
    /// Some at once, shared where they may be.
    Shared,
    /// With a body too large to hold.
    Streamed,
}

/// What allows a repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OptIn {
    Nothing,
    Key,
    Route,
}

struct Faulty {
    fault: Fault,
    tried: Arc<AtomicUsize>,
    billable: Arc<AtomicUsize>,
}

impl Origin for Faulty {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let (fault, tried, billable) = (self.fault, self.tried.clone(), self.billable.clone());
        async move {
            // As on the wire: a body goes out while the answer is awaited.
            tokio::time::sleep(Duration::from_millis(5)).await;
            tried.fetch_add(1, Ordering::SeqCst);
            billable.fetch_add(usize::from(fault != Fault::BeforeSend), Ordering::SeqCst);
            let failed = |kind, sent| {
                let mut report = CallReport::only(&call, "provider", None);
                (report.failure, report.sent) = (Some(kind), sent);
                call.sink.attempt(report);
                Err(Failure { kind, detail: "x".into(), sent, limited: None })
            };
            let (status, body) = match fault {
                Fault::BeforeSend => return failed(FailureKind::Connect, false),
                Fault::AfterSend => return failed(FailureKind::Broken, true),
                Fault::Timeout => return failed(FailureKind::Timeout, true),
                Fault::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Body::full("down")),
                Fault::MidResponse => (StatusCode::OK, cut()),
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

const ATTEMPTS: usize = 3;
/// Requests at once; all their attempts together open no breaker.
const CROWD: usize = 3;

fn config(way: Way, opt_in: OptIn) -> Config {
    let mut config = Config::default();
    config.log.enabled = false;
    config.holdout.share = 0.0;
    let mut provider = Provider { name: "api".into(), base_url: "http://api.test".parse().unwrap(), ..Provider::default() };
    provider.prices = Some(Prices::per_call("0.002".parse().unwrap()));
    (provider.upstream.attempts, provider.upstream.breaker_share) = (ATTEMPTS as u32, 1.0);
    let mut route = Route { name: "api".into(), provider: "api".into(), mode: Mode::Override, ..Route::default() };
    route.idempotent = opt_in == OptIn::Route;
    (route.cache, route.dedupe) = (way == Way::Shared, way == Way::Shared);
    (route.ttl, route.deadline) = (TtlBy::Fixed(Duration::from_secs(60)), Duration::from_secs(30));
    if way == Way::Streamed {
        route.buffer_limit = 8;
    }
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    config
}

/// Attempts that were made for a request, or for some of them at once, and how many of these can be billed.
async fn made(fault: Fault, method: &Method, way: Way, opt_in: OptIn) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::default());
    let (tried, billable) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let shared = (tried.clone(), billable.clone());
    let client =
        move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Faulty { fault, tried: shared.0.clone(), billable: shared.1.clone() }) };
    let inside = Inside::new(&Arc::new(config(way, opt_in)), Arc::new(RealClock::default()), store, &client).unwrap();
    let ask = || async {
        let mut request = Request::builder().method(method).uri("/v1/things").header("host", "farthing.test");
        if opt_in == OptIn::Key {
            request = request.header("idempotency-key", "k");
        }
        let full = || Body::full("{\"name\": \"a body of some length\"}");
        if way != Way::Streamed && *method != Method::GET {
            request = request.header("content-length", full().as_full().unwrap().len());
        }
        let body = match way {
            _ if *method == Method::GET && way != Way::Streamed => Body::empty(),
            // Its length is not known, so it is read as far as it may be held.
            Way::Streamed => Body::stream(full()),
            Way::Plain | Way::Shared => full(),
        };
        let answer = inside.ask(request.body(body).unwrap()).await;
        let status = answer.status();
        let whole = answer.into_body().collect().await.is_ok();
        assert!(!(status.is_success() && whole), "{fault:?} {method} {way:?} {opt_in:?}: every attempt fails");
    };
    join_all((0..if way == Way::Shared { CROWD } else { 1 }).map(|_| ask())).await;
    inside.settle().await;
    (tried.load(Ordering::SeqCst), billable.load(Ordering::SeqCst))
}

/// The attempts that one call may come to.
fn allowed(fault: Fault, method: &Method, way: Way, opt_in: OptIn) -> usize {
    // The bodies of others are not held, so not even what was not sent is repeated.
    let repeatable = method.is_idempotent() || opt_in != OptIn::Nothing;
    if fault != Fault::MidResponse && way != Way::Streamed && repeatable { ATTEMPTS } else { 1 }
}

#[tokio::test(start_paused = true)]
async fn a_provider_may_bill_once_unless_repeating_was_opted_into() {
    let faults = [Fault::BeforeSend, Fault::AfterSend, Fault::Timeout, Fault::Unavailable, Fault::MidResponse];
    let mut rows = 0;
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::POST, Method::PATCH] {
        for opt_in in [OptIn::Nothing, OptIn::Key, OptIn::Route] {
            for way in [Way::Plain, Way::Shared, Way::Streamed] {
                for fault in faults {
                    let (tried, billable) = made(fault, &method, way, opt_in).await;
                    // What cannot be shared is a call for each of them.
                    let joined = method == Method::GET || opt_in == OptIn::Route;
                    let calls = if way == Way::Shared && !joined { CROWD } else { 1 };
                    let expected = calls * allowed(fault, &method, way, opt_in);
                    let row = format!("{method} {opt_in:?} {way:?} {fault:?}");
                    assert_eq!(tried, expected, "{row}");
                    assert_eq!(billable, if fault == Fault::BeforeSend { 0 } else { expected }, "{row}");
                    rows += 1;
                }
            }
        }
    }
    assert_eq!(rows, 225);
}
