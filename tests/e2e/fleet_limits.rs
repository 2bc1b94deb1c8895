//! G3: instances of a fleet share a limit. What they let through is counted at the provider, by the times at which calls arrive there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use farthing_proxy::LimitsFleet;
use farthing_tests::origin::answer_of;
use farthing_tests::skip::skip;
use farthing_tests::{Client, Origin, Setup, Started};
use farthing_types::{LimitScope, LimitSpec, RateSpec, Span};
use http::StatusCode;
use parking_lot::Mutex;

use crate::events::until;
use crate::fleet::{fleet, start};
use crate::fleet_budgets::tell;
use crate::l2::servers::Server;
use crate::program::{Serving, built, said};

/// How a run is loaded, and for how long.
struct Shape {
    rate: usize,
    /// Clients of each instance that ask one thing after the other, and wait for their turn.
    patient: usize,
    /// Requests a second to each instance that do not wait.
    hasty: usize,
    /// Shared, without Redis, and with it again.
    spans: [Duration; 3],
}

struct World {
    origin: Origin,
    arrivals: Arc<Mutex<Vec<Instant>>>,
    instances: Vec<Started>,
    over: AtomicBool,
    asked: AtomicUsize,
}

fn limit(rate: usize) -> LimitSpec {
    let rate = u64::try_from(rate).unwrap();
    let requests = Some(RateSpec { count: rate, period: Span::from_secs(1), burst: rate });
    LimitSpec { name: "api".into(), scope: LimitScope::Provider, requests, ..LimitSpec::default() }
}

impl World {
    async fn new(redis: &Server, rate: usize) -> Self {
        let arrivals: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let noted = arrivals.clone();
        let origin = Origin::simple(move |_, _| {
            noted.lock().push(Instant::now());
            answer_of(StatusCode::OK, &[("cache-control", "no-store")], "answer")
        })
        .await;
        let mut instances = Vec::new();
        for n in 0..4 {
            let limited = |setup: &mut Setup| {
                setup.config.log.enabled = false;
                setup.config.models.dir = PathBuf::from("no-models");
                setup.config.limits = vec![limit(rate)];
            };
            instances.push(start(&origin, fleet(&redis.url(), &format!("i{n}")), limited).await);
        }
        Self { origin, arrivals, instances, over: AtomicBool::new(false), asked: AtomicUsize::new(0) }
    }

    fn shared(&self, n: usize) -> LimitsFleet {
        self.instances[n].proxy.limits().unwrap().fleet.unwrap()
    }

    /// Waits until each instance has its part.
    async fn settled(&self) {
        until("all have a share", || {
            (0..4).all(|n| self.shared(n).shares.standing.rate == 250_000 && !self.shared(n).shares.standing.closed)
        })
        .await;
    }

    async fn ask(&self, client: Client, priority: &str) -> Option<StatusCode> {
        let path = format!("/api/{}", self.asked.fetch_add(1, Relaxed));
        Some(client.try_get(&path, &[("x-farthing-priority", priority)]).await?.status)
    }

    async fn patient(&self, client: Client) {
        while !self.over.load(Relaxed) {
            if self.ask(client, "medium").await != Some(StatusCode::OK) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn hasty(&self, client: Client, per_second: usize) {
        let mut turn = tokio::time::interval(Duration::from_secs(1) / u32::try_from(per_second).unwrap());
        while !self.over.load(Relaxed) {
            turn.tick().await;
            self.ask(client, "low").await;
        }
    }

    /// Which part of the rate arrived between two times.
    fn used(&self, (from, to): (Instant, Instant), rate: usize) -> f64 {
        let arrived = self.arrivals.lock().iter().filter(|at| (from..to).contains(*at)).count();
        arrived as f64 / ((to - from).as_secs_f64() * rate as f64)
    }

    /// The most that arrived in ten seconds.
    fn most(&self) -> usize {
        let arrivals = self.arrivals.lock();
        let window = Duration::from_secs(10);
        (0..arrivals.len()).map(|from| arrivals[from..].partition_point(|at| *at - arrivals[from] <= window)).max().unwrap_or_default()
    }
}

/// What may arrive in ten seconds: as much as is let through in them, and what was let through before and took so much longer to get there than others.
fn allowed(rate: usize, lag: Duration) -> usize {
    10 * rate + rate + (rate as f64 * lag.as_secs_f64()).ceil() as usize
}

/// Which part of the rate was used: shared, without Redis, in the last seconds with it again; and the most that arrived in ten seconds.
async fn run(shape: Shape) -> Option<([f64; 3], usize)> {
    let mut redis = Server::start(&[])?;
    let world = Arc::new(World::new(&redis, shape.rate).await);
    world.settled().await;
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..4 {
        let client = world.instances[n].client;
        for _ in 0..shape.patient {
            let world = world.clone();
            clients.spawn(async move { world.patient(client).await });
        }
        if shape.hasty > 0 {
            let (world, per_second) = (world.clone(), shape.hasty / 10);
            (0..10).for_each(|_| {
                drop(clients.spawn({
                    let world = world.clone();
                    async move { world.hasty(client, per_second).await }
                }))
            });
        }
    }
    let mut times = vec![Instant::now()];
    tokio::time::sleep(shape.spans[0]).await;
    times.push(Instant::now());
    redis.kill();
    tokio::time::sleep(shape.spans[1]).await;
    times.push(Instant::now());
    let away: Vec<LimitsFleet> = (0..4).map(|n| world.shared(n)).collect();
    assert!(away.iter().all(|fleet| fleet.away.is_some() && fleet.problem().is_some_and(|why| why.contains("goes on"))), "{away:?}");
    redis.restart();
    let back = Instant::now();
    tokio::time::sleep(shape.spans[2]).await;
    // Empty, so that all have told of themselves anew.
    until("limits are shared again", || (0..4).all(|n| world.shared(n).state.whole && world.shared(n).problem().is_none())).await;
    times.push(Instant::now());
    world.over.store(true, Relaxed);
    clients.join_all().await;
    let used = [(times[0], times[1]), (times[1], times[2]), (back + shape.spans[2] / 2, times[3])].map(|span| world.used(span, shape.rate));
    let (calls, most) = (world.origin.calls(), world.most());
    tell(&format!("used {used:.3?}, at most {most} in ten seconds, {calls} calls of {} requests", world.asked.load(Relaxed)));
    Some((used, most))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_instances_let_as_much_through_as_one_and_without_redis_too() {
    let span = Duration::from_secs(4);
    let shape = Shape { rate: 40, patient: 20, hasty: 0, spans: [span; 3] };
    let Some((used, most)) = run(shape).await else { return };
    // A busy machine may keep calls for a moment, and not get round to all of them; `make simulate` measures that. Four full buckets would be 120 more.
    assert!(most <= allowed(40, Duration::from_secs(1)), "{most} in ten seconds");
    assert!(used.iter().all(|used| *used >= 0.6), "{used:?}");
}

/// `make simulate` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes, and a machine of its own"]
async fn ten_times_the_load_uses_all_of_the_rate_and_no_more() {
    let spans = [60, 30, 10].map(Duration::from_secs);
    let (used, most) = run(Shape { rate: 100, patient: 10, hasty: 250, spans }).await.expect("redis-server is there");
    assert!(most <= allowed(100, Duration::ZERO), "{most} in ten seconds");
    assert!(used[0] >= 0.95 && used[1] >= 0.6 && used[2] >= 0.95, "{used:?}");
}

/// What `farthing limits --json` tells of the fleet, once that is so.
async fn shared(serving: &Serving, what: &str, holds: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let begun = Instant::now();
    loop {
        let told = serving.json(&["limits"]).await["fleet"].clone();
        if holds(&told) {
            return told;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {told}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn shares_are_shown_and_outlive_a_kill_without_redis() {
    let Some(program) = built("farthing") else { return skip("shared limits shown: the program is not built (cargo build -p farthing)") };
    let Some(mut redis) = Server::start(&[]) else { return };
    let origin = Origin::simple(|_, _| answer_of(StatusCode::OK, &[("cache-control", "no-store")], "answer")).await;
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "salt = {{ file = {:?} }}\nstate_dir = {:?}\n[log]\nenabled = false\n[models]\ndir = {:?}\n[providers.geo]\nbase_url = \"http://{}\"\n\
         prices = {{ per_call = \"0.5\" }}\n[[limits]]\nname = \"hourly\"\nscope = \"route\"\nrequests = \"30/h\"\nburst = 30\n[fleet]\nname = \"test\"\ninstance = \"i0\"\n\
         addresses = [{:?}]\n",
        dir.path().join("salt"),
        dir.path().join("state"),
        dir.path().join("models"),
        origin.addr,
        redis.url(),
    );
    std::fs::write(dir.path().join("salt"), "0123456789abcdef0123456789abcdef").unwrap();
    std::fs::write(dir.path().join("farthing.toml"), config).unwrap();
    let start = || Serving::start(&program, dir.path(), &["--config", "farthing.toml"]);
    let serving = start().await;
    shared(&serving, "it has all, being alone", |fleet| fleet["share"] == 1.0).await;
    let text = said(&serving.cli(&["limits"]).await);
    assert!(text.contains("shared by: i0 100.0 %") && text.contains("has 100.0 % of each limit"), "{text}");
    let mut went = 0;
    let low = [("x-farthing-priority", "low")];
    for n in 0..40 {
        went += usize::from(serving.data.get(&format!("/r/geo/{n}"), &low).await.status == StatusCode::OK);
    }
    assert_eq!(went, 28, "30 less a twentieth, and it was a new fleet");
    let kept = dir.path().join("state/limits.json");
    until("that is written down", || std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"requests\":28"))).await;
    redis.kill();
    shared(&serving, "redis is missed", |fleet| fleet["away_ms"].is_u64() && fleet["share"] == 1.0).await;
    let (_, ready) = serving.readiness().await;
    assert!(ready.to_string().contains("goes on with its share of the limits, 100.0 %"), "{ready}");
    serving.signal("-KILL").await;
    let again = start().await;
    let fleet = shared(&again, "it goes on", |fleet| fleet["share"] == 1.0).await;
    assert!(fleet["holds_ms"].as_u64().is_some_and(|left| (3_000_000..3_600_000).contains(&left)), "{fleet}");
    let left = again.json(&["limits"]).await["limits"][0]["busiest"][0]["requests_left"].clone();
    assert_eq!(left, 0, "nothing is given twice");
    again.end().await;
}
