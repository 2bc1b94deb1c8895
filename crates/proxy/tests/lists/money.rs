//! What budgets set aside for a list, and what limits count of it: one call, for what goes.

use farthing_types::{BudgetSpec, LimitScope, LimitSpec, Money, OnLimit, RateSpec, Span};
use http::StatusCode;

use crate::world::{TOKEN, World, names, refs, tokens};

/// What budgets set aside is written to a disk, so this runs in real time.
#[tokio::test]
async fn budgets_set_aside_what_goes_and_are_settled_with_the_bill() {
    let all = names(0..100);
    let all = refs(&all);
    let spent: i64 = all[..80].iter().map(|input| tokens(input) * TOKEN).sum();
    let world = World::new(|config| {
        // After eighty there is room for a call of twenty, and not for one of a hundred.
        let limit = Money::from_nanos(spent + 300 * TOKEN);
        config.budgets = vec![BudgetSpec { name: "all".into(), limit, ..BudgetSpec::default() }];
    });
    for chunk in all[..80].chunks(20) {
        world.list(chunk).await.is_of(chunk);
    }
    let got = world.list(&all).await;
    got.is_of(&all);
    assert_eq!(got.items(), Some([80, 0, 20, 0, 0]));
    let bill = world.is_billed().await;
    let counter = world.inside.budgets().unwrap().counters.remove(0);
    assert_eq!((counter.spent.nanos(), counter.reserved.nanos(), world.inside.budgets().unwrap().overruns), (bill, 0, 0));

    // Nothing is left: what is known is served, what is not is refused, and nothing of it is set aside.
    let new = names(200..220);
    let mut more = all[..10].to_vec();
    more.extend(refs(&new));
    let got = world.list(&more).await;
    assert_eq!((got.status, got.items()), (StatusCode::TOO_MANY_REQUESTS, None));
    assert_eq!(world.list(&all).await.items(), Some([100, 0, 0, 0, 0]));
    assert_eq!(world.is_billed().await, bill);
    let counter = world.inside.budgets().unwrap().counters.remove(0);
    assert_eq!((counter.spent.nanos(), counter.reserved.nanos()), (bill, 0));
}

#[tokio::test(start_paused = true)]
async fn a_list_is_one_request_to_limits() {
    let world = World::new(|config| {
        let requests = Some(RateSpec { count: 2, period: Span::from_secs(3_600), burst: 2 });
        let limit =
            LimitSpec { name: "l".into(), scope: LimitScope::Tenant, requests, on_limit: [OnLimit::Refuse; 3], ..LimitSpec::default() };
        config.limits = vec![limit];
    });
    let all = names(0..50);
    let all = refs(&all);
    world.list(&all[..30]).await.is_of(&all[..30]);
    world.list(&all).await.is_of(&all);
    assert_eq!(world.list(&["other", "text 1"]).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(world.list(&all).await.items(), Some([50, 0, 0, 0, 0]), "without a call nothing is counted");
    world.is_billed().await;
}

/// Whoever waits for its turn goes with what is still missing then.
#[tokio::test(start_paused = true)]
async fn a_list_that_waited_for_its_turn_asks_again_what_is_missing() {
    let world = World::new(|config| {
        let requests = Some(RateSpec { count: 1, period: Span::from_secs(1), burst: 1 });
        let limit =
            LimitSpec { name: "l".into(), scope: LimitScope::Tenant, requests, on_limit: [OnLimit::Wait; 3], ..LimitSpec::default() };
        config.limits = vec![limit];
    });
    world.ask("first", &[]).await;
    let (one, two) = tokio::join!(world.list(&["a", "b"]), world.list(&["b", "c"]));
    one.is_of(&["a", "b"]);
    two.is_of(&["b", "c"]);
    let calls = world.calls();
    let bought: usize = calls.iter().map(Vec::len).sum();
    assert_eq!((calls.len(), bought), (3, 4), "{calls:?}");
    world.is_billed().await;
}

/// What is left of a provider's limit of tokens, which gives none back within the test.
fn left(world: &World) -> u64 {
    world.inside.limits().unwrap().limits[0].busiest[0].tokens.unwrap().0
}

/// Each reserves one token for each byte, and uses fewer.
#[tokio::test(start_paused = true)]
async fn tokens_that_calls_made_together_have_not_used_are_given_back() {
    let ask: Vec<String> = (0..5).map(|n| format!("{n}{}", "x".repeat(2_000))).collect();
    let limited = |split: bool, min_rate: f64| {
        World::new(move |config| {
            let tokens = Some(RateSpec { count: 100_000, period: Span::from_secs(86_400 * 365), burst: 100_000 });
            let limit =
                LimitSpec { name: "l".into(), scope: LimitScope::Provider, tokens, on_limit: [OnLimit::Refuse; 3], ..LimitSpec::default() };
            config.limits = vec![limit];
            let mut route = (*config.routes[0]).clone();
            let batch = route.batch.as_mut().unwrap();
            (batch.split, batch.min_rate) = (split, min_rate);
            config.routes[0] = std::sync::Arc::new(route);
        })
    };
    let used: u64 = ask.iter().map(|input| tokens(input) as u64).sum();
    for (name, split, min_rate) in [("alone", false, 1e6), ("a batch", false, 0.0), ("a list", true, 1e6)] {
        let world = limited(split, min_rate);
        if split {
            world.list(&refs(&ask)).await.is_of(&refs(&ask));
        } else {
            let asks = ask.iter().map(|input| world.ask(&**input, &[]));
            assert!(futures_util::future::join_all(asks).await.iter().all(|got| got.status == StatusCode::OK), "{name}");
        }
        world.is_billed().await;
        assert_eq!((world.calls().len(), left(&world)), (if name == "alone" { 5 } else { 1 }, 100_000 - used), "{name}");
    }
}
