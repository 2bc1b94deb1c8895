//! Fetching ahead in generated worlds, by the rule: what it may never do, and what it does where there is structure.

#![allow(clippy::unwrap_used, reason = "a test ends here when it fails")]

use farthing_policy::Levels;
use farthing_policy::prefetch::{Permit, Permits, PrefetchParams, PrefetchSource, Quota, Tariff};
use farthing_replay::prefetch::{Books, Engine, SessionRecipe, SessionWorld, Sessions, Setup, WorldShape};
use farthing_types::{Draw, DrawKind, Money, Span};

const PRICE: Money = Money::from_nanos(1_000_000);

fn world(shape: WorldShape) -> SessionWorld {
    SessionWorld {
        seed: 0,
        start_s: 1_767_225_600,
        duration_s: 14_400.0,
        sessions_per_s: 0.05,
        requests: 12.0,
        think_s: 2.0,
        price: PRICE,
        ttl_s: 60.0,
        shape,
    }
}

fn rule(tariff: Tariff, latency: i64) -> PrefetchParams {
    PrefetchParams { source: PrefetchSource::Rule, tariff, latency: Money::from_nanos(latency), ..PrefetchParams::default() }
}

fn played(shape: WorldShape, params: PrefetchParams, seed: u64) -> (Books, Permits) {
    replayed(&world(shape).generate(seed, params).unwrap())
}

fn replayed(sessions: &Sessions) -> (Books, Permits) {
    let mut engine = Engine::new(sessions, Setup::new(Levels::default(), Span::from_secs(30)));
    engine.run(&sessions.visits);
    (engine.total(), engine.permits().clone())
}

const STRUCTURED: WorldShape = WorldShape::Structured { lists: 100, details: 8, opened: 0.9 };
const RANDOM: WorldShape = WorldShape::Random { keys: 300 };
const POPULAR: WorldShape = WorldShape::Popular { keys: 300 };

#[test]
fn with_money_alone_at_the_price_of_a_call_nothing_is_fetched() {
    for shape in [STRUCTURED, RANDOM, POPULAR] {
        let (books, _) = played(shape, rule(Tariff::PerCall, 0), 1);
        assert_eq!((books.prefetches, books.bill, books.misses), (0, books.base_bill, books.base_misses));
    }
}

#[test]
fn a_world_without_structure_costs_nothing() {
    for seed in 1..=3 {
        for params in [rule(Tariff::PerCall, 1_000_000), rule(Tariff::Share(0.5), 0), rule(Tariff::Batch(10), 0)] {
            for shape in [RANDOM, POPULAR] {
                let (books, permits) = played(shape, params, seed);
                assert!(books.net() >= Money::ZERO, "{seed} {params:?} {shape:?}: {:?}", books.net());
                // Popularity alone earns a wait; without any structure nothing does.
                let live = permits.pools().iter().chain(permits.routes()).any(Permit::is_live);
                assert!(shape == POPULAR || (books.ahead_calls == 0 && !live), "{books:?} {permits:?}");
            }
        }
    }
}

#[test]
fn where_there_is_structure_a_batch_saves_and_a_wait_is_bought() {
    for seed in 1..=3 {
        let (batch, _) = played(STRUCTURED, rule(Tariff::Batch(10), 0), seed);
        assert!(batch.fewer_billed() >= 0.6 && batch.net() > Money::ZERO, "{batch:?}");
        assert_eq!(batch.ahead_calls, 0, "for money alone things ride with the misses of clients");
        let (wait, _) = played(STRUCTURED, rule(Tariff::PerCall, 1_000_000), seed);
        assert!(wait.net() > Money::ZERO && wait.precision() >= 0.55 && wait.removed() >= 0.3, "{wait:?}");
        // A wait worth less asks for more than the rule can tell of most things.
        let (rare, _) = played(STRUCTURED, rule(Tariff::PerCall, 430_000), seed);
        assert!(rare.net() >= Money::ZERO, "{rare:?}");
    }
}

#[test]
fn a_batch_endpoint_per_route_saves_less_than_one_for_all() {
    let together = world(STRUCTURED).generate(1, rule(Tariff::Batch(10), 0)).unwrap();
    let mut apart = together.clone();
    apart.routes.iter_mut().enumerate().for_each(|(n, route)| route.provider = n as u16);
    assert_eq!((together.pools(), apart.pools()), (vec![0, 0, 0], vec![0, 1, 2]));
    let (together, apart) = (replayed(&together).0, replayed(&apart).0);
    assert!(apart.fewer_billed() > 0.4 && apart.fewer_billed() < together.fewer_billed(), "{apart:?}");
}

#[test]
fn a_world_that_loses_its_structure_is_left_within_500_tries() {
    for seed in 1..=3u64 {
        let mut sessions = world(STRUCTURED).generate(seed, rule(Tariff::PerCall, 1_000_000)).unwrap();
        let (half, end) = (sessions.split(0.5), sessions.visits.len());
        for i in half..end {
            let draw = Draw::new(seed).uniform(DrawKind::Sample, "shuffle", i as u128, 0);
            let other = i + ((end - i) as f64 * draw) as usize;
            let (one, two) = (sessions.visits[i], sessions.visits[other]);
            (sessions.visits[i].thing, sessions.visits[i].route, sessions.visits[i].params) = (two.thing, two.route, two.params);
            (sessions.visits[other].thing, sessions.visits[other].route, sessions.visits[other].params) =
                (one.thing, one.route, one.params);
        }
        let mut engine = Engine::new(&sessions, Setup::new(Levels::default(), Span::from_secs(30)));
        engine.run(&sessions.visits[..half]);
        assert!(engine.total().prefetches > 500 && engine.permits().pools()[0].is_live());
        engine.judge_from_here();
        engine.run(&sessions.visits[half..]);
        let after = engine.total();
        assert!(after.prefetches <= 500, "{after:?}");
    }
}

#[test]
fn a_free_quota_is_used_and_a_cap_holds() {
    let free = Quota { left: 1e6, demand: 1e3, reserve: 1e3 };
    let (books, _) = played(STRUCTURED, rule(Tariff::Quota(free), 0), 1);
    assert!(books.prefetches > 1_000 && books.net() > Money::ZERO, "{books:?}");
    let sessions = world(STRUCTURED).generate(1, rule(Tariff::PerCall, 2_000_000)).unwrap();
    let cap = Money::from_nanos(20 * PRICE.nanos());
    let mut engine = Engine::new(&sessions, Setup { budget: Some(cap), ..Setup::new(Levels::default(), Span::from_secs(30)) });
    engine.run(&sessions.visits);
    let books = engine.total();
    assert!(books.over_budget > 0 && books.ahead_calls <= 5 * 20, "{books:?}");
}

#[test]
fn near_the_threshold_draws_are_logged_with_their_propensity() {
    let sessions = world(STRUCTURED).generate(1, PrefetchParams { must_earn: false, ..rule(Tariff::PerCall, 1_000_000) }).unwrap();
    let mut engine = Engine::new(&sessions, Setup { explore: 0.05, collect: true, ..Setup::new(Levels::default(), Span::from_secs(30)) });
    engine.run(&sessions.visits);
    let drawn = engine.rows().filter(|r| r.propensity < 0.5).count() as f64;
    let near = engine.rows().filter(|r| r.propensity < 1.0).count() as f64;
    assert!(near > 500.0 && (drawn / near - 0.025).abs() < 0.012, "{drawn} of {near}");
}

#[test]
fn the_shipped_recipe_is_whole_and_the_same_seed_gives_the_same_requests() {
    let recipe: SessionRecipe = toml::from_str(include_str!("../../../data/sessions.toml")).unwrap();
    let short = SessionRecipe { worlds: recipe.worlds.iter().map(|w| SessionWorld { duration_s: 1_800.0, ..w.clone() }).collect() };
    let one = short.generate(7, PrefetchParams::default()).unwrap();
    assert_eq!(one, short.generate(7, PrefetchParams::default()).unwrap());
    assert_ne!(one.visits, short.generate(8, PrefetchParams::default()).unwrap().visits);
    assert!(one.visits.windows(2).all(|w| w[0].at <= w[1].at) && one.routes.len() == 11);
    let wrong = SessionWorld { think_s: f64::NAN, ..recipe.worlds[0].clone() };
    assert!(wrong.generate(1, PrefetchParams::default()).unwrap_err().contains("think_s"));
}
