//! M7, X2 on the whole request path: a number of a route's plan moves by experiments of the proxy's own, one at a time, within its bounds; over restarts, under a
//! freeze, and beside an operator's experiment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farthing_config::{
    BatchConfig, BatchFormat, BatchWindow, Config, ExperimentConfig, Mode, Prices, Provider, Route, TtlBy, TuneConfig, VariantConfig,
};
use farthing_experiment::tuning::Outcome;
use farthing_experiment::{Order, Stage};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::{Inside, TuningView};
use farthing_types::{Body, Call, CallReport, Clock, Failure, Money, Overrides, Reply, Span, Time};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;

const START: Time = Time::from_millis(1_764_201_600_000);
const WINDOW: Span = Span::from_secs(10);
/// How long a call takes.
const TAKES: Span = Span::from_millis(5);
/// How far apart the three requests of a visit are.
const APART: Span = Span::from_millis(30);

/// The time of timers, so that both stand still and go on together. A later world goes on where the one before ended.
struct Timeline(tokio::time::Instant, Time);

impl Clock for Timeline {
    fn now(&self) -> Time {
        self.1 + self.0.elapsed()
    }
}

/// A provider of things and of envelopes of them, which bills each call.
struct Wire(Arc<AtomicU64>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::time::sleep(TAKES).await;
            let body: serde_json::Value = serde_json::from_slice(&call.body.as_full().unwrap()).unwrap_or_default();
            let one = |request: &serde_json::Value| format!("{{\"id\":{},\"status\":200,\"body\":{{}}}}", request["id"]);
            let answer = body["requests"].as_array().map_or_else(
                || "{}".to_owned(),
                |requests| format!("{{\"responses\":[{}]}}", requests.iter().map(one).collect::<Vec<_>>().join(",")),
            );
            call.sink.attempt(CallReport::only(&call, "wire", Some(StatusCode::OK)));
            let headers = HeaderMap::from_iter([("content-type".parse().unwrap(), HeaderValue::from_static("application/json"))]);
            Ok(Reply { status: StatusCode::OK, headers, body: Body::full(answer) })
        }
        .boxed()
    }
}

/// Batches wait for 20 ms, and may for 5 to 160; answers that take longer than 100 ms are late.
fn config(dir: &Path) -> Config {
    let mut config = Config { state_dir: dir.to_owned(), ..Config::default() };
    config.log.enabled = false;
    config.holdout.share = 0.0;
    let mut provider = Provider { name: "shop".into(), base_url: "http://shop.test".parse().unwrap(), ..Provider::default() };
    provider.prices = Some(Prices::per_call(Money::from_nanos(1_000_003)));
    let mut route = Route { name: "shop".into(), provider: "shop".into(), mode: Mode::Override, cache: false, ..Route::default() };
    (route.ttl, route.deadline) = (TtlBy::Fixed(Span::from_secs(60)), Span::from_secs(10));
    let batch = BatchConfig::new(BatchFormat::Rest { path: "/batch".into() });
    route.batch = Some(BatchConfig { min_rate: 0.0, window: BatchWindow::Fixed(Span::from_millis(20)), ..batch });
    let millis = Span::from_millis;
    let latency = Some(millis(100));
    route.tune = Some(TuneConfig { batch_window: Some((millis(5), millis(160))), window: Some(WINDOW), latency, ..TuneConfig::default() });
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    config
}

struct World {
    inside: Inside,
    calls: Arc<AtomicU64>,
    clock: Arc<Timeline>,
}

impl World {
    fn new(config: Config, at: Time) -> Self {
        let models = config.state_dir.join("models");
        let calls = Arc::<AtomicU64>::default();
        let wire = calls.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone())) };
        let store = Store::open(models, StoreOptions::default());
        let clock = Arc::new(Timeline(tokio::time::Instant::now(), at));
        Self { inside: Inside::timed(&Arc::new(config), clock.clone(), store, &client).unwrap(), calls, clock }
    }

    /// Three requests, one after the other; the calls that were made for them.
    async fn visit(&self) -> u64 {
        let before = self.calls.load(Ordering::Relaxed);
        let ask = |nth: u32| async move {
            tokio::time::sleep(APART * nth).await;
            let request = Request::builder().uri(format!("/things/{nth}")).header("host", "farthing.test").body(Body::empty()).unwrap();
            let (head, body) = self.inside.ask(request).await.into_parts();
            assert_eq!(head.status, StatusCode::OK);
            body.collect().await.unwrap();
        };
        join_all((0..3).map(ask)).await;
        self.inside.settle().await;
        self.calls.load(Ordering::Relaxed) - before
    }

    /// Three visits in a window, after its first sixth, and a turn of the control loop.
    async fn window(&self) {
        for _ in 0..3 {
            tokio::time::advance(WINDOW / 4).await;
            self.visit().await;
        }
        let length = WINDOW.as_nanos() as i64;
        let left = length - self.clock.now().nanos().rem_euclid(length);
        tokio::time::advance(Span::from_nanos(left as u64)).await;
        self.inside.control();
    }

    async fn until(&self, done: impl Fn(&TuningView) -> bool) {
        for _ in 0..2_500 {
            if done(&self.view()) {
                return;
            }
            self.window().await;
        }
        panic!("{:?}", self.view());
    }

    fn view(&self) -> TuningView {
        self.inside.tunings().remove(0)
    }

    fn trying(&self) -> Option<(f64, String)> {
        self.view().trying.map(|trying| (trying.candidate.value, trying.name.to_string()))
    }

    fn past(&self) -> Vec<(f64, Outcome)> {
        self.view().past.iter().map(|past| (past.to, past.outcome)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_too_short_grows_to_what_is_best_and_no_farther() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(config(dir.path()), START);
    assert_eq!((world.visit().await, world.trying()), (3, None), "nobody comes within 20 ms");
    world.window().await;
    assert_eq!(world.trying().unwrap(), (40.0, "tune.shop.batch_window.1".to_owned()));
    world.until(|view| view.past.len() == 1).await;
    assert_eq!(world.past(), [(40.0, Outcome::Promoted)]);
    assert_eq!(world.inside.experiment("tune.shop.batch_window.1").unwrap().life.stage, Stage::Decided);
    let audit = world.inside.experiment_audit("tune.shop.batch_window.1").unwrap();
    assert!(audit.iter().any(|line| &*line.by == "tuning" && line.reason.as_deref() == Some("better")), "{audit:?}");

    // Killed in the middle of the next: what was found stays, and what was under way goes on with what it knew.
    world.until(|view| view.trying.is_some()).await;
    for _ in 0..30 {
        world.window().await;
    }
    let (name, rows) = (world.trying().unwrap().1, |world: &World, name: &str| {
        world.inside.experiment(name).unwrap().report.variants.iter().map(|variant| variant.unit_windows).sum::<u64>()
    });
    let (before, now) = (rows(&world, &name), world.clock.now());
    drop(world);
    let world = World::new(config(dir.path()), now);
    assert_eq!((world.trying().unwrap(), rows(&world, &name)), ((80.0, name), before));
    assert!(before >= 25 && world.past() == [(40.0, Outcome::Promoted)]);

    world.until(|view| view.knobs[0].settled.is_some()).await;
    assert_eq!(world.past(), [(40.0, Outcome::Promoted), (80.0, Outcome::Promoted), (160.0, Outcome::Worse)], "longer, answers are late");
    assert_eq!((world.view().knobs[0].value, world.view().knobs[0].configured), (80.0, 20.0));
    assert_eq!(world.visit().await, 1, "all three ride together, and no experiment is on the route");
    let again = World::new(config(dir.path()), world.clock.now());
    assert_eq!((again.view().knobs[0].value, again.visit().await), (80.0, 1), "a decided one stays decided");
    let files: Vec<String> = std::fs::read_dir(dir.path().join("experiments"))
        .unwrap()
        .map(|file| file.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("tune."))
        .collect();
    assert!(files.iter().all(|name| name.starts_with("tune.shop.batch_window.3.")), "only the last one's evidence is kept: {files:?}");
    // Other bounds begin anew, from what is configured.
    let mut other = config(dir.path());
    Arc::make_mut(&mut other.routes[0]).tune.as_mut().unwrap().batch_window = Some((Span::from_millis(10), Span::from_millis(40)));
    let world = World::new(other, again.clock.now());
    assert_eq!((world.view().knobs[0].value, world.visit().await), (20.0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_freeze_stops_it_and_it_gives_way_to_an_operators_experiment() {
    let dir = tempfile::tempdir().unwrap();
    let variant =
        |name: &str, dedupe| VariantConfig { name: name.into(), share: 0.5, overrides: Overrides { dedupe, ..Overrides::default() } };
    let of_operator = ExperimentConfig {
        name: "mine".into(),
        hypothesis: "joining saves".into(),
        variants: vec![variant("joined", None), variant("apart", Some(false))],
        start: "draft",
        ..ExperimentConfig::default()
    };
    let world = World::new(Config { experiments: vec![of_operator], ..config(dir.path()) }, START);
    world.inside.freeze(true, "a launch").unwrap();
    for _ in 0..3 {
        world.window().await;
    }
    assert_eq!(world.trying(), None, "nothing begins");
    world.inside.freeze(false, "it is over").unwrap();
    world.window().await;
    assert_eq!(world.trying().unwrap().1, "tune.shop.batch_window.1");
    world.inside.freeze(true, "another launch").unwrap();
    let left = world.view().trying.unwrap().left;
    let name = world.trying().unwrap().1;
    let better = || world.inside.experiment(&name).unwrap().answers[0].line == "better";
    for _ in (0..1_500).take_while(|_| !better()) {
        world.window().await;
    }
    let frozen = world.view();
    assert_eq!(world.inside.experiment(&name).unwrap().answers[0].line, "better", "it would be promoted");
    assert_eq!((frozen.knobs[0].value, frozen.trying.unwrap().left, frozen.past.len()), (20.0, left, 0), "nothing is, and no time passes");

    world.inside.order_experiment("mine", &Order::Start, "ours comes first").unwrap();
    assert!(world.inside.experiment(&name).is_none(), "two experiments on a route would each spoil the other");
    world.inside.freeze(false, "it is over").unwrap();
    world.window().await;
    assert_eq!((world.trying(), world.view().waits.as_deref()), (None, Some("experiment mine")));
    world.inside.order_experiment("mine", &Order::Stop, "we know enough").unwrap();
    world.window().await;
    assert_eq!((world.trying().unwrap().1.as_str(), world.view().waits), ("tune.shop.batch_window.2", None), "tried anew");
    world.inside.order_experiment("tune.shop.batch_window.2", &Order::Stop, "not this one").unwrap();
    world.window().await;
    world.window().await;
    assert_eq!((world.past(), world.trying().unwrap().0), (vec![(40.0, Outcome::Untold)], 10.0), "the other side's turn");
    world.inside.order_experiment("tune.shop.batch_window.3", &Order::Decide { variant: "candidate".into() }, "we like it").unwrap();
    world.window().await;
    assert_eq!((world.view().knobs[0].value, world.past().last().unwrap().1), (10.0, Outcome::Promoted));
}

/// An experiment on keys of a route that keeps answers for 20 s, and where a wait is worth a call.
fn kept(dir: &Path, variants: [(&str, Option<u64>); 2]) -> Config {
    let mut config = config(dir);
    let route = Arc::make_mut(&mut config.routes[0]);
    (route.cache, route.batch, route.tune) = (true, None, None);
    (route.ttl, route.price_wait) = (TtlBy::Fixed(Span::from_secs(20)), Money::from_nanos(1_000_003));
    let variant = |(name, refresh_ahead_ms): (&str, Option<u64>)| VariantConfig {
        name: name.into(),
        share: 0.5,
        overrides: Overrides { refresh_ahead_ms, ..Overrides::default() },
    };
    config.experiments = vec![ExperimentConfig {
        name: "e".into(),
        hypothesis: "a wait is worth a refresh".into(),
        metric: "with-waiting",
        variants: variants.map(variant).into(),
        window: Span::from_secs(120),
        slice: 1.0,
        ramp: vec![1.0],
        min_units: 10,
        ..ExperimentConfig::default()
    }];
    config
}

#[tokio::test(start_paused = true)]
async fn a_variant_refreshes_earlier_and_what_clients_wait_is_priced() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(kept(dir.path(), [("never", Some(0)), ("early", Some(2_000))]), START);
    for _ in 0..12 * 120 {
        tokio::time::advance(Span::from_secs(1)).await;
        for key in 0..20 {
            let request = Request::builder().uri(format!("/things/{key}")).header("host", "farthing.test").body(Body::empty()).unwrap();
            world.inside.ask(request).await.into_body().collect().await.unwrap();
        }
        world.inside.settle().await;
        world.inside.plan();
        world.inside.control();
    }
    let report = world.inside.experiment("e").unwrap().report;
    let [never, early] = [0, 1].map(|of| &report.variants[of]);
    let each = |of: &farthing_experiment::VariantReport| [of.bill_usd, of.cost_usd - of.bill_usd].map(|usd| usd / of.requests as f64);
    let ([bill, waits], [bill_early, waits_early]) = (each(never), each(early));
    assert!(bill_early > 1.02 * bill, "copies are given up earlier: {report:?}");
    assert!(waits > 0.0 && waits_early < 0.6 * waits, "and fewer wait: {waits_early} {waits} {report:?}");
}
