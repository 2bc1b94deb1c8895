use farthing_contract::features::BatchWindow;
use farthing_policy::strategy::{BatchTerms, Mix, StrategyParams, Terms};
use farthing_policy::{Levels, TtlParams};
use farthing_types::{Money, Span, Time};
use proptest::prelude::*;

use super::*;
use crate::event::{Event, EventKind, Trace, TraceRoute};
use crate::{Decided, Engine, LiveStatistics};

const PRICE: Money = Money::from_nanos(1_000_000);

fn trace(events: &[(i64, u32, EventKind)]) -> Trace {
    let event =
        |(ms, key, kind): &(i64, u32, EventKind)| Event { at: Time::from_millis(*ms), key: *key, route: 0, kind: *kind, bytes: 100 };
    let routes = vec![TraceRoute { name: "r".into(), price: PRICE, nondeterministic: false }];
    Trace { routes, events: events.iter().map(event).collect() }
}

fn model(latency_ms: u64, window_ms: u64) -> Model {
    let window = BatchWindow { window: Span::from_millis(window_ms), max: 3 };
    let batch = Some(BatchTerms { window, per_call: 1_500, per_item: 100 });
    let terms = Terms { price: PRICE, stale_price: PRICE.times(10), wait_price: PRICE, sla: None, batch };
    let ttl_levels = Levels { model: None, table: Some(std::sync::Arc::new(LiveStatistics)) };
    let ttl = TtlParams { kappa: Some(0.05), ..TtlParams::default() };
    Model { terms: vec![terms], latency: vec![Span::from_millis(latency_ms)], ttl, ttl_levels }
}

fn run(trace: &Trace, model: &Model, mix: Mix) -> Bill {
    simulate(trace, model, Judged::from(trace, 0), &mut fixed(vec![mix])).routes[0]
}

use EventKind::{Change, Read};

#[test]
fn equal_requests_in_flight_are_one_call_and_later_ones_another() {
    let trace = trace(&[(1_000, 1, Read), (1_040, 1, Read), (1_050, 2, Read), (1_099, 1, Read), (1_100, 1, Read)]);
    let bill = run(&trace, &model(100, 50), Mix::Dedupe);
    assert_eq!((bill.requests, bill.items, bill.bill), (5, 3, PRICE.times(3)));
    // Three calls of 100 ms, joiners of 60 and 1 ms.
    assert_eq!(bill.waited_us, 361_000);
}

#[test]
fn a_batch_waits_for_its_window_or_until_it_is_full() {
    let trace = trace(&[(1_000, 1, Read), (1_010, 2, Read), (1_500, 3, Read), (1_500, 4, Read), (1_510, 5, Read), (1_511, 6, Read)]);
    let bill = run(&trace, &model(100, 50), Mix::Batch);
    // {1, 2} by the window, {3, 4, 5} because it is full, {6} by the window.
    assert_eq!((bill.items, bill.batches), (6, 3));
    assert_eq!(bill.bill, Money::from_nanos(3 * 1_500_000 + 6 * 100_000));
    assert_eq!(bill.waited_us, 1_000 * (150 + 140 + 110 + 110 + 100 + 150));
}

#[test]
fn equal_requests_share_a_place_in_a_batch_only_when_joined() {
    let trace = trace(&[(1_000, 1, Read), (1_010, 1, Read), (1_060, 1, Read)]);
    let model = model(100, 50);
    let (plain, joined) = (run(&trace, &model, Mix::Batch), run(&trace, &model, Mix::DedupeBatch));
    assert_eq!((plain.items, plain.batches), (3, 2));
    // The third joins the call that went out at 1,050 and ends at 1,150.
    assert_eq!((joined.items, joined.batches), (1, 1));
    assert_eq!(joined.waited_us, 1_000 * (150 + 140 + 90));
}

#[test]
fn the_kept_copy_is_stale_after_a_change() {
    let mut events: Vec<(i64, u32, EventKind)> = (0..200).map(|i| (1_000 + i * 60_000, 1, Read)).collect();
    events.push((1_000 + 199 * 60_000 + 1, 1, Change));
    events.push((1_000 + 199 * 60_000 + 2, 1, Read));
    let bill = run(&trace(&events), &model(0, 50), Mix::Cache);
    assert!(bill.items < 100, "{bill:?}");
    let fresh = run(&trace(&events), &model(0, 50), Mix::Dedupe);
    assert_eq!((fresh.stale, fresh.items), (0, 201));
}

fn recipe() -> crate::Recipe {
    let text = include_str!("../../../../data/demo.toml");
    crate::Recipe { duration_s: 40_000.0, ..toml::from_str(text).unwrap() }
}

/// Without latency nothing is in flight, and the cache must be the engine's.
#[test]
fn the_cache_is_that_of_the_engine() {
    let trace = recipe().generate(3).unwrap();
    let one = model(0, 50);
    let model = Model { terms: vec![one.terms[0]; 6], latency: vec![Span::ZERO; 6], ..one };
    let ours = simulate(&trace, &model, Judged::from(&trace, 0), &mut fixed(vec![Mix::Cache; 6]));
    let mut engine = Engine::new(&trace);
    engine.set_stale_budget(model.ttl.stale_budget);
    let theirs = engine.run(&trace, &trace.events, &mut Decided::new(&model.ttl_levels, vec![model.ttl; 6]));
    for (route, (a, b)) in ours.routes.iter().zip(&theirs.routes).enumerate().filter(|(r, _)| !trace.routes[*r].nondeterministic) {
        assert_eq!((a.items, a.stale, a.requests), (b.calls, b.stale, b.requests), "route {route}");
    }
}

#[test]
fn labels_say_what_came_beyond_the_live_statistics() {
    let trace = recipe().generate(1).unwrap();
    let one = model(40, 100);
    let model = Model { terms: vec![one.terms[0]; 6], latency: vec![Span::from_millis(40); 6], ..one };
    let rows = labels(&trace, &trace.events, &model, LabelOptions { window: Span::from_secs(1_800), per_window: 2 });
    assert!(rows.len() > 300, "{}", rows.len());
    let late: Vec<_> = rows.iter().filter(|r| r.at.since(trace.events[0].at) > Span::from_secs(20_000)).collect();
    assert!(rows.iter().flat_map(|r| &r.targets[..7]).all(|t| t.abs() <= 1.0));
    // The cache of the weather route: the live statistics foretell what it will do, from both sides.
    let off: Vec<f32> = late.iter().filter(|r| r.route == 1).map(|r| r.targets[1]).collect();
    let mean = off.iter().sum::<f32>() / off.len() as f32;
    assert!(mean.abs() < 0.15, "{mean} of {off:?}");
}

#[test]
fn hindsight_is_no_dearer_than_any_single_mix_and_the_decision_close() {
    let trace = recipe().generate(1).unwrap();
    let one = model(40, 100);
    let model = Model { terms: vec![one.terms[0]; 6], latency: vec![Span::from_millis(40); 6], ..one };
    let from = Judged::from(&trace, trace.split(0.5));
    let found = hindsight(&trace, &model, from);
    assert!(found.best() <= found.single.1);
    // Live statistics without a model, asked as the proxy would.
    struct Zero;
    impl farthing_policy::Predictor for Zero {
        fn predict(&self, _: &[f32], out: &mut [f32]) -> Result<(), farthing_policy::PredictError> {
            out.fill(0.0);
            Ok(())
        }
        fn by(&self) -> farthing_types::By {
            farthing_types::By::Table(0)
        }
        fn digest(&self) -> std::sync::Arc<str> {
            "zero".into()
        }
    }
    let levels = Levels { model: None, table: Some(std::sync::Arc::new(Zero)) };
    let ours = simulate(&trace, &model, from, &mut Modelled::new(&levels, StrategyParams::default()));
    let regret = ours.cost(&model).as_usd_f64() / found.best().as_usd_f64() - 1.0;
    println!("regret {regret:.4}, single {:?} {:.3}", found.single.0, found.single.1.as_usd_f64() / found.best().as_usd_f64());
    assert!(regret < 0.10, "{regret}");
    assert!(ours.total().predicted == ours.total().requests);
    // Blocks hold everything but what was waiting at the end.
    let blocks: i64 = ours.costs(&model).map(|(_, _, nanos)| nanos).sum();
    assert!((blocks - ours.cost(&model).nanos()).abs() < 100_000_000 && ours.blocks.len() > 100);
    let rule = simulate(&trace, &model, from, &mut Modelled::new(&Levels::default(), StrategyParams::default()));
    assert_eq!(rule.total().predicted, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_request_is_answered_once_and_money_adds_up(
        steps in proptest::collection::vec((0..400i64, 0..4u32, any::<bool>()), 1..80), latency in 0..300u64, window in 0..200u64,
        mixes in proptest::collection::vec(0..Mix::COUNT, 1..6),
    ) {
        let mut ms = 1_000;
        let events: Vec<_> = steps.into_iter().map(|(wait, key, read)| { ms += wait; (ms, key, if read { Read } else { Change }) }).collect();
        let (trace, model) = (trace(&events), model(latency, window));
        let reads = events.iter().filter(|e| e.2 == Read).count() as u64;
        // The mix changes from request to request: whatever is open or in flight then, nothing is lost.
        let mut n = 0;
        let mut chooser = |_: &RouteView<'_>| { n += 1; (Mix::ALL[mixes[n % mixes.len()]], false) };
        let bill = simulate(&trace, &model, Judged::from(&trace, 0), &mut chooser).routes[0];
        prop_assert_eq!(bill.requests, reads);
        prop_assert!(bill.items <= reads && bill.batches <= bill.items);
        for mix in Mix::ALL {
            let bill = run(&trace, &model, mix);
            let batched = mix.batches();
            let exact = if batched { bill.batches as i64 * 1_500_000 + bill.items as i64 * 100_000 } else { bill.items as i64 * 1_000_000 };
            prop_assert_eq!(bill.bill.nanos(), exact);
            prop_assert_eq!(bill.batches > 0, batched && reads > 0);
            prop_assert!(mix.joins() || bill.items == reads);
            let quiet = simulate_fixed(&trace, &model, Judged::from(&trace, 0), vec![mix]).routes[0];
            prop_assert_eq!(quiet, bill, "live statistics change nothing");
        }
    }
}
