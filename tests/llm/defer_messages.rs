//! The same with Anthropic's Message Batches, which have no name of ours and no file that goes up first.

use farthing_types::{Money, Span};
use futures_util::future::join_all;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::json;

use crate::defer::{HOURS, MINUTE, direct, vendor};
use crate::deferred::{World, messages, request, speaks_messages};

#[tokio::test(start_paused = true)]
async fn messages_at_half_price_errors_as_they_are_and_what_has_not_run_is_called() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 40)));
    let world = World::new(&vendor, dir.path(), |config, _| speaks_messages(config));
    let asks = ["good one", "wrong one", "lost one"].map(|text| world.send(messages(text, Some(HOURS(5)))));
    let got = join_all(asks).await;
    assert_eq!(got.iter().map(|got| got.status.as_u16()).collect::<Vec<_>>(), [200, 400, 200]);
    assert_eq!((&got[0].body["content"][0]["text"], &got[1].body["error"]["message"]), (&json!("good one"), &json!("wrong")));
    assert!(got[0].detail.contains("deferred\"") && got[2].detail.contains("deferred-direct"), "{got:?}");
    let stats = world.inside.defers().remove(0).stats;
    assert_eq!((stats.batches, stats.submitted, stats.delivered, stats.unanswered, stats.unsettled), (1, 3, 2, 1, 0));
    let (counted, logged) = world.end().await;
    let half = Money::from_nanos(direct(2).nanos() / 2);
    assert_eq!((counted.direct, counted.batched, counted.billed), (1, 2, direct(2) + half));
    assert_eq!((logged.bill, logged.cost, logged.saved), (counted.billed, counted.billed, half));
    assert_eq!(std::fs::read_dir(dir.path().join("defer")).unwrap().count(), 0);
}

/// Its client waits for hours: an error that passes is none for it.
#[tokio::test(start_paused = true)]
async fn what_a_batch_was_too_busy_for_is_called_directly() {
    for of_messages in [true, false] {
        let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 40)));
        let world = World::new(&vendor, dir.path(), |config, _| {
            if of_messages {
                speaks_messages(config)
            }
        });
        let asks = ["good one", "busy one"]
            .map(|text| world.send(if of_messages { messages(text, Some(HOURS(5))) } else { request(text, Some(HOURS(5)), &[]) }));
        let got = join_all(asks).await;
        assert!(got.iter().all(|got| got.status == StatusCode::OK && got.took < HOURS(1)), "{got:?}");
        assert!(got[0].detail.contains("deferred\"") && got[1].detail.contains("deferred-direct"), "{got:?}");
        let stats = world.inside.defers().remove(0).stats;
        assert_eq!((stats.batches, stats.submitted, stats.delivered, stats.unanswered, stats.unsettled), (1, 2, 1, 1, 0));
        let (counted, logged) = world.end().await;
        let half = Money::from_nanos(direct(2).nanos() / 2);
        assert_eq!((counted.direct, counted.batched, counted.billed), (1, 2, direct(2) + half), "the error is not billed");
        assert_eq!((logged.bill, logged.cost, logged.saved), (counted.billed, counted.billed, half));
        assert_eq!(std::fs::read_dir(dir.path().join("defer")).unwrap().count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_version_or_with_a_beta_goes_directly() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 10)));
    let world = World::new(&vendor, dir.path(), |config, _| speaks_messages(config));
    let mut beta = messages("two words", Some(HOURS(5)));
    beta.headers_mut().insert("anthropic-beta", "b".parse().unwrap());
    let mut streamed = messages("two words", Some(HOURS(5)));
    *streamed.body_mut() =
        farthing_types::Body::full(json!({"model": "m", "stream": true, "max_tokens": 7, "messages": [{"content": "a"}]}).to_string());
    let mut unversioned = messages("two words", Some(HOURS(5)));
    unversioned.headers_mut().remove("anthropic-version");
    for (request, why) in [(beta, "client"), (streamed, "form"), (unversioned, "form")] {
        let got = world.send(request).await;
        assert_eq!((got.status, got.took, &*got.why), (StatusCode::OK, Span::from_secs(1), why));
    }
    world.end().await;
}

/// Their order's answer is lost. Which batch it is shows only when batches have ended: by the ids of their requests.
#[tokio::test(start_paused = true)]
async fn a_batch_without_a_name_is_found_by_its_requests_and_not_sent_again() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 40)));
    *vendor.loses_orders.lock() = true;
    let world = World::new(&vendor, dir.path(), |config, route| {
        speaks_messages(config);
        route.defer.as_mut().unwrap().max_size = 2;
    });
    let got = join_all((0..6).map(|n| world.send(messages(&format!("number {n}"), Some(HOURS(5)))))).await;
    for (n, got) in got.iter().enumerate() {
        assert_eq!(got.body["content"][0]["text"], json!(format!("number {n}")));
        assert!(got.status == StatusCode::OK && got.took < HOURS(1), "{got:?}");
    }
    let (counted, logged) = world.end().await;
    assert_eq!((counted.batches, counted.batched, counted.direct, logged.bill), (3, 6, 0, counted.billed));
}

/// Some of its answers were handed out when the process ended: the next one has fewer requests written down than the batch has, and still finds it.
#[tokio::test(start_paused = true)]
async fn a_batch_that_was_found_late_is_known_when_some_of_it_is_handed_out() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 40)));
    (*vendor.loses_orders.lock(), *vendor.breaks_off.lock()) = (true, true);
    let world = World::new(&vendor, dir.path(), |config, _| speaks_messages(config));
    let asks = ["two words", "two others"].map(|text| {
        let asked = world.inside.ask(messages(text, Some(HOURS(5))));
        async move {
            let (head, body) = asked.await.into_parts();
            body.collect().await.map(|_| head.status)
        }
    });
    let ends = async {
        tokio::time::sleep(HOURS(1)).await;
        world.stop().await.1.bill
    };
    let (answers, first) = tokio::join!(join_all(asks), ends);
    assert_eq!(answers.iter().filter(|status| matches!(status, Ok(StatusCode::OK))).count(), 1);
    assert_eq!(std::fs::read_dir(dir.path().join("defer")).unwrap().count(), 1);
    *vendor.breaks_off.lock() = false;
    let world = World::new(&vendor, dir.path(), |config, _| speaks_messages(config));
    world.inside.resume_batches();
    let (counted, logged) = world.end().await;
    assert_eq!((counted.batched, counted.direct, logged.unused), (2, 0, 1));
    assert_eq!(first + logged.bill, counted.billed);
    assert_eq!(std::fs::read_dir(dir.path().join("defer")).unwrap().count(), 0);
}

/// An account that orders many batches: by the time that this one has ended and can be known, it is far down in the list.
#[tokio::test(start_paused = true)]
async fn a_batch_without_a_name_is_found_when_newer_ones_have_moved_it_out_of_sight() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 90)));
    *vendor.loses_orders.lock() = true;
    let world = World::new(&vendor, dir.path(), |config, _| speaks_messages(config));
    let moved = async {
        tokio::time::sleep(MINUTE * 30).await;
        *vendor.lists_none.lock() = true;
    };
    let (got, ()) = tokio::join!(world.send(messages("two words", Some(HOURS(5)))), moved);
    assert!(got.status == StatusCode::OK && got.detail.ends_with("detail=\"deferred\""), "{got:?}");
    let (counted, logged) = world.end().await;
    assert_eq!((counted.batched, counted.direct, logged.bill), (1, 0, counted.billed));
}

#[tokio::test(start_paused = true)]
async fn an_order_of_messages_that_never_came_about_is_called_directly() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 10)));
    *vendor.drops_orders.lock() = true;
    let world = World::new(&vendor, dir.path(), |config, _| speaks_messages(config));
    let got = world.send(messages("good one", Some(HOURS(5)))).await;
    assert!(got.status == StatusCode::OK && got.took < HOURS(1) && got.detail.contains("deferred-direct"), "{got:?}");
    assert_eq!(std::fs::read_dir(dir.path().join("defer")).unwrap().count(), 0);
    let (counted, logged) = world.end().await;
    assert_eq!((counted.batches, counted.direct, logged.bill), (0, 1, counted.billed));
}

/// Nobody waits for them any more: they are cancelled, and what had run is billed as waste, after a restart, too.
#[test]
fn a_restart_settles_batches_of_messages() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(None));
    *vendor.runs_first.lock() = 3;
    for run in 0..3 {
        let (vendor, state) = (vendor.clone(), dir.path().to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let world = World::new(&vendor, &state, |config, _| speaks_messages(config));
            if run == 0 {
                let asks = join_all((0..8).map(|_| world.send(messages("two words", Some(HOURS(5))))));
                assert!(tokio::time::timeout(HOURS(1), asks).await.is_err(), "they wait");
                return;
            }
            world.inside.resume_batches();
            let (counted, logged) = world.end().await;
            assert_eq!((counted.batches, counted.cancelled, counted.batched, counted.direct), (1, 1, 3, 0));
            let rows = if run == 1 { 3 } else { 0 };
            let half = Money::from_nanos(direct(2).nanos() / 2);
            assert_eq!((logged.unused, logged.bill), (rows, half.times(i64::try_from(rows).unwrap())));
        });
    }
    assert_eq!(std::fs::read_dir(dir.path().join("defer")).unwrap().count(), 0);
}

/// On a busy account there is always a batch of as many requests that may be it. Those that were ordered at another time are not.
#[tokio::test(start_paused = true)]
async fn an_order_that_never_came_about_on_a_busy_account_is_not_waited_for_to_the_end() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 10)));
    (*vendor.drops_orders.lock(), *vendor.is_busy.lock()) = (true, true);
    let world = World::new(&vendor, dir.path(), |config, _| speaks_messages(config));
    let second = async {
        tokio::time::sleep(HOURS(3)).await;
        *vendor.drops_orders.lock() = false;
        // It does not think that batches take as long as one that may never have been ordered.
        world.send(messages("two words", Some(HOURS(4)))).await
    };
    let (first, second) = tokio::join!(world.send(messages("two words", Some(HOURS(20)))), second);
    assert!(first.status == StatusCode::OK && first.took < HOURS(4) && first.detail.contains("deferred-direct"), "{first:?}");
    assert!(second.status == StatusCode::OK && second.took < HOURS(1) && second.detail.ends_with("detail=\"deferred\""), "{second:?}");
    let (counted, logged) = world.end().await;
    assert_eq!((counted.batches, counted.batched, counted.direct, logged.bill), (1, 1, 1, counted.billed));
    assert_eq!(std::fs::read_dir(dir.path().join("defer")).unwrap().count(), 0);
}

/// The same account: one that has come about is still found, and nothing is bought twice.
#[tokio::test(start_paused = true)]
async fn an_order_whose_answer_is_lost_on_a_busy_account_is_found() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(HOURS(5))));
    (*vendor.loses_orders.lock(), *vendor.is_busy.lock()) = (true, true);
    let world = World::new(&vendor, dir.path(), |config, _| speaks_messages(config));
    let got = world.send(messages("two words", Some(HOURS(20)))).await;
    assert!(got.status == StatusCode::OK && got.took < HOURS(6) && got.detail.ends_with("detail=\"deferred\""), "{got:?}");
    let (counted, logged) = world.end().await;
    assert_eq!((counted.batches, counted.batched, counted.direct, logged.bill), (1, 1, 0, counted.billed));
}

/// A batch that is known cannot be the one that is looked for.
#[tokio::test(start_paused = true)]
async fn an_order_that_never_came_about_is_not_taken_for_another_of_ours() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(HOURS(6))));
    let world = World::new(&vendor, dir.path(), |config, route| {
        speaks_messages(config);
        route.defer.as_mut().unwrap().max_size = 1;
    });
    let second = async {
        tokio::time::sleep(MINUTE).await;
        *vendor.drops_orders.lock() = true;
        world.send(messages("two words", Some(HOURS(20)))).await
    };
    let (first, second) = tokio::join!(world.send(messages("two words", Some(HOURS(20)))), second);
    assert!(first.detail.ends_with("detail=\"deferred\"") && first.took > HOURS(6), "{first:?}");
    assert!(second.detail.contains("deferred-direct") && second.took < HOURS(1), "{second:?}");
    let (counted, logged) = world.end().await;
    assert_eq!((counted.batches, counted.batched, counted.direct, logged.bill), (1, 1, 1, counted.billed));
}

/// The order goes out, and the machine sleeps: by its timers it was sent a moment ago, by the provider's clock an hour ago.
#[tokio::test(start_paused = true)]
async fn an_order_before_a_sleep_is_found_after_it_and_not_bought_again() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(HOURS(5))));
    *vendor.loses_orders.lock() = true;
    let world = World::new(&vendor, dir.path(), |config, route| {
        speaks_messages(config);
        route.defer.as_mut().unwrap().max_size = 1;
    });
    let sleeps = async {
        tokio::time::sleep(Span::from_secs(2)).await;
        *vendor.slept.lock() = HOURS(1);
    };
    let (got, ()) = tokio::join!(world.send(messages("two words", Some(HOURS(20)))), sleeps);
    assert!(got.status == StatusCode::OK && got.detail.ends_with("detail=\"deferred\""), "{got:?}");
    let (counted, logged) = world.end().await;
    assert_eq!((counted.batches, counted.batched, counted.direct, logged.bill), (1, 1, 0, counted.billed));
}
