//! Replay against worlds whose truth is known.

use std::sync::Arc;

use farthing_policy::{Levels, TtlParams, TtlSource};
use farthing_types::{Money, Span, Time};
use proptest::prelude::*;

use super::*;

const DEMO: &str = include_str!("../../../data/demo.toml");

fn demo() -> Recipe {
    toml::from_str(DEMO).unwrap()
}

fn live() -> Levels {
    Levels { model: None, table: Some(Arc::new(LiveStatistics)) }
}

fn one_route(process: Process, keys: u32, rate: f64) -> Recipe {
    let mut recipe = demo();
    recipe.routes.truncate(1);
    recipe.routes[0].process = process;
    recipe.routes[0].keys = keys;
    recipe.rate = rate;
    recipe
}

/// Statistics from a pass-through run over the first 60 % of the time, and where the rest begins.
fn warmed(trace: &Trace) -> (Engine, usize) {
    let cut = trace.split(0.6);
    let mut engine = Engine::new(trace);
    engine.run(trace, &trace.events[..cut], &mut PassThroughAll);
    engine.drop_copies();
    (engine, cut)
}

fn priced(recipe: &Recipe) -> Vec<TtlParams> {
    let ratio = |price: Money| recipe.stale_price.nanos() as f64 / price.nanos() as f64;
    let params = |r: &RecipeRoute| TtlParams {
        source: TtlSource::Table,
        stale_price: Some(ratio(r.price)),
        kappa: Some(1e9),
        ..TtlParams::default()
    };
    recipe.routes.iter().map(params).collect()
}

#[test]
fn the_demo_recipe_has_what_the_demo_promises() {
    let recipe = demo();
    recipe.check().unwrap();
    assert!(recipe.routes.len() >= 5);
    assert_eq!(recipe.zipf, 0.9);
    let has = |f: fn(&Process) -> bool| recipe.routes.iter().any(|r| f(&r.process));
    assert!(has(|p| matches!(p, Process::Periodic { .. })));
    assert!(has(|p| matches!(p, Process::Never)));
    assert!(has(|p| matches!(p, Process::Nondeterministic)));
    assert!(recipe.routes.iter().all(|r| match r.process {
        Process::Poisson { sigma, .. } => sigma == 1.0,
        _ => true,
    }));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let recipe = Recipe { duration_s: 20_000.0, ..demo() };
    let trace = recipe.generate(3).unwrap();
    assert_eq!(trace, recipe.generate(3).unwrap());
    assert_ne!(trace.events, recipe.generate(4).unwrap().events);
    assert!(trace.events.windows(2).all(|w| w[0].at <= w[1].at));
}

#[test]
fn wrong_numbers_are_refused_by_name() {
    let mut recipe = demo();
    recipe.routes[1].process = Process::Poisson { mean_interval_s: f64::NAN, sigma: 1.0 };
    let error = recipe.generate(1).unwrap_err().to_string();
    assert!(error.contains("routes.weather.process.mean_interval_s"), "{error}");
    assert!(toml::from_str::<Recipe>(&DEMO.replace("zipf", "zipff")).unwrap_err().to_string().contains("zipff"));
    assert!(matches!(Recipe { routes: vec![], ..demo() }.check(), Err(RecipeError::Routes(0))));
}

#[test]
fn changes_come_at_the_stated_rate() {
    for (process, expected) in [
        (Process::Poisson { mean_interval_s: 1_000.0, sigma: 0.0 }, 1_000.0),
        (Process::Periodic { period_s: 3_600.0, offset_s: 10.0, jitter_s: 60.0 }, 3_600.0),
        // Times 4 for half of the time and divided by 4 for the other half: 2.125 times the rate.
        (Process::Drifting { mean_interval_s: 1_000.0, sigma: 0.0, factor: 4.0, every_s: 20_000.0 }, 1_000.0 / 2.125),
    ] {
        let world = World::new(one_route(process, 1, 1.0), 5);
        let (key, start) = (WorldKey { route: 0, index: 0 }, Time::from_millis(1_767_225_600_000));
        let (mut at, mut changes) = (start, 0);
        while at.since(start) < Span::from_secs(3_000_000) {
            at = world.next_change(key, at).unwrap();
            changes += 1;
        }
        let mean = 3_000_000.0 / f64::from(changes);
        assert!((mean / expected - 1.0).abs() < 0.12, "{process:?}: {mean}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn the_version_is_the_last_change(seed in any::<u64>(), index in 0..50u32, at_ms in 1_700_000_000_000..1_800_000_000_000i64, route in 0..6u16) {
        let world = World::new(demo(), seed);
        let (key, at) = (WorldKey { route, index }, Time::from_millis(at_ms));
        if let Some(last) = world.last_change(key, at) {
            prop_assert!(last <= at);
            prop_assert_eq!(world.last_change(key, last), Some(last));
            prop_assert_eq!(world.version_at(key, at), world.version_at(key, last));
            let before = last - Span::from_millis(1);
            prop_assert_ne!(world.version_at(key, at), world.version_at(key, before));
            prop_assert_eq!(world.next_change(key, before), Some(last));
        }
        if let Some(next) = world.next_change(key, at) {
            prop_assert!(next > at);
            prop_assert_eq!(world.last_change(key, next), Some(next));
        }
    }
}

#[test]
fn a_nondeterministic_answer_is_always_new_and_a_never_changing_one_never() {
    let world = World::new(demo(), 1);
    let version = |route, ms| world.version_at(WorldKey { route, index: 3 }, Time::from_millis(ms));
    assert_eq!(version(0, 1), version(0, 1_900_000_000_000));
    assert_ne!(version(5, 1), version(5, 2));
}

#[test]
fn a_pass_through_run_pays_for_all_and_is_never_stale() {
    let trace = Recipe { duration_s: 50_000.0, ..demo() }.generate(1).unwrap();
    let outcome = Engine::new(&trace).run(&trace, &trace.events, &mut PassThroughAll);
    let total = outcome.total();
    assert_eq!((total.calls, total.stale, total.bill), (total.requests, 0, total.base));
    assert!(total.requests > 40_000);
}

#[test]
fn the_engine_and_the_hindsight_curves_agree_about_a_fixed_ttl() {
    let trace = Recipe { duration_s: 50_000.0, ..demo() }.generate(2).unwrap();
    let best = FixedCurves::of(&trace, &trace.events).best_global(0.02);
    let outcome = Engine::new(&trace).run(&trace, &trace.events, &mut Fixed(best.ttls.clone()));
    assert_eq!(outcome, best.outcome);
    assert!(outcome.total().stale_share() <= 0.02 && outcome.total().stale > 0);
}

#[test]
fn a_trace_rebuilt_from_its_log_replays_alike() {
    let trace = Recipe { duration_s: 30_000.0, ..demo() }.generate(2).unwrap();
    let mut version = vec![0u64; trace.keys()];
    let mut log = Vec::new();
    for event in &trace.events {
        let key = event.key as usize;
        match event.kind {
            EventKind::Change => version[key] += 1,
            EventKind::Read => log.push(PassThrough { at: event.at, key: key as u64, route: event.route, hash: version[key], bytes: 1 }),
        }
    }
    let rebuilt = Trace::from_pass_through(trace.routes.clone(), log);
    let ttls = vec![Span::from_secs(700); trace.routes.len()];
    let run = |t: &Trace| Engine::new(t).run(t, &t.events, &mut Fixed(ttls.clone()));
    assert_eq!(run(&rebuilt), run(&trace));
}

#[test]
fn no_policy_without_stale_answers_is_cheaper_than_the_oracle() {
    let trace = Recipe { duration_s: 50_000.0, ..demo() }.generate(3).unwrap();
    let oracle = oracle(&trace, &trace.events).total();
    let curves = FixedCurves::of(&trace, &trace.events);
    assert_eq!(oracle.stale, 0);
    assert!(oracle.bill <= curves.best_global(0.0).outcome.total().bill);
    assert!(curves.best_per_route(100).outcome.total().stale <= 100);
}

/// The measure that decides: money cost against the best fixed TTL of each route in hindsight, at equal staleness. The
/// statistics come from the first 60 % of the time, the test is the rest.
#[test]
fn live_statistics_beat_the_best_fixed_ttl_per_route_by_a_tenth() {
    let recipe = demo();
    for seed in 1..=5 {
        let trace = recipe.generate(seed).unwrap();
        let (mut engine, cut) = warmed(&trace);
        let test = &trace.events[cut..];
        let levels = live();
        let ours = engine.run(&trace, test, &mut Decided::new(&levels, priced(&recipe)));
        let fixed = FixedCurves::of(&trace, test).best_per_route(ours.total().stale).outcome;
        let cost = |o: &Outcome| o.total().money_cost(recipe.stale_price).as_usd_f64();
        assert!(fixed.total().stale <= ours.total().stale);
        assert!(cost(&ours) < 0.9 * cost(&fixed), "seed {seed}: {} {}", cost(&ours), cost(&fixed));
    }
}

#[test]
fn the_operating_point_meets_its_budget_on_the_training_part() {
    let trace = demo().generate(1).unwrap();
    let (engine, cut) = warmed(&trace);
    let params = TtlParams { source: TtlSource::Table, ..TtlParams::default() };
    let point = |budget| choose_kappa(&engine, (&trace, &trace.events[cut..]), &live(), &params, budget);
    let (tight, loose) = (point(0.002), point(0.02));
    assert!(tight.stale_share <= 0.002 && loose.stale_share <= 0.02);
    assert!(tight.kappa < loose.kappa && tight.bill_share > loose.bill_share);
}

#[test]
fn steering_holds_the_budget_from_a_point_that_is_far_off() {
    let trace = demo().generate(2).unwrap();
    for kappa in [0.002, 1.0] {
        let (mut engine, cut) = warmed(&trace);
        engine.set_stale_budget(0.005);
        let params = TtlParams { source: TtlSource::Table, kappa: Some(kappa), ..TtlParams::default() };
        let levels = live();
        let mut decided = Decided::new(&levels, vec![params; trace.routes.len()]);
        let total = engine.run(&trace, &trace.events[cut..], &mut decided).total();
        assert!(total.stale_share() < 0.0075, "kappa {kappa}: {}", total.stale_share());
        assert!(decided.predicted > 0);
    }
}

#[test]
fn a_tight_schedule_is_worth_a_third_against_a_fixed_ttl() {
    let recipe = one_route(Process::Periodic { period_s: 3_600.0, offset_s: 300.0, jitter_s: 60.0 }, 20, 0.2);
    let trace = recipe.generate(1).unwrap();
    let (mut engine, cut) = warmed(&trace);
    let test = &trace.events[cut..];
    let levels = live();
    let ours = engine.run(&trace, test, &mut Decided::new(&levels, priced(&recipe))).total();
    let fixed = FixedCurves::of(&trace, test).best_per_route(ours.stale).outcome.total();
    assert!(engine.route_stats()[0].rhythm().is_used());
    assert!(ours.bill.as_usd_f64() < 0.67 * fixed.bill.as_usd_f64(), "{} {}", ours.bill, fixed.bill);
}

#[test]
fn rows_say_what_was_expected_and_what_was_seen() {
    let trace = Recipe { duration_s: 100_000.0, ..one_route(Process::Poisson { mean_interval_s: 2_000.0, sigma: 0.0 }, 30, 0.5) }
        .generate(1)
        .unwrap();
    let mut engine = Engine::new(&trace);
    let rows = training_rows(&mut engine, &trace, &trace.events, &mut PassThroughAll);
    assert_eq!(rows.len(), trace.events.iter().filter(|e| e.kind == EventKind::Read).count());
    let mature = &rows[rows.len() / 2..];
    assert!(mature.iter().all(|r| r.survived.iter().chain(&r.within).all(|w| w.is_finite() && *w >= 0.0)));
    // Under a right hazard the changes expected and those seen agree; the change falls in the middle of its interval on average.
    let expected: f32 = mature.iter().map(|r| r.survived.iter().sum::<f32>() + 0.5 * r.within.iter().sum::<f32>()).sum();
    let seen = mature.iter().filter(|r| r.changed()).count() as f32;
    assert!((expected / seen - 1.0).abs() < 0.25, "{expected} {seen}");
}

#[test]
fn blocks_add_up_and_pair_up_under_any_policy() {
    let recipe = Recipe { duration_s: 200_000.0, ..demo() };
    let trace = recipe.generate(2).unwrap();
    let run = |seconds: u64| {
        let mut chooser = Fixed(vec![Span::from_secs(seconds); trace.routes.len()]);
        Engine::new(&trace).run_blocks(&trace, &trace.events, &mut chooser)
    };
    let ((outcome, blocks), (other, others)) = (run(30), run(3_000));
    let (total, sum) = (outcome.total(), |of: fn(&BlockOutcome) -> u64| blocks.iter().map(of).sum::<u64>());
    assert_eq!((total.requests, total.calls, total.stale), (sum(|b| b.requests), sum(|b| b.calls), sum(|b| b.stale)));
    assert_eq!(total.bill, blocks.iter().fold(Money::ZERO, |all, b| all + b.bill));
    let names = |blocks: &[BlockOutcome]| blocks.iter().map(|b| (b.key, b.day, b.route, b.requests)).collect::<Vec<_>>();
    assert_eq!(names(&blocks), names(&others));
    assert!(other.total().bill < total.bill && blocks.iter().map(|b| b.day).collect::<std::collections::BTreeSet<_>>().len() >= 3);
}

/// Decides as the proxy does, but doubts nothing.
struct Undoubting<'a>(Decided<'a>);

impl Chooser for Undoubting<'_> {
    fn ttl(&mut self, event: &Event, input: &farthing_contract::features::TtlInput<'_>) -> Span {
        self.0.ttl(event, input)
    }
}

/// What a short world of one route costs with copies that are doubted, and with none, at the same price of a stale answer; and the stale answers.
fn doubted_or_not(process: Process) -> [(f64, u64); 2] {
    let mut recipe = Recipe { duration_s: 864_000.0, ..one_route(process, 60, 0.03) };
    // A call costs half of what a stale answer does.
    recipe.stale_price = recipe.routes[0].price.times(2);
    let trace = recipe.generate(3).unwrap();
    let (warm, cut) = warmed(&trace);
    let levels = live();
    // Money alone decides.
    let params = || priced(&recipe).into_iter().map(|params| TtlParams { steer: false, ..params }).collect();
    let (mut with, mut without) = (Decided::new(&levels, params()), Undoubting(Decided::new(&levels, params())));
    let choosers: [&mut dyn Chooser; 2] = [&mut with, &mut without];
    choosers.map(|chooser| {
        let total = warm.clone().run(&trace, &trace.events[cut..], chooser).total();
        (total.money_cost(recipe.stale_price).as_usd_f64(), total.stale)
    })
}

#[test]
fn where_changes_draw_readers_copies_that_are_doubted_cost_less() {
    let informative = Process::Informative { mean_interval_s: 43_200.0, sigma: 1.0, reads_per_change: 3.0, delay_s: 180.0 };
    let [with, without] = doubted_or_not(informative);
    assert!(with.0 < 0.95 * without.0 && with.1 < without.1, "{with:?} {without:?}");
    let [with, without] = doubted_or_not(Process::Poisson { mean_interval_s: 43_200.0, sigma: 1.0 });
    assert_eq!(with, without, "where they draw none, nothing is doubted");
}
