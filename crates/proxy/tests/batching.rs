//! E1 to E4, K7 on the whole request path: who rides together, what each pays, what the log and the budgets say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use farthing_config::{
    BatchConfig, BatchFormat, BatchWindow, Config, ExperimentConfig, Mode, Prices, Provider, Route, TtlBy, VariantConfig,
};
use farthing_contract::log::{CallRow, Request as RequestRow, Row, Value};
use farthing_ledger::read;
use farthing_models::{Store, StoreOptions};
use farthing_policy::batch::{Alone, Flush};
use farthing_proxy::Inside;
use farthing_types::{
    Body, BudgetSpec, Call, CallReport, Failure, FailureKind, LimitScope, LimitSpec, Money, OnLimit, Overrides, RateSpec, Reply, Span,
    Time, VirtualClock,
};
use farthing_upstream::{BatchStats, Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const START: Time = Time::from_millis(1_764_201_600_000);
/// Not divisible by most sizes of a batch.
const PRICE: i64 = 1_000_003;

/// A provider of things and of envelopes of them, which bills each call that reaches it.
#[derive(Default)]
struct Shop(Mutex<Vec<String>>, Mutex<Span>);

struct Wire(Arc<Shop>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let shop = self.0.clone();
        async move {
            let body: serde_json::Value = serde_json::from_slice(&call.body.as_full().unwrap()).unwrap_or_default();
            shop.0.lock().push(call.target.to_string());
            let takes = *shop.1.lock();
            if takes >= call.deadline {
                tokio::time::sleep(call.deadline).await;
                call.sink.attempt(CallReport { failure: Some(FailureKind::Timeout), ..CallReport::only(&call, "wire", None) });
                return Err(Failure::sent(FailureKind::Timeout, "late"));
            }
            tokio::time::sleep(takes).await;
            let thing = |url: &str| format!("{{\"is\":\"{url}\"}}");
            let answer = match body["requests"].as_array() {
                None => thing(&call.target.to_string()),
                Some(requests) => {
                    let one = |request: &serde_json::Value| {
                        format!("{{\"id\":{},\"status\":200,\"body\":{}}}", request["id"], thing(request["url"].as_str().unwrap()))
                    };
                    format!("{{\"responses\":[{}]}}", requests.iter().map(one).collect::<Vec<_>>().join(","))
                }
            };
            call.sink.attempt(CallReport::only(&call, "wire", Some(StatusCode::OK)));
            let headers = HeaderMap::from_iter([("content-type".parse().unwrap(), HeaderValue::from_static("application/json"))]);
            Ok(Reply { status: StatusCode::OK, headers, body: Body::full(answer) })
        }
        .boxed()
    }
}

struct World {
    inside: Inside,
    shop: Arc<Shop>,
    dir: tempfile::TempDir,
}

fn config(dir: &Path, min_rate: f64) -> Config {
    let mut config = Config { state_dir: dir.to_owned(), ..Config::default() };
    config.log.dir = dir.join("logs");
    config.log.row_rate = u32::MAX;
    config.holdout.share = 0.0;
    let mut provider = Provider { name: "shop".into(), base_url: "http://shop.test".parse().unwrap(), ..Provider::default() };
    provider.prices = Some(Prices::per_call(Money::from_nanos(PRICE)));
    let mut route = Route { name: "shop".into(), provider: "shop".into(), mode: Mode::Override, ..Route::default() };
    (route.ttl, route.deadline) = (TtlBy::Fixed(Span::from_secs(60)), Span::from_secs(10));
    route.batch = Some(BatchConfig { min_rate, ..BatchConfig::new(BatchFormat::Rest { path: "/batch".into() }) });
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    config
}

impl World {
    /// Every call that may waits for others.
    fn patient() -> Self {
        Self::new(|config| config, 0.0)
    }

    fn new(change: impl FnOnce(Config) -> Config, min_rate: f64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::at(change(config(dir.path(), min_rate)), Arc::new(VirtualClock::new(START)), dir)
    }

    fn at(config: Config, clock: Arc<VirtualClock>, dir: tempfile::TempDir) -> Self {
        let shop = Arc::new(Shop::default());
        let wire = shop.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone())) };
        let store = Store::open(dir.path().join("models"), StoreOptions::default());
        let inside = Inside::new(&Arc::new(config), clock, store, &client).unwrap();
        Self { inside, shop, dir }
    }

    fn experiment(batch_window_ms: [Option<u64>; 2]) -> ExperimentConfig {
        let variant = |batch_window_ms| VariantConfig {
            name: format!("{batch_window_ms:?}").into(),
            share: 0.5,
            overrides: Overrides { batch_window_ms, ..Overrides::default() },
        };
        ExperimentConfig {
            name: "waits".into(),
            hypothesis: "twenty milliseconds are enough".into(),
            variants: batch_window_ms.map(variant).into(),
            window: Span::from_secs(60),
            slice: 1.0,
            ramp: vec![1.0],
            ..ExperimentConfig::default()
        }
    }

    async fn get(&self, path: &str, fields: &[(&str, &str)]) -> (HeaderMap, String) {
        let mut builder = Request::builder().uri(path).header("host", "farthing.test");
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let (head, body) = self.inside.ask(builder.body(Body::empty()).unwrap()).await.into_parts();
        assert_eq!(head.status, StatusCode::OK);
        (head.headers, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    /// Nothing is kept or shared, and one limit counts attempts on the provider.
    fn limited(limit: Option<LimitSpec>) -> Self {
        Self::new(
            |mut config| {
                config.limits.extend(limit.map(|limit| LimitSpec { name: "l".into(), scope: LimitScope::Provider, ..limit }));
                let route = Route { cache: false, dedupe: false, ..(*config.routes[0]).clone() };
                config.routes[0] = Arc::new(route);
                config
            },
            0.0,
        )
    }

    /// The statuses of so many calls at once, the first of which waits for 400 ms alone; and when each was told.
    async fn with_one_impatient(&self, calls: usize) -> Vec<(u16, Span)> {
        let began = tokio::time::Instant::now();
        let one = |n: usize| async move {
            let mut builder = Request::builder().uri(format!("/things/{n}")).header("host", "farthing.test");
            if n == 0 {
                builder = builder.header("x-farthing-deadline-ms", "400");
            }
            let response = self.inside.ask(builder.body(Body::empty()).unwrap()).await;
            (response.status().as_u16(), began.elapsed())
        };
        join_all((0..calls).map(one)).await
    }

    fn calls(&self) -> Vec<String> {
        let mut calls = self.shop.0.lock().clone();
        calls.sort();
        calls
    }

    fn stats(&self) -> Arc<BatchStats> {
        self.inside.batches().remove(0).stats
    }
}

fn rows<R: Row>(dir: &Path, columns: &[&str], mut each: impl FnMut(&[Value<'_>])) {
    read::rows(&dir.join("logs"), R::TABLE, columns, &mut |cells| {
        each(cells);
        ControlFlow::Continue(())
    })
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn members_share_the_bill_to_the_nano_dollar_and_the_log_says_so() {
    let world = World::patient();
    let paths: Vec<String> = (0..7).map(|n| format!("/things/{n}")).collect();
    let answers = join_all(paths.iter().map(|path| world.get(path, &[]))).await;
    for (path, (headers, body)) in paths.iter().zip(answers) {
        assert_eq!(body, format!("{{\"is\":\"{path}\"}}"));
        assert_eq!(headers.get("x-farthing-cost-usd"), None, "a share is not known at the head");
    }
    assert_eq!(world.calls(), ["/batch"]);
    world.inside.settle().await;
    let totals = &world.inside.totals().routes["shop"];
    assert_eq!((totals.attempts, totals.bill_usd.nanos(), totals.base_usd.nanos()), (1, PRICE, PRICE * 7));
    // Each part is a copy of its own.
    assert_eq!(world.get("/things/3", &[]).await.1, "{\"is\":\"/things/3\"}");
    assert_eq!(world.calls().len(), 1);

    let World { inside, dir, .. } = world;
    inside.close().await.unwrap();
    let (mut shares, mut ids) = (Vec::new(), std::collections::BTreeSet::new());
    rows::<CallRow>(dir.path(), &["cost_nanousd", "batch_id", "batch_size", "sent", "status"], |cells| {
        let [Value::I64(cost), Value::U64(batch), Value::I64(7), Value::Bool(true), Value::I32(200)] = cells else { panic!("{cells:?}") };
        shares.push(*cost);
        ids.insert(*batch);
    });
    assert_eq!((shares.len(), shares.iter().sum::<i64>(), ids.len()), (7, PRICE, 1));
    assert!(shares.iter().all(|share| (share - PRICE / 7).abs() <= 1), "{shares:?}");
    let (mut saved, mut hits) = (0, 0);
    rows::<RequestRow>(dir.path(), &["base_nanousd", "cost_nanousd", "saved_by"], |cells| match cells {
        [Value::I64(PRICE), Value::I64(cost), Value::Text("batch")] => saved += PRICE - cost,
        [Value::I64(PRICE), Value::I64(0), Value::Text("l1")] => hits += 1,
        _ => panic!("{cells:?}"),
    });
    assert_eq!((saved, hits), (PRICE * 6, 1));
}

/// What budgets set aside is written to a disk, so this runs in real time; the batch goes because it is full.
#[tokio::test]
async fn budgets_set_the_price_of_a_call_aside_and_are_settled_with_the_share() {
    let world = World::new(
        |mut config| {
            // Room for seven calls, and for the attempts that each of them may take.
            let limit = Money::from_nanos(PRICE * 7 * 3);
            config.budgets = vec![BudgetSpec { name: "all".into(), limit, ..BudgetSpec::default() }];
            let mut route = (*config.routes[0]).clone();
            let batch = route.batch.as_mut().unwrap();
            (batch.max_size, batch.window) = (7, BatchWindow::Fixed(Span::from_secs(5)));
            config.routes[0] = Arc::new(route);
            config
        },
        0.0,
    );
    let paths: Vec<String> = (0..7).map(|n| format!("/things/{n}")).collect();
    join_all(paths.iter().map(|path| world.get(path, &[]))).await;
    world.inside.settle().await;
    let counter = world.inside.budgets().unwrap().counters.remove(0);
    assert_eq!((world.calls().len(), counter.spent.nanos(), counter.reserved.nanos()), (1, PRICE, 0));
    assert_eq!(world.inside.budgets().unwrap().overruns, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_out_or_switched_off_costs_what_it_would_without_farthing() {
    let world = World::new(
        |mut config| {
            config.holdout.share = 1.0;
            config
        },
        0.0,
    );
    join_all(["/a", "/b"].map(|path| world.get(path, &[]))).await;
    assert_eq!(world.calls(), ["/a", "/b"]);

    let world = World::patient();
    join_all(["/a", "/b"].map(|path| world.get(path, &[("x-farthing-cache", "off")]))).await;
    assert_eq!(world.calls(), ["/a", "/b"]);

    let world = World::new(
        |mut config| {
            let route = Route { mode: Mode::Observe, ..(*config.routes[0]).clone() };
            config.routes[0] = Arc::new(route);
            config
        },
        0.0,
    );
    join_all(["/a", "/b"].map(|path| world.get(path, &[]))).await;
    assert_eq!((world.calls(), world.stats().members()), (vec!["/a".to_owned(), "/b".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn principals_do_not_ride_together() {
    let world = World::patient();
    let one = [("authorization", "Bearer one")];
    let two = [("authorization", "Bearer two")];
    tokio::join!(world.get("/a", &one), world.get("/b", &two), world.get("/c", &one), world.get("/d", &two));
    assert_eq!((world.calls(), world.stats().members()), (vec!["/batch".to_owned(), "/batch".to_owned()], 4));
}

#[tokio::test(start_paused = true)]
async fn followers_and_hits_take_no_place() {
    let world = World::patient();
    join_all(["/a", "/a", "/b", "/a", "/b"].map(|path| world.get(path, &[]))).await;
    join_all(["/a", "/b"].map(|path| world.get(path, &[]))).await;
    assert_eq!((world.calls(), world.stats().members()), (vec!["/batch".to_owned()], 2));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_waiting() {
    let world = World::patient();
    let start = tokio::time::Instant::now();
    tokio::join!(world.get("/a", &[]), world.get("/b", &[("x-farthing-deadline-ms", "60")]));
    assert_eq!((start.elapsed(), world.stats().batches(Flush::Deadline)), (Span::from_millis(30), 1));
}

/// The route waits as long as its traffic is worth, 200 ms where it is thin; one variant waits for 20 ms.
#[tokio::test(start_paused = true)]
async fn a_variant_of_an_experiment_waits_for_a_time_of_its_own() {
    // After the first sixth of a window.
    let clock = Arc::new(VirtualClock::new(START + Span::from_secs(30)));
    let dir = tempfile::tempdir().unwrap();
    let config = Config { experiments: vec![World::experiment([None, Some(20)])], ..config(dir.path(), 0.0) };
    let world = World::at(config, clock.clone(), dir);
    let mut waits = std::collections::BTreeMap::new();
    for n in 0..20 {
        clock.advance(Span::from_secs(60));
        tokio::time::advance(Span::from_secs(60)).await;
        let start = tokio::time::Instant::now();
        let debug = [("x-farthing-debug", "1")];
        let (of_a, of_b) = (format!("/a/{n}"), format!("/b/{n}"));
        let ((a, _), (b, _)) = tokio::join!(world.get(&of_a, &debug), world.get(&of_b, &debug));
        let variant = |headers: &HeaderMap| headers["x-farthing-variant"].to_str().unwrap().to_owned();
        assert_eq!(variant(&a), variant(&b), "the route as a whole has one");
        waits.entry(variant(&a)).or_insert_with(std::collections::BTreeSet::new).insert(start.elapsed().as_millis());
    }
    assert_eq!(waits.into_iter().collect::<Vec<_>>(), [("None".to_owned(), [200].into()), ("Some(20)".to_owned(), [20].into())]);
    assert_eq!(world.stats().members(), 40);
    let report = world.inside.experiment("waits").unwrap();
    assert_eq!(serde_json::to_value(&report.config.variants[1].overrides).unwrap(), serde_json::json!({"batch_window_ms": 20}));
    assert!(report.report.calls > 0 && report.report.dropped.burn_in == 0, "it is compared: {:?}", report.report);
}

/// Its part is in the call that waits for its turn, so its share of the bill is due.
#[tokio::test(start_paused = true)]
async fn a_member_whose_client_leaves_pays_its_share_all_the_same() {
    let world = World::new(
        |mut config| {
            let requests = Some(RateSpec { count: 1, period: Span::from_secs(1), burst: 1 });
            let limit =
                LimitSpec { name: "l".into(), scope: LimitScope::Provider, requests, on_limit: [OnLimit::Wait; 3], ..LimitSpec::default() };
            config.limits = vec![limit];
            config
        },
        0.0,
    );
    let (mut leaving, mut staying) = (Box::pin(world.get("/a", &[])), Box::pin(world.get("/b", &[])));
    let first = world.get("/first", &[("x-farthing-cache", "off")]);
    let waiting = tokio::time::timeout(Span::from_millis(500), async { tokio::join!(first, &mut leaving, &mut staying) });
    assert!(waiting.await.is_err(), "both wait for their turn");
    drop(leaving);
    assert_eq!(staying.await.1, "{\"is\":\"/b\"}");
    world.inside.settle().await;
    assert_eq!(world.calls(), ["/batch", "/first"]);

    let World { inside, dir, .. } = world;
    inside.close().await.unwrap();
    let mut shares = Vec::new();
    rows::<CallRow>(dir.path(), &["cost_nanousd", "batch_size"], |cells| match cells {
        [Value::I64(cost), Value::U64(2) | Value::I64(2)] => shares.push(*cost),
        [Value::I64(PRICE), _] => (),
        _ => panic!("{cells:?}"),
    });
    assert_eq!((shares.len(), shares.iter().sum::<i64>()), (2, PRICE));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_not_broken_off_for_the_least_patient() {
    let world = World::limited(None);
    *world.shop.1.lock() = Span::from_millis(500);
    let told = world.with_one_impatient(10).await;
    assert_eq!(told[0], (504, Span::from_millis(400)), "its own time is over");
    assert!(told[1..].iter().all(|told| *told == (200, Span::from_millis(700))), "{told:?}");
    world.inside.settle().await;
    assert_eq!(world.calls(), ["/batch"]);
    let totals = &world.inside.totals().routes["shop"];
    assert_eq!((totals.attempts, totals.bill_usd.nanos()), (1, PRICE), "the impatient one's share is due, too");
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_its_turn_as_long_as_the_most_patient() {
    let world = World::limited(Some(LimitSpec { concurrency: Some(1), on_limit: [OnLimit::Wait; 3], ..LimitSpec::default() }));
    *world.shop.1.lock() = Span::from_secs(1);
    let (_, told) = tokio::join!(world.get("/first", &[("x-farthing-cache", "off")]), world.with_one_impatient(5));
    assert_eq!(told[0], (504, Span::from_millis(400)));
    assert!(told[1..].iter().all(|told| *told == (200, Span::from_secs(2))), "{told:?}");
    assert_eq!(world.calls(), ["/batch", "/first"]);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_batch_begins_with_its_turn() {
    let requests = Some(RateSpec { count: 10, period: Span::from_secs(60), burst: 1 });
    let world = World::limited(Some(LimitSpec { requests, on_limit: [OnLimit::Wait; 3], ..LimitSpec::default() }));
    world.get("/first", &[("x-farthing-cache", "off")]).await;
    // The turn comes after six seconds, and a batch may take five.
    *world.shop.1.lock() = Span::from_secs(3);
    let began = tokio::time::Instant::now();
    join_all((0..20).map(|n| async move { n }).map(|n| async { world.get(&format!("/{}", n.await), &[]).await })).await;
    assert_eq!((began.elapsed(), world.calls()), (Span::from_secs(9), vec!["/batch".to_owned(), "/first".to_owned()]));

    let world = World::limited(Some(LimitSpec { requests, on_limit: [OnLimit::Wait; 3], ..LimitSpec::default() }));
    *world.shop.1.lock() = Span::from_secs(6);
    let told = world.with_one_impatient(2).await;
    assert_eq!((told[1].0, world.calls()[..1].to_vec()), (504, vec!["/batch".to_owned()]), "{told:?}");
    assert!(told[1].1 <= Span::from_secs(10), "{told:?}");
}

/// K7: 500 calls a second at random moments, the default configuration.
#[tokio::test(start_paused = true)]
async fn batches_hold_more_than_five_where_traffic_allows() {
    let world = World::new(|config| config, 10.0);
    let mut rng = StdRng::seed_from_u64(1);
    let mut at = 0.0;
    let asked = (0..5_000).map(|n| {
        at += -rng.random_range(f64::EPSILON..1.0f64).ln() / 500.0;
        let world = &world;
        let when = tokio::time::Instant::now() + Span::from_secs_f64(at);
        async move {
            tokio::time::sleep_until(when).await;
            let path = format!("/things/{n}");
            assert_eq!(world.get(&path, &[]).await.1, format!("{{\"is\":\"{path}\"}}"));
        }
    });
    join_all(asked.collect::<Vec<_>>()).await;
    let stats = world.stats();
    let batches: u64 = Flush::ALL.iter().map(|reason| stats.batches(*reason)).sum();
    let (single, slow) = (stats.went_alone(Alone::Single), stats.went_alone(Alone::Slow));
    assert!(stats.members() > 4_900 && slow < 50, "{} members, {slow} before the rate was known", stats.members());
    let mean = stats.members() as f64 / (batches + single) as f64;
    assert!(mean > 5.0, "{batches} batches, {single} in vain: {mean}");
}
