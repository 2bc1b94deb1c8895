//! D5: one upstream call per expiry among instances that share an L2 in Redis, whoever dies, leaves or fails meanwhile.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farthing_config::{FleetConfig, Route, TtlBy};
use farthing_proxy::FillOutcome;
use farthing_tests::origin::{answer_of, ok};
use farthing_tests::{Answer, Origin, Setup, Started};
use farthing_types::{Body, BodyError, Outcome, Time, VirtualClock};
use futures_util::future::join_all;
use futures_util::stream;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::fleet::fleet;
use crate::l2::redis;
use crate::l2::servers::Server;
use crate::program::{Serving, built};

/// What a busy machine keeps.
const PATIENT: Duration = Duration::from_secs(5);
const SALT: &str = "the same salt on all instances";

/// An origin each of whose answers is let go by the test.
struct Held {
    origin: Origin,
    gate: Arc<Semaphore>,
}

impl Held {
    async fn new(answer: fn(usize) -> Response<Body>) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        let script = move |_, n| -> futures_util::future::BoxFuture<'static, Response<Body>> {
            let gate = held.clone();
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                answer(n)
            })
        };
        Self { origin: Origin::start(Arc::new(script)).await, gate }
    }
    fn calls(&self) -> usize {
        self.origin.calls()
    }
    fn let_go(&self, answers: usize) {
        self.gate.add_permits(answers);
    }
}

fn numbered(n: usize) -> Response<Body> {
    ok(format!("answer {n}"))
}

/// Instances of one fleet that share an L2, on one clock each that the test moves.
struct Fleet(Vec<(Started, Arc<VirtualClock>)>);

impl Fleet {
    async fn start(server: &Server, origin: &Origin, deadline: Duration, change: impl Fn(&mut Route)) -> Self {
        let mut all = Vec::new();
        for n in 0..3 {
            let mut setup = Setup::new(origin.addr).route(|route| {
                route.ttl = TtlBy::Fixed(Duration::from_secs(60));
                change(route);
            });
            setup.config.l2 = Some(redis(vec![server.url()], deadline));
            setup.config.fleet = Some(FleetConfig { deadline, ..fleet(&server.url(), &format!("number-{n}")) });
            let clock = Arc::new(VirtualClock::new(Time::from_millis(1_700_000_000_000)));
            all.push((setup.start_on(clock.clone()).await, clock));
        }
        let fleet = Self(all);
        fleet.until_up().await;
        fleet
    }

    async fn until_up(&self) {
        let up = |started: &Started| started.proxy.parts().iter().all(|part| part.name != "l2" || part.problem.is_none());
        until("connected", || self.0.iter().all(|(started, _)| up(started))).await;
        // Whoever has heard nothing yet takes no answer of the others.
        let heard = |started: &Started| started.proxy.fleet_stats().is_some_and(|stats| !stats.silent && stats.members.len() == 3);
        until("all hear of each other", || self.0.iter().all(|(started, _)| heard(started))).await;
    }

    fn ask(&self, n: usize, target: &'static str) -> JoinHandle<Answer> {
        let client = self.0[n].0.client;
        tokio::task::spawn(async move { client.get(target, &[]).await })
    }

    fn waiting(&self) -> usize {
        self.0.iter().map(|(started, _)| started.proxy.waiting()).sum()
    }

    fn outcome(&self, n: usize, outcome: FillOutcome) -> u64 {
        self.0[n].0.proxy.fills(outcome)
    }

    fn outcomes(&self, outcome: FillOutcome) -> u64 {
        (0..self.0.len()).map(|n| self.outcome(n, outcome)).sum()
    }

    fn advance(&self, span: Duration) {
        self.0.iter().for_each(|(_, clock)| clock.advance(span));
    }

    async fn written(&self) {
        until("written", || self.0.iter().all(|(started, _)| started.proxy.l2_stats().unwrap().queued_bytes == 0)).await;
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let patience = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), patience).await.is_ok(), "{what}: not within a minute");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_of_three_instances_are_one_call_and_so_is_each_expiry() {
    let Some(server) = Server::start(&[]) else { return };
    let held = Held::new(numbered).await;
    let fleet = Fleet::start(&server, &held.origin, PATIENT, |_| ()).await;
    for (round, requests) in [1_000, 90].into_iter().enumerate() {
        let asked: Vec<_> = (0..requests).map(|n| fleet.ask(n % 3, "/api/doc/1")).collect();
        until("all wait", || fleet.waiting() == requests).await;
        until("the call", || held.calls() == round + 1).await;
        held.let_go(10);
        let answers: Vec<Answer> = join_all(asked).await.into_iter().map(Result::unwrap).collect();
        assert!(answers.iter().all(|answer| answer.text() == format!("answer {round}")));
        // The wait for the other instance counts as one for the provider.
        let found: Vec<_> = answers.iter().filter(|answer| answer.is_hit()).collect();
        assert!(!found.is_empty() && found.iter().all(|answer| answer.header("server-timing").contains("upstream")), "{found:?}");
        fleet.written().await;
        held.gate.forget_permits(10);
        fleet.advance(Duration::from_secs(61));
    }
    assert_eq!((held.calls(), fleet.outcomes(FillOutcome::Led), fleet.outcomes(FillOutcome::Found)), (2, 2, 4));
    // The call is in one bill; everybody else was answered by L2 or followed, and credited for it.
    let settled = |n: usize| fleet.0[n].0.proxy.totals().total;
    until("settled", || (0..3).map(|n| settled(n).requests).sum::<u64>() == 1_090).await;
    let bills: Vec<String> = (0..3).map(|n| settled(n).bill_usd.to_string()).collect();
    assert_eq!(bills.iter().filter_map(|bill| bill.parse::<f64>().ok()).sum::<f64>(), 0.004, "{bills:?}");
    let base: f64 = (0..3).filter_map(|n| settled(n).base_usd.to_string().parse::<f64>().ok()).sum();
    assert!((base - 2.18).abs() < 1e-9, "{base}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_kept_make_nobody_wait_in_line() {
    let Some(server) = Server::start(&[]) else { return };
    let held = Held::new(|n| answer_of(StatusCode::OK, &[("cache-control", "no-store")], format!("answer {n}"))).await;
    let fleet = Fleet::start(&server, &held.origin, PATIENT, |_| ()).await;
    let asked: Vec<_> = (0..3).map(|n| fleet.ask(n, "/api/doc/1")).collect();
    until("all wait", || fleet.waiting() == 3 && held.calls() == 1).await;
    held.let_go(1);
    // Both others call while neither is answered.
    until("the others call", || held.calls() == 3).await;
    held.let_go(2);
    join_all(asked).await;
    assert_eq!(fleet.outcomes(FillOutcome::Unkept), 2);
    // From then on nobody asks.
    let asked: Vec<_> = (0..3).map(|n| fleet.ask(n, "/api/doc/2")).collect();
    until("all call", || held.calls() == 6).await;
    held.let_go(3);
    join_all(asked).await;
    assert_eq!(fleet.outcomes(FillOutcome::Unshared), 3);
}

/// The first answer breaks off in its body.
fn broken_first(n: usize) -> Response<Body> {
    if n > 0 {
        return numbered(n);
    }
    let parts = [Ok(Frame::data(Bytes::from_static(b"ans"))), Err(BodyError("broken off".to_owned()))];
    Response::new(Body::stream(StreamBody::new(stream::iter(parts))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_breaks_off_lets_all_others_try_at_once() {
    let Some(server) = Server::start(&[]) else { return };
    let held = Held::new(broken_first).await;
    let fleet = Fleet::start(&server, &held.origin, PATIENT, |_| ()).await;
    let client = fleet.0[0].0.client;
    let broken = tokio::task::spawn(async move { client.try_get("/api/doc/1", &[]).await });
    until("the call", || held.calls() == 1).await;
    let asked: Vec<_> = (1..3).map(|n| fleet.ask(n, "/api/doc/1")).collect();
    until("all wait", || fleet.waiting() >= 3).await;
    held.let_go(1);
    let broken = broken.await.unwrap();
    assert!(broken.as_ref().is_none_or(|answer| answer.status == 502), "{broken:?}");
    until("both call, neither after the other", || held.calls() == 3).await;
    held.let_go(2);
    for answer in join_all(asked).await {
        assert!(answer.unwrap().text().starts_with("answer "));
    }
    assert_eq!(fleet.outcomes(FillOutcome::Failed), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_while_another_instance_calls_leaves_the_wait_to_who_stays() {
    let Some(server) = Server::start(&[]) else { return };
    let held = Held::new(numbered).await;
    let fleet = Fleet::start(&server, &held.origin, PATIENT, |_| ()).await;
    let first = fleet.ask(0, "/api/doc/1");
    until("the call", || held.calls() == 1).await;
    let leads = fleet.ask(1, "/api/doc/1");
    until("it waits for the other instance", || fleet.waiting() == 2).await;
    let follows = fleet.ask(1, "/api/doc/1");
    until("it follows", || fleet.waiting() == 3).await;
    leads.abort();
    let left = || fleet.0[1].0.proxy.totals().total.outcome(Outcome::Failed);
    until("it has left, and its follower waits in its place, once", || left() == 1 && fleet.waiting() == 2).await;
    held.let_go(1);
    assert_eq!(follows.await.unwrap().text(), "answer 0");
    assert_eq!((first.await.unwrap().text().as_str(), held.calls()), ("answer 0", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refreshes_are_one_call_among_instances() {
    let Some(server) = Server::start(&[]) else { return };
    let held = Held::new(numbered).await;
    let fleet = Fleet::start(&server, &held.origin, PATIENT, |route| route.stale_while_revalidate = Duration::from_secs(600)).await;
    held.let_go(1);
    for n in 0..3 {
        assert_eq!(fleet.ask(n, "/api/doc/1").await.unwrap().text(), "answer 0");
        fleet.written().await;
    }
    fleet.advance(Duration::from_secs(61));
    // Each answers what it has, and would renew it.
    for n in 0..3 {
        assert_eq!(fleet.ask(n, "/api/doc/1").await.unwrap().text(), "answer 0");
        until("asked", || fleet.outcomes(FillOutcome::Led) + fleet.outcomes(FillOutcome::UnderWay) == n as u64 + 2).await;
    }
    until("the call", || held.calls() == 2).await;
    assert_eq!(fleet.outcomes(FillOutcome::UnderWay), 2);
    held.let_go(1);
    let refreshed = |n: usize| {
        let client = fleet.0[n].0.client;
        async move { client.get("/api/doc/1", &[]).await.text() == "answer 1" }
    };
    // The next request that wants it renewed finds it in L2.
    for n in 0..3 {
        let mut looks = 0;
        while !refreshed(n).await {
            looks += 1;
            assert!(looks < 3_000, "instance {n} does not get the new answer");
            fleet.0[n].1.advance(Duration::from_millis(1_100));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(held.calls(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_instance_makes_its_own_call() {
    let Some(server) = Server::start(&[]) else { return };
    let held = Held::new(numbered).await;
    let fleet = Fleet::start(&server, &held.origin, Duration::from_millis(50), |_| ()).await;
    server.signal("-STOP");
    held.let_go(100);
    for key in ["/api/doc/1", "/api/doc/2", "/api/doc/3", "/api/doc/4"] {
        let asked: Vec<_> = (0..9).map(|n| fleet.ask(n % 3, key)).collect();
        assert!(join_all(asked).await.into_iter().all(|answer| answer.unwrap().status == 200));
    }
    assert_eq!(held.calls(), 12, "one for each instance and key");
    assert_eq!(fleet.outcomes(FillOutcome::Away), 12);
    server.signal("-CONT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_can_do_without() {
    let Some(server) = Server::start(&[]) else { return };
    let held = Held::new(numbered).await;
    let fleet = Fleet::start(&server, &held.origin, PATIENT, |route| route.fill_lease = false).await;
    let asked: Vec<_> = (0..3).map(|n| fleet.ask(n, "/api/doc/1")).collect();
    until("all call", || held.calls() == 3).await;
    held.let_go(3);
    join_all(asked).await;
    assert!(FillOutcome::ALL.iter().all(|outcome| fleet.outcomes(*outcome) == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_wait_any_longer_calls_itself() {
    let Some(server) = Server::start(&[]) else { return };
    let held = Held::new(numbered).await;
    let fleet = Fleet::start(&server, &held.origin, PATIENT, |_| ()).await;
    let patient = fleet.ask(0, "/api/doc/1");
    until("the call", || held.calls() == 1).await;
    let client = fleet.0[1].0.client;
    let hurried = tokio::task::spawn(async move { client.get("/api/doc/1", &[("x-farthing-deadline-ms", "600")]).await });
    // The first call hangs: half of the time goes into the wait for it.
    until("a call of its own", || held.calls() == 2).await;
    assert_eq!((fleet.outcome(1, FillOutcome::Late), fleet.outcome(0, FillOutcome::Led)), (1, 1));
    held.let_go(2);
    assert_eq!(patient.await.unwrap().status, 200);
    hurried.await.unwrap();
}

/// Three programs of a fleet, connected, each in a folder of its own.
async fn three(origin: &Origin, server: &Server) -> Option<(Vec<Serving>, Vec<tempfile::TempDir>)> {
    let Some(program) = built("farthing") else {
        farthing_tests::skip::skip("holders of fill leases that are killed or stopped: the program is not built (cargo build -p farthing)");
        return None;
    };
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut all = Vec::new();
    for dir in &dirs {
        all.push(serve(&program, (origin, server), dir.path()).await);
    }
    for one in &all {
        for line in ["farthing_redis_connected_total 1", "farthing_fleet_members 3", "farthing_fleet_silent 0"] {
            until_it_tells(one, line).await;
        }
    }
    Some((all, dirs))
}

/// One of three programs of a fleet.
async fn serve(program: &Path, (origin, server): (&Origin, &Server), dir: &Path) -> Serving {
    let config = format!(
        "salt = {{ env = \"FLEET_SALT\" }}\nstate_dir = \"state\"\n[models]\ndir = \"no-models\"\n[holdout]\nshare = 0\n\
         [l2]\nkind = \"redis\"\naddresses = [\"{url}\"]\ndeadline = \"5s\"\n[fleet]\nname = \"killed\"\naddresses = [\"{url}\"]\n\
         [providers.geo]\nbase_url = \"http://{}\"\nprice = \"0.002\"\n",
        origin.addr,
        url = server.url()
    );
    std::fs::write(dir.join("farthing.toml"), config).unwrap();
    let salted = |command: &mut tokio::process::Command| {
        command.env("FLEET_SALT", SALT);
    };
    Serving::start_with(program, dir, &["--config", "farthing.toml"], salted).await
}

/// Waits until a program's metrics have a line.
async fn until_it_tells(serving: &Serving, line: &str) {
    let is = |told: &str| told.replace("{}", "").trim_end_matches(".0") == line;
    let told = async { while !serving.admin.get("/metrics", &[]).await.text().lines().any(is) {} };
    assert!(tokio::time::timeout(Duration::from_secs(60), told).await.is_ok(), "not within a minute: {line}");
}

fn ask(serving: &Serving) -> JoinHandle<Option<Answer>> {
    let client = serving.data;
    tokio::task::spawn(async move { client.try_get("/r/geo/doc/1", &[]).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_one_that_calls_is_killed_the_others_answer_by_one_call_more() {
    let Some(server) = Server::start(&[]) else { return };
    let held = Held::new(numbered).await;
    let Some((mut serving, _dirs)) = three(&held.origin, &server).await else { return };
    // The first one calls.
    let doomed: Vec<_> = (0..20).map(|_| ask(&serving[0])).collect();
    until("the call", || held.calls() == 1).await;
    let saved: Vec<_> = (0..40).map(|n| ask(&serving[1 + n % 2])).collect();
    for one in &serving[1..] {
        // They ask for the lease next.
        until_it_tells(one, "farthing_l2_gets_total{store=\"redis\",outcome=\"absent\"} 1").await;
    }
    assert_eq!(held.calls(), 1);
    let killed = std::time::Instant::now();
    assert!(!serving.remove(0).signal("-KILL").await.success());
    until("one of the others takes over", || held.calls() == 2).await;
    let took = killed.elapsed();
    held.let_go(10);
    for answer in join_all(saved).await {
        let answer = answer.unwrap().expect("every request to those that live is answered");
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "answer 1"));
    }
    for answer in join_all(doomed).await {
        assert!(answer.unwrap().is_none());
    }
    assert_eq!(held.calls(), 2);
    let _nobody_reads = writeln!(std::io::stderr(), "the call was taken over {took:?} after kill -9");
    for one in serving {
        one.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stopped_holder_brings_late_overwrites_nothing() {
    let Some(server) = Server::start(&[]) else { return };
    let held = Held::new(numbered).await;
    let Some((serving, _dirs)) = three(&held.origin, &server).await else { return };
    let stopped = ask(&serving[0]);
    until("the call", || held.calls() == 1).await;
    serving[0].pause();
    let other = ask(&serving[1]);
    until("another one takes over", || held.calls() == 2).await;
    held.let_go(2);
    assert_eq!(other.await.unwrap().unwrap().text(), "answer 1");
    until_it_tells(&serving[1], "farthing_l2_puts_total{store=\"redis\",outcome=\"stored\"} 1").await;
    serving[0].go_on();
    // Its own client gets what it has waited for; nobody else does.
    assert_eq!(stopped.await.unwrap().unwrap().text(), "answer 0");
    until_it_tells(&serving[0], "farthing_l2_puts_total{store=\"redis\",outcome=\"fenced\"} 1").await;
    let third = ask(&serving[2]).await.unwrap().unwrap();
    assert_eq!((third.text().as_str(), third.is_hit(), held.calls()), ("answer 1", true, 2));
    for one in serving {
        one.end().await;
    }
}
