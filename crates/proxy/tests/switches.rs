//! C4, C6, C7 on the whole request path: the bypass switch, a batch window that breaks promises, a cache that is not worth it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod common;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_config::{BatchConfig, BatchFormat, Config, Route, SelfCostConfig};
use farthing_contract::log::{Decision, Request as RequestRow, Row, Value};
use farthing_models::{Store, StoreOptions};
use farthing_policy::switches::Standing;
use farthing_proxy::{BypassError, BypassOrder, Inside, SwitchView, SwitchedStrategy};
use farthing_types::{Body, BudgetSpec, Call, CallReport, Clock, Coding, Failure, Money, Reply, Span, Time};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use http::{Request, StatusCode};
use http_body_util::BodyExt;

use common::{PRICE, START, Shop, changed, config};

/// The time of timers, so that both stand still and go on together.
struct Timeline(tokio::time::Instant);

impl Clock for Timeline {
    fn now(&self) -> Time {
        START + self.0.elapsed()
    }
}

struct Wire(Arc<Shop>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let (shop, target, body) = (self.0.clone(), call.target.clone(), call.body.as_full().unwrap());
        async move {
            let reply = shop.answer(target, body).await;
            call.sink.attempt(CallReport::only(&call, "wire", Some(StatusCode::OK)));
            Ok(reply)
        }
        .boxed()
    }
}

struct World {
    inside: Inside,
    shop: Arc<Shop>,
}

impl World {
    fn new(config: Config) -> Self {
        Self::try_new(config).unwrap()
    }

    fn try_new(config: Config) -> Result<Self, farthing_proxy::StartError> {
        let shop = Arc::new(Shop::default());
        let wire = shop.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone())) };
        let store = Store::open(Path::new("none").to_owned(), StoreOptions::default());
        let clock = Arc::new(Timeline(tokio::time::Instant::now()));
        Ok(Self { inside: Inside::timed(&Arc::new(config), clock, store, &client)?, shop })
    }

    /// The `Cache-Status` of the answer.
    async fn get(&self, path: &str) -> String {
        let request = Request::builder().uri(path).header("host", "farthing.test").body(Body::empty()).unwrap();
        let (head, body) = self.inside.ask(request).await.into_parts();
        assert_eq!(head.status, StatusCode::OK);
        body.collect().await.unwrap();
        head.headers["cache-status"].to_str().unwrap().to_owned()
    }

    fn now(&self) -> Time {
        START
    }

    fn order(&self, route: Option<&str>, until: Option<Span>) -> BypassOrder {
        BypassOrder {
            route: route.map(Into::into),
            since: self.now(),
            until: until.map(|span| self.now() + span),
            reason: "trouble".into(),
        }
    }

    fn calls(&self) -> usize {
        self.shop.calls.lock().len()
    }

    fn view(&self, strategy: SwitchedStrategy) -> SwitchView {
        let all = self.inside.switches().remove(0).strategies;
        all.into_iter().find(|view| view.strategy == strategy).unwrap()
    }

    /// So many different requests per second for some time, all under way at once.
    async fn busy(&self, (from, rate, time): (u64, u64, Span), mut each: impl FnMut(&Self)) {
        let start = tokio::time::Instant::now();
        let mut under_way = Vec::new();
        for n in 0..rate * time.as_secs() {
            let at = start + Span::from_micros(n * 1_000_000 / rate);
            let path = format!("/things/{}", from + n);
            under_way.push(async move {
                tokio::time::sleep_until(at).await;
                self.get(&path).await;
            });
        }
        let watching = async {
            for second in 0..time.as_secs() {
                tokio::time::sleep_until(start + Span::from_secs(second + 1)).await;
                each(self);
            }
        };
        tokio::join!(join_all(under_way), watching);
    }
}

#[tokio::test(start_paused = true)]
async fn everything_passes_by_at_once_and_comes_back_at_once() {
    let world = World::new(config());
    assert!(world.get("/a").await.contains("uri-miss"));
    assert!(world.get("/a").await.contains("hit"));
    world.inside.bypass_on(world.order(None, None)).unwrap();
    for _ in 0..3 {
        let status = world.get("/a").await;
        assert!(status.contains("bypass") && status.contains("bypassed"), "{status}");
    }
    assert_eq!(world.calls(), 4);
    // Equal ones at once are not joined.
    join_all((0..5).map(|_| world.get("/b"))).await;
    assert_eq!(world.calls(), 9);
    world.inside.settle().await;
    let totals = &world.inside.totals().routes["shop"];
    assert_eq!((totals.uncached["bypassed"].count, totals.uncached["bypassed"].usd), (8, PRICE.times(8)), "the money is counted");
    assert_eq!(totals.bill_usd, PRICE.times(9));
    assert!(world.inside.bypass_off(None, "over").unwrap());
    assert!(world.get("/a").await.contains("hit"), "the copy is still good");
    assert!(!world.inside.bypass_off(None, "over").unwrap(), "there is none any more");
}

/// Whatever may be done with the request itself: answers go out as they came.
#[tokio::test(start_paused = true)]
async fn nothing_is_compressed_for_clients_under_it() {
    let mut config = changed(config(), |route| route.compress = true);
    config.data.compress = vec![Coding::Gzip];
    let world = World::new(config);
    let coding = async |method: &str| {
        let request = Request::builder().method(method).uri("/long").header("host", "h").header("accept-encoding", "gzip");
        let answer = world.inside.ask(request.body(Body::empty()).unwrap()).await;
        let coding = answer.headers().get("content-encoding").cloned();
        answer.into_body().collect().await.unwrap();
        coding.is_some()
    };
    assert_eq!((coding("GET").await, coding("POST").await), (true, true));
    world.inside.bypass_on(world.order(None, None)).unwrap();
    assert_eq!((coding("GET").await, coding("POST").await), (false, false));
}

#[tokio::test(start_paused = true)]
async fn a_bypass_is_of_a_route_and_ends_with_its_time() {
    let mut config = changed(config(), |route| route.matcher.path_prefix = "/one".into());
    let other = Route { name: "other".into(), ..(*config.routes[0]).clone() };
    config.routes.push(Arc::new(other));
    let config = Arc::new({
        let mut route = (*config.routes[1]).clone();
        route.matcher.path_prefix = "/two".into();
        config.routes[1] = Arc::new(route);
        config
    });
    let world = World::new((*config).clone());
    for path in ["/one", "/two"] {
        world.get(path).await;
    }
    world.inside.bypass_on(world.order(Some("shop"), Some(Span::from_secs(30)))).unwrap();
    assert!(world.get("/one").await.contains("bypassed"));
    assert!(world.get("/two").await.contains("hit"));
    tokio::time::advance(Span::from_secs(30)).await;
    assert!(world.get("/one").await.contains("hit"), "also before the control loop has come round");
    world.inside.control();
    assert_eq!(world.inside.switches()[0].bypass, None);
    let wrong = world.inside.bypass_on(world.order(Some("shops"), None)).unwrap_err().to_string();
    assert!(wrong.contains("`shops`") && wrong.contains("shop, other"), "{wrong}");
    let silent = BypassOrder { reason: " ".into(), ..world.order(None, None) };
    assert!(matches!(world.inside.bypass_on(silent), Err(BypassError::Reason)));
    assert!(matches!(world.inside.bypass_on(world.order(None, Some(Span::ZERO))), Err(BypassError::Time)));
}

/// What is written to a disk runs in real time.
#[tokio::test]
async fn a_bypass_outlives_a_restart_and_budgets_hold_on_under_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.state_dir = dir.path().to_owned();
    config.budgets = vec![BudgetSpec { name: "all".into(), limit: PRICE.times(4), ..BudgetSpec::default() }];
    let world = World::new(config.clone());
    world.inside.bypass_on(world.order(None, None)).unwrap();
    world.inside.close().await;
    let world = World::new(config.clone());
    assert!(world.get("/a").await.contains("bypassed"));
    let request = |path: &str| Request::builder().uri(path).header("host", "farthing.test").body(Body::empty()).unwrap();
    let mut refused = 0;
    for n in 0..8 {
        let answer = world.inside.ask(request(&format!("/{n}"))).await;
        refused += usize::from(answer.status() == StatusCode::TOO_MANY_REQUESTS);
        answer.into_body().collect().await.unwrap();
        world.inside.settle().await;
    }
    assert!(refused >= 4 && world.calls() <= 4, "{refused} refused, {} calls", world.calls());
    assert!(world.inside.bypass_off(None, "over").unwrap());
    world.inside.close().await;
    let world = World::new(config.clone());
    assert_eq!(world.inside.switches()[0].bypass, None, "the end was kept, too");
    world.inside.close().await;
    std::fs::write(dir.path().join("bypass.json"), "[{\"route\":3}]").unwrap();
    let error = World::try_new(config).err().unwrap().to_string();
    assert!(error.contains("bypass.json") && error.contains("remove it"), "{error}");
}

fn batching() -> Config {
    changed(config(), |route| {
        route.batch = Some(BatchConfig { min_rate: 10.0, ..BatchConfig::new(BatchFormat::Rest { path: "/batch".into() }) });
        route.sla = Some(Span::from_millis(150));
    })
}

/// At 50 calls a second they wait up to 100 ms for others. A provider that takes 10 ms is in time then; one that takes 120 ms is in time only
/// for those who do not wait.
#[tokio::test(start_paused = true)]
async fn a_window_that_breaks_the_promise_after_a_latency_shift_is_off_within_a_minute() {
    let world = World::new(batching());
    world.shop.slow_ms.store(10, Ordering::Relaxed);
    world.busy((0, 50, Span::from_secs(60)), |world| assert_eq!(world.view(SwitchedStrategy::Batch).standing, Standing::On)).await;
    let calm = world.calls();
    assert!(calm < 60 * 50 / 2, "{calm} calls for 3,000 requests: they are made together");
    let met = |world: &World| world.inside.totals().routes["shop"].sla.get("met").copied().unwrap_or(0);
    assert!(met(&world) > 2_990, "{}", met(&world));

    world.shop.slow_ms.store(120, Ordering::Relaxed);
    let mut off_after = None;
    let mut second = 0;
    world
        .busy((10_000, 50, Span::from_secs(60)), |world| {
            second += 1;
            if world.view(SwitchedStrategy::Batch).standing == Standing::Off {
                off_after.get_or_insert(second);
            }
        })
        .await;
    let off_after = off_after.expect("off within a minute");
    assert!(off_after <= 20, "{off_after} s");
    let before = met(&world);
    let calls = world.calls();
    world.busy((20_000, 50, Span::from_secs(15)), |_| ()).await;
    assert_eq!((met(&world) - before, world.calls() - calls), (750, 750), "all alone, and all in time");
    assert_eq!(world.view(SwitchedStrategy::Batch).switched_off, 1);

    // The provider is quick again: after a rest and a short trial it is on.
    world.shop.slow_ms.store(10, Ordering::Relaxed);
    world.busy((30_000, 4, Span::from_secs(330)), |_| ()).await;
    let calls = world.calls();
    world.busy((50_000, 50, Span::from_secs(15)), |_| ()).await;
    let view = world.view(SwitchedStrategy::Batch);
    assert_eq!((view.standing, view.switched_off), (Standing::On, 1));
    assert!(world.calls() - calls < 600, "{} calls for 750 requests", world.calls() - calls);
}

/// X5: what was drawn stands in the log with its probability, beside what became of the promise.
#[tokio::test(start_paused = true)]
async fn draws_stand_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = batching();
    config.log.enabled = true;
    config.log.dir = dir.path().join("logs");
    config.log.row_rate = u32::MAX;
    let world = World::new(config);
    world.shop.slow_ms.store(10, Ordering::Relaxed);
    world.busy((0, 50, Span::from_secs(20)), |_| ()).await;
    world.inside.settle().await;
    world.inside.close().await.unwrap();
    let mut promised = std::collections::BTreeMap::new();
    let read = |table, columns: &[&str], each: &mut dyn FnMut(&[Value<'_>])| {
        farthing_ledger::read::rows(&dir.path().join("logs"), table, columns, &mut |cells| {
            each(cells);
            ControlFlow::Continue(())
        })
        .unwrap();
    };
    read(RequestRow::TABLE, &["request_id", "sla"], &mut |cells| {
        let [Value::U64(id), Value::Text(sla)] = cells else { panic!("{cells:?}") };
        promised.insert(*id, (*sla).to_owned());
    });
    let (mut drawn, mut without) = (0, 0);
    read(Decision::TABLE, &["kind", "request_id", "pmf", "action", "draw", "by"], &mut |cells| {
        let [
            Value::Text("batch"),
            Value::U64(request),
            Value::F32List(pmf),
            Value::I32(action),
            Value::F64(draw),
            Value::Text("rule:slice"),
        ] = cells
        else {
            return;
        };
        assert_eq!((pmf.to_vec(), *draw < f64::from(pmf[0])), (vec![0.02, 0.98], *action == 0));
        assert_eq!(promised[request], "met");
        (drawn, without) = (drawn + 1, without + u32::from(*action == 0));
    });
    assert_eq!((drawn, promised.len()), (1_000, 1_000));
    assert!((5..50).contains(&without), "{without} of 1,000 at 2 %");
}

/// A provider that is too slow for any promise does not make batching the culprit.
#[tokio::test(start_paused = true)]
async fn a_slow_provider_switches_nothing_off() {
    let world = World::new(batching());
    world.shop.slow_ms.store(200, Ordering::Relaxed);
    world.busy((0, 50, Span::from_secs(60)), |world| assert_eq!(world.view(SwitchedStrategy::Batch).standing, Standing::On)).await;
    assert!(!world.inside.totals().routes["shop"].sla.contains_key("met"));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_costs_more_than_it_saves_is_off_for_most_keys_and_comes_back_by_its_slice() {
    let mut config = config();
    // A tenth of a call for each request, and never a hit.
    config.self_cost = Some(SelfCostConfig { per_month: Money::ZERO, per_million_requests: PRICE.times(100_000) });
    let world = World::new(config);
    let ask = async |from: u64, requests: u64, repeats: u64| {
        for n in 0..requests {
            world.get(&format!("/things/{}", from + n / repeats)).await;
            if n % 50 == 49 {
                world.inside.control();
            }
        }
    };
    ask(0, 900, 1).await;
    assert_eq!(world.view(SwitchedStrategy::Cache).standing, Standing::On, "not before a thousand requests");
    ask(900, 1_100, 1).await;
    let view = world.view(SwitchedStrategy::Cache);
    assert_eq!((view.standing, view.switched_off), (Standing::Off, 1), "{view:?}");
    let before = world.inside.totals().routes["shop"].uncached["unprofitable"].count;
    ask(5_000, 1_000, 1).await;
    let off = world.inside.totals().routes["shop"].uncached["unprofitable"].count - before;
    assert!((900..=980).contains(&off), "a slice of five in a hundred goes on: {off} of 1,000 without");
    // Now nine of ten requests are repeats.
    let mut from = 10_000;
    while world.view(SwitchedStrategy::Cache).standing == Standing::Off {
        assert!(from < 100_000);
        ask(from, 1_000, 10).await;
        from += 1_000;
    }
    let hits = world.inside.totals().routes["shop"].outcomes["hit"].count;
    ask(200_000, 1_000, 10).await;
    assert_eq!(world.inside.totals().routes["shop"].outcomes["hit"].count - hits, 900, "on again for all keys");
}

/// Without `[self_cost]` what Farthing costs is unknown, not free, and not held against the cache.
#[tokio::test(start_paused = true)]
async fn a_cache_without_hits_stays_where_own_cost_is_unknown() {
    let world = World::new(config());
    for n in 0..3_000 {
        world.get(&format!("/things/{n}")).await;
        if n % 50 == 49 {
            world.inside.control();
        }
    }
    assert_eq!(world.view(SwitchedStrategy::Cache).standing, Standing::On);
}
