//! Documents of which most begin to change thirty times as often one day, read through the proxy in virtual time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use farthing_config::{Config, Mode, Prices, Provider, Route};
use farthing_contract::log::partition;
use farthing_models::{Alias, Kind, Runtime, Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, Call, CallReport, Clock, Failure, Money, Reply, Span, Time, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::program::said;

/// Midnight, UTC.
pub const START: Time = Time::from_millis(1_764_201_600_000);
pub const HOUR: Span = Span::from_secs(3_600);
pub const DAY: Span = Span::from_secs(86_400);
pub const PRICE: Money = Money::from_nanos(1_000_000);
pub const BUDGET: f64 = 0.02;
/// How often operators' machines look: aliases, canaries.
const TURN: Span = Span::from_secs(900);

/// A world's shape.
#[derive(Clone, Copy)]
pub struct Shape {
    pub seed: u64,
    pub keys: usize,
    pub days: u64,
    /// The day at whose beginning two thirds of the keys begin to change `times` as often.
    pub jump: u64,
    pub times: f64,
    /// Mean time between reads of a key, seconds; keys differ by a factor of three either way.
    pub read: f64,
    /// Mean time between changes, seconds, before the jump; the same.
    pub change: f64,
}

/// When which document changes: a Poisson process of its own for each, with one jump.
pub struct Documents(Vec<Vec<Time>>);

impl Documents {
    fn new(shape: &Shape) -> Self {
        let mut rng = StdRng::seed_from_u64(shape.seed);
        let (jump, end) = ((shape.jump * 86_400) as f64, (shape.days * 86_400) as f64);
        let changes = |key: usize| {
            let usual = shape.change * 9f64.powf(rng.random::<f64>() - 0.5);
            let after = if key % 3 < 2 { usual / shape.times } else { usual };
            let (mut at, mut all) = (0.0, Vec::new());
            while at < end {
                let gap = -(1.0 - rng.random::<f64>()).ln();
                // What is left of the exponential at the jump goes on at the new pace.
                let next = at + gap * if at < jump { usual } else { after };
                at = if at < jump && next > jump { jump + (next - jump) / usual * after } else { next };
                all.push(START + Span::from_secs_f64(at));
            }
            all
        };
        Self((0..shape.keys).map(changes).collect())
    }
    fn version(&self, key: usize, at: Time) -> usize {
        self.0[key].partition_point(|change| *change <= at)
    }
    fn text(&self, key: usize, at: Time) -> String {
        format!("{{\"key\":{key},\"version\":{}}}", self.version(key, at))
    }
}

struct Wire(Arc<Documents>, Arc<VirtualClock>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let key: usize = call.target.path().rsplit('/').next().unwrap().parse().unwrap();
        let now = self.1.now();
        let body = self.0.text(key, now);
        async move {
            call.sink.attempt(CallReport { started: now, ..CallReport::only(&call, "wire", Some(StatusCode::OK)) });
            let headers = HeaderMap::from_iter([("content-type".parse().unwrap(), HeaderValue::from_static("application/json"))]);
            Ok(Reply { status: StatusCode::OK, headers, body: Body::full(body) })
        }
        .boxed()
    }
}

fn config(dir: &Path, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    config.holdout.share = 0.0;
    config.state_dir = dir.join("state");
    config.models.dir = dir.join("models");
    config.models.autopilot = true;
    // Tests share the cores; whether a late answer counts is not what this is about.
    config.models.deadline = Span::from_secs(30);
    config.overhead.limit = Span::ZERO;
    config.log.dir = dir.join("logs");
    config.log.row_rate = u32::MAX;
    let mut provider = Provider { name: "docs".into(), base_url: "http://docs.test".parse().unwrap(), ..Provider::default() };
    provider.prices = Some(Prices::per_call(PRICE));
    let route = Route { name: "docs".into(), provider: "docs".into(), mode: Mode::Override, stale_budget: BUDGET, ..Route::default() };
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    change(&mut config);
    config
}

fn started(config: &Arc<Config>, clock: &Arc<VirtualClock>, documents: &Arc<Documents>) -> Inside {
    let (wire, time) = (documents.clone(), clock.clone());
    let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone(), time.clone())) };
    // Without the native library the tables decide.
    let options = StoreOptions { runtime: Runtime::load(None).ok(), ..StoreOptions::default() };
    let store = Store::open(config.models.dir.clone(), options);
    Inside::new(config, clock.clone(), store, &client).unwrap()
}

/// A folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Calls, reads and stale answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    pub calls: f64,
    pub reads: f64,
    pub stale: f64,
}

impl Sums {
    pub fn since(self, before: Self) -> Self {
        Self { calls: self.calls - before.calls, reads: self.reads - before.reads, stale: self.stale - before.stale }
    }
    pub fn stale_share(self) -> f64 {
        self.stale / self.reads.max(1.0)
    }
}

pub struct World {
    pub inside: Inside,
    pub clock: Arc<VirtualClock>,
    documents: Arc<Documents>,
    rng: StdRng,
    /// Share of the reads up to each key.
    ladder: Vec<f64>,
    mean: f64,
    reads: u64,
    stale: u64,
    dir: PathBuf,
    trainer: PathBuf,
    next_turn: Time,
    config: Arc<Config>,
    /// Log to begin with, as the recipe says it.
    pub least: &'static str,
    /// And how much is new to train again.
    pub every: &'static str,
}

impl World {
    pub fn new(dir: &Path, trainer: &Path, shape: &Shape, change: impl FnOnce(&mut Config)) -> Self {
        let config = Arc::new(config(dir, change));
        let clock = Arc::new(VirtualClock::new(START));
        let documents = Arc::new(Documents::new(shape));
        let inside = started(&config, &clock, &documents);
        inside.recall();
        let mut rng = StdRng::seed_from_u64(shape.seed ^ 1);
        let weights: Vec<f64> = (0..shape.keys).map(|_| 9f64.powf(rng.random::<f64>() - 0.5)).collect();
        let all: f64 = weights.iter().sum();
        let ladder = weights.iter().scan(0.0, |sum, weight| {
            *sum += weight / all;
            Some(*sum)
        });
        let ladder = ladder.collect();
        let mean = shape.read / shape.keys as f64;
        let (dir, trainer) = (dir.to_path_buf(), trainer.to_path_buf());
        Self {
            inside,
            clock,
            documents,
            rng,
            ladder,
            mean,
            reads: 0,
            stale: 0,
            dir,
            trainer,
            next_turn: START,
            config,
            least: "2d",
            every: "1d",
        }
    }

    /// Two worlds that go on from here, each after a restart: one in the same folder, one in a copy of it.
    pub async fn fork(self, to: &Path) -> (Self, Self) {
        self.inside.remember();
        let Self { inside, clock, documents, rng, ladder, mean, reads, stale, dir, trainer, next_turn, config, least, every } = self;
        inside.close().await.unwrap();
        copy(&dir, to);
        let again = |dir: &Path| {
            let mut config = Config::clone(&config);
            (config.state_dir, config.models.dir, config.log.dir) = (dir.join("state"), dir.join("models"), dir.join("logs"));
            let (config, clock) = (Arc::new(config), Arc::new(VirtualClock::new(clock.now())));
            let inside = started(&config, &clock, &documents);
            inside.recall();
            Self {
                inside,
                clock,
                documents: documents.clone(),
                rng: rng.clone(),
                ladder: ladder.clone(),
                mean,
                reads,
                stale,
                dir: dir.to_path_buf(),
                trainer: trainer.clone(),
                next_turn,
                config,
                least,
                every,
            }
        };
        (again(&dir), again(to))
    }

    async fn read(&mut self, key: usize) {
        let request = Request::builder().uri(format!("/docs/{key}")).header("host", "farthing.test").body(Body::empty()).unwrap();
        let (head, body) = self.inside.ask(request).await.into_parts();
        assert_eq!(head.status, StatusCode::OK);
        let body = body.collect().await.unwrap().to_bytes();
        self.reads += 1;
        self.stale += u64::from(body != self.documents.text(key, self.clock.now()));
    }

    pub async fn pass(&mut self, time: Span) {
        let until = self.clock.now() + time;
        loop {
            let gap = -(1.0 - self.rng.random::<f64>()).ln() * self.mean;
            let next = self.clock.now() + Span::from_secs_f64(gap);
            while self.next_turn <= next.min(until) {
                self.clock.set(self.next_turn);
                self.next_turn = self.next_turn + TURN;
                self.inside.poll_models();
                self.inside.control();
                self.inside.settle().await;
            }
            if next >= until {
                self.clock.set(until);
                break;
            }
            self.clock.set(next);
            let rung = self.rng.random::<f64>();
            let key = self.ladder.partition_point(|share| *share <= rung).min(self.ladder.len() - 1);
            self.read(key).await;
        }
        self.inside.settle().await;
    }

    pub fn sums(&self) -> Sums {
        let calls = self.inside.totals().routes.get("docs").map_or(0.0, |route| route.bill_usd.as_usd_f64() / PRICE.as_usd_f64());
        Sums { calls, reads: self.reads as f64, stale: self.stale as f64 }
    }

    /// One look of the trainer's loop; what it said.
    pub fn train(&mut self) -> String {
        self.inside.flush_log().unwrap();
        let at = farthing_ledger::costs::utc(self.clock.now());
        let recipe = self.dir.join("loop.toml");
        let (logs, models) = (self.dir.join("logs"), self.dir.join("models"));
        let text = format!(
            "logs = {logs:?}\nmodels = {models:?}\nevery = \"{}\"\nafter_drift = \"6h\"\nleast = \"{}\"\nwindow = \"6d\"\n[ttl]\nstale_budget = {BUDGET}\n",
            self.every, self.least
        );
        std::fs::write(&recipe, text).unwrap();
        let said = self.trainer(&["loop", "--once", "--at", &at, "--recipe", recipe.to_str().unwrap()]);
        if !said.contains("are waited for") && !said.contains("waits until") {
            println!("day {:.2}: {}", self.day(), said.trim());
        }
        said
    }

    pub fn trainer(&self, args: &[&str]) -> String {
        let mut command = Command::new(&self.trainer);
        let output = command.args(args).current_dir(&self.dir).env("ORT_DISABLE_TELEMETRY", "1").output().unwrap();
        let said = said(&output);
        assert!(output.status.code().is_some_and(|code| code == 0 || code == 3), "{said}");
        said
    }

    /// Fits on the log of some days alone, whatever the gate says of it; the version.
    pub fn fit_days(&self, days: std::ops::Range<i64>) -> u32 {
        let first = START.nanos().div_euclid(3_600_000_000_000);
        let logs = self.dir.join("some");
        for table in ["requests", "calls", "decisions"] {
            for day in days.clone() {
                let midnight = partition(first + 24 * day);
                let day = Path::new(table).join(Path::new(&midnight).parent().unwrap());
                copy(&self.dir.join("logs").join(&day), &logs.join(&day));
            }
        }
        let budget = BUDGET.to_string();
        let models = self.dir.join("models");
        let args = [
            "fit",
            "ttl",
            "--force",
            "--json",
            "--stale-budget",
            &budget,
            "--logs",
            logs.to_str().unwrap(),
            "--out",
            models.to_str().unwrap(),
        ];
        let said = self.trainer(&args);
        let said: serde_json::Value = serde_json::from_str(&said).expect(&said);
        u32::try_from(said["published"]["version"].as_u64().unwrap()).unwrap()
    }

    pub fn day(&self) -> f64 {
        self.clock.now().since(START).as_secs_f64() / 86_400.0
    }

    pub fn champion(&self) -> Option<u32> {
        self.inside.models().current(Kind::Ttl, Alias::Champion).map(|live| live.version())
    }

    pub fn history(&self) -> Vec<String> {
        let since = |at_ns: i64| Time::from_nanos(at_ns).since(START).as_secs_f64() / 86_400.0;
        let line = |event: farthing_models::Event| {
            let to = event.to.as_ref().map_or(0, |to| to.version);
            format!("day {:.2} {} {} -> {to} by {}: {}", since(event.at_ns), event.action.as_str(), event.alias, event.by, event.reason)
        };
        self.inside.models().history().into_iter().map(line).collect()
    }
}
