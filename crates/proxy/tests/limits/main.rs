//! G1, R4: limits and overload on every way that a request can take. The whole request path on a paused clock; the provider notes when each call
//! reaches it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests may fail the test"
)]

mod overload;
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_config::{Config, CredentialPlace, Dialect, Mode, Provider, Route, TierConfig, TtlBy};
use farthing_ledger::limit::LimitView;
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{
    Body, BudgetSpec, Call, CallReport, Failure, LimitScope, LimitSpec, Money, OnLimit, RateSpec, Reply, Span, Time, VirtualClock,
};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::time::Instant;

/// What a provider answers to its nth call.
type Script = fn(usize) -> (StatusCode, &'static [(&'static str, &'static str)], &'static str);

const OK: Script = |_| (StatusCode::OK, &[], "answer");

/// A provider that notes when calls reach it, and takes some time for each answer.
struct Provided {
    began: Instant,
    arrivals: Mutex<Vec<(Span, String)>>,
    running: AtomicUsize,
    most: AtomicUsize,
    takes: Span,
    script: Script,
}

impl Provided {
    fn arrivals(&self) -> Vec<Span> {
        self.arrivals.lock().iter().map(|(at, _)| *at).collect()
    }
}

struct Wire(Arc<Provided>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let provided = self.0.clone();
        let nth = {
            let mut arrivals = provided.arrivals.lock();
            arrivals.push((provided.began.elapsed(), call.payer.to_string()));
            arrivals.len() - 1
        };
        let running = provided.running.fetch_add(1, Ordering::SeqCst) + 1;
        provided.most.fetch_max(running, Ordering::SeqCst);
        async move {
            if !provided.takes.is_zero() {
                tokio::time::sleep(provided.takes).await;
            }
            provided.running.fetch_sub(1, Ordering::SeqCst);
            let (status, fields, body) = (provided.script)(nth);
            call.sink.attempt(CallReport { head_after: provided.takes, ..CallReport::only(&call, "wire", Some(status)) });
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, value.parse().unwrap());
            }
            Ok(Reply { status, headers, body: Body::full(body) })
        }
        .boxed()
    }
}

fn rate(count: u64, burst: u64) -> Option<RateSpec> {
    Some(RateSpec { count, period: Span::from_secs(1), burst })
}

fn limit(scope: LimitScope, count: u64, burst: u64) -> LimitSpec {
    LimitSpec { name: "l".into(), scope, requests: rate(count, burst), ..LimitSpec::default() }
}

fn config(limits: Vec<LimitSpec>) -> Config {
    let mut config = Config { limits, ..Config::default() };
    config.log.enabled = false;
    config.holdout.share = 0.0;
    let mut provider = Provider { name: "llm".into(), base_url: "http://llm.test".parse().unwrap(), ..Provider::default() };
    provider.upstream.attempts = 1;
    let mut route = Route { name: "llm".into(), provider: "llm".into(), mode: Mode::Override, ..Route::default() };
    (route.ttl, route.deadline) = (TtlBy::Fixed(Span::from_secs(600)), Span::from_secs(10));
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    config
}

fn with_provider(mut config: Config, change: impl FnOnce(&mut Provider)) -> Config {
    let mut provider = (*config.providers[0]).clone();
    change(&mut provider);
    config.providers = vec![Arc::new(provider)];
    config
}

struct World {
    inside: Inside,
    provided: Arc<Provided>,
}

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn world(config: Config, takes: Span, script: Script) -> World {
    world_over(config, None, takes, script)
}

fn world_over(config: Config, l2: Option<Arc<dyn farthing_cache::l2::Store>>, takes: Span, script: Script) -> World {
    let dir = std::env::temp_dir().join("farthing-no-models");
    let provided = Arc::new(Provided {
        began: Instant::now(),
        arrivals: Mutex::default(),
        running: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        takes,
        script,
    });
    let wire = provided.clone();
    let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone())) };
    let clock = Arc::new(VirtualClock::new(Time::from_millis(1_764_201_600_000)));
    let stores = (Store::open(dir, StoreOptions::default()), l2);
    World { inside: Inside::with_l2(&Arc::new(config), clock, stores, &client).unwrap(), provided }
}

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path).header("host", "farthing.test");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::full(body.to_owned())).unwrap()
}

impl World {
    async fn send(&self, request: Request<Body>) -> Got {
        let (head, body) = self.inside.ask(request).await.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Got { status: head.status, headers: head.headers, body }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Got {
        self.send(request(Method::GET, path, headers, "")).await
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Got {
        self.send(request(Method::POST, path, headers, body)).await
    }

    fn limit(&self, index: usize) -> LimitView {
        self.inside.limits().unwrap().limits[index].clone()
    }
}

const HIGH: (&str, &str) = ("x-farthing-priority", "high");
const MEDIUM: (&str, &str) = ("x-farthing-priority", "medium");
const LOW: (&str, &str) = ("x-farthing-priority", "low");

/// Most arrivals within any ten seconds.
fn most_in_ten_seconds(arrivals: &[Span]) -> usize {
    let within = |from: &Span| arrivals.iter().filter(|at| *at >= from && **at <= *from + Span::from_secs(10)).count();
    arrivals.iter().map(within).max().unwrap_or_default()
}

/// Three times as many as there may be, by one tenant that sends nearly all and one that sends little; each waits five seconds at most.
async fn overload(world: &World, (rate, seconds): (usize, usize), attempts: usize) -> Vec<(usize, Got)> {
    let sent = 3 * rate * seconds / attempts;
    let pause = Span::from_secs(seconds as u64) / u32::try_from(sent).unwrap();
    let one = |n: usize| async move {
        tokio::time::sleep(pause * u32::try_from(n).unwrap()).await;
        let tenant = if n.is_multiple_of(10) { "small" } else { "flood" };
        let headers = [MEDIUM, ("x-farthing-tenant", tenant), ("x-farthing-deadline-ms", "5000")];
        (n, world.get(&format!("/{n}"), &headers).await)
    };
    join_all((0..sent).map(one)).await
}

#[tokio::test(start_paused = true)]
async fn over_any_ten_seconds_no_more_than_rate_and_burst_and_in_overload_nearly_all_of_it() {
    for (rate, burst) in [(20, 10), (50, 50), (7, 1)] {
        let limit = LimitSpec { on_limit: [OnLimit::Wait; 3], ..limit(LimitScope::Provider, rate, burst) };
        let world = world(config(vec![limit]), Span::from_millis(30), OK);
        let got = overload(&world, (rate as usize, 60), 1).await;
        let arrivals = world.provided.arrivals();
        let most = most_in_ten_seconds(&arrivals);
        assert!(most as u64 <= 10 * rate + burst, "{most} in ten seconds of {rate}/s and {burst}");
        let used = arrivals.iter().filter(|at| **at <= Span::from_secs(60)).count() as u64;
        assert!(used * 100 >= 95 * 60 * rate, "{used} of {}", 60 * rate);
        let answered = |tenant: usize| got.iter().filter(|(n, got)| (n % 10 == 0) == (tenant == 0) && got.status == StatusCode::OK).count();
        let small = 3 * rate as usize * 60 / 10;
        assert!(answered(0) * 100 >= small * 95, "who sends less than its share is not held up: {} of {small}", answered(0));
        let other = got.iter().find(|(_, got)| ![StatusCode::OK, StatusCode::TOO_MANY_REQUESTS].contains(&got.status));
        assert!(other.is_none(), "{:?}", other.map(|(n, got)| (n, got.status, &got.body)));
        let view = self::World::limit(&world, 0);
        assert_eq!((view.stats.admitted, view.waiting, view.busiest[0].running), (arrivals.len() as u64, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn repetitions_count_like_first_attempts() {
    let limit = LimitSpec { on_limit: [OnLimit::Wait; 3], ..limit(LimitScope::Provider, 20, 5) };
    let script: Script = |nth| if nth % 3 == 0 { (StatusCode::SERVICE_UNAVAILABLE, &[], "") } else { (StatusCode::OK, &[], "answer") };
    let config = with_provider(config(vec![limit]), |provider| {
        provider.upstream.attempts = 3;
        provider.upstream.breaker_share = 1.0;
    });
    let world = world(config, Span::ZERO, script);
    let _ = overload(&world, (20, 30), 1).await;
    let arrivals = world.provided.arrivals();
    assert!(most_in_ten_seconds(&arrivals) <= 205, "{}", most_in_ten_seconds(&arrivals));
    assert!(arrivals.iter().filter(|at| **at <= Span::from_secs(30)).count() >= 570, "{}", arrivals.len());
}

#[tokio::test(start_paused = true)]
async fn high_passes_with_a_warning_medium_waits_low_is_refused() {
    let world = world(config(vec![limit(LimitScope::Tenant, 2, 1)]), Span::ZERO, OK);
    let first = world.get("/0", &[LOW]).await;
    assert_eq!((first.header("ratelimit-policy"), first.header("ratelimit")), ("\"l\";q=2;w=1", "\"l\";r=0;t=1"));
    let refused = world.get("/1", &[LOW]).await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "1"));
    assert_eq!((refused.header("ratelimit-policy"), refused.header("ratelimit")), ("\"l\";q=2;w=1", "\"l\";r=0;t=1"));
    assert!(refused.body.contains("rate_limited") && refused.body.contains("`l`"), "{}", refused.body);
    assert!(refused.header("cache-status").contains("detail=\"rate_limited\""), "{}", refused.header("cache-status"));
    let high = world.get("/2", &[HIGH]).await;
    assert_eq!(high.status, StatusCode::OK);
    let began = Instant::now();
    let waited = world.get("/3", &[MEDIUM, ("x-farthing-debug", "1")]).await;
    assert_eq!((waited.status, began.elapsed()), (StatusCode::OK, Span::from_secs(1)), "what passed is owed");
    assert_eq!(waited.header("x-farthing-limit-wait-ms"), "1000.000");
    let late = world.get("/4", &[MEDIUM, ("x-farthing-deadline-ms", "200")]).await;
    assert_eq!((late.status, began.elapsed()), (StatusCode::TOO_MANY_REQUESTS, Span::from_secs(1)), "it could not be in time");
    let other = world.get("/5", &[LOW, ("x-farthing-tenant", "other")]).await;
    assert_eq!(other.status, StatusCode::OK, "each tenant has its own");
    let stats = world.limit(0).stats;
    assert_eq!((stats.passed_over, stats.waited, stats.refused), (1, 1, [1, 1, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn hits_and_followers_spend_nothing() {
    let world = world(config(vec![limit(LimitScope::Tenant, 1, 1), limit(LimitScope::Provider, 1, 1)]), Span::from_millis(50), OK);
    let got = join_all((0..20).map(|_| world.get("/a", &[LOW]))).await;
    assert!(got.iter().all(|got| got.status == StatusCode::OK));
    for _ in 0..20 {
        assert_eq!(world.get("/a", &[LOW]).await.status, StatusCode::OK);
    }
    assert_eq!((world.limit(0).stats.admitted, world.limit(1).stats.admitted), (1, 1));
    assert_eq!(world.provided.arrivals().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_way_of_a_request_leads_round_a_limit() {
    let ways: [(Method, &[(&str, &str)]); 7] = [
        (Method::GET, &[LOW]),
        (Method::GET, &[LOW, ("x-farthing-cache", "off")]),
        (Method::GET, &[LOW, ("cache-control", "no-store")]),
        (Method::GET, &[LOW, ("range", "bytes=0-1")]),
        (Method::HEAD, &[LOW]),
        (Method::POST, &[LOW]),
        (Method::DELETE, &[LOW]),
    ];
    for scope in [LimitScope::Tenant, LimitScope::Route, LimitScope::Provider] {
        for (method, headers) in &ways {
            let world = world(config(vec![limit(scope, 1, 3)]), Span::ZERO, OK);
            let mut refused = 0;
            for n in 0..6 {
                let got = world.send(request(method.clone(), &format!("/{n}"), headers, "")).await;
                refused += usize::from(got.status == StatusCode::TOO_MANY_REQUESTS && !got.header("retry-after").is_empty());
            }
            assert_eq!((world.provided.arrivals().len(), refused), (3, 3), "{scope} {method} {headers:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_providers_own_429_passes_untouched_and_holds_the_line() {
    let script: Script = |nth| match nth {
        0 => (StatusCode::TOO_MANY_REQUESTS, &[("retry-after", "3"), ("x-ratelimit-remaining-requests", "0")], "slow down"),
        _ => (StatusCode::OK, &[], "answer"),
    };
    let world = world(config(vec![limit(LimitScope::Provider, 100, 100)]), Span::ZERO, script);
    let theirs = world.get("/0", &[MEDIUM]).await;
    assert_eq!((theirs.status, &*theirs.body), (StatusCode::TOO_MANY_REQUESTS, "slow down"));
    assert_eq!((theirs.header("retry-after"), theirs.header("x-ratelimit-remaining-requests")), ("3", "0"));
    assert_eq!(theirs.header("ratelimit"), "", "how much is left of the provider's limits tells what others do");
    let low = world.get("/1", &[LOW]).await;
    assert_eq!((low.status, low.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "3"));
    let began = Instant::now();
    let got = join_all((2..7).map(|n| async move { n }).map(|n| async { world.get(&format!("/{}", n.await), &[MEDIUM]).await })).await;
    assert!(got.iter().all(|got| got.status == StatusCode::OK));
    assert!(began.elapsed() >= Span::from_secs(3) && began.elapsed() < Span::from_millis(3_100), "{:?}", began.elapsed());
    assert_eq!(world.limit(0).stats.held, 1);
}

#[tokio::test(start_paused = true)]
async fn the_429_of_one_clients_own_credential_holds_nobody_else() {
    let script: Script = |nth| match nth {
        0 => (StatusCode::TOO_MANY_REQUESTS, &[("retry-after", "3")], ""),
        _ => (StatusCode::OK, &[], "answer"),
    };
    let config = with_provider(config(vec![limit(LimitScope::Provider, 100, 100)]), |p| p.credential_place = CredentialPlace::Bearer);
    let world = world(config, Span::ZERO, script);
    let (a, b) = (("authorization", "Bearer a"), ("authorization", "Bearer b"));
    world.get("/0", &[MEDIUM, a]).await;
    let began = Instant::now();
    assert_eq!((world.get("/1", &[LOW, b]).await.status, began.elapsed()), (StatusCode::OK, Span::ZERO));
    assert_eq!(world.get("/2", &[LOW, a]).await.header("retry-after"), "3");
    assert_eq!((world.get("/3", &[MEDIUM, a]).await.status, began.elapsed()), (StatusCode::OK, Span::from_secs(3)));
    assert_eq!(world.inside.limits().unwrap().rested, 2);
}

#[tokio::test(start_paused = true)]
async fn a_provider_cannot_close_itself_for_ever() {
    let script: Script = |_| (StatusCode::TOO_MANY_REQUESTS, &[("retry-after", "99999999999")], "");
    let world = world(config(vec![limit(LimitScope::Provider, 100, 100)]), Span::ZERO, script);
    world.get("/0", &[MEDIUM]).await;
    assert_eq!(world.get("/1", &[LOW]).await.header("retry-after"), "3600");
}

#[tokio::test(start_paused = true)]
async fn waiters_whose_clients_leave_are_gone() {
    for scope in [LimitScope::Tenant, LimitScope::Provider] {
        let world = world(config(vec![limit(scope, 1, 1)]), Span::ZERO, OK);
        world.get("/0", &[MEDIUM]).await;
        {
            let mut leaving: Vec<_> =
                (1..50).map(|n| world.inside.ask(request(Method::GET, &format!("/{n}"), &[MEDIUM, ("range", "bytes=0-1")], ""))).collect();
            for client in &mut leaving {
                // Most are refused at once: they could not be in time.
                let _ = tokio::time::timeout(Span::from_micros(1), client).await;
            }
            assert!(world.limit(0).waiting > 5, "{}", world.limit(0).waiting);
        }
        // Those who fill for others are told.
        tokio::time::sleep(Span::from_millis(1)).await;
        assert_eq!(world.limit(0).waiting, 0, "{scope}");
        let began = Instant::now();
        assert_eq!(world.get("/99", &[MEDIUM]).await.status, StatusCode::OK);
        assert!(began.elapsed() <= Span::from_secs(1), "{scope} {:?}", began.elapsed());
        assert_eq!(world.inside.load().tiers[0].used, farthing_proxy::Weight::default());
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_would_go_on_without_their_client_do_not_where_nothing_was_sent() {
    let config = with_provider(config(vec![limit(LimitScope::Provider, 1, 1)]), |provider| provider.dialect = Dialect::OpenAi);
    let world = world(config, Span::from_secs(1), OK);
    let body = r#"{"model":"m","max_tokens":6,"messages":[]}"#;
    world.post("/v1/chat/completions", &[MEDIUM], body).await;
    for _ in 0..3 {
        let client = world.inside.ask(request(Method::POST, "/v1/chat/completions", &[MEDIUM], body));
        assert!(tokio::time::timeout(Span::from_millis(1), client).await.is_err());
    }
    world.inside.settle().await;
    assert_eq!((world.provided.arrivals().len(), world.limit(0).waiting), (2, 0), "the first of them was sent, and goes on");
}

#[tokio::test(start_paused = true)]
async fn calls_at_a_time_never_exceed_the_limit_and_none_is_lost() {
    let limit = LimitSpec { requests: None, concurrency: Some(4), on_limit: [OnLimit::Wait; 3], ..limit(LimitScope::Provider, 1, 1) };
    let world = world(config(vec![limit]), Span::from_millis(100), OK);
    let paths: Vec<String> = (0..40).map(|n| format!("/{n}")).collect();
    let began = Instant::now();
    let got = join_all(paths.iter().map(|path| world.get(path, &[MEDIUM]))).await;
    assert!(got.iter().all(|got| got.status == StatusCode::OK));
    assert_eq!(world.provided.most.load(Ordering::SeqCst), 4);
    assert!(began.elapsed() >= Span::from_secs(1) && began.elapsed() < Span::from_millis(1_100), "{:?}", began.elapsed());
    assert_eq!((world.limit(0).busiest[0].running, world.limit(0).waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn tokens_are_reserved_at_the_most_and_settled_by_usage() {
    for scope in [LimitScope::Tenant, LimitScope::Provider] {
        let limit = LimitSpec { requests: None, tokens: rate(100, 1_000), ..limit(scope, 1, 1) };
        let script: Script = |_| {
            (
                StatusCode::OK,
                &[("content-type", "application/json")],
                r#"{"usage":{"prompt_tokens":20,"completion_tokens":80,"total_tokens":100}}"#,
            )
        };
        let config = with_provider(config(vec![limit]), |provider| provider.dialect = Dialect::OpenAi);
        let world = world(config, Span::from_millis(10), script);
        let body = r#"{"model":"m","max_tokens":600,"messages":[]}"#;
        let both = join_all((0..2).map(|_| world.post("/v1/chat/completions", &[LOW], body))).await;
        let statuses: Vec<u16> = both.iter().map(|got| got.status.as_u16()).collect();
        assert_eq!(statuses, [200, 429], "{scope}: together they could use more than there is");
        world.inside.settle().await;
        for _ in 0..2 {
            let got = world.post("/v1/chat/completions", &[LOW], body).await;
            assert_eq!(got.status, StatusCode::OK, "{scope}: of 644 reserved 100 were used");
            world.inside.settle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_leads_and_matters_less_does_not_fail_who_follows() {
    let world = world(config(vec![limit(LimitScope::Provider, 1, 1)]), Span::ZERO, OK);
    world.get("/0", &[LOW]).await;
    let (low, high) = tokio::join!(world.get("/a", &[LOW]), world.get("/a", &[HIGH]));
    assert_eq!((low.status, high.status), (StatusCode::TOO_MANY_REQUESTS, StatusCode::OK));
}

#[tokio::test(start_paused = true)]
async fn a_hard_limit_holds_high_priority_first_in_line() {
    let hard = LimitSpec { on_limit: [OnLimit::Wait, OnLimit::Wait, OnLimit::Refuse], ..limit(LimitScope::Provider, 1, 1) };
    let world = world(config(vec![hard]), Span::ZERO, OK);
    world.get("/0", &[MEDIUM]).await;
    let began = Instant::now();
    let timed = |path: &'static str, priority| {
        let world = &world;
        async move {
            assert_eq!(world.get(path, &[priority]).await.status, StatusCode::OK);
            began.elapsed().as_secs()
        }
    };
    let (medium, high) = tokio::join!(timed("/1", MEDIUM), timed("/2", HIGH));
    assert_eq!((medium, high), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn errors_are_in_the_callers_dialect() {
    for (dialect, says) in [
        (Dialect::OpenAi, r#""type":"rate_limited""#),
        (Dialect::Anthropic, r#""type":"rate_limit_error""#),
        (Dialect::Generic, "urn:farthing:problem:rate_limited"),
    ] {
        for scope in [LimitScope::Tenant, LimitScope::Provider] {
            let config = with_provider(config(vec![limit(scope, 1, 1)]), |provider| provider.dialect = dialect);
            let world = world(config, Span::ZERO, OK);
            world.post("/a", &[LOW], "{}").await;
            let refused = world.post("/b", &[LOW], "{}").await;
            assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "1"));
            assert!(refused.body.contains(says), "{}", refused.body);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_budget_holds_back_gives_its_turn_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = with_provider(config(vec![limit(LimitScope::Tenant, 1, 5)]), |provider| {
        provider.prices = Some(farthing_config::Prices::per_call(Money::from_nanos(1_000_000)));
    });
    config.state_dir = dir.path().to_owned();
    config.budgets = vec![BudgetSpec { name: "all".into(), limit: Money::from_nanos(500_000), ..BudgetSpec::default() }];
    let world = world(config, Span::ZERO, OK);
    for n in 0..20 {
        let got = world.get(&format!("/{n}"), &[LOW]).await;
        assert!(got.body.contains("budget_exceeded"), "{}", got.body);
    }
    assert_eq!(world.limit(0).busiest[0].requests.unwrap().0, 5);
}

/// An instance that was in a fleet, and is no more, has all of its limits; what it has given is not given again.
#[tokio::test(start_paused = true)]
async fn who_has_left_a_fleet_has_limits_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(vec![limit(LimitScope::Tenant, 1, 8)]);
    config.state_dir = dir.path().to_owned();
    let went = async |world: &World, calls: usize| {
        let mut went = 0;
        for n in 0..calls {
            went += usize::from(world.get(&format!("/{n}"), &[LOW]).await.status == StatusCode::OK);
        }
        went
    };
    let before = world(config.clone(), Span::ZERO, OK);
    assert_eq!(went(&before, 3).await, 3);
    before.inside.keep_limits();
    let path = dir.path().join("limits.json");
    let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept["counters"].as_array().unwrap().len(), 1);
    // A quarter of all was its share.
    kept["fleet"] = serde_json::json!({
        "parts": [250_000, 250_000], "until": kept["at"].as_i64().unwrap() + 3_600_000_000_000_i64,
        "history": [[kept["at"], 250_000]], "full": false, "generation": "g", "epoch": 1, "known": [],
    });
    std::fs::write(&path, kept.to_string()).unwrap();
    let world = world(config, Span::ZERO, OK);
    world.inside.recall_limits();
    assert_eq!(went(&world, 10).await, 5);
    world.inside.keep_limits();
    assert!(!std::fs::read_to_string(&path).unwrap().contains("fleet"));
}
