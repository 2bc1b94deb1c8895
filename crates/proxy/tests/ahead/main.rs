//! M6, D6: fetching ahead through the whole request path, in virtual time: what it may never do, and what it does where there is structure.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "helpers of tests may fail the test"
)]

mod limits;
mod log;
mod world;

use farthing_policy::prefetch::PermitState;
use farthing_replay::prefetch::WorldShape;
use farthing_types::{Draw, DrawKind, Money};

use world::{Far, World, config, each, sessions};

const ROUTES: [&str; 3] = ["list", "detail", "about"];
const STRUCTURED: WorldShape = WorldShape::Structured { lists: 100, details: 8, opened: 0.9 };

#[tokio::test(start_paused = true)]
async fn where_there_is_structure_waits_are_bought_within_the_budget() {
    let visits = sessions(STRUCTURED, 3_600.0, 2);
    let dir = tempfile::tempdir().unwrap();
    let mut off = config(&dir.path().join("off"), &ROUTES);
    each(&mut off, |route| route.prefetch = farthing_config::Prefetch::Off);
    let off = World::new(off, Far::new());
    off.play(&ROUTES, &visits).await;
    assert!(off.far.ahead().is_empty());
    let mut on = config(&dir.path().join("on"), &ROUTES);
    each(&mut on, |route| route.prefetch_budget = 0.5);
    let on = World::new(on, Far::new());
    on.play(&ROUTES, &visits).await;
    let sum = on.total();
    assert!(on.hits() > off.hits() + visits.len() as u64 / 20, "{} {} {sum:?}", on.hits(), off.hits());
    assert!(sum.net() > Money::ZERO && sum.used * 2 > sum.started, "{sum:?}");
    assert_eq!((sum.started, sum.failed), (on.far.ahead().len() as u64, 0));
    // What is not judged yet is still fresh.
    assert!(sum.used + sum.wasted <= sum.started && sum.used + sum.wasted + 50 > sum.started, "{sum:?}");
    let totals = on.inside.totals().total;
    let (paid, saved) = (totals.calls["prefetch"], totals.saved["prefetch"]);
    assert_eq!((paid.usd, saved.usd, saved.count), (sum.spent, sum.saved, sum.used), "the bill has a line of its own");
    let calls = totals.bill_usd - sum.spent;
    assert!(sum.spent.nanos() * 2 <= calls.nanos() + 2 * world::PRICE.nanos() * 3, "{sum:?} {calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_world_without_structure_costs_nothing() {
    for (seed, shape) in
        [(1, WorldShape::Random { keys: 300 }), (2, WorldShape::Random { keys: 60 }), (3, WorldShape::Popular { keys: 300 })]
    {
        let visits = sessions(shape, 3_600.0, seed);
        let dir = tempfile::tempdir().unwrap();
        let world = World::new(config(dir.path(), &["any"]), Far::new());
        world.play(&["any"], &visits).await;
        let (sum, ahead) = (world.total(), world.far.ahead().len());
        let more = sum.wasted as f64 / (world.far.calls() - ahead).max(1) as f64;
        // By popularity alone a few waits are bought; without any structure hardly one.
        let bound = if matches!(shape, WorldShape::Random { .. }) { 0.015 } else { 0.05 };
        assert!(sum.candidates > 500 && more <= bound && sum.net() >= Money::ZERO, "{seed}: {more} {sum:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_that_loses_its_structure_is_off_and_says_so() {
    let mut visits = sessions(STRUCTURED, 7_200.0, 2);
    let (half, end) = (visits.len() / 2, visits.len());
    for i in half..end {
        let other = i + ((end - i) as f64 * Draw::new(1).uniform(DrawKind::Sample, "shuffle", i as u128, 0)) as usize;
        let (one, two) = (visits[i], visits[other]);
        (visits[i].route, visits[i].params) = (two.route, two.params);
        (visits[other].route, visits[other].params) = (one.route, one.params);
    }
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(config(dir.path(), &ROUTES), Far::new());
    world.play(&ROUTES, &visits[..half]).await;
    let permits = |world: &World| world.inside.prefetch().into_iter().map(|books| books.permit.unwrap()).collect::<Vec<_>>();
    let before = world.total().started;
    assert!(before > 300 && permits(&world).contains(&PermitState::Live), "{before} {:?}", permits(&world));
    world.play(&ROUTES, &visits[half..]).await;
    let after = world.total();
    assert!(after.started - before <= 500, "{before} {after:?}");
    assert!(!permits(&world).contains(&PermitState::Live), "{:?}", permits(&world));
    assert!(after.refused["unearned"] > 0, "{after:?}");
}
