//! Calls that several share: followers are linked with their leader, members of a batch with its call, and what is asked of L2 is told.

use std::sync::Arc;
use std::time::Duration;

use farthing_config::{BatchConfig, BatchFormat, BatchWindow, L2Store};
use farthing_tests::origin::ok;
use farthing_tests::{Origin, Setup};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use crate::l2::with;

use super::collector::{CLIENT, Collector, INTERNAL, SERVER, Span, told};
use super::{kept, one};

#[tokio::test]
async fn followers_are_linked_with_their_leader() {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let origin = Origin::start(Arc::new(move |_, _| {
        let gate = held.clone();
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            ok("{}")
        })
    }))
    .await;
    let collector = Collector::start().await;
    let started = told(kept(Setup::new(origin.addr)), &collector).start().await;
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let client = started.client;
            tokio::task::spawn(async move { client.get("/api/1", &[]).await })
        })
        .collect();
    while started.proxy.waiting() < 3 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    join_all(asking).await;
    started.proxy.shutdown().await;
    let spans = collector.spans();
    let leader = one(&spans, |span| span.of("farthing.outcome") == "lead");
    let call = one(&spans, |span| span.kind == CLIENT);
    assert_eq!((call.parent(), call.trace(), leader.links.len()), (leader.id(), leader.trace(), 0));
    let followers: Vec<&Span> = spans.iter().filter(|span| span.of("farthing.outcome") == "follow").collect();
    assert_eq!((followers.len(), spans.len()), (2, 4));
    for follower in followers {
        assert_eq!(follower.linked(), [(leader.trace(), leader.id())]);
        assert_ne!(follower.trace(), leader.trace());
        assert_eq!(follower.of("farthing.saved_by"), "dedupe");
    }
}

#[tokio::test]
async fn members_of_a_batch_are_linked_with_its_call() {
    let origin = Origin::simple(|seen, _| {
        let asked: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
        let one = |request: &serde_json::Value| serde_json::json!({ "id": request["id"], "status": 200, "body": {} });
        let answers: Vec<_> = asked["requests"].as_array().unwrap().iter().map(one).collect();
        ok(serde_json::json!({ "responses": answers }).to_string())
    })
    .await;
    let collector = Collector::start().await;
    let setup = Setup::new(origin.addr).route(|route| {
        route.mode = farthing_config::Mode::Override;
        let window = BatchWindow::Fixed(Duration::from_secs(10));
        let format = BatchFormat::Rest { path: "/batch".into() };
        // It goes when it is full: no clock has a part in it.
        route.batch = Some(BatchConfig { window, max_size: 3, min_rate: 0.0, ..BatchConfig::new(format) });
    });
    let started = told(setup, &collector).start().await;
    let paths = ["/api/1", "/api/2", "/api/3"];
    let answers = join_all(paths.map(|path| {
        let client = started.client;
        async move { client.get(path, &[]).await }
    }))
    .await;
    assert!(answers.iter().all(|answer| answer.status.is_success()), "{answers:?}");
    started.proxy.shutdown().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 7, "three requests, three members, one call: {spans:#?}");
    let call = one(&spans, |span| span.kind == CLIENT);
    let members: Vec<&Span> = spans.iter().filter(|span| span.kind == INTERNAL).collect();
    let first = one(&spans, |span| span.kind == INTERNAL && span.id() == call.parent());
    assert_eq!((call.trace(), &*call.of("farthing.batch.size")), (first.trace(), "3"));
    let others: Vec<(String, String)> =
        members.iter().filter(|member| member.id() != first.id()).map(|member| (member.trace(), member.id())).collect();
    let mut linked = call.linked();
    linked.sort();
    let mut expected = others.clone();
    expected.sort();
    assert_eq!(linked, expected, "the call with its other members");
    for member in &members {
        let server = one(&spans, |span| span.kind == SERVER && span.id() == member.parent());
        assert_eq!((server.trace(), &*server.of("farthing.outcome")), (member.trace(), "lead"));
        if member.id() != first.id() {
            assert_eq!(member.linked(), [(call.trace(), call.id())]);
        }
    }
    let cost: i64 = members.iter().map(|member| member.of("farthing.cost_nanousd").parse::<i64>().unwrap()).sum();
    assert_eq!((cost, call.of("farthing.cost_nanousd").is_empty()), (2_000_000, true), "the bill is told once");
    let seen = &origin.seen()[0];
    assert_eq!(seen.headers["traceparent"].to_str().unwrap(), call.as_parent(), "the provider hears of the one call");
}

#[tokio::test]
async fn what_is_asked_of_l2_is_told() {
    let origin = Origin::simple(|_, _| ok("{}")).await;
    let collector = Collector::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut setup = told(kept(Setup::new(origin.addr)), &collector);
    setup.config.l2 = Some(with(L2Store::Disk { dir: dir.path().to_owned(), max_bytes: 1 << 26 }, Duration::from_secs(5)));
    let started = setup.start().await;
    started.client.get("/api/1", &[]).await;
    started.proxy.shutdown().await;
    let spans = collector.spans();
    let server = one(&spans, |span| span.kind == SERVER);
    let asked = one(&spans, |span| span.name == "farthing.l2");
    assert_eq!((asked.parent(), asked.trace(), asked.kind), (server.id(), server.trace(), INTERNAL));
    let call = one(&spans, |span| span.kind == CLIENT);
    assert!(asked.end_time_unix_nano <= call.start_time_unix_nano && asked.start_time_unix_nano >= server.start_time_unix_nano);
}
