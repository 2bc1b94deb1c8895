//! E3, F1 on the whole request path: a request that carries a list is split; known items come from the cache, those under way are joined, the rest
//! go as one call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod ids;
#[path = "../common/kept.rs"]
mod kept;
mod l2;
mod money;
mod random;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_cache::Purge;
use farthing_config::{Mode, Prices};
use farthing_contract::log::{CallRow, Request as RequestRow, Value};
use farthing_ledger::aggregate::RouteSnapshot;
use farthing_policy::batch::Whole;
use farthing_types::{Money, Span};
use http::StatusCode;
use serde_json::json;

use world::{Act, TOKEN, World, names, refs, rows, tokens};

#[tokio::test(start_paused = true)]
async fn seventy_of_a_hundred_are_known_and_one_call_with_thirty_is_made() {
    let world = World::new(|_| ());
    let all = names(0..100);
    let all = refs(&all);
    world.list(&all[..60]).await.is_of(&all[..60]);
    for one in &all[60..70] {
        world.ask(*one, &[]).await.is_of(&[one]);
    }
    assert_eq!(world.calls().len(), 11);
    // In an order of its own.
    let mut asked: Vec<&str> = all.clone();
    asked.reverse();
    let got = world.list(&asked).await;
    got.is_of(&asked);
    assert_eq!(got.items(), Some([70, 0, 30, 0, 0]));
    let calls = world.calls();
    assert_eq!((calls.len(), calls[11].len()), (12, 30));
    // What the whole list uses, although thirty were paid for.
    let used: i64 = asked.iter().map(|input| tokens(input)).sum();
    assert_eq!(got.body["usage"], json!({"prompt_tokens": used, "total_tokens": used}));
    assert_eq!(got.headers["cache-status"].to_str().unwrap(), "farthing; fwd=partial; detail=\"items\"");
    assert_eq!(got.headers["x-ratelimit-remaining-requests"], "9");
    // Each alone is a copy now, and so is the whole.
    world.ask("text 99", &[]).await.is_of(&["text 99"]);
    assert_eq!(world.list(&asked).await.items(), Some([100, 0, 0, 0, 0]));
    assert_eq!(world.calls().len(), 12);

    let bill = world.is_billed().await;
    assert_eq!(bill, used * TOKEN, "each text was bought once");
    let World { inside, dir, .. } = world;
    let totals = &inside.totals().routes["ai"];
    // The singles and the lists, item by item: 60, 10, 100, 1 and 100 requests.
    assert_eq!((totals.attempts, totals.requests, totals.bill_usd.nanos()), (12, 271, bill));
    inside.close().await.unwrap();
    let (mut base, mut cost, mut by) = (0, 0, BTreeMap::<String, i64>::new());
    rows::<RequestRow>(dir.path(), &["request_id", "base_nanousd", "cost_nanousd", "saved_by", "outcome"], |cells| {
        let [Value::U64(_), Value::I64(of), Value::I64(paid), cause, _] = cells else { panic!("{cells:?}") };
        (base, cost) = (base + of, cost + paid);
        if let Value::Text(cause) = cause {
            *by.entry((*cause).to_owned()).or_default() += of - paid;
        }
    });
    assert_eq!(cost, bill);
    assert_eq!(base - cost, by["l1"] + by.get("batch").copied().unwrap_or_default(), "{by:?}");
    let mut calls = 0;
    rows::<CallRow>(dir.path(), &["cost_nanousd"], |cells| {
        let [Value::I64(cost)] = cells else { panic!("{cells:?}") };
        calls += cost;
    });
    assert_eq!(calls, bill);
}

#[tokio::test(start_paused = true)]
async fn items_under_way_are_joined_whoever_asked_for_them() {
    let world = World::new(|_| ());
    let (one, two, alone) = tokio::join!(world.list(&["a", "b", "c", "d"]), world.list(&["c", "d", "e", "a"]), world.ask("e", &[]));
    one.is_of(&["a", "b", "c", "d"]);
    two.is_of(&["c", "d", "e", "a"]);
    alone.is_of(&["e"]);
    assert_eq!((one.items(), two.items()), (Some([0, 0, 4, 0, 0]), Some([0, 3, 1, 0, 0])));
    assert_eq!(world.calls(), [vec!["a", "b", "c", "d"], vec!["e"]]);
    world.is_billed().await;
}

#[tokio::test(start_paused = true)]
async fn what_stands_twice_in_a_list_is_one_item() {
    let world = World::new(|_| ());
    let got = world.list(&["a", "b", "a", "a"]).await;
    got.is_of(&["a", "b", "a", "a"]);
    assert_eq!((got.items(), world.calls()), (Some([0, 0, 2, 2, 0]), vec![vec!["a".to_owned(), "b".to_owned()]]));
    assert_eq!(got.body["usage"]["total_tokens"], 8, "what the list uses");
    let bill = world.is_billed().await;
    let totals = &world.inside.totals().routes["ai"];
    assert_eq!((bill, totals.base_usd.nanos(), totals.requests), (4 * TOKEN, 8 * TOKEN, 4));
}

#[tokio::test(start_paused = true)]
async fn a_list_of_one_and_the_item_alone_are_the_same() {
    let world = World::new(|_| ());
    world.list(&["a"]).await.is_of(&["a"]);
    world.ask("a", &[]).await.is_of(&["a"]);
    world.list(&["a", "b"]).await.is_of(&["a", "b"]);
    assert_eq!(world.calls(), [vec!["a"], vec!["b"]]);
    world.is_billed().await;
}

#[tokio::test(start_paused = true)]
async fn a_purge_in_between_holds_for_items() {
    let world = World::new(|_| ());
    world.list(&["a", "b"]).await;
    let key = world.ask("a", &[("x-farthing-debug", "1")]).await.headers["x-farthing-key"].to_str().unwrap().to_owned();
    let key = farthing_types::KeyHash(u128::from_str_radix(&key, 16).unwrap());
    world.inside.purge(&Purge::Key(key));
    assert_eq!(world.list(&["a", "b"]).await.items(), Some([1, 0, 1, 0, 0]));
    world.inside.purge(&Purge::Tag("vectors".into()));
    assert_eq!(world.list(&["a", "b"]).await.items(), Some([0, 0, 2, 0, 0]));
    // A call under way does not bring back what was purged meanwhile.
    world.inside.purge(&Purge::Tag("vectors".into()));
    let (got, ()) = tokio::join!(world.list(&["a", "b"]), async {
        tokio::time::sleep(Span::from_millis(50)).await;
        world.inside.purge(&Purge::Tag("vectors".into()));
    });
    got.is_of(&["a", "b"]);
    assert_eq!(world.list(&["a", "b"]).await.items(), Some([0, 0, 2, 0, 0]));
    world.is_billed().await;
}

/// What was known when the call for the others was made is not answered with once it was purged.
#[tokio::test(start_paused = true)]
async fn what_is_purged_while_the_others_are_fetched_is_not_answered() {
    let world = World::new(|_| ());
    world.list(&["a", "b"]).await;
    for soft in [false, true] {
        let asked = world.calls().len();
        let other = format!("other {soft}");
        let asked_for = ["a", other.as_str()];
        let (got, ()) = tokio::join!(world.list(&asked_for), async {
            tokio::time::sleep(Span::from_millis(50)).await;
            let purge = Purge::Tag("vectors".into());
            if soft {
                world.inside.soften(&purge)
            } else {
                world.inside.purge(&purge)
            };
        });
        got.is_of(&asked_for);
        assert_eq!((got.items(), &world.calls()[asked..]), (None, &[vec![other.clone()], vec!["a".to_owned(), other]][..]));
        world.list(&["a", "b"]).await;
    }
    assert_eq!(world.stats().went_whole(Whole::Moved), 2);
    world.is_billed().await;
}

#[tokio::test(start_paused = true)]
async fn two_principals_never_share_items() {
    let world = World::new(|_| ());
    let (one, two) = ([("authorization", "Bearer one")], [("authorization", "Bearer two")]);
    let list = json!(["a", "b"]);
    tokio::join!(world.ask(list.clone(), &one), world.ask(list.clone(), &two));
    assert_eq!(world.calls().len(), 2);
    assert_eq!(world.ask(list.clone(), &one).await.items(), Some([2, 0, 0, 0, 0]));
    assert_eq!(world.ask(json!(["b", "c"]), &two).await.items(), Some([1, 0, 1, 0, 0]));
    assert_eq!(world.ask(json!(["c"]), &one).await.items(), Some([0, 0, 1, 0, 0]));
    world.is_billed().await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_item_goes_with_the_others() {
    let world = World::new(|_| ());
    world.list(&["a", "b"]).await;
    world.clock.advance(Span::from_secs(61));
    world.ask("b", &[]).await;
    assert_eq!(world.list(&["a", "b", "c"]).await.items(), Some([1, 0, 2, 0, 0]));
    assert_eq!(world.calls()[2], ["a", "c"]);
    world.is_billed().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_client_and_the_holdout_say_is_obeyed() {
    let world = World::new(|_| ());
    world.list(&["a", "b"]).await;
    let list = json!(["a", "b"]);
    let off = world.ask(list.clone(), &[("x-farthing-cache", "off")]).await;
    off.is_of(&["a", "b"]);
    assert_eq!((off.items(), world.calls().len()), (None, 2));
    assert_eq!(world.ask(list.clone(), &[("x-farthing-cache", "refresh")]).await.items(), Some([0, 0, 2, 0, 0]));
    assert_eq!(world.ask(json!(["z", "a"]), &[("x-farthing-cache", "read-only")]).await.items(), Some([1, 0, 1, 0, 0]));
    assert_eq!(world.list(&["z"]).await.items(), Some([0, 0, 1, 0, 0]), "it was not kept");
    let keyed = world.ask(list.clone(), &[("idempotency-key", "1")]).await;
    assert_eq!((keyed.items(), world.stats().went_whole(Whole::Header)), (None, 1));
    world.is_billed().await;

    // A share of the keys is held out: such an item is never read from or kept, and rides in the list's call.
    let world = World::new(|config| config.holdout.share = 0.5);
    let all = names(0..40);
    let all = refs(&all);
    let mut counts = Vec::new();
    for _ in 0..12 {
        let got = world.list(&all).await;
        got.is_of(&all);
        counts.push(got.items());
        world.clock.advance(Span::from_secs(1));
    }
    if let Some(second) = counts.iter().flatten().nth(1) {
        assert!(second[0] > 5 && second[2] > 5, "{second:?}");
    }
    let whole = counts.iter().filter(|counts| counts.is_none()).count();
    assert_eq!(world.calls().len(), 12, "one call each, {whole} of them whole");
    world.is_billed().await;

    let world = World::new(|config| {
        let mut route = (*config.routes[0]).clone();
        route.mode = Mode::Observe;
        config.routes[0] = Arc::new(route);
    });
    world.list(&["a", "a"]).await.is_of(&["a", "a"]);
    assert_eq!(world.calls(), [["a", "a"]]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_list_tells_its_client_and_nobody_else() {
    let world = World::new(|_| ());
    world.ask("known", &[]).await;
    world.next(&[Act::Refuse(400)]);
    // Another client waits for an item of the list, and may have it: it may be another item that cannot be taken.
    let (list, joined) = tokio::join!(world.list(&["known", "good", "bad"]), async {
        tokio::time::sleep(Span::from_millis(10)).await;
        world.ask("good", &[]).await
    });
    assert_eq!((list.status, &list.body["error"]["message"]), (StatusCode::BAD_REQUEST, &json!("no")));
    joined.is_of(&["good"]);
    assert_eq!(world.calls(), [vec!["known"], vec!["good", "bad"], vec!["good"]]);
    // What is about the caller or the provider is about each of the items.
    world.next(&[Act::Refuse(429)]);
    let (list, joined) = tokio::join!(world.list(&["x", "y"]), async {
        tokio::time::sleep(Span::from_millis(10)).await;
        world.ask("x", &[]).await
    });
    assert_eq!((list.status.as_u16(), joined.status.as_u16(), world.calls().len()), (429, 429, 4));
    world.is_billed().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_breaks_off_is_no_items_answer() {
    let world = World::new(|_| ());
    world.next(&[Act::Break]);
    assert_eq!(world.list(&["a", "b"]).await.status, StatusCode::BAD_GATEWAY);
    world.list(&["a", "b"]).await.is_of(&["a", "b"]);
    assert_eq!(world.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn older_copies_stand_in_for_a_failed_call_where_all_have_one() {
    let world = World::new(|config| {
        let mut route = (*config.routes[0]).clone();
        route.stale_if_error = Span::from_secs(600);
        config.routes[0] = Arc::new(route);
    });
    world.list(&["a", "b"]).await;
    world.clock.advance(Span::from_secs(90));
    world.ask("b", &[]).await;
    world.next(&[Act::Refuse(503), Act::Break, Act::Break]);
    let got = world.list(&["b", "a"]).await;
    got.is_of(&["b", "a"]);
    assert_eq!(got.items(), Some([1, 0, 0, 0, 1]));
    assert_eq!(world.list(&["a", "new"]).await.status, StatusCode::BAD_GATEWAY, "nothing stands in for what was never known");
    world.clock.advance(Span::from_secs(90));
    assert_eq!(world.list(&["a", "b"]).await.items(), Some([0, 0, 0, 0, 2]));
    assert_eq!(world.list(&["a", "b"]).await.items(), Some([0, 0, 2, 0, 0]));
    world.is_billed().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_apart_or_put_together_goes_whole() {
    let world = World::new(|_| ());
    world.next(&[Act::Reversed]);
    world.list(&["a", "bb"]).await.is_of(&["a", "bb"]);
    world.next(&[Act::Short]);
    let got = world.list(&["a", "c", "d"]).await;
    got.is_of(&["a", "c", "d"]);
    assert_eq!((got.items(), world.stats().went_whole(Whole::Broken)), (None, 1));
    assert_eq!(world.calls()[1..], [vec!["c", "d"], vec!["a", "c", "d"]]);
    world.next(&[Act::Renamed]);
    let got = world.list(&["a", "e", "f"]).await;
    got.is_of(&["a", "e", "f"]);
    assert_eq!((got.items(), world.stats().went_whole(Whole::Mixed)), (None, 1));
    assert_eq!(world.calls()[3..], [vec!["e", "f"], vec!["a", "e", "f"]]);
    world.is_billed().await;
    let long = names(0..101);
    let got = world.list(&refs(&long)).await;
    got.is_of(&refs(&long));
    assert_eq!((got.items(), world.stats().went_whole(Whole::TooLong)), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn answers_that_cannot_be_taken_apart_rest() {
    let world = World::new(|_| ());
    for n in 0..3 {
        world.next(&[Act::Short]);
        let list = [format!("a{n}"), format!("b{n}")];
        world.list(&refs(&list)).await.is_of(&refs(&list));
    }
    assert_eq!(world.list(&["x", "y"]).await.items(), None);
    assert_eq!((world.calls().len(), world.stats().went_whole(Whole::Resting)), (7, 1));
    tokio::time::advance(Span::from_secs(31)).await;
    assert_eq!(world.list(&["v", "w"]).await.items(), Some([0, 0, 2, 0, 0]));
    world.is_billed().await;
}

/// A client that leaves does not take its list's call from those who joined it.
#[tokio::test(start_paused = true)]
async fn a_list_whose_client_leaves_is_answered_all_the_same() {
    let world = World::new(|_| ());
    let leaving = tokio::time::timeout(Span::from_millis(50), world.list(&["a", "b"]));
    let (left, joined) = tokio::join!(leaving, async {
        tokio::time::sleep(Span::from_millis(20)).await;
        world.list(&["b", "c"]).await
    });
    assert!(left.is_err());
    joined.is_of(&["b", "c"]);
    assert_eq!(world.list(&["a", "b", "c"]).await.items(), Some([3, 0, 0, 0, 0]));
    let bill = world.is_billed().await;
    assert_eq!((bill, world.items()), (6 * TOKEN, [3, 1, 1, 0, 0]));
    assert_eq!(world.inside.totals().routes["ai"].requests, 7, "two of them left");
}

/// Without Farthing a list is one call: where the call is what costs, known items save nothing as long as one is made.
#[tokio::test(start_paused = true)]
async fn a_flat_price_is_saved_only_where_no_call_is_made() {
    let flat = 1_000_003;
    let world = World::new(|config| {
        let mut provider = (*config.providers[0]).clone();
        provider.prices = Some(Prices::per_call(Money::from_nanos(flat)));
        config.providers[0] = Arc::new(provider);
    });
    world.list(&["a", "b", "c"]).await;
    world.list(&["a", "b", "c", "d", "e"]).await;
    world.inside.settle().await;
    let totals = world.inside.totals().routes["ai"].clone();
    let saved = |totals: &RouteSnapshot| totals.saved.values().map(|tally| tally.usd.nanos()).sum::<i64>();
    assert_eq!((totals.bill_usd.nanos(), totals.base_usd.nanos(), saved(&totals)), (2 * flat, 2 * flat, 0));
    world.list(&["c", "d", "c"]).await;
    world.inside.settle().await;
    let totals = world.inside.totals().routes["ai"].clone();
    assert_eq!((totals.bill_usd.nanos(), totals.base_usd.nanos(), saved(&totals)), (2 * flat, 3 * flat, flat));
}
