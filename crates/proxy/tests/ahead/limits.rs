//! What fetching ahead may never do: spend a tenant's money beyond its budget, act for another principal, crowd a provider, or know what was
//! forgotten.

use std::sync::Arc;

use farthing_config::{Config, CredentialMode, ExperimentConfig, FarthingKey, Prefetch, VariantConfig};
use farthing_proxy::PrefetchOff;
use farthing_types::{BudgetSpec, Money, Overrides, Span};
use http_body_util::BodyExt;

use crate::world::{Far, PRICE, World, config, each, route};
use crate::{ROUTES, STRUCTURED};

/// Two things in a row, by a new session each time, long after the last copies have expired.
async fn pairs(world: &World, (first, second): (&str, &str), headers: &[(&str, &str)], times: u32) {
    for n in 0..times {
        world.clock.advance(Span::from_secs(300));
        let tags = format!("session={n}");
        let headers: Vec<(&str, &str)> = headers.iter().copied().chain([("x-farthing-tags", &*tags)]).collect();
        world.get(first, &headers).await;
        world.clock.advance(Span::from_secs(2));
        world.get(second, &headers).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_is_there_when_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(config(dir.path(), &ROUTES), Far::new());
    pairs(&world, ("/r/list/1?page=1", "/r/detail/7?full=yes"), &[], 60).await;
    let sum = world.total();
    assert!(sum.used > 20 && sum.wasted == 0 && sum.refused["unearned"] > 5, "{sum:?}");
    world.clock.advance(Span::from_secs(300));
    world.get("/r/list/1?page=1", &[]).await;
    let got = world.get("/r/detail/7?full=yes", &[]).await;
    assert!(got.headers()["cache-status"].to_str().unwrap().contains("hit"), "{got:?}");
    assert_eq!(
        (got.headers()["x-farthing-cost-usd"].clone(), got.headers()["x-farthing-saved-usd"].clone()),
        ("0".parse().unwrap(), "0.001".parse().unwrap())
    );
    assert!(world.far.ahead().iter().all(|made| made.path == "/7"), "{:?}", world.far.ahead());
}

#[tokio::test(start_paused = true)]
async fn it_is_off_with_a_reason_where_it_cannot_pay_or_may_not_be() {
    let dir = tempfile::tempdir().unwrap();
    type Change = fn(&mut Config);
    let cases: [(Change, PrefetchOff); 4] = [
        (|config| each(config, |route| route.price_wait = Money::ZERO), PrefetchOff::NoWorth),
        (|config| each(config, |route| route.prefetch = Prefetch::Off), PrefetchOff::Disabled),
        (|config| each(config, |route| route.cache = false), PrefetchOff::NotCached),
        (|config| Arc::make_mut(&mut config.providers[0]).terms.prefetch = false, PrefetchOff::Terms),
    ];
    for (change, why) in cases {
        let mut config = config(&dir.path().join(why.as_str()), &ROUTES);
        change(&mut config);
        let world = World::new(config, Far::new());
        pairs(&world, ("/r/list/1", "/r/detail/7"), &[], 60).await;
        assert!(world.far.ahead().is_empty(), "{why}");
        assert!(world.inside.prefetch().iter().all(|books| books.permit == Err(why) && books.candidates == 0), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_variant_of_an_experiment_does_not_fetch_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &ROUTES);
    let variant = |name: &str, prefetch| {
        let overrides = Overrides { prefetch, ..Overrides::default() };
        VariantConfig { name: name.into(), share: 0.5, overrides }
    };
    config.experiments = vec![ExperimentConfig {
        name: "ahead".into(),
        hypothesis: "it pays".into(),
        variants: vec![variant("ahead", None), variant("not", Some(false))],
        window: Span::from_secs(3_000),
        slice: 1.0,
        ramp: vec![1.0],
        ..ExperimentConfig::default()
    }];
    let world = World::new(config, Far::new());
    pairs(&world, ("/r/list/1?page=1", "/r/detail/7?full=yes"), &[], 200).await;
    let sum = world.total();
    assert!(sum.used > 20 && sum.refused["variant"] > 20, "about half of the windows each: {sum:?}");
}

#[tokio::test(start_paused = true)]
async fn a_variant_asks_for_more_confidence() {
    let dir = tempfile::tempdir().unwrap();
    let plain = World::new(config(dir.path(), &ROUTES), Far::new());
    let mut config = config(dir.path(), &ROUTES);
    let variant = |name: &str, prefetch_confidence| {
        let overrides = Overrides { prefetch_confidence, ..Overrides::default() };
        VariantConfig { name: name.into(), share: 0.5, overrides }
    };
    config.experiments = vec![ExperimentConfig {
        name: "ahead".into(),
        hypothesis: "only what is certain pays".into(),
        variants: vec![variant("any", None), variant("certain", Some(1.0))],
        window: Span::from_secs(3_000),
        slice: 1.0,
        ramp: vec![1.0],
        ..ExperimentConfig::default()
    }];
    let world = World::new(config, Far::new());
    pairs(&world, ("/r/list/1?page=1", "/r/detail/7?full=yes"), &[], 200).await;
    pairs(&plain, ("/r/list/1?page=1", "/r/detail/7?full=yes"), &[], 200).await;
    let (used, all) = (world.total().used, plain.total().used);
    assert!(used > all / 4 && used < all * 3 / 4, "about half of the windows: {used} of {all}");
    assert!(!world.total().refused.contains_key("variant"), "nothing was begun that its own variant does not want");
}

/// What budgets set aside is written to a disk, so this runs in real time.
#[tokio::test]
async fn no_budget_of_a_tenant_is_exceeded() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &ROUTES);
    config.budgets = vec![BudgetSpec { name: "all".into(), limit: "0.150".parse().unwrap(), ..BudgetSpec::default() }];
    let world = World::new(config, Far::new());
    world.play(&ROUTES, &crate::world::sessions(STRUCTURED, 3_600.0, 1)).await;
    let spent = PRICE.times(world.far.calls() as i64);
    assert!(spent <= "0.150".parse().unwrap(), "{spent:?}");
    let sum = world.total();
    assert!(sum.refused.get("budget").copied().unwrap_or_default() + sum.refused["unearned"] > 0, "{sum:?}");
}

/// What budgets set aside is written to a disk, so this runs in real time.
#[tokio::test]
async fn a_budget_without_room_refuses_what_is_ahead_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &ROUTES);
    config.budgets = vec![BudgetSpec { name: "all".into(), limit: "0.1".parse().unwrap(), ..BudgetSpec::default() }];
    let world = World::new(config, Far::new());
    pairs(&world, ("/r/list/1", "/r/detail/7"), &[], 60).await;
    let sum = world.total();
    assert!(sum.started > 0 && sum.refused["budget"] > 0, "{sum:?}");
    assert!(world.far.calls() <= 100);
}

#[tokio::test(start_paused = true)]
async fn nothing_crosses_principals() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    // One list for all, from which each goes on to a detail of its own.
    let swap = |mut route: farthing_config::Route| {
        route.credential = CredentialMode::Swap;
        Arc::new(route)
    };
    let mut list = route("list");
    list.shared = true;
    config.routes = vec![swap(list), swap(route("detail"))];
    let keys: Vec<_> = ["a", "b"].map(|tenant| FarthingKey::generate(tenant).unwrap()).into();
    config.keys = keys.iter().map(|(_, key)| key.clone()).collect();
    let world = World::new(config, Far::new());
    let (a, b) = (keys[0].0.expose().to_owned(), keys[1].0.expose().to_owned());
    for n in 0..80 {
        pairs(&world, ("/r/list/1", "/r/detail/7"), &[("x-farthing-key", &a)], 1).await;
        world.clock.advance(Span::from_secs(300));
        world.get("/r/list/1", &[("x-farthing-key", &b), ("x-farthing-tags", &format!("session={n}"))]).await;
    }
    let ahead = world.far.ahead();
    assert!(ahead.len() > 20, "{:?}", world.total());
    assert!(ahead.iter().all(|made| made.payer == "a"), "what `a` does next is nothing that `b` pays for");
    world.get("/r/list/1", &[("x-farthing-key", &a)]).await;
    let calls = world.far.calls();
    world.get("/r/detail/7", &[("x-farthing-key", &b)]).await;
    assert_eq!(world.far.calls(), calls + 1, "and nothing that `b` is answered with");
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_passes_through_goes_out_for_its_own_client_alone() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(config(dir.path(), &ROUTES), Far::new());
    for _ in 0..60 {
        for who in ["a", "b"] {
            let credential = format!("Bearer {who}");
            let (first, second) = (format!("/r/list/{who}"), format!("/r/detail/{who}"));
            pairs(&world, (&first, &second), &[("authorization", &credential)], 1).await;
        }
    }
    let ahead = world.far.ahead();
    assert!(["/a", "/b"].iter().all(|path| ahead.iter().any(|made| made.path == *path)), "{:?}", world.total());
    for made in ahead {
        assert_eq!(made.credential, Some(format!("Bearer {}", &made.path[1..])), "{made:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_in_the_query_is_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(config(dir.path(), &ROUTES), Far::new());
    pairs(&world, ("/r/list/1?api_key=x", "/r/detail/7?api_key=x"), &[], 60).await;
    assert_eq!((world.far.ahead().len(), world.total().candidates), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_not_fetched_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(config(dir.path(), &ROUTES), Far::new());
    pairs(&world, ("/r/list/1", "/r/detail/7"), &[], 60).await;
    let before = world.total();
    assert!(before.started > 20, "{before:?}");
    assert!(world.inside.forget("anonymous").await.finished);
    world.clock.advance(Span::from_secs(300));
    world.get("/r/list/1", &[("x-farthing-tags", "session=1000")]).await;
    let after = world.total();
    assert_eq!((after.candidates, after.started), (before.candidates, before.started));
}

#[tokio::test(start_paused = true)]
async fn who_asks_meanwhile_joins_and_pays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let far = Far::new();
    let world = World::new(config(dir.path(), &ROUTES), far.clone());
    pairs(&world, ("/r/list/1", "/r/detail/7"), &[], 60).await;
    let before = world.total();
    world.clock.advance(Span::from_secs(300));
    world.ask("/r/list/1", &[]).await.into_body().collect().await.unwrap();
    let made = far.calls();
    far.answers.forget_permits(1 << 24);
    // The list is asked for again by another session: its copy is fresh, the detail is not.
    while far.ahead().len() as u64 == before.started {
        tokio::task::yield_now().await;
    }
    let joining = tokio::spawn(world.ask("/r/detail/7", &[]));
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    far.answers.add_permits(1 << 20);
    let got = joining.await.unwrap();
    assert_eq!(got.headers()["x-farthing-cost-usd"], "0");
    got.into_body().collect().await.unwrap();
    world.inside.settle().await;
    let after = world.total();
    assert_eq!((after.used, after.started), (before.used + 1, before.started + 1), "{made}");
    assert_eq!(after.saved, PRICE.times(after.used as i64));
}

#[tokio::test(start_paused = true)]
async fn a_provider_has_few_of_them_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let far = Far::new();
    let mut config = config(dir.path(), &ROUTES);
    config.prefetch.at_once = 4;
    let world = World::new(config, far.clone());
    for n in 0..40 {
        world.clock.advance(Span::from_secs(300));
        let tags = format!("session={n}");
        for path in ["/r/list/1", "/r/detail/1", "/r/detail/2", "/r/detail/3", "/r/detail/4", "/r/about/5", "/r/about/6", "/r/about/7"] {
            world.clock.advance(Span::from_secs(1));
            world.get(path, &[("x-farthing-tags", &tags)]).await;
        }
    }
    let before = world.total();
    assert!(before.started > 50, "{before:?}");
    world.clock.advance(Span::from_secs(300));
    far.answers.forget_permits(1 << 24);
    far.answers.add_permits(1);
    world.ask("/r/list/1", &[]).await.into_body().collect().await.unwrap();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    let under_way = world.total().started - before.started;
    far.answers.add_permits(1 << 20);
    world.inside.settle().await;
    let after = world.total();
    let busy = |sum: &crate::world::Sum| sum.refused.get("busy").copied().unwrap_or_default();
    assert_eq!((under_way, after.started - before.started), (4, 4));
    assert!(busy(&after) > busy(&before), "{after:?}");
}
