//! Lists at random: with duplicates, overlapping, at the same time, some left by their clients, while the provider fails in every way it knows.

use farthing_types::Span;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::world::{Act, World, refs};

/// Names whose lengths differ, so that no embedding looks like another's.
fn name(n: usize) -> String {
    format!("{n}{}", "x".repeat(n))
}

/// How many requests a client made, and in how many places their lists have items.
async fn client(world: &World, (mut rng, start): (StdRng, Span)) -> (u64, u64) {
    tokio::time::sleep(start).await;
    let (mut requests, mut places) = (0, 0);
    for _ in 0..6 {
        let list: Vec<String> = (0..rng.random_range(1..12)).map(|_| name(rng.random_range(0..25))).collect();
        let list = refs(&list);
        (requests, places) = (requests + 1, places + list.len() as u64);
        let principal = ["Bearer one", "Bearer two"][rng.random_range(0..2)];
        let fields = [("authorization", principal)];
        let patience = Span::from_millis(if rng.random_bool(0.1) { rng.random_range(1..250) } else { 60_000 });
        let got = tokio::time::timeout(patience, async {
            if list.len() == 1 && rng.random_bool(0.7) { world.ask(list[0], &fields).await } else { world.ask(list.clone(), &fields).await }
        });
        if let Ok(got) = got.await {
            got.has_nothing_of_others(&list);
        }
        tokio::time::sleep(Span::from_millis(rng.random_range(0..150))).await;
    }
    (requests, places)
}

/// How many lists were answered item by item.
async fn life(seed: u64) -> u64 {
    let world = World::new(|config| {
        if seed.is_multiple_of(3) {
            config.holdout.share = 0.3;
        }
    });
    let mut rng = StdRng::seed_from_u64(seed);
    let bad = [Act::Reversed, Act::Refuse(400), Act::Refuse(429), Act::Refuse(503), Act::Break, Act::Short, Act::Renamed];
    let acts: Vec<Act> = (0..120).map(|_| if rng.random_bool(0.3) { bad[rng.random_range(0..bad.len())] } else { Act::Well }).collect();
    world.next(&acts);
    let clients = (0..8).map(|n| (StdRng::seed_from_u64(seed * 100 + n), Span::from_millis(rng.random_range(0..200))));
    let ticking = async {
        loop {
            tokio::time::sleep(Span::from_millis(100)).await;
            world.clock.advance(Span::from_secs(5));
        }
    };
    let asked = tokio::select! {
        asked = join_all(clients.map(|one| client(&world, one)).collect::<Vec<_>>()) => asked,
        () = ticking => unreachable!("it never ends"),
    };
    world.is_billed().await;
    // Each place of a list is settled once, and a list that went whole once more.
    let (requests, places) = asked.into_iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    let told = world.inside.totals().total.requests;
    assert!(told >= requests && told <= places + requests, "{told} of {requests} with {places} places");
    world.stats().lists()
}

#[tokio::test(start_paused = true)]
async fn every_client_gets_its_items_in_order_and_the_bill_is_the_ledgers() {
    let mut lists = 0;
    for seed in 0..16 {
        lists += life(seed).await;
    }
    assert!(lists > 200, "{lists}");
}
