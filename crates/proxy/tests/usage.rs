//! J1: usage in streams is asked for where the client did not, and nobody but the ledger sees it: bytes reach the client, and the cache, as
//! they would have come. A client that leaves costs what the provider bills, whether its call ends or is broken off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use farthing_config::{Config, Dialect, Mode, OnDisconnect, Prices, Provider, Route, TtlBy};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, Call, CallReport, Failure, Money, RealClock, Reply, Span, TokenRates};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;

const WORDS: u64 = 20;

/// The event of one word, as it comes.
fn word(index: u64) -> String {
    format!("data: {{\"model\":\"m\",\"choices\":[{{\"delta\":{{\"content\":\"w{index:03}\"}}}}],\"usage\":null}}\r\n\r\n")
}

/// All that a client sees which did not ask for usage.
fn plain() -> String {
    (0..WORDS).map(word).collect::<String>() + "data: [DONE]\r\n\r\n"
}

/// Streams words, then usage where it is asked for; bills a millionth of a dollar for each word taken.
#[derive(Default)]
struct Talker {
    taken: Arc<AtomicU64>,
    bodies: Mutex<Vec<String>>,
}

struct Endpoint(Arc<Talker>);

impl Origin for Endpoint {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let talker = self.0.clone();
        async move {
            let body = String::from_utf8(call.body.as_full().unwrap().to_vec()).unwrap();
            let told = body.contains("\"include_usage\":true");
            talker.bodies.lock().push(body);
            call.sink.attempt(CallReport::only(&call, "talker", Some(StatusCode::OK)));
            let taken = talker.taken.clone();
            let frames = stream::unfold(0, move |at| {
                let taken = taken.clone();
                async move {
                    tokio::task::yield_now().await;
                    let text = match at {
                        at if at < WORDS => {
                            taken.fetch_add(1, Ordering::Relaxed);
                            word(at)
                        }
                        WORDS if told => {
                            let usage = format!("{{\"prompt_tokens\":0,\"completion_tokens\":{WORDS},\"total_tokens\":{WORDS}}}");
                            format!("data: {{\"model\":\"m\",\"choices\":[],\"usage\":{usage}}}\r\n\r\ndata: [DONE]\r\n\r\n")
                        }
                        WORDS => "data: [DONE]\r\n\r\n".to_owned(),
                        _ => return None,
                    };
                    Some((Ok(Frame::data(Bytes::from(text))), at + 1))
                }
            });
            let media = HeaderValue::from_static("text/event-stream");
            let headers = HeaderMap::from_iter([("content-type".parse().unwrap(), media)]);
            Ok(Reply { status: StatusCode::OK, headers, body: Body::stream(StreamBody::new(Box::pin(frames))) })
        }
        .boxed()
    }
}

struct World {
    inside: Inside,
    talker: Arc<Talker>,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(change: impl FnOnce(&mut Route)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.log.enabled = false;
        config.holdout.share = 0.0;
        let rates = TokenRates { input: Some("0".parse().unwrap()), output: Some("0.000001".parse().unwrap()), ..TokenRates::default() };
        config.providers.push(Arc::new(Provider {
            name: "llm".into(),
            base_url: "http://llm.test".parse().unwrap(),
            dialect: Dialect::OpenAi,
            prices: Some(Prices { targets: [("m".to_owned(), rates)].into(), ..Prices::default() }),
            ..Provider::default()
        }));
        let mut route = Route { name: "llm".into(), provider: "llm".into(), mode: Mode::Override, idempotent: true, ..Route::default() };
        route.ttl = TtlBy::Fixed(Span::from_secs(60));
        change(&mut route);
        config.routes.push(Arc::new(route));
        let talker = Arc::new(Talker::default());
        let origin = talker.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Endpoint(origin.clone())) };
        let store = Store::open(dir.path(), StoreOptions::default());
        let inside = Inside::new(&Arc::new(config), Arc::new(RealClock::default()), store, &client).unwrap();
        Self { inside, talker, _dir: dir }
    }

    fn request(extra: &str) -> Request<Body> {
        let body = format!("{{\"model\":\"m\",\"stream\":true,\"messages\":[]{extra}}}");
        let builder = Request::builder().method(Method::POST).uri("/v1/chat/completions").header("host", "f.test");
        builder.header("content-type", "application/json").body(Body::full(body)).unwrap()
    }

    async fn whole(&self, extra: &str) -> String {
        let body = self.inside.ask(Self::request(extra)).await.into_body();
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// Takes a few frames and leaves.
    async fn leave_after(&self, frames: usize) {
        let mut body = self.inside.ask(Self::request("")).await.into_body();
        for _ in 0..frames {
            body.frame().await.unwrap().unwrap();
        }
        drop(body);
        self.inside.settle().await;
    }

    fn bill(&self) -> Money {
        self.inside.totals().total.bill_usd
    }

    fn calls(&self) -> usize {
        self.talker.bodies.lock().len()
    }
}

const ASKS: &str = ",\"stream_options\":{\"include_usage\":true}";

#[tokio::test(start_paused = true)]
async fn usage_is_asked_for_and_taken_out_again_of_stream_and_copy() {
    for idempotent in [true, false] {
        let world = World::new(|route| route.idempotent = idempotent);
        for _ in 0..2 {
            assert_eq!(world.whole("").await, plain(), "idempotent {idempotent}");
        }
        world.inside.settle().await;
        let calls = if idempotent { 1 } else { 2 };
        assert_eq!(world.calls(), calls, "the second is answered from the copy where one may be kept");
        let bodies = world.talker.bodies.lock().clone();
        assert_eq!(bodies[0], format!("{{{},\"model\":\"m\",\"stream\":true,\"messages\":[]}}", &ASKS[1..]), "all else as it was");
        let stats = world.inside.pricing_stats();
        assert_eq!((stats.stripped, stats.estimated, stats.unpriced.len()), (calls as u64, 0, 0));
        assert_eq!(world.bill(), Money::from_nanos(1_000 * 20 * calls as i64));
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_usage_gets_it_and_keys_tell_the_two_apart() {
    let world = World::new(|_| {});
    assert_eq!(world.whole("").await, plain());
    let told = world.whole(ASKS).await;
    assert!(told.contains("\"completion_tokens\":20"), "{told}");
    assert_eq!((world.calls(), world.inside.pricing_stats().stripped), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn where_it_is_turned_off_usage_is_estimated_and_marked() {
    let off = |route: &mut Route| route.include_usage = Some(false);
    let observe = |route: &mut Route| route.mode = Mode::Observe;
    for world in [World::new(off), World::new(observe)] {
        assert_eq!(world.whole("").await, plain());
        world.inside.settle().await;
        assert!(!world.talker.bodies.lock()[0].contains("include_usage"));
        let stats = world.inside.pricing_stats();
        // 20 words of four bytes each.
        assert_eq!((stats.stripped, stats.estimated, world.bill()), (0, 1, Money::from_nanos(20_000)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_ends_its_call_or_not_as_the_route_says() {
    for idempotent in [true, false] {
        for (choice, whole) in [(Some(OnDisconnect::Finish), true), (Some(OnDisconnect::Cancel), false), (None, false)] {
            let world = World::new(|route| (route.on_disconnect, route.idempotent) = (choice, idempotent));
            world.leave_after(5).await;
            let taken = world.talker.taken.load(Ordering::Relaxed);
            assert_eq!(taken == WORDS, whole, "{choice:?}, idempotent {idempotent}: {taken} words");
            assert!(taken >= 5);
            // What the provider has sent is what it bills.
            assert_eq!(world.bill(), Money::from_nanos(1_000 * i64::try_from(taken).unwrap()), "{choice:?}, idempotent {idempotent}");
            let stats = world.inside.pricing_stats();
            assert_eq!((stats.estimated, stats.unpriced.len()), (u64::from(!whole), 0), "{choice:?}, idempotent {idempotent}");
        }
    }
}
