//! E1, E2: who waits for whom and how long; nobody is lost.

use farthing_policy::batch::{Alone, BatchRule, Flush, Window};
use farthing_types::{FailureKind, Span};
use http::{HeaderValue, Method};
use tokio::time::Instant;

use super::provider::*;
use crate::Origin;

fn echoing(rule: BatchRule) -> World {
    World::new(rest(), rule, 3, Provider::new(|_, seen| echo(seen)))
}

#[tokio::test(start_paused = true)]
async fn calls_within_a_window_are_one_and_each_has_its_own_answer() {
    let world = echoing(rule());
    let targets: Vec<String> = (0..16).map(|n| format!("/items/{n}?q=%22{n}")).collect();
    let (start, names) = (Instant::now(), targets.iter().map(|target| &**target).collect::<Vec<_>>());
    let answers = world.all(&names).await;
    for (target, answer) in targets.iter().zip(answers) {
        assert_eq!(answer, Ok((200, asked(target))));
    }
    assert_eq!((world.provider.calls(), start.elapsed()), (1, Span::from_millis(50)));
    assert_eq!((world.stats.batches(Flush::Window), world.stats.members()), (1, 16));
}

#[tokio::test(start_paused = true)]
async fn each_member_is_told_its_part_before_its_answer() {
    let world = echoing(rule());
    let ((a, of_a), (b, of_b)) = (world.get("/a"), world.get("/b"));
    let ids = [a.id, b.id];
    let _ = tokio::join!(world.ask(a), world.ask(b));
    for (index, (sink, id)) in [of_a, of_b].into_iter().zip(ids).enumerate() {
        let reports = sink.0.lock();
        let part = reports[0].batch.as_ref().unwrap();
        assert_eq!((reports.len(), reports[0].call, reports[0].attempt, reports[0].sent), (1, id, 0, true));
        assert_eq!((part.index, part.size(), part.batch.id, part.counts()), (index, 2, ids[0], index == 0));
        assert!(part.batch.answer.as_ref().unwrap().complete);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_goes_at_once_and_a_member_in_a_hurry_is_not_late() {
    let world = echoing(BatchRule { max_size: 2, ..rule() });
    let start = Instant::now();
    world.all(&["/1", "/2", "/3", "/4"]).await;
    assert_eq!((world.provider.calls(), start.elapsed()), (2, Span::ZERO));
    assert_eq!(world.stats.batches(Flush::Size), 2);

    let (slow, mut hasty) = (world.get("/5").0, world.get("/6").0);
    let world = echoing(BatchRule { max_size: 3, ..rule() });
    hasty.batch.as_mut().unwrap().patience = Span::from_millis(20);
    let start = Instant::now();
    let _ = tokio::join!(world.ask(slow), world.ask(hasty));
    assert_eq!((world.stats.batches(Flush::Deadline), start.elapsed()), (1, Span::from_millis(10)));
}

#[tokio::test(start_paused = true)]
async fn what_would_be_too_many_bytes_makes_two_batches() {
    let world = echoing(BatchRule { max_bytes: 80, ..rule() });
    world.all(&["/a", "/b", "/c", "/d", "/e"]).await;
    assert_eq!(world.stats.batches(Flush::Bytes), 1);
    assert_eq!(world.provider.targets().iter().filter(|target| *target == "/batch").count(), 2);
    let long = format!("/{}", "x".repeat(200));
    assert_eq!(world.all(&[&long]).await, [Ok((200, asked(&long)))]);
    assert_eq!(world.stats.went_alone(Alone::TooLarge), 1);
}

#[tokio::test(start_paused = true)]
async fn few_calls_do_not_wait_and_one_alone_waits_in_vain_only_once() {
    let world = echoing(BatchRule { min_rate: 10.0, window: Window::Auto, ..rule() });
    let start = Instant::now();
    world.all(&["/1", "/2", "/3"]).await;
    assert_eq!((world.provider.calls(), start.elapsed()), (3, Span::ZERO));
    assert_eq!(world.stats.went_alone(Alone::Slow), 3);

    let world = echoing(rule());
    assert_eq!(world.all(&["/1"]).await, [Ok((200, asked("/1")))]);
    assert_eq!((world.provider.targets(), world.stats.went_alone(Alone::Single)), (vec!["/1".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn owners_credentials_and_whatever_reaches_the_provider_keep_calls_apart() {
    let world = echoing(rule());
    let mut calls: Vec<_> = (0..8).map(|n| world.get(&format!("/{n}")).0).collect();
    calls[1].batch.as_mut().unwrap().owner = "other".into();
    calls[2].headers.insert("authorization", HeaderValue::from_static("Bearer 2"));
    calls[3].headers.insert("accept-language", HeaderValue::from_static("de"));
    calls[4].headers.insert("if-none-match", HeaderValue::from_static("\"1\""));
    calls[5].headers.insert("idempotency-key", HeaderValue::from_static("k"));
    calls[6].batch = None;
    calls[7].headers.insert("traceparent", HeaderValue::from_static("00-1-1-01"));
    futures_util::future::join_all(calls.into_iter().map(|call| world.ask(call))).await;
    let mut targets = world.provider.targets();
    targets.sort();
    assert_eq!(targets, ["/1", "/2", "/3", "/4", "/5", "/6", "/batch"], "0 and 7 together, all others alone");
    assert_eq!((world.stats.went_alone(Alone::Single), world.stats.went_alone(Alone::Header)), (3, 2));
    let batch = world.provider.seen.lock().iter().find(|seen| seen.target == "/batch").unwrap().clone();
    assert_eq!((batch.headers.get("traceparent"), batch.headers["accept-encoding"].to_str().unwrap()), (None, "identity"));
}

#[tokio::test(start_paused = true)]
async fn a_client_who_leaves_before_the_batch_goes_costs_nothing() {
    let world = echoing(rule());
    let ((gone, of_gone), (stays, _), (third, _)) = (world.get("/gone"), world.get("/stays"), world.get("/third"));
    let mut leaving = world.batcher.fetch(gone);
    assert!(futures_util::poll!(&mut leaving).is_pending());
    drop(leaving);
    let (a, b) = tokio::join!(world.ask(stays), world.ask(third));
    assert_eq!((a.unwrap().1, b.unwrap().1), (asked("/stays"), asked("/third")));
    assert!(!world.provider.seen.lock()[0].body.contains("gone"));
    assert_eq!(of_gone.billable(), 0);
    // A batch that everybody has left is not sent.
    let mut leaving = world.batcher.fetch(world.get("/gone").0);
    assert!(futures_util::poll!(&mut leaving).is_pending());
    drop(leaving);
    tokio::time::advance(Span::from_secs(1)).await;
    assert_eq!(world.provider.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_who_leaves_later_is_told_what_was_bought_for_it() {
    let world = World::new(rest(), rule(), 3, Provider::new(|number, seen| if number == 0 { Answer::Hang } else { echo(seen) }));
    let ((gone, of_gone), (stays, of_stays)) = (world.get("/gone"), world.get("/stays"));
    let leaving = tokio::time::timeout(Span::from_millis(100), world.ask(gone));
    let (left, stayed) = tokio::join!(leaving, world.ask(stays));
    assert!(left.is_err());
    assert_eq!(stayed.unwrap().1, asked("/stays"), "made alone after the batch took 5 s");
    assert_eq!((of_gone.billable(), of_stays.billable()), (1, 2));
    assert_eq!(world.provider.targets(), ["/batch", "/stays"]);
    let attempts: Vec<u16> = of_stays.0.lock().iter().map(|report| report.attempt).collect();
    assert_eq!(attempts, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_runtime_that_ends_lose_nobody() {
    let world = World::new(rest(), rule(), 3, Provider::new(|_, _| Answer::Panic));
    let (a, of_a) = world.get("/a");
    let (a, b) = tokio::join!(world.ask(a), world.ask(world.get("/b").0));
    assert_eq!((a.unwrap_err().kind, b.unwrap_err().kind), (FailureKind::LeaderGone, FailureKind::LeaderGone));
    assert_eq!(of_a.billable(), 1, "the attempt is told all the same");
    // And the next ones are served.
    let world = echoing(rule());
    assert_eq!(world.all(&["/a", "/b"]).await, [Ok((200, asked("/a"))), Ok((200, asked("/b")))]);
}

#[tokio::test(start_paused = true)]
async fn batches_that_are_of_no_use_rest() {
    let world = World::new(
        rest(),
        rule(),
        3,
        Provider::new(|_, seen| if seen.target == "/batch" { Answer::Reply(404, "no such endpoint".to_owned()) } else { echo(seen) }),
    );
    for _ in 0..5 {
        assert_eq!(world.all(&["/a", "/b"]).await, [Ok((200, asked("/a"))), Ok((200, asked("/b")))]);
    }
    let batches = |world: &World| world.provider.targets().iter().filter(|target| *target == "/batch").count();
    assert_eq!((batches(&world), world.stats.rests(), world.stats.went_alone(Alone::Resting)), (3, 1, 4));
    tokio::time::advance(Span::from_secs(31)).await;
    world.all(&["/a", "/b"]).await;
    assert_eq!((batches(&world), world.stats.rests()), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn groups_are_bounded() {
    let world = echoing(rule());
    let calls = (0..5_000).map(|n| {
        let mut call = world.get("/").0;
        call.batch.as_mut().unwrap().owner = n.to_string().into();
        call
    });
    let answers = futures_util::future::join_all(calls.collect::<Vec<_>>().into_iter().map(|call| world.ask(call))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!((world.stats.went_alone(Alone::Crowded), world.stats.went_alone(Alone::Single)), (5_000 - 4_096, 4_096));
    // Later the old ones are forgotten, and there is room.
    tokio::time::advance(Span::from_secs(10)).await;
    let (mut a, mut b) = (world.get("/a").0, world.get("/b").0);
    (a.batch.as_mut().unwrap().owner, b.batch.as_mut().unwrap().owner) = ("new".into(), "new".into());
    let _ = tokio::join!(world.ask(a), world.ask(b));
    assert_eq!(world.stats.members(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_posted_body_goes_into_the_envelope_byte_by_byte() {
    let world = echoing(rule());
    let body = "{ \"price\" : 1.50, \"a\":\"\\u00e4\" }";
    let (a, b) = (world.call(Method::POST, "/a", body).0, world.call(Method::POST, "/b", "not json").0);
    let c = world.get("/c").0;
    let _ = tokio::join!(world.ask(a), world.ask(b), world.ask(c));
    let seen = world.provider.seen.lock();
    let batch = seen.iter().find(|seen| seen.target == "/batch").unwrap();
    assert!(batch.body.contains(&format!("\"method\":\"POST\",\"url\":\"/a\",\"body\":{body}")), "{}", batch.body);
    assert_eq!((seen.len(), world.stats.went_alone(Alone::Body)), (2, 1));
}
