//! Calls that can wait go to the provider's batch endpoint at half the price, and none is late; ledger and provider agree to the nano-dollar.

use std::sync::Arc;

use farthing_types::{BudgetSpec, Enforce, Money, Span};
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::json;

use crate::deferred::{Vendor, World, request};

pub const MINUTE: Span = Span::from_secs(60);
pub const HOURS: fn(u64) -> Span = |n| Span::from_secs(3_600 * n);

pub fn vendor(takes: Option<Span>) -> Arc<Vendor> {
    let vendor = Arc::new(Vendor::default());
    *vendor.takes.lock() = takes;
    vendor
}

/// What one call with so many words costs directly.
pub fn direct(words: i64) -> Money {
    Money::from_nanos(words * 2_500 + 7 * 10_000)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_deferred_calls_at_half_price_and_none_late() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 40)));
    let world = World::new(&vendor, dir.path(), |config, route| {
        route.defer.as_mut().unwrap().max_size = 300;
        config.budgets.push(BudgetSpec {
            name: "all".into(),
            limit: Money::from_nanos(1_000_000_000_000),
            enforce: Enforce::Soft,
            ..BudgetSpec::default()
        });
    });
    let asks = (0..1_000u64).map(|n| {
        let world = &world;
        async move {
            // They come within three hours, and wait for four to nine.
            tokio::time::sleep(Span::from_secs(n * 11)).await;
            let deadline = HOURS(4) + MINUTE * u32::try_from(n % 300).unwrap();
            let got = world.ask(&format!("text of {n}"), Some(deadline), &[]).await;
            assert_eq!((got.status, &got.body["choices"][0]["message"]["content"]), (StatusCode::OK, &json!(format!("text of {n}"))));
            assert!(got.took <= deadline, "{n} took {:?}", got.took);
            assert!(got.detail.ends_with("detail=\"deferred\""), "{}", got.detail);
        }
    });
    join_all(asks).await;
    let report = world.inside.defers().remove(0);
    assert_eq!((report.stats.delivered, report.stats.submitted, report.waiting, report.waiting_bytes), (1_000, 1_000, 0, 0));
    assert_eq!((report.stats.last_moment, report.stats.unused, report.stats.unsettled, report.under_way), (0, 0, 0, 0));
    assert!(report.batch_time < MINUTE * 45, "{:?}", report.batch_time);
    assert_eq!(std::fs::read_dir(dir.path().join("defer")).unwrap().count(), 0, "all batches have ended");
    let half = Money::from_nanos(direct(3).nanos() / 2).times(1_000);
    assert_eq!(world.inside.budgets().unwrap().counters[0].spent, half);
    let (counted, logged) = world.end().await;
    assert_eq!((counted.direct, counted.batched, counted.billed), (0, 1_000, half));
    assert!(counted.batches >= 4, "{counted:?}");
    assert_eq!((logged.bill, logged.cost, logged.base, logged.saved), (half, half, half.times(2), half));
    assert_eq!((logged.calls, logged.out_of_batches, logged.deferred, logged.unused), (1_000, 1_000, 1_000, 0));
}

#[tokio::test(start_paused = true)]
async fn batches_that_never_end_make_none_late_and_what_had_run_is_billed_as_waste() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(None));
    *vendor.runs_first.lock() = 12;
    let world = World::new(&vendor, dir.path(), |_, _| ());
    let deadline = HOURS(3);
    let got = join_all((0..40).map(|n| {
        let world = &world;
        async move { world.ask(&format!("t {n}"), Some(deadline), &[]).await }
    }))
    .await;
    assert!(got.iter().all(|got| got.status == StatusCode::OK && got.took <= deadline && got.took > HOURS(2)), "{got:?}");
    assert!(got[0].detail.contains("deferred-direct"), "{}", got[0].detail);
    // Whoever comes meanwhile and cannot wait as long as the oldest batch is under way is not deferred.
    assert_eq!(world.ask("t", Some(HOURS(2)), &[]).await.took, Span::from_secs(1));
    world.inside.settle().await;
    let stats = world.inside.defers().remove(0).stats;
    assert_eq!((stats.last_moment, stats.delivered, stats.unused, stats.withdrawn), (40, 0, 12, 0));
    assert_eq!(stats.wasted, Money::from_nanos(direct(2).nanos() / 2).times(12));
    let (counted, logged) = world.end().await;
    assert_eq!((counted.direct, counted.batched, counted.cancelled), (41, 12, 1));
    assert_eq!((logged.bill, logged.wasted, logged.unused), (counted.billed, stats.wasted, 12));
    // The clients got what they paid for directly: no more, no less.
    assert_eq!((logged.cost, logged.base, logged.deferred), (logged.bill - logged.wasted, logged.cost, 0));
    assert_eq!(std::fs::read_dir(dir.path().join("defer")).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn members_that_fail_get_their_error_and_those_that_have_not_run_are_called() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 10)));
    let world = World::new(&vendor, dir.path(), |_, _| ());
    let asks = ["good one", "wrong one", "lost one"].map(|text| world.ask(text, Some(HOURS(5)), &[]));
    let got = join_all(asks).await;
    assert_eq!(got.iter().map(|got| got.status.as_u16()).collect::<Vec<_>>(), [200, 400, 200]);
    assert_eq!(got[1].body["error"]["message"], json!("wrong"));
    assert!(got[2].detail.contains("deferred-direct"), "{}", got[2].detail);
    let stats = world.inside.defers().remove(0).stats;
    assert_eq!((stats.unanswered, stats.last_moment, stats.submitted), (1, 0, 3));
    let (counted, logged) = world.end().await;
    assert_eq!((counted.direct, counted.billed), (1, direct(2) + Money::from_nanos(direct(2).nanos() / 2)));
    assert_eq!((logged.bill, logged.cost, logged.saved), (counted.billed, counted.billed, Money::from_nanos(direct(2).nanos() / 2)));
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_answer_is_lost_is_found_by_its_name_and_not_sent_again() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 10)));
    *vendor.loses_orders.lock() = true;
    let world = World::new(&vendor, dir.path(), |_, _| ());
    let got = world.ask("good one", Some(HOURS(5)), &[]).await;
    assert!(got.status == StatusCode::OK && got.took < HOURS(1), "{got:?}");
    let (counted, logged) = world.end().await;
    assert_eq!((counted.batches, counted.batched, counted.direct, logged.bill), (1, 1, 0, counted.billed));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_never_came_about_is_called_directly() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 10)));
    *vendor.drops_orders.lock() = true;
    let world = World::new(&vendor, dir.path(), |_, _| ());
    let got = world.ask("good one", Some(HOURS(5)), &[]).await;
    assert!(got.status == StatusCode::OK && got.took < HOURS(1) && got.detail.contains("deferred-direct"), "{got:?}");
    assert_eq!(std::fs::read_dir(dir.path().join("defer")).unwrap().count(), 0);
    let (counted, logged) = world.end().await;
    assert_eq!((counted.batches, counted.batched, counted.direct, logged.bill), (0, 0, 1, counted.billed));
}

/// The process dies with a batch under way, of which some have run when the next one cancels it.
#[test]
fn a_restart_bills_nothing_twice_and_loses_no_row() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(None));
    *vendor.runs_first.lock() = 3;
    let run = |future: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(future);
    };
    let (first, state) = (vendor.clone(), dir.path().to_owned());
    run(Box::pin(async move {
        let world = World::new(&first, &state, |_, _| ());
        let asks = join_all((0..8).map(|_| world.ask("two words", Some(HOURS(5)), &[])));
        assert!(tokio::time::timeout(HOURS(1), asks).await.is_err(), "they wait");
        assert_eq!((world.inside.defers()[0].under_way, first.counted.lock().batches), (1, 1));
        assert_eq!(world.inside.totals().routes["openai"].bill_usd, Money::ZERO);
    }));
    let kept = std::fs::read_dir(dir.path().join("defer")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&kept).unwrap();
    assert!(!text.contains("two words") && !text.contains("sk-ours"), "{text}");
    for again in 0..2 {
        let (second, state) = (vendor.clone(), dir.path().to_owned());
        run(Box::pin(async move {
            let world = World::new(&second, &state, |_, _| ());
            world.inside.resume_batches();
            let (counted, logged) = world.end().await;
            assert_eq!((counted.batches, counted.cancelled, counted.batched, counted.direct), (1, 1, 3, 0));
            let rows = if again == 0 { 3 } else { 0 };
            let half = Money::from_nanos(direct(2).nanos() / 2);
            assert_eq!((logged.calls, logged.unused, logged.bill), (rows, rows, half.times(i64::try_from(rows).unwrap())));
            assert_eq!(counted.billed, half.times(3));
        }));
    }
    assert!(!kept.exists());
}

/// A process that ends in order buys nothing for clients that are cut off, and leaves its batch to the next one.
#[tokio::test(start_paused = true)]
async fn a_stop_calls_nobody_and_leaves_the_batch_to_the_next_run() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(HOURS(2))));
    let world = World::new(&vendor, dir.path(), |_, _| ());
    let [sent, later] = [(); 2].map(|()| world.inside.ask(request("two words", Some(HOURS(5)), &[])));
    let queued = async {
        tokio::time::sleep(MINUTE * 30).await;
        later.await
    };
    let ends = async {
        tokio::time::sleep(MINUTE * 31).await;
        let since = tokio::time::Instant::now();
        assert_eq!(world.inside.close().await.unwrap().dropped(), 0);
        assert!(since.elapsed() < MINUTE, "{:?}", since.elapsed());
    };
    let (sent, queued, ()) = tokio::join!(sent, queued, ends);
    assert!(sent.status().is_server_error() && queued.status().is_server_error());
    assert_eq!((vendor.counted.lock().direct, std::fs::read_dir(dir.path().join("defer")).unwrap().count()), (0, 1));
    tokio::time::sleep(HOURS(3)).await;
    let world = World::new(&vendor, dir.path(), |_, _| ());
    world.inside.resume_batches();
    let (counted, logged) = world.end().await;
    assert_eq!((counted.batched, counted.direct, logged.unused, logged.bill), (1, 0, 1, counted.billed));
}

#[tokio::test(start_paused = true)]
async fn whoever_has_no_room_or_no_time_goes_directly_and_says_why() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 10)));
    let world = World::new(&vendor, dir.path(), |_, route| route.defer.as_mut().unwrap().max_waiting = 2);
    let day = Some(HOURS(24));
    let asks = (0..4).map(|_| world.ask("two words", day, &[]));
    let mut took: Vec<Span> = join_all(asks).await.iter().map(|got| got.took).collect();
    took.sort_unstable();
    assert!(took[1] == Span::from_secs(1) && took[2] > MINUTE * 10, "{took:?}");
    for (deadline, more, why) in [
        (Some(MINUTE * 59), [("x-none", "1")], "short"),
        (Some(HOURS(1)), [("x-none", "1")], "slow"),
        (None, [("x-none", "1")], ""),
        (day, [("openai-project", "p")], "client"),
        (day, [("x-farthing-cache", "off")], ""),
    ] {
        let got = world.ask("two words", deadline, &more).await;
        assert_eq!((got.status, got.took, &*got.why), (StatusCode::OK, Span::from_secs(1), why), "{deadline:?} {more:?}");
        assert!(!got.detail.contains("deferred"), "{}", got.detail);
    }
    let decided = world.inside.defers().remove(0).stats.decided;
    let counts: Vec<(&str, u64)> = decided.iter().filter(|(_, n)| *n > 0).map(|(why, n)| (why.as_str(), *n)).collect();
    assert_eq!(counts, [("deferred", 2), ("short", 1), ("slow", 1), ("full", 2), ("client", 1)]);
    let (counted, logged) = world.end().await;
    assert_eq!((counted.direct, counted.batched, logged.bill), (7, 2, counted.billed));
}

/// A client that leaves: before its batch is sent it is taken out, later its bill is due and has its row.
#[tokio::test(start_paused = true)]
async fn clients_that_leave_are_taken_out_or_billed() {
    for finishes in [false, true] {
        let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 10)));
        let leaves = if finishes { farthing_config::OnDisconnect::Finish } else { farthing_config::OnDisconnect::Cancel };
        let world = World::new(&vendor, dir.path(), |_, route| route.on_disconnect = Some(leaves));
        let early = tokio::time::timeout(MINUTE, world.ask("two words", Some(HOURS(5)), &[]));
        let late = tokio::time::timeout(MINUTE * 8, world.ask("two words", Some(HOURS(5)), &[]));
        let stays = world.ask("two words", Some(HOURS(5)), &[]);
        let (early, late, stays) = tokio::join!(early, late, stays);
        assert!(early.is_err() && late.is_err() && stays.status == StatusCode::OK);
        world.inside.settle().await;
        let stats = world.inside.defers().remove(0).stats;
        let expected = if finishes { (3, 3, 0, 0) } else { (2, 1, 1, 1) };
        assert_eq!((stats.submitted, stats.delivered, stats.withdrawn, stats.unused), expected);
        let (counted, logged) = world.end().await;
        assert_eq!((logged.bill, counted.direct, logged.calls), (counted.billed, 0, counted.batched), "finish: {finishes}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_runs_for_nobody_counts_in_the_budget_of_its_key() {
    let (dir, vendor) = (tempfile::tempdir().unwrap(), vendor(Some(MINUTE * 10)));
    let (secret, key) = farthing_config::FarthingKey::generate("acme").unwrap();
    let secret: &'static str = Box::leak(secret.expose().to_owned().into_boxed_str());
    let world = World::new(&vendor, dir.path(), |config, route| {
        config.keys = vec![key];
        let per = Some(farthing_types::BudgetUnit::Key);
        config.budgets.push(BudgetSpec {
            name: "keys".into(),
            limit: "1".parse().unwrap(),
            per,
            enforce: Enforce::Soft,
            ..BudgetSpec::default()
        });
        route.on_disconnect = Some(farthing_config::OnDisconnect::Cancel);
    });
    let fields = [("x-farthing-key", secret)];
    let late = tokio::time::timeout(MINUTE * 8, world.ask("two words", Some(HOURS(5)), &fields));
    let (late, stays) = tokio::join!(late, world.ask("two words", Some(HOURS(5)), &fields));
    assert!(late.is_err() && stays.status == StatusCode::OK);
    world.inside.settle().await;
    let spent = world.inside.budgets().unwrap().counters[0].spent;
    let (counted, logged) = world.end().await;
    assert_eq!((spent, logged.unused), (counted.billed, 1));
}
