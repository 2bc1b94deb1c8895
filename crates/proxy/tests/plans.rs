//! C1, C2, C3, C5, R2, R5 on the whole request path: who decides about a route's strategies, what that does to requests, and what is told of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod common;
#[path = "common/kept.rs"]
mod kept;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farthing_config::{BatchConfig, BatchFormat, Config, L2Config, L2Store, Mode, Provider, Route, StrategyBy};
use farthing_contract::bundle::{GoldenRow, Kind, Manifest, TABLE_FILE, publish};
use farthing_contract::features::{STRATEGY_FEATURES, STRATEGY_OUTPUTS, STRATEGY_SPEC};
use farthing_contract::log::{CallRow, Decision, OutcomeRow, Request as RequestRow, Row, Value};
use farthing_models::{Alias, Store, StoreOptions};
use farthing_policy::Heat;
use farthing_policy::strategy::{Dropped, Member, Mix, Why};
use farthing_policy::switches::Standing;
use farthing_proxy::{BypassOrder, Inside, OwnPart, PlanReport, RouteSwitches, SwitchedStrategy};
use farthing_types::{Body, By, Call, CallReport, Clock, Failure, Reply, Span, Time};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;

use common::{START, Shop, changed};
use kept::Kept;

/// The time of timers, so that both stand still and go on together; each look at it may take time, as if Farthing worked meanwhile.
struct Timeline {
    start: tokio::time::Instant,
    look_us: AtomicU64,
    worked_us: AtomicU64,
}

impl Clock for Timeline {
    fn now(&self) -> Time {
        let look = self.look_us.load(Ordering::Relaxed);
        let worked = self.worked_us.fetch_add(look, Ordering::Relaxed);
        START + self.start.elapsed() + Span::from_micros(worked)
    }
}

struct Wire(Arc<Shop>, Arc<dyn Clock>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let (shop, started) = (self.0.clone(), self.1.now());
        let (target, body) = (call.target.clone(), call.body.as_full().unwrap());
        async move {
            let reply = shop.answer(target, body).await;
            call.sink.attempt(CallReport { started, ..CallReport::only(&call, "wire", Some(StatusCode::OK)) });
            Ok(reply)
        }
        .boxed()
    }
}

/// A predictor that answers the same to everything: a table of no trees.
fn put(root: &Path, outputs: [f32; STRATEGY_OUTPUTS], shipped: bool) -> u32 {
    let words = |n: usize| (n as u32).to_le_bytes();
    let table =
        [b"FTREES01".as_slice(), &words(STRATEGY_FEATURES), &words(STRATEGY_OUTPUTS), &outputs.map(f32::to_le_bytes).concat(), &words(0)]
            .concat();
    let spec = (STRATEGY_SPEC.version, &*STRATEGY_SPEC.hash());
    let mut manifest = Manifest::draft(Kind::Strategy, spec, STRATEGY_FEATURES, STRATEGY_OUTPUTS);
    manifest.golden = vec![GoldenRow { features: vec![0.5; STRATEGY_FEATURES], outputs: outputs.to_vec() }];
    manifest.warm_up = vec![vec![0.25; STRATEGY_FEATURES]];
    manifest.trainer = "test".into();
    manifest.metrics.insert("shipped".into(), f64::from(u8::from(shipped)));
    publish(root, manifest, &[(TABLE_FILE, &table)]).unwrap().manifest.version
}

/// As the live statistics say.
const AS_LIVE: [f32; STRATEGY_OUTPUTS] = [0.0; STRATEGY_OUTPUTS];
/// Every request will need a call behind the cache, and a batch of its own.
const NOTHING_SAVES: [f32; STRATEGY_OUTPUTS] = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0];

struct World {
    inside: Inside,
    shop: Arc<Shop>,
    timeline: Arc<Timeline>,
    models: tempfile::TempDir,
    store: Store,
}

fn config(by: StrategyBy) -> Config {
    changed(common::config(), |route| {
        route.strategy = by;
        route.batch = Some(BatchConfig { min_rate: 10.0, ..BatchConfig::new(BatchFormat::Rest { path: "/batch".into() }) });
    })
}

impl World {
    fn new(config: Config) -> Self {
        Self::since(config, tokio::time::Instant::now())
    }

    /// With a clock that began at [`START`] then.
    fn since(config: Config, start: tokio::time::Instant) -> Self {
        Self::over(config, start, None)
    }

    fn over(config: Config, start: tokio::time::Instant, l2: Option<Arc<dyn farthing_cache::l2::Store>>) -> Self {
        let (shop, models) = (Arc::new(Shop::default()), tempfile::tempdir().unwrap());
        let (look_us, worked_us) = (AtomicU64::new(0), AtomicU64::new(0));
        let timeline = Arc::new(Timeline { start, look_us, worked_us });
        let clock: Arc<dyn Clock> = timeline.clone();
        let (wire, of_wire) = (shop.clone(), clock.clone());
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone(), of_wire.clone())) };
        let store = || Store::open(models.path(), StoreOptions::default());
        let inside = Inside::timed_with_l2(&Arc::new(config), clock, (store(), l2), &client).unwrap();
        let store = store();
        Self { inside, shop, timeline, models, store }
    }

    /// Publishes a predictor and makes it the one that is asked.
    fn promote(&self, outputs: [f32; STRATEGY_OUTPUTS], shipped: bool) -> u32 {
        let version = put(self.models.path(), outputs, shipped);
        self.store.promote(Kind::Strategy, version, Alias::Champion, START).unwrap();
        self.inside.poll_models();
        version
    }

    async fn ask(&self, path: &str) -> HeaderMap {
        let request = Request::builder().uri(path).header("host", "farthing.test").header("x-farthing-debug", "1");
        let (head, body) = self.inside.ask(request.body(Body::empty()).unwrap()).await.into_parts();
        assert_eq!(head.status, StatusCode::OK);
        body.collect().await.unwrap();
        head.headers
    }

    /// So many different requests per second for some time, with a turn of the background each second; how many calls they became.
    async fn busy(&self, from: u64, rate: u64, seconds: u64) -> usize {
        let (start, before) = (tokio::time::Instant::now(), self.shop.calls.lock().len());
        let requests = (0..rate * seconds).map(|n| async move {
            tokio::time::sleep_until(start + Span::from_micros(n * 1_000_000 / rate)).await;
            self.ask(&format!("/things/{}", from + n)).await;
        });
        let turns = async {
            for second in 0..seconds {
                tokio::time::sleep_until(start + Span::from_secs(second + 1)).await;
                self.inside.control();
                self.inside.plan();
            }
        };
        tokio::join!(join_all(requests), turns);
        self.shop.calls.lock().len() - before
    }

    fn plan(&self) -> PlanReport {
        self.inside.plans().remove(0)
    }

    /// The combination in force and who chose it.
    fn chosen(&self) -> (Mix, By) {
        let choice = self.plan().made.expect("a decision").decision.acting.choice.clone();
        (choice.value, choice.by)
    }
}

#[tokio::test(start_paused = true)]
async fn a_predictor_in_force_turns_batching_off_and_on_with_its_next_version() {
    let world = World::new(config(StrategyBy::Model));
    world.promote(AS_LIVE, true);
    world.busy(0, 50, 15).await;
    assert_eq!(world.chosen(), (Mix::DedupeBatch, By::Table(1)), "{:?}", world.plan());
    let together = world.busy(10_000, 50, 10).await;
    assert!(together < 250, "{together} calls for 500 requests");
    // The next version expects nothing from batches. It is asked at the next turn, whatever the interval.
    world.promote(NOTHING_SAVES, true);
    world.inside.plan();
    assert_eq!(world.chosen(), (Mix::Dedupe, By::Table(2)));
    assert_eq!(world.busy(20_000, 50, 10).await, 500, "each alone");
    world.promote(AS_LIVE, true);
    world.inside.plan();
    assert_eq!(world.chosen(), (Mix::DedupeBatch, By::Table(3)));
    assert!(world.busy(30_000, 50, 10).await < 250);
}

/// The cache is left out for keys that never come again, and comes back although nothing is cached meanwhile: what it would do is reckoned with.
#[tokio::test(start_paused = true)]
async fn a_cache_that_saves_nothing_is_left_out_and_comes_back_when_it_would() {
    let world = World::new(changed(config(StrategyBy::Model), |route| route.batch = None));
    world.promote(AS_LIVE, true);
    world.busy(0, 20, 20).await;
    assert_eq!(world.chosen().0, Mix::Dedupe);
    let status = |headers: &HeaderMap| headers["cache-status"].to_str().unwrap().to_owned();
    for _ in 0..2 {
        let told = status(&world.ask("/one").await);
        assert!(told.contains("not-chosen"), "{told}");
    }
    // A copy from before is no reason to go alone.
    world.shop.slow_ms.store(50, Ordering::Relaxed);
    let before = world.shop.calls.lock().len();
    join_all((0..10).map(|_| world.ask("/things/1"))).await;
    assert_eq!(world.shop.calls.lock().len() - before, 1);
    world.shop.slow_ms.store(0, Ordering::Relaxed);
    // Ten keys, again and again.
    for round in 0..60 {
        join_all((0..10).map(|key| world.ask(if key == 0 { "/one" } else { ["/2", "/3", "/4", "/5"][key % 4] }))).await;
        tokio::time::advance(Span::from_secs(1)).await;
        if round % 2 == 0 {
            world.inside.plan();
        }
    }
    assert_eq!(world.chosen(), (Mix::Cache, By::Table(1)), "{:?}", world.plan());
    world.ask("/one").await;
    assert!(status(&world.ask("/one").await).contains("hit"));
}

#[tokio::test(start_paused = true)]
async fn a_predictor_that_looks_on_changes_nothing_and_its_disagreement_is_counted() {
    let mut calls = Vec::new();
    for (by, asked) in [(StrategyBy::Rule, false), (StrategyBy::Shadow, true), (StrategyBy::Auto, true)] {
        let world = World::new(config(by));
        world.promote(NOTHING_SAVES, true);
        calls.push(world.busy(0, 50, 30).await);
        assert_eq!(world.chosen(), (Mix::CacheBatch, By::Rule("mix")));
        let report = world.plan();
        let decisions: u64 = report.decisions.iter().map(|(_, count)| count).sum();
        assert!((3..=4).contains(&decisions), "one in ten seconds: {decisions}");
        // At the first one too little was seen.
        let looked_on = if asked { decisions - 1 } else { 0 };
        assert_eq!((report.looked_on, report.disagreed, report.fell_back), (looked_on, looked_on, u64::from(asked)));
    }
    assert!(calls.windows(2).all(|pair| pair[0] == pair[1]), "{calls:?}");
    // One that was trained on this deployment's log may act.
    let world = World::new(config(StrategyBy::Auto));
    world.promote(NOTHING_SAVES, false);
    world.busy(0, 50, 15).await;
    assert_eq!(world.chosen(), (Mix::Dedupe, By::Table(1)));
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_predictor_from_deciding_leaves_the_rule_and_is_counted() {
    let world = World::new(config(StrategyBy::Model));
    world.busy(0, 50, 15).await;
    assert_eq!(world.chosen(), (Mix::CacheBatch, By::Fallback("no-model")));
    let report = world.plan();
    assert!(report.fell_back > 0 && report.decisions.contains(&("fallback", report.fell_back)), "{report:?}");
    let mut free = config(StrategyBy::Model);
    free.providers[0] = Arc::new(Provider { prices: None, ..(*free.providers[0]).clone() });
    let world = World::new(free);
    world.promote(NOTHING_SAVES, true);
    world.busy(0, 50, 15).await;
    assert_eq!(world.chosen(), (Mix::CacheBatch, By::Fallback("no-price")), "an unknown price is not zero");
}

/// C3: calls take 100 ms, their window is up to 100 ms; nineteen of twenty are not there within 150 ms.
#[tokio::test(start_paused = true)]
async fn what_would_break_the_promise_is_left_out_and_told() {
    let world = World::new(changed(config(StrategyBy::Rule), |route| route.sla = Some(Span::from_millis(150))));
    world.shop.slow_ms.store(10, Ordering::Relaxed);
    world.busy(0, 50, 15).await;
    assert_eq!(world.chosen(), (Mix::CacheBatch, By::Rule("mix")));
    world.shop.slow_ms.store(100, Ordering::Relaxed);
    world.busy(10_000, 50, 20).await;
    let made = world.plan().made.unwrap();
    assert_eq!(made.decision.acting.choice.value, Mix::Cache);
    assert_eq!(made.decision.acting.dropped, [Dropped { member: Member::Batch, why: Why::Sla }]);
    assert_eq!(world.busy(20_000, 50, 2).await, 100, "each alone");
    let told = world.ask("/things/1").await["x-farthing-plan"].to_str().unwrap().to_owned();
    assert!(told.starts_with("cache; by=rule:mix; saving-usd=") && told.contains("dropped=\"batch=sla\""), "{told}");
}

/// A model never lifts a ban, nor the bypass.
#[tokio::test(start_paused = true)]
async fn flags_bans_and_the_bypass_hold_whatever_is_chosen() {
    let banned: [fn(&mut Route); 4] =
        [|r| r.cache = false, |r| r.realtime = true, |r| r.sensitive = true, |r| (r.personalised, r.shared) = (true, true)];
    for ban in banned {
        let world = World::new(changed(changed(config(StrategyBy::Model), ban), |route| route.batch = None));
        world.promote(AS_LIVE, true);
        for round in 0..40 {
            join_all((0..10).map(|_| world.ask("/one"))).await;
            tokio::time::advance(Span::from_secs(1)).await;
            if round % 2 == 0 {
                world.inside.plan();
            }
        }
        assert_eq!(world.inside.totals().total.outcomes.get("hit").map_or(0, |hits| hits.count), 0);
        assert!(world.plan().made.is_none_or(|made| !made.decision.acting.choice.value.caches()));
    }
    let world = World::new(config(StrategyBy::Model));
    world.promote(AS_LIVE, true);
    world.busy(0, 50, 15).await;
    assert!(world.chosen().0.batches());
    let order = BypassOrder { route: None, since: START, until: None, reason: "trouble".into() };
    world.inside.bypass_on(order).unwrap();
    assert_eq!(world.busy(10_000, 50, 10).await, 500);
    // A route that is only watched has nothing to choose from.
    let world = World::new(changed(config(StrategyBy::Model), |route| route.mode = Mode::Observe));
    world.promote(AS_LIVE, true);
    world.busy(0, 50, 15).await;
    assert!(world.plan().made.is_none());
}

#[tokio::test(start_paused = true)]
async fn decisions_stand_in_the_log_and_requests_point_to_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(StrategyBy::Shadow);
    config.log.enabled = true;
    config.log.dir = dir.path().join("logs");
    config.log.row_rate = u32::MAX;
    let world = World::new(config.clone());
    world.promote(NOTHING_SAVES, true);
    world.busy(0, 50, 25).await;
    world.inside.settle().await;
    let last = world.plan().made.unwrap();
    world.inside.remember();
    world.inside.close().await.unwrap();
    let read = |table, columns: &[&str], each: &mut dyn FnMut(&[Value<'_>])| {
        farthing_ledger::read::rows(&dir.path().join("logs"), table, columns, &mut |cells| {
            each(cells);
            ControlFlow::Continue(())
        })
        .unwrap();
    };
    let (mut acting, mut shadows) = (Vec::new(), Vec::new());
    let columns =
        ["kind", "decision_id", "variant", "by", "action", "features", "outputs", "spec_hash", "expected_latency_us", "eligible_mask"];
    read(Decision::TABLE, &columns, &mut |cells| {
        let (Value::Text("strategy"), Value::U64(id), Value::I32(action)) = (&cells[0], &cells[1], &cells[4]) else { return };
        let (Value::F32List(features), Value::F32List(outputs)) = (&cells[5], &cells[6]) else { panic!("{cells:?}") };
        assert!(matches!(cells[8], Value::I64(_)) && cells[9] == Value::U64(0b11_1111));
        if cells[2] == Value::Text("shadow") && shadows.is_empty() {
            assert_eq!(cells[3], Value::Text("fallback:few-requests"));
            shadows.push(Mix::Dedupe.index());
        } else if cells[2] == Value::Text("shadow") {
            assert_eq!((&cells[3], features.len(), outputs.to_vec()), (&Value::Text("table:1"), STRATEGY_FEATURES, NOTHING_SAVES.to_vec()));
            assert_eq!(cells[7], Value::Text(&STRATEGY_SPEC.hash()));
            shadows.push(*action as usize);
        } else {
            assert_eq!((&cells[3], features.is_empty()), (&Value::Text("rule:mix"), true));
            assert_eq!(*action as usize, Mix::CacheBatch.index());
            acting.push(*id);
        }
    });
    assert!((2..=3).contains(&acting.len()), "a row for each decision, none for each request: {acting:?}");
    assert_eq!(shadows, vec![Mix::Dedupe.index(); acting.len()]);
    assert_eq!(acting.last(), Some(&last.id.0));
    let (mut before, mut pointing) = (0, 0);
    read(RequestRow::TABLE, &["plan_id"], &mut |cells| match cells[0] {
        Value::U64(id) => {
            assert!(acting.contains(&id));
            pointing += 1;
        }
        _ => before += 1,
    });
    assert!(before <= 52 && before + pointing == 1_250, "only those before the first decision point to none: {before}");
    // What each came to joins with it, once, and all of them together with what the route came to.
    let (mut came, mut paid, mut saved) = (Vec::new(), 0, 0);
    let columns = ["decision_id", "closed_by", "paid_nanousd", "saved_nanousd", "opened_ns", "ts_ns", "hits"];
    read(OutcomeRow::TABLE, &columns, &mut |cells| {
        let (Value::U64(id), Value::Text(by @ ("superseded" | "stopped"))) = (&cells[0], &cells[1]) else { return };
        let [Value::I64(cost), Value::I64(gain), Value::I64(opened), Value::I64(closed), Value::I64(hits)] = cells[2..] else {
            panic!("{cells:?}")
        };
        assert!(opened < closed && hits == 0, "{cells:?}");
        (paid, saved) = (paid + cost, saved + gain);
        came.push((*id, (*by).to_owned()));
    });
    assert_eq!(came.iter().map(|(id, _)| *id).collect::<Vec<_>>(), acting);
    assert_eq!(came.iter().filter(|(_, by)| by == "stopped").map(|(id, _)| *id).collect::<Vec<_>>(), [last.id.0]);
    let (mut billed, mut spared) = (0, 0);
    read(CallRow::TABLE, &["cost_nanousd"], &mut |cells| {
        if let Value::I64(cost) = cells[0] {
            billed += cost
        }
    });
    read(RequestRow::TABLE, &["base_nanousd", "cost_nanousd"], &mut |cells| {
        let [Value::I64(base), Value::I64(cost)] = cells else { panic!("{cells:?}") };
        spared += base - cost;
    });
    // Less what was settled before the first decision.
    assert!(paid > billed / 2 && paid <= billed && saved > spared / 2 && saved <= spared, "{paid} of {billed}, {saved} of {spared}");
    // What was learned outlives the process.
    let world = World::since(config, world.timeline.start);
    world.inside.recall();
    world.promote(NOTHING_SAVES, true);
    world.ask("/things/1").await;
    world.inside.plan();
    let decision = world.plan().made.unwrap().decision.clone();
    assert_eq!(decision.shadow.unwrap().choice.by, By::Table(1), "a fresh route would have seen too few requests");
}

/// R5: while Farthing's own time is above the limit, what is not needed is left out; it comes back by a trial.
#[tokio::test(start_paused = true)]
async fn a_route_whose_overhead_is_above_the_limit_is_lean_for_a_while() {
    let mut config = changed(config(StrategyBy::Rule), |route| route.cache = false);
    config.overhead.limit = Span::from_millis(5);
    let world = World::new(config);
    world.busy(0, 50, 60).await;
    let view = |world: &World| {
        let all = world.inside.switches().remove(0).strategies;
        all.into_iter().find(|view| view.strategy == SwitchedStrategy::Optional).unwrap()
    };
    assert_eq!((view(&world).standing, view(&world).switched_off), (Standing::On, 0));
    world.timeline.look_us.store(2_000, Ordering::Relaxed);
    world.busy(10_000, 50, 60).await;
    assert_eq!((view(&world).standing, view(&world).switched_off), (Standing::Off, 1));
    assert_eq!(view(&world).left_out, [OwnPart::Rest]);
    assert_eq!(world.busy(20_000, 50, 5).await, 250, "nothing waits for others");
    world.timeline.look_us.store(0, Ordering::Relaxed);
    world.busy(30_000, 5, 340).await;
    assert_eq!((view(&world).standing, view(&world).switched_off), (Standing::On, 1));
    assert!(world.busy(60_000, 50, 5).await < 150, "made together again");
}

/// R5: what takes the time is left out, and nothing else: here it is L2.
#[tokio::test(start_paused = true)]
async fn a_slow_l2_is_left_out_and_all_else_stays() {
    let kept = Arc::new(Kept::taking(Span::from_millis(8)));
    let mut config = config(StrategyBy::Rule);
    config.overhead.limit = Span::from_millis(5);
    let store = L2Store::Disk { dir: "unused".into(), max_bytes: 0 };
    config.l2 = Some(L2Config { store, deadline: Span::from_secs(1), max_value: 1 << 20, queue_bytes: 1 << 20, encrypt: None });
    let world = World::over(config, tokio::time::Instant::now(), Some(kept.clone()));
    let view = |world: &World| {
        let RouteSwitches { strategies, own, .. } = world.inside.switches().remove(0);
        let optional = strategies.into_iter().find(|view| view.strategy == SwitchedStrategy::Optional).unwrap();
        (optional.standing, optional.left_out, own)
    };
    assert!(world.busy(0, 50, 60).await < 2_000, "they are made together");
    let (standing, left_out, own) = view(&world);
    assert_eq!((standing, &*left_out), (Standing::Off, &[OwnPart::L2][..]));
    let of = |part: OwnPart| own.iter().find(|(one, ..)| *one == part).map(|(_, took, requests)| *took / u32::try_from(*requests).unwrap());
    let l2 = of(OwnPart::L2).unwrap();
    assert!(l2 >= Span::from_millis(8) && l2 < Span::from_millis(9) && of(OwnPart::Lists).is_none(), "{own:?}");
    let reads = kept.reads.load(Ordering::Relaxed);
    assert!(world.busy(10_000, 50, 120).await < 4_000, "they still are");
    assert_eq!((view(&world).0, view(&world).1, kept.reads.load(Ordering::Relaxed)), (Standing::Off, vec![OwnPart::L2], reads));
    // It answers in time again: a trial shows it.
    *kept.takes.lock() = Span::from_millis(1);
    world.busy(30_000, 5, 240).await;
    assert_eq!((view(&world).0, &*view(&world).1), (Standing::On, &[][..]));
    assert!(kept.reads.load(Ordering::Relaxed) > reads);
}

/// D7: the class follows the measured rate, and falls when nobody asks any more.
#[tokio::test(start_paused = true)]
async fn the_class_of_a_route_is_that_of_its_rate() {
    let world = World::new(config(StrategyBy::Rule));
    assert_eq!(world.plan().heat, None);
    let of = |range: std::ops::Range<f64>, class: Heat| {
        let (heat, rate) = world.plan().heat.unwrap();
        assert!(heat == class && range.contains(&rate), "{heat:?} at {rate}");
    };
    world.busy(0, 30, 20).await;
    of(20.0..40.0, Heat::Warm);
    world.busy(10_000, 300, 15).await;
    of(100.0..300.0, Heat::Hot);
    tokio::time::advance(Span::from_secs(3_600)).await;
    world.inside.plan();
    of(0.0..10.0, Heat::Cold);
}
