//! X1-X4 on the whole request path: an experiment's life, over restarts; guardrails; ramp; units; layers; the export.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farthing_config::{Config, ContextualConfig, ExperimentConfig, Mode, Prices, Provider, Route, TtlBy, VariantConfig};
use farthing_contract::features::{UNIT_FEATURES, UNIT_SPEC};
use farthing_contract::log::{Decision, OutcomeRow, Row, Value};
use farthing_experiment::{GuardKind, Order, Stage};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::{ExperimentView, Inside, StartError};
use farthing_types::{Body, Call, CallReport, Clock, Failure, Money, Overrides, Reply, Span, Time};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;

const WINDOW: Span = Span::from_secs(60);
const START: Time = Time::from_millis(1_764_201_600_000);

/// The time of timers, so that both stand still and go on together. A later world goes on where the one before ended.
struct Timeline(tokio::time::Instant, Time);

impl Clock for Timeline {
    fn now(&self) -> Time {
        self.1 + self.0.elapsed()
    }
}

/// A provider that fails every so many calls.
#[derive(Default)]
struct Shop {
    calls: AtomicU64,
    fails_every: AtomicU64,
}

struct Wire(Arc<Shop>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let nth = self.0.calls.fetch_add(1, Ordering::Relaxed);
        let every = self.0.fails_every.load(Ordering::Relaxed);
        let status = if every > 0 && nth.is_multiple_of(every) { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        // What is asked for seldom is another one each time.
        let body = if call.target.path().starts_with("/rare/") { format!("{{\"n\":{nth}}}") } else { "{}".to_owned() };
        async move {
            call.sink.attempt(CallReport::only(&call, "wire", Some(status)));
            let headers = HeaderMap::from_iter([("content-type".parse().unwrap(), HeaderValue::from_static("application/json"))]);
            Ok(Reply { status, headers, body: Body::full(body) })
        }
        .boxed()
    }
}

struct World {
    inside: Inside,
    shop: Arc<Shop>,
    clock: Arc<Timeline>,
}

fn config(dir: &Path, experiments: Vec<ExperimentConfig>) -> Config {
    let mut config = Config { experiments, state_dir: dir.to_owned(), ..Config::default() };
    config.log.enabled = false;
    config.holdout.share = 0.0;
    let mut provider = Provider { name: "shop".into(), base_url: "http://shop.test".parse().unwrap(), ..Provider::default() };
    provider.prices = Some(Prices::per_call(Money::from_nanos(1_000_000)));
    provider.upstream.attempts = 1;
    let mut route = Route { name: "shop".into(), provider: "shop".into(), mode: Mode::Override, ..Route::default() };
    (route.ttl, route.deadline) = (TtlBy::Fixed(Span::from_secs(5)), Span::from_secs(10));
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    config
}

fn variant(name: &str, overrides: Overrides) -> VariantConfig {
    VariantConfig { name: name.into(), share: 0.5, overrides }
}

fn fixed(ttl: &str) -> Overrides {
    Overrides { ttl: Some(ttl.into()), ..Overrides::default() }
}

/// Short against long TTLs, on all keys and at once.
fn ttl(name: &str) -> ExperimentConfig {
    ExperimentConfig {
        name: name.into(),
        hypothesis: "longer is cheaper".into(),
        variants: vec![variant("short", fixed("fixed:5")), variant("long", fixed("fixed:30"))],
        window: WINDOW,
        slice: 1.0,
        ramp: vec![1.0],
        min_units: 10,
        ..ExperimentConfig::default()
    }
}

impl World {
    fn new(config: Config, at: Time) -> Self {
        Self::try_new(config, at).unwrap()
    }

    fn try_new(config: Config, at: Time) -> Result<Self, StartError> {
        let shop = Arc::new(Shop::default());
        let wire = shop.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone())) };
        let store = Store::open(Path::new("none").to_owned(), StoreOptions::default());
        let clock = Arc::new(Timeline(tokio::time::Instant::now(), at));
        Ok(Self { inside: Inside::timed(&Arc::new(config), clock.clone(), store, &client)?, shop, clock })
    }

    async fn ask(&self, path: &str, session: &str) -> (StatusCode, Option<String>) {
        let request = Request::builder().uri(path).header("host", "farthing.test").header("x-farthing-debug", "1");
        let request = request.header("x-farthing-session", session).body(Body::empty()).unwrap();
        let (head, body) = self.inside.ask(request).await.into_parts();
        body.collect().await.unwrap();
        (head.status, head.headers.get("x-farthing-variant").map(|v| v.to_str().unwrap().to_owned()))
    }

    /// Each of 30 keys four times in a window, with a turn of the control loop after each round.
    async fn windows(&self, count: u32) {
        for _ in 0..count * 4 {
            for key in 0..30 {
                self.ask(&format!("/things/{key}"), "").await;
            }
            tokio::time::advance(WINDOW / 4).await;
            self.inside.settle().await;
            self.inside.control();
        }
    }

    fn view(&self, name: &str) -> ExperimentView {
        self.inside.experiment(name).unwrap()
    }

    fn order(&self, name: &str, order: Order) -> Result<ExperimentView, String> {
        self.inside.order_experiment(name, &order, "the test says so").map_err(|error| error.to_string())
    }

    fn now(&self) -> Time {
        self.clock.now()
    }
}

fn rows(view: &ExperimentView) -> u64 {
    view.report.variants.iter().map(|v| v.unit_windows).sum()
}

#[tokio::test(start_paused = true)]
async fn its_life_is_ordered_and_goes_on_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let draft = || ExperimentConfig { start: "draft", ..ttl("e") };
    let world = World::new(config(dir.path(), vec![draft()]), START);
    assert_eq!(world.ask("/things/1", "").await, (StatusCode::OK, None), "a draft does nothing");
    assert!(world.order("e", Order::Stop).unwrap_err().contains("start it first"));
    assert!(world.order("nobody", Order::Start).unwrap_err().contains("there are e"));
    world.order("e", Order::Start).unwrap();
    world.windows(20).await;
    let before = world.view("e");
    assert!(before.report.windows >= 18 && before.report.comparisons[0].effect_usd.is_some_and(|i| i.high < 0.0), "{:?}", before.report);
    assert_eq!(before.answers[0].line, "better");
    assert_eq!(&*before.leader, "long", "units outside the slice follow");

    // Killed: nothing is told to it.
    let (now, draft_again) = (world.now(), draft());
    drop(world);
    let frozen = ExperimentConfig { hypothesis: "shorter is cheaper".into(), worthwhile: 0.5, ..draft_again };
    let refused = World::try_new(config(dir.path(), vec![frozen]), now).err().unwrap().to_string();
    assert!(refused.contains("`hypothesis`, `worthwhile`") && refused.contains("running"), "{refused}");
    let world = World::new(config(dir.path(), vec![draft()]), now);
    let after = world.view("e");
    assert_eq!((after.life.stage, &*after.leader), (Stage::Running, "long"));
    assert_eq!((after.report.windows, rows(&after)), (before.report.windows, rows(&before)), "closed windows are there");
    let (a, b) = (before.report.comparisons[0].effect_usd.unwrap(), after.report.comparisons[0].effect_usd.unwrap());
    assert!((a.point - b.point).abs() < 1e-12 && (a.low - b.low).abs() < 1e-12);
    world.windows(3).await;
    assert!(rows(&world.view("e")) > rows(&after), "and it goes on");
    assert!(world.view("e").report.dropped.partial > 0, "without the rest of the window it began in");

    world.order("e", Order::Stop).unwrap();
    let world = World::new(config(dir.path(), vec![draft()]), world.now());
    assert_eq!(world.view("e").life.stage, Stage::Stopped);
    assert!(world.order("e", Order::Start).unwrap_err().contains("another name"));
    assert_eq!(world.ask("/things/1", "").await.1, None, "every unit has the route's plan");
    world.order("e", Order::Decide { variant: "long".into() }).unwrap();
    let world = World::new(config(dir.path(), vec![draft()]), world.now());
    assert_eq!(world.view("e").life.stage, Stage::Decided);
    for key in 0..20 {
        assert_eq!(world.ask(&format!("/things/{key}"), "").await.1.as_deref(), Some("long"), "decided stays decided");
    }
    assert!(world.order("e", Order::Start).is_err());
    let audit: Vec<String> =
        world.inside.experiment_audit("e").unwrap().into_iter().map(|line| format!("{}: {}", line.by, line.what)).collect();
    let wanted = ["operator: draft -> running", "operator: running -> stopped", "operator: stopped -> decided for long"];
    assert!(wanted.iter().all(|line| audit.iter().any(|found| found == line)), "{audit:?}");
    assert!(audit.iter().any(|line| line.starts_with("evidence: variant long leads")), "{audit:?}");
}

#[tokio::test(start_paused = true)]
async fn a_variant_that_fails_is_switched_off_by_the_request_that_shows_it() {
    let dir = tempfile::tempdir().unwrap();
    let off = Overrides { cache: Some(false), dedupe: Some(false), ..Overrides::default() };
    let experiment = || ExperimentConfig {
        variants: vec![variant("cached", fixed("fixed:60")), variant("always-asks", off.clone())],
        window: Span::from_secs(3_600),
        ..ttl("e")
    };
    let world = World::new(config(dir.path(), vec![experiment()]), START);
    for key in 0..120 {
        world.ask(&format!("/things/{key}"), "").await;
    }
    world.shop.fails_every.store(2, Ordering::Relaxed);
    let mut asked = 0;
    'all: for key in 0..120 {
        for _ in 0..6 {
            world.ask(&format!("/things/{key}"), "").await;
            asked += 1;
            if world.view("e").report.switched_off.iter().any(|off| off.guard == GuardKind::Errors) {
                break 'all;
            }
        }
    }
    assert!(asked < 600, "within its first window");
    for key in 0..120 {
        assert_eq!(world.ask(&format!("/things/{key}"), "").await.1.as_deref(), Some("cached"), "at once, without the control loop");
    }
    let view = world.view("e");
    assert_eq!((view.life.ramp.share, view.answers[0].line.as_str()), (0.0, "worse"));
    world.inside.control();
    let audit = world.inside.experiment_audit("e").unwrap();
    assert!(
        audit.iter().any(|line| &*line.by == "guardrail" && line.what.contains("always-asks is switched off: more errors")),
        "{audit:?}"
    );
    let world = World::new(config(dir.path(), vec![experiment()]), world.now());
    assert_eq!(world.view("e").life.off.len(), 1, "a restart does not bring it back");
    assert_eq!(world.ask("/things/1", "").await.1.as_deref(), Some("cached"));
    assert!(world.order("e", Order::Decide { variant: "always-asks".into() }).unwrap_err().contains("guardrail"));
}

#[tokio::test(start_paused = true)]
async fn its_traffic_grows_by_itself_or_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let ramped = ExperimentConfig { ramp: vec![0.3, 0.6, 1.0], ramp_hold: Span::from_secs(120), ..ttl("e") };
    let world = World::new(config(dir.path(), vec![ramped]), START);
    assert_eq!((world.view("e").life.ramp.share, world.view("e").life.ramp.auto), (0.3, true));
    let mut shares = vec![0.3];
    for _ in 0..40 {
        world.windows(1).await;
        let share = world.view("e").life.ramp.share;
        if shares.last() != Some(&share) {
            shares.push(share);
        }
    }
    assert_eq!(shares, [0.3, 0.6, 1.0]);
    world.order("e", Order::Traffic { share: Some(0.0) }).unwrap();
    for key in 0..30 {
        let leader = world.view("e").leader;
        assert_eq!(world.ask(&format!("/things/{key}"), "").await.1.as_deref(), Some(&*leader), "nobody is measured");
    }
    let before = rows(&world.view("e"));
    world.windows(3).await;
    assert!(rows(&world.view("e")) <= before + 30, "only what had been asked before");
    assert!(world.order("e", Order::Traffic { share: Some(1.5) }).unwrap_err().contains("0 to 1"));
}

/// What a month saves is reckoned by the windows that were measured, not by those in which nobody took part.
#[tokio::test(start_paused = true)]
async fn a_pause_is_not_watched() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(config(dir.path(), vec![ttl("e")]), START);
    world.windows(20).await;
    for key in 0..30 {
        tokio::time::advance(WINDOW / 60).await;
        world.ask(&format!("/things/{key}"), "").await;
    }
    world.order("e", Order::Traffic { share: Some(0.0) }).unwrap();
    let before = world.view("e");
    assert_eq!((before.report.watched, before.report.windows), (19, 19));
    assert!(before.report.dropped.partial > 15, "the window in which it stopped is left out: {:?}", before.report.dropped);
    tokio::time::advance(WINDOW / 2).await;
    world.windows(10).await;
    world.order("e", Order::Traffic { share: Some(1.0) }).unwrap();
    world.windows(4).await;
    let after = world.view("e");
    assert_eq!((after.report.watched, after.report.windows), (21, 21), "two more: the first was under way, the last is open");
    let monthly = |view: &ExperimentView| view.answers[0].usd_per_month.unwrap();
    let (a, b) = (monthly(&before), monthly(&after));
    assert!(b.point < 0.0 && (b.point / a.point - 1.0).abs() < 0.15, "{a:?} {b:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_cheaper_gets_more_of_the_slice_from_a_window_that_has_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(config(dir.path(), vec![ExperimentConfig { thompson: Some(0.2), ..ttl("e") }]), START);
    world.windows(20).await;
    assert_eq!(world.view("e").pmf, [0.5, 0.5], "not before there are enough unit-windows");
    world.windows(40).await;
    let view = world.view("e");
    assert!(view.pmf[1] > 0.75 && (view.pmf[0] + view.pmf[1] - 1.0).abs() < 1e-12, "{:?}", view.pmf);
    let (window, published) = (world.now().nanos() / WINDOW.as_nanos() as i64, view.life.allocations.last().unwrap().from);
    assert!(published <= window + 1, "{published} {window}");
    let mut long = 0;
    for key in 0..300 {
        long += u32::from(world.ask(&format!("/other/{key}"), "").await.1.as_deref() == Some("long"));
    }
    assert!((200..280).contains(&long), "{long} of 300 were drawn so");
    // The same probabilities after a restart: they were kept when they were published.
    let again = World::new(config(dir.path(), vec![ExperimentConfig { thompson: Some(0.2), ..ttl("e") }]), world.now());
    assert_eq!((again.view("e").pmf, again.view("e").life.allocations), (view.pmf, view.life.allocations));
}

/// Keys below `things` are asked for four times in a window. Those below `rare` twice, and have changed each time: what is saved by keeping them is paid for in
/// stale answers.
async fn two_kinds(world: &World, windows: u32) {
    for round in 0..windows * 4 {
        for key in 0..30 {
            world.ask(&format!("/things/{key}"), "").await;
            if round % 4 < 2 {
                world.ask(&format!("/rare/{key}"), "").await;
            }
        }
        tokio::time::advance(WINDOW / 4).await;
        world.inside.settle().await;
        world.inside.control();
    }
}

async fn share_of_long(world: &World, folder: &str) -> f64 {
    let mut long = 0;
    for key in 0..30 {
        long += u32::from(world.ask(&format!("/{folder}/{key}"), "").await.1.as_deref() == Some("long"));
    }
    f64::from(long) / 30.0
}

#[tokio::test(start_paused = true)]
async fn each_unit_gets_what_is_cheaper_for_it_and_what_was_learned_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let contextual = Some(ContextualConfig { uniform: 0.04, half_life: Some(Span::from_secs(24 * 3_600)), budget: None });
    let by_context = || {
        let mut config = config(dir.path(), vec![ExperimentConfig { contextual, margin: 0.49, ..ttl("e") }]);
        (config.log.enabled, config.log.dir) = (true, dir.path().join("logs"));
        Arc::make_mut(&mut config.routes[0]).price_stale = Some(Money::from_nanos(5_000_000));
        config
    };
    let world = World::new(by_context(), START);
    two_kinds(&world, 3).await;
    assert_eq!(world.view("e").pmf, [0.5, 0.5], "declared shares, until there is something to go by");
    two_kinds(&world, 40).await;
    let view = world.view("e");
    let learned = view.report.learned.clone().unwrap();
    let leaning = learned.variants[1].leaning.clone().unwrap();
    assert!((leaning.cheapest - 0.5).abs() < 0.1 && learned.contexts == 60, "{learned:?}");
    assert!(
        leaning.splits.iter().any(|split| split.feature.starts_with("log_rate") && split.low_usd > 0.0 && split.high_usd < 0.0),
        "{leaning:?}"
    );
    let shares = [share_of_long(&world, "things").await, share_of_long(&world, "rare").await];
    assert!(shares[0] > 0.85 && shares[1] < 0.15, "{shares:?}");
    assert!(world.view("e").report.ratio_evidence < 20.0 && learned.explored_usd > 0.0, "{learned:?}");

    // Ended: the contexts of the window that was open are gone with it, what was learned is not.
    let before = world.view("e").report.learned.unwrap();
    world.inside.experiment_rows("e").unwrap();
    let now = world.now();
    world.inside.close().await.unwrap();
    logged_draws(dir.path());
    let world = World::new(by_context(), now);
    let after = world.view("e").report.learned.unwrap();
    assert_eq!((after.explored_usd, after.variants[0].rows), (before.explored_usd, before.variants[0].rows));
    two_kinds(&world, 2).await;
    assert!(share_of_long(&world, "things").await > 0.8);
    let refused = World::try_new(config(dir.path(), vec![ttl("e")]), world.now()).err().unwrap().to_string();
    assert!(refused.contains("`allocation`"), "{refused}");
}

/// Each draw stands in the log with its context, the probabilities that it was drawn by, and what it came to.
fn logged_draws(dir: &Path) {
    let read = |table, columns: &[&str], each: &mut dyn FnMut(&[Value<'_>])| {
        farthing_ledger::read::rows(&dir.join("logs"), table, columns, &mut |cells| {
            each(cells);
            ControlFlow::Continue(())
        })
        .unwrap();
    };
    let (mut costs, mut leaning, spec) = (BTreeMap::new(), 0, UNIT_SPEC.hash());
    read(Decision::TABLE, &["kind", "decision_id", "features", "pmf", "action", "action_value", "spec_hash"], &mut |cells| {
        let (Value::Text("assignment"), Value::U64(id), Value::I32(action)) = (&cells[0], &cells[1], &cells[4]) else { return };
        let (Value::F32List(features), Value::F32List(pmf), Value::F64(usd)) = (&cells[2], &cells[3], &cells[5]) else {
            panic!("{cells:?}")
        };
        assert_eq!((features.len(), pmf.len(), &cells[6]), (UNIT_FEATURES, 2, &Value::Text(&spec)));
        assert!((pmf.iter().sum::<f32>() - 1.0).abs() < 1e-6 && pmf.iter().all(|p| *p >= 0.0199) && pmf[*action as usize] > 0.0);
        leaning += u32::from(pmf[1] > 0.9);
        costs.insert(*id, (usd * 1e9).round() as i64);
    });
    let mut settled = 0;
    read(OutcomeRow::TABLE, &["decision_id", "closed_by", "paid_nanousd"], &mut |cells| {
        let (Value::U64(id), Value::Text("window"), Value::I64(paid)) = (&cells[0], &cells[1], &cells[2]) else { return };
        assert_eq!(costs.get(id), Some(paid));
        settled += 1;
    });
    assert!(leaning > 100 && settled == costs.len() && settled > 1_000, "{leaning} {settled}");
}

#[tokio::test(start_paused = true)]
async fn without_money_nothing_is_explored_but_the_uniform_slice() {
    let dir = tempfile::tempdir().unwrap();
    let contextual = Some(ContextualConfig { uniform: 0.02, half_life: None, budget: Some(Money::ZERO) });
    let world = World::new(config(dir.path(), vec![ExperimentConfig { contextual, margin: 0.49, ..ttl("e") }]), START);
    two_kinds(&world, 20).await;
    let learned = world.view("e").report.learned.unwrap();
    assert_eq!((learned.budget_usd, learned.appetite), (Some(0.0), Some(0.0)));
    let audit = world.inside.experiment_audit("e").unwrap();
    assert_eq!(audit.iter().filter(|line| &*line.by == "budget").count(), 1, "told once: {audit:?}");
    let view = world.view("e");
    let last = view.life.allocations.last().unwrap();
    for unit in 0..30u64 {
        let [a, b, ..] = last.pmf_of(unit);
        assert!((a.min(b) - 0.01).abs() < 1e-6 && (a + b - 1.0).abs() < 1e-6, "{a} {b}");
    }
}

/// Every key is asked for anew every fifteen seconds and never changes: from twenty seconds on the rule's first TTL makes the second of two a hit.
#[tokio::test(start_paused = true)]
async fn a_variant_begins_the_rule_of_ttls_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let begins = |name, base_ttl_ms| variant(name, Overrides { ttl: Some("rule".into()), base_ttl_ms, ..Overrides::default() });
    let experiment = ExperimentConfig { variants: vec![begins("route", None), begins("later", Some(20_000))], ..ttl("e") };
    let mut config = config(dir.path(), vec![experiment]);
    Arc::make_mut(&mut config.routes[0]).base_ttl = Span::from_secs(2);
    let world = World::new(config, START);
    world.windows(12).await;
    let view = world.view("e");
    let [route, later] = [0, 1].map(|of| view.report.variants[of].bill_usd / view.report.variants[of].requests as f64);
    assert!(later < 0.8 * route, "{later} against {route}: {:?}", view.report);
}

#[tokio::test(start_paused = true)]
async fn units_are_those_that_were_named() {
    let dir = tempfile::tempdir().unwrap();
    let same = |unit| ExperimentConfig {
        variants: vec![variant("a", Overrides::default()), variant("b", Overrides::default())],
        unit: Some(unit),
        ..ttl(unit)
    };
    let world = World::new(config(dir.path(), vec![same("session")]), START);
    let mut drawn = BTreeMap::new();
    for session in 0..20 {
        for key in 0..3 {
            let variant = world.ask(&format!("/things/{key}"), &format!("s{session}")).await.1.unwrap();
            assert_eq!(drawn.entry(session).or_insert_with(|| variant.clone()), &variant, "one session, one variant");
        }
    }
    assert!(drawn.values().any(|v| v == "a") && drawn.values().any(|v| v == "b"));
    let world = World::new(config(dir.path(), vec![same("group")]), START);
    let mut groups = BTreeMap::new();
    for group in 0..20 {
        for key in 0..3 {
            let variant = world.ask(&format!("/{group}/{key}"), "").await.1.unwrap();
            assert_eq!(groups.entry(group).or_insert_with(|| variant.clone()), &variant, "one folder, one variant");
        }
    }
    assert!(groups.values().any(|v| v == "a") && groups.values().any(|v| v == "b"));
    let unsafe_unit = ExperimentConfig { unit: Some("tenant"), ..ttl("e") };
    let refused = World::try_new(config(dir.path(), vec![unsafe_unit]), START).err().unwrap().to_string();
    assert!(refused.contains("`ttl`") && refused.contains("`tenant`") && refused.contains("key, group, block"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_key_is_in_one_experiment_of_a_layer_and_a_conflicting_pair_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = World::try_new(config(dir.path(), vec![ttl("one"), ttl("other")]), START).err().unwrap().to_string();
    assert!(refused.contains("one") && refused.contains("other") && refused.contains("`ttl`"), "{refused}");
    let renamed = |experiment: ExperimentConfig, names: [&str; 2]| {
        let variants = experiment.variants.iter().zip(names).map(|(v, name)| VariantConfig { name: name.into(), ..v.clone() }).collect();
        ExperimentConfig { variants, ..experiment }
    };
    let part = |name, from, upto, names| ExperimentConfig { layer: Some(("l".into(), from, upto)), ..renamed(ttl(name), names) };
    let both = vec![part("one", 0.0, 0.5, ["a", "b"]), part("other", 0.5, 1.0, ["c", "d"])];
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(config(dir.path(), both), START);
    let mut seen = BTreeMap::<String, u32>::new();
    for key in 0..80 {
        *seen.entry(world.ask(&format!("/things/{key}"), "").await.1.unwrap()).or_default() += 1;
    }
    assert_eq!(seen.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    assert!(seen.values().all(|n| (8..35).contains(n)), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn the_export_has_what_the_report_has() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(config(dir.path(), vec![ttl("e")]), START);
    world.windows(12).await;
    world.order("e", Order::Stop).unwrap();
    let csv = world.inside.experiment_rows("e").unwrap();
    let mut lines = csv.lines();
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = |name: &str| columns.iter().position(|c| *c == name).unwrap();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let report = world.view("e").report;
    assert_eq!(rows.len() as u64, report.variants.iter().map(|v| v.unit_windows).sum::<u64>());
    for (index, variant) in report.variants.iter().enumerate() {
        let of = |what: &str| -> f64 {
            let mine = rows.iter().filter(|row| row[column("variant")] == index.to_string());
            mine.map(|row| row[column(what)].parse::<f64>().unwrap()).sum()
        };
        assert!((of("cost_usd") - variant.cost_usd).abs() < 1e-12 && of("requests") == variant.requests as f64, "{}", variant.name);
    }
    // Evidence that was kept before rows were cut short counts: what is beyond is taken away.
    let path = dir.path().join("experiments/e.rows.csv");
    std::fs::write(&path, csv.clone() + "1,2,3").unwrap();
    let world = World::new(config(dir.path(), vec![ttl("e")]), world.now());
    assert_eq!(world.inside.experiment_rows("e").unwrap(), csv);
}
