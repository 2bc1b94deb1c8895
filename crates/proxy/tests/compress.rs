//! I2: answers in the coding that a client likes best, bodies of requests in one that a provider takes; entries, keys and prices know nothing of it.
//! The whole request path in paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farthing_config::{CompressRequests, Config, Mode, Prices, Provider, Route, TtlBy};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, BodyError, Call, CallReport, Coding, Failure, RealClock, Reply};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use tokio::sync::mpsc;

const JSON: (&str, &str) = ("content-type", "application/json");
const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

fn document() -> String {
    format!("[{}]", "{\"name\": \"thing\", \"price\": \"1.20\"},".repeat(200))
}

/// What a provider answers: a head, and a body that stands or comes from a channel.
#[derive(Default)]
struct Script {
    fields: Vec<(&'static str, &'static str)>,
    body: Bytes,
    stream: Option<mpsc::UnboundedReceiver<Result<Frame<Bytes>, BodyError>>>,
    /// Codings of requests that it answers with 415.
    refuses: bool,
    /// Heads and bodies that came.
    came: Vec<(HeaderMap, Bytes)>,
}

struct Scripted(Arc<Mutex<Script>>);

impl Origin for Scripted {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let mut script = self.0.lock();
        let coded = call.headers.contains_key("content-encoding");
        script.came.push((call.headers.clone(), call.body.as_full().unwrap_or_default()));
        let status = if coded && script.refuses { StatusCode::UNSUPPORTED_MEDIA_TYPE } else { StatusCode::OK };
        let headers = script.fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect();
        let body = match script.stream.take() {
            Some(mut receiver) => Body::stream(StreamBody::new(futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx)))),
            None => Body::full(script.body.clone()),
        };
        call.sink.attempt(CallReport::only(&call, "provider", Some(status)));
        std::future::ready(Ok(Reply { status, headers, body })).boxed()
    }
}

struct World {
    inside: Inside,
    script: Arc<Mutex<Script>>,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(change: impl FnOnce(&mut Config, &mut Provider, &mut Route), fields: &[(&'static str, &'static str)]) -> Self {
        let mut config = Config::default();
        config.log.enabled = false;
        config.holdout.share = 0.0;
        config.data.compress = ALL.to_vec();
        let mut provider = Provider { name: "api".into(), base_url: "http://api.test".parse().unwrap(), ..Provider::default() };
        provider.prices = Some(Prices::per_call("0.002".parse().unwrap()));
        let mut route = Route { name: "api".into(), provider: "api".into(), mode: Mode::Override, idempotent: true, ..Route::default() };
        route.ttl = TtlBy::Fixed(Duration::from_secs(60));
        change(&mut config, &mut provider, &mut route);
        config.providers.push(Arc::new(provider));
        config.routes.push(Arc::new(route));
        let (dir, body) = (tempfile::tempdir().unwrap(), document().into());
        let script = Arc::new(Mutex::new(Script { fields: fields.to_vec(), body, ..Script::default() }));
        let origin = script.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Scripted(origin.clone())) };
        let store = Store::open(dir.path(), StoreOptions::default());
        let inside = Inside::new(&Arc::new(config), Arc::new(RealClock::default()), store, &client).unwrap();
        Self { inside, script, _dir: dir }
    }

    async fn open(&self, method: Method, fields: &[(&'static str, &'static str)], body: Body) -> Response<Body> {
        let mut request = Request::builder().method(method).uri("/v1/things").header("host", "farthing.test").body(body).unwrap();
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        if let Some(length) = request.body().as_full().map(|body| body.len()).filter(|length| *length > 0) {
            request.headers_mut().insert("content-length", length.into());
        }
        self.inside.ask(request).await
    }

    async fn get(&self, fields: &[(&'static str, &'static str)]) -> (StatusCode, HeaderMap, Bytes) {
        let (head, body) = self.open(Method::GET, fields, Body::empty()).await.into_parts();
        (head.status, head.headers, body.collect().await.unwrap().to_bytes())
    }
}

fn decoded(headers: &HeaderMap, bytes: &[u8]) -> String {
    let mut out = String::new();
    match headers.get("content-encoding").map(|value| value.to_str().unwrap()) {
        None => out.push_str(std::str::from_utf8(bytes).unwrap()),
        Some("gzip") => drop(flate2::read::GzDecoder::new(bytes).read_to_string(&mut out)),
        Some("br") => drop(brotli::Decompressor::new(bytes, 4_096).read_to_string(&mut out)),
        Some("zstd") => drop(zstd::stream::read::Decoder::new(bytes).unwrap().read_to_string(&mut out)),
        Some(other) => panic!("{other}"),
    }
    out
}

#[tokio::test(start_paused = true)]
async fn one_entry_answers_every_client_in_the_coding_it_likes_best() {
    let fields = [JSON, ("etag", "W/\"v\""), ("accept-ranges", "bytes"), ("vary", "origin")];
    let world = World::new(|_, _, _| {}, &fields);
    let likes = [
        (&[][..], None),
        (&[("accept-encoding", "gzip, deflate")], Some("gzip")),
        (&[("accept-encoding", "gzip, deflate, br")], Some("br")),
        (&[("accept-encoding", "gzip, deflate, br, zstd")], Some("zstd")),
        (&[("accept-encoding", "br;q=0.1, gzip")], Some("gzip")),
        (&[("accept-encoding", "identity")], None),
    ];
    for _ in 0..3 {
        for (accept, coding) in likes {
            let (status, headers, body) = world.get(accept).await;
            let told = headers.get("content-encoding").map(|value| value.to_str().unwrap());
            assert_eq!((status, told, decoded(&headers, &body)), (StatusCode::OK, coding, document()), "{accept:?}");
            let vary: Vec<_> = headers.get_all("vary").iter().collect();
            assert_eq!(vary, ["origin", "accept-encoding"], "whatever this client got, others get something else");
            assert_eq!((headers["etag"].as_bytes(), headers.contains_key("accept-ranges")), (&b"W/\"v\""[..], coding.is_none()));
            assert_eq!(coding.is_some(), body.len() < document().len() / 10);
            assert!(headers.get("content-length").is_none_or(|length| length.to_str().unwrap() == body.len().to_string()));
            world.inside.settle().await;
        }
    }
    // An answer with `Vary` takes one more: what it varies by.
    assert_eq!((world.script.lock().came.len(), world.inside.cache_stats().entries), (1, 2), "stored once, bought once");
    let (status, headers, body) = world.get(&[("accept-encoding", "gzip"), ("if-none-match", "W/\"v\"")]).await;
    assert_eq!((status, headers.contains_key("content-encoding"), body.len()), (StatusCode::NOT_MODIFIED, false, 0));
    let (status, headers, body) = world.get(&[("accept-encoding", "gzip"), ("range", "bytes=0-2999")]).await;
    assert_eq!((status, headers.contains_key("content-encoding")), (StatusCode::PARTIAL_CONTENT, false));
    assert_eq!(&body[..], &document().as_bytes()[..3_000], "ranges are cut from the plain bytes");
}

#[tokio::test(start_paused = true)]
async fn what_a_coding_would_spoil_or_not_make_smaller_goes_out_as_it_came() {
    type Change = fn(&mut Config, &mut Provider, &mut Route);
    type Lines = &'static [(&'static str, &'static str)];
    let usual: Change = |_, _, _| {};
    let rows: [(&str, Change, Lines, Lines); 10] = [
        ("without compression in the configuration", |config, _, _| config.data.compress.clear(), &[JSON], &[]),
        ("a route that does not want it", |_, _, route| route.compress = false, &[JSON], &[]),
        ("a route that changes nothing", |_, _, route| route.mode = Mode::Observe, &[JSON], &[]),
        ("a larger bound", |config, _, _| config.data.compress_min = 1 << 20, &[JSON], &[]),
        ("a strong name", usual, &[JSON, ("etag", "\"v\"")], &[]),
        ("what is compressed", usual, &[JSON, ("content-encoding", "gzip")], &[]),
        ("what may not be changed", usual, &[JSON, ("cache-control", "no-transform")], &[]),
        ("what a digest vouches for", usual, &[JSON, ("content-digest", "sha-256=:x:")], &[]),
        ("a picture", usual, &[("content-type", "image/png")], &[]),
        ("what nothing is known of", usual, &[], &[]),
    ];
    for (what, change, fields, more) in rows {
        let world = World::new(change, fields);
        for _ in 0..2 {
            let (_, headers, body) = world.get(&[&[("accept-encoding", "gzip, br, zstd")], more].concat()).await;
            let told = fields.iter().find(|(name, _)| *name == "content-encoding").map(|(_, value)| HeaderValue::from_static(value));
            assert_eq!(headers.get("content-encoding"), told.as_ref(), "{what}");
            assert_eq!((body.len(), headers.get("vary")), (document().len(), None), "{what}");
        }
    }
    let world = World::new(usual, &[JSON]);
    let (_, headers, body) = world.get(&[("accept-encoding", "gzip"), ("cache-control", "no-transform")]).await;
    assert_eq!((headers.get("content-encoding"), body.len()), (None, document().len()), "the client's own wish");
}

#[tokio::test(start_paused = true)]
async fn head_is_told_what_get_would_be() {
    let world = World::new(|_, _, _| {}, &[JSON]);
    let gzip = [("accept-encoding", "gzip")];
    world.get(&gzip).await;
    world.inside.settle().await;
    let (head, body) = world.open(Method::HEAD, &gzip, Body::empty()).await.into_parts();
    assert_eq!((&head.headers["content-encoding"], &head.headers["vary"]), (&"gzip".parse().unwrap(), &"accept-encoding".parse().unwrap()));
    assert!(!head.headers.contains_key("content-length"), "that of the plain bytes would be wrong");
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
    let (head, _) = world.open(Method::HEAD, &[], Body::empty()).await.into_parts();
    assert_eq!(head.headers["content-length"].to_str().unwrap(), document().len().to_string());
}

#[tokio::test(start_paused = true)]
async fn events_are_passed_on_one_by_one_also_to_followers() {
    let world = World::new(|_, _, _| {}, &[("content-type", "text/event-stream")]);
    let (sender, receiver) = mpsc::unbounded_channel();
    world.script.lock().stream = Some(receiver);
    let event = |n: usize| format!("data: {{\"delta\": \"word number {n}\"}}\n\n");
    sender.send(Ok(Frame::data(event(0).into()))).unwrap();
    let gzip = [("accept-encoding", "gzip")];
    let (leader, follower) = tokio::join!(world.open(Method::GET, &gzip, Body::empty()), world.open(Method::GET, &gzip, Body::empty()));
    let mut clients = [leader.into_body(), follower.into_body()].map(|body| (body, Vec::new()));
    for n in 0..10 {
        if n > 0 {
            sender.send(Ok(Frame::data(event(n).into()))).unwrap();
        }
        for (body, came) in &mut clients {
            let (mut text, sent) = (String::new(), (0..=n).map(event).collect::<String>());
            while text != sent {
                came.extend_from_slice(body.frame().await.unwrap().unwrap().data_ref().unwrap());
                text.clear();
                let _ = flate2::read::GzDecoder::new(&came[..]).read_to_string(&mut text);
            }
        }
    }
    drop(sender);
    assert_eq!(world.script.lock().came.len(), 1);
}

/// Keys are made of what the client sent, whatever becomes of it towards the provider.
#[tokio::test(start_paused = true)]
async fn a_compressed_request_is_the_same_request() {
    let compress = |_: &mut Config, provider: &mut Provider, _: &mut Route| {
        provider.upstream.compress_requests = Some(CompressRequests { min: 1_000, encoding: Coding::Gzip });
    };
    let world = World::new(compress, &[JSON]);
    for status in ["fwd=", "hit"] {
        let (head, body) = world.open(Method::POST, &[JSON], Body::full(document())).await.into_parts();
        assert!(head.headers["cache-status"].to_str().unwrap().contains(status), "{:?}", head.headers);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), document().len());
        world.inside.settle().await;
    }
    let came = std::mem::take(&mut world.script.lock().came);
    let [(headers, body)] = &came[..] else { panic!("one call") };
    assert!(decoded(headers, body) == document() && body.len() < 1_000 && !headers.contains_key("content-length"), "{headers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_takes_no_coding_is_paid_once_and_left_alone() {
    let world = World::new(
        |_, provider, route| {
            provider.upstream.compress_requests = Some(CompressRequests { min: 1_000, encoding: Coding::Zstd });
            (route.idempotent, provider.upstream.attempts) = (false, 1);
        },
        &[JSON],
    );
    world.script.lock().refuses = true;
    for _ in 0..3 {
        let answer = world.open(Method::POST, &[JSON], Body::full(document())).await;
        assert_eq!(answer.status(), StatusCode::OK);
        drop(answer.into_body().collect().await);
    }
    world.inside.settle().await;
    let codings: Vec<bool> = world.script.lock().came.iter().map(|(headers, _)| headers.contains_key("content-encoding")).collect();
    assert_eq!(codings, [true, false, false, false]);
    let total = world.inside.totals().total;
    assert_eq!(total.bill_usd.to_string(), "0.006", "415 is not billed");
}
