//! K8, F1, F2: a stampede on one key is one upstream call, also when the answer streams, whoever leaves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farthing_config::TtlBy;
use farthing_tests::origin::{answer_of, ok};
use farthing_tests::{Client, Origin, Setup};
use farthing_types::{Body, BodyError, Outcome};
use futures_util::future::join_all;
use futures_util::stream;
use http::{Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::{Notify, Semaphore};

/// An origin that answers when told to.
async fn held_origin(gate: Arc<Semaphore>, answer: impl Fn() -> Response<Body> + Send + Sync + 'static) -> Origin {
    let answer = Arc::new(answer);
    Origin::start(Arc::new(move |_, _| {
        let (gate, answer) = (gate.clone(), answer.clone());
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            answer()
        })
    }))
    .await
}

/// Waits until `holds`; fails with what is told when it never does.
async fn until(holds: impl Fn() -> bool, told: impl Fn() -> String) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{}", told());
        tokio::task::yield_now().await;
    }
}

/// Waits until `n` requests wait for the one call.
async fn until_waiting(started: &farthing_tests::Started, origin: &Origin, n: usize) {
    let (calls, waiting) = (|| origin.calls(), || started.proxy.waiting());
    until(|| calls() >= 1 && waiting() >= n, || format!("{} calls, {} waiting", calls(), waiting())).await;
}

/// Waits until no call is under way: an answer is stored a moment after who asked has it.
async fn until_stored(started: &farthing_tests::Started) {
    let flights = || started.proxy.cache_stats().flights;
    until(|| flights() == 0, || format!("{} flights", flights())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_cold_requests_are_one_call() {
    let gate = Arc::new(Semaphore::new(0));
    let body = Bytes::from(vec![b'x'; 300_000]);
    let origin = held_origin(gate.clone(), {
        let body = body.clone();
        move || ok(body.clone())
    })
    .await;
    let started = Setup::new(origin.addr).start().await;
    let client = started.client;
    let all: Vec<_> = (0..100).map(|_| tokio::task::spawn(async move { client.get("/api/doc/1", &[]).await })).collect();
    until_waiting(&started, &origin, 100).await;
    gate.add_permits(10);
    for answer in join_all(all).await {
        assert_eq!(answer.unwrap().body, body);
    }
    // Until it is stored, a moment after all have it, who comes late joins the call that brought it.
    let late = client.get("/api/doc/1", &[]).await;
    assert!(late.is_hit() || late.header("cache-status").contains("collapsed"), "{late:?}");
    assert_eq!(origin.calls(), 1);
    // A request is settled a moment after its client has the whole answer.
    until(|| started.proxy.totals().total.requests == 101, || format!("{} settled", started.proxy.totals().total.requests)).await;
    let totals = started.proxy.totals().total;
    assert_eq!(totals.bill_usd.to_string(), "0.002");
    assert_eq!(totals.base_usd.to_string(), "0.202");
}

/// S1: a wrong key is told so; who waits with a good one is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_reaches_nobody_with_another_credential() {
    for cookie in [false, true] {
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        let origin = Origin::start(Arc::new(move |seen, _| {
            let held = held.clone();
            Box::pin(async move {
                held.acquire().await.unwrap().forget();
                if seen.headers["x-api-key"] != "bad" {
                    return answer_of(StatusCode::OK, &[("cache-control", "max-age=60")], "data");
                }
                let own: &[(&str, &str)] = if cookie { &[("set-cookie", "session=bad")] } else { &[] };
                answer_of(StatusCode::UNAUTHORIZED, own, "who is bad?")
            })
        }))
        .await;
        let started = Setup::new(origin.addr).route(|r| r.shared = true).start().await;
        let client = started.client;
        let ask = |key: String| tokio::task::spawn(async move { client.get("/api/doc", &[("x-api-key", &key)]).await });
        let mut bad = vec![ask("bad".into())];
        until_waiting(&started, &origin, 1).await;
        if !cookie {
            // The same credential would be told the same.
            bad.push(ask("bad".into()));
        }
        let good: Vec<_> = (0..10).map(|n| ask(format!("good-{n}"))).collect();
        until_waiting(&started, &origin, bad.len() + good.len()).await;
        gate.add_permits(100);
        for answer in join_all(bad).await {
            assert_eq!((answer.as_ref().unwrap().status, &*answer.unwrap().text()), (StatusCode::UNAUTHORIZED, "who is bad?"));
        }
        for answer in join_all(good).await {
            let answer = answer.unwrap();
            assert_eq!((answer.status, &*answer.text(), answer.header("set-cookie")), (StatusCode::OK, "data", ""));
        }
        assert_eq!(origin.calls(), 2, "and the next who led had it for all");
        until_stored(&started).await;
        assert!(ask("good-x".into()).await.unwrap().is_hit());
    }
}

/// K8: what one client asks for itself costs the others nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_client_asks_for_itself_makes_nobody_else_pay() {
    for own in [("cache-control", "no-store"), ("authorization", "Bearer own")] {
        let origin = Origin::simple(|_, _| answer_of(StatusCode::OK, &[("cache-control", "max-age=60")], "data")).await;
        let started = Setup::new(origin.addr).route(|r| r.shared = true).start().await;
        started.client.get("/api/doc", &[own]).await;
        for n in 0..20 {
            assert_eq!(started.client.get("/api/doc", &[]).await.is_hit(), n > 0, "{own:?} {n}");
            until_stored(&started).await;
        }
        assert_eq!(origin.calls(), 2, "{own:?}");
    }
    // Also where it has led them: who waits for what it may not share leads next.
    let gate = Arc::new(Semaphore::new(0));
    let origin = held_origin(gate.clone(), || answer_of(StatusCode::OK, &[("cache-control", "max-age=60")], "data")).await;
    let started = Setup::new(origin.addr).route(|r| r.shared = true).start().await;
    let client = started.client;
    let ask = |own: Option<(&'static str, &'static str)>| tokio::task::spawn(async move { client.get("/api/doc", own.as_slice()).await });
    let leader = ask(Some(("authorization", "Bearer own")));
    until_waiting(&started, &origin, 1).await;
    let others: Vec<_> = (0..10).map(|_| ask(None)).collect();
    until_waiting(&started, &origin, 11).await;
    gate.add_permits(100);
    for answer in join_all(others.into_iter().chain([leader])).await {
        assert_eq!(answer.unwrap().text(), "data");
    }
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn a_request_that_allows_neither_a_call_nor_a_copy_is_told_so() {
    let origin = Origin::simple(|_, _| ok("data")).await;
    let started = Setup::new(origin.addr).start().await;
    for _ in 0..2 {
        let answer = started.client.get("/api/doc", &[("cache-control", "no-store, only-if-cached")]).await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    }
    assert_eq!(origin.calls(), 0);
}

/// A stream of numbered chunks, each sent when `next` is told.
fn chunks(next: Arc<Notify>, count: usize) -> Response<Body> {
    let steps = stream::unfold(0, move |n| {
        let next = next.clone();
        async move {
            if n == count {
                return None;
            }
            next.notified().await;
            let frame = Frame::data(Bytes::from(format!("data: {n}\n\n")));
            Some((Ok::<_, BodyError>(frame), n + 1))
        }
    });
    let mut response = Response::new(Body::stream(StreamBody::new(Box::pin(steps))));
    response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    response
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_answer_is_followed_and_survives_its_leader() {
    let next = Arc::new(Notify::new());
    let gate = Arc::new(Semaphore::new(1));
    let told = next.clone();
    let origin = held_origin(gate, move || chunks(told.clone(), 20)).await;
    let started = Setup::new(origin.addr).start().await;
    let client = started.client;
    let mut leader = client.open(Method::GET, "/api/stream", &[], Bytes::new()).await.into_body();
    next.notify_one();
    assert_eq!(leader.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 0\n\n");
    // Those who come late get the whole of it, from its first byte.
    let followers = join_all((0..99).map(|_| client.open(Method::GET, "/api/stream", &[], Bytes::new()))).await;
    drop(leader);
    let bodies: Vec<_> =
        followers.into_iter().map(|f| tokio::task::spawn(async move { f.into_body().collect().await.unwrap().to_bytes() })).collect();
    let feeder = tokio::task::spawn(async move {
        loop {
            next.notify_one();
            tokio::task::yield_now().await;
        }
    });
    let whole: String = (0..20).map(|n| format!("data: {n}\n\n")).collect();
    for body in bodies {
        assert_eq!(body.await.unwrap(), whole);
    }
    feeder.abort();
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_leaves_before_the_head_changes_nothing() {
    let gate = Arc::new(Semaphore::new(0));
    let origin = held_origin(gate.clone(), || ok("{}")).await;
    let started = Setup::new(origin.addr).start().await;
    let client: Client = started.client;
    let leader = tokio::task::spawn(async move { client.get("/api/doc/1", &[]).await });
    until_waiting(&started, &origin, 1).await;
    let follower = tokio::task::spawn(async move { client.get("/api/doc/1", &[]).await });
    until_waiting(&started, &origin, 2).await;
    leader.abort();
    // Only who has left before the answer comes goes without it.
    until(|| started.proxy.waiting() == 1, || "the leader is not seen to leave".into()).await;
    gate.add_permits(1);
    assert_eq!(follower.await.unwrap().body, "{}");
    assert_eq!(origin.calls(), 1);
    // The one who left is settled too: an answer that nobody got is not counted as given.
    let outcomes = || started.proxy.totals().total;
    until(|| outcomes().outcome(Outcome::Failed) >= 1, || format!("{:?}", outcomes().outcomes)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_read_is_refreshed_ahead_by_one_call() {
    let origin = Origin::simple(|_, n| ok(format!("{n}"))).await;
    let setup =
        Setup::new(origin.addr).route(|r| (r.ttl, r.refresh_ahead) = (TtlBy::Fixed(Duration::from_secs(60)), Duration::from_secs(6)));
    let (started, clock) = setup.start_virtual().await;
    let keys: Vec<String> = (0..20).map(|key| format!("/api/doc/{key}")).collect();
    for key in &keys {
        started.client.get(key, &[]).await;
    }
    let refreshes = || started.proxy.totals().total.calls.get("refresh").map_or(0, |tally| tally.count);
    let mut called = 0;
    for _ in 0..59 {
        clock.advance(Duration::from_secs(1));
        // Four reads of each key at once: at most one of them refreshes.
        let reads = keys.iter().flat_map(|key| [key; 4]).map(|key| started.client.get(key, &[]));
        assert!(join_all(reads).await.iter().all(farthing_tests::Answer::is_hit), "nobody waits for a refresh");
        until(|| refreshes() >= origin.calls() as u64 - 20, || format!("{} of {}", refreshes(), origin.calls())).await;
        assert!(refreshes() - called <= 20);
        called = refreshes();
    }
    // Each key is refreshed once in its lifetime; a second time only where the first was more than ten means early.
    assert!((12..=24).contains(&called), "{called} refreshes of 20 keys");
}
