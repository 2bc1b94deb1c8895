//! Runs the proxy's request path in virtual time and lets the program replay its log.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use farthing_config::{Config, Flags, System};
use farthing_contract::log::{CallRow, Row};
use farthing_models::{Runtime, Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_replay::{Event, EventKind, Recipe, World};
use farthing_types::{Body, Draw, DrawKind, Time};
use farthing_upstream::UpstreamSpec;
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;

use crate::provider::{Faults, Paused, Truth, Wire};

/// A world whose keys change within minutes to hours, asked for at about one request a second.
const WORLD: &str = r#"
seed = 7
start_s = 1767225600
duration_s = 21600.0
rate = 1.0
zipf = 0.9
stale_price = "0.02"
routes = [
  { name = "geocode", keys = 400, weight = 0.2, price = "0.005", process = { kind = "never" } },
  { name = "weather", keys = 120, weight = 0.3, price = "0.0015", process = { kind = "poisson", mean_interval_s = 1500.0, sigma = 1.0 } },
  { name = "rates", keys = 30, weight = 0.2, price = "0.002", process = { kind = "periodic", period_s = 1800.0, offset_s = 300.0, jitter_s = 60.0 } },
  { name = "news", keys = 40, weight = 0.25, price = "0.001", process = { kind = "poisson", mean_interval_s = 600.0, sigma = 1.0 } },
  { name = "summarise", keys = 10, weight = 0.05, price = "0.004", process = { kind = "nondeterministic" } },
]
"#;

/// What is run.
pub struct Scenario {
    /// Lines of each route's table.
    pub route: &'static str,
    /// Tables beside routes and providers.
    pub tables: &'static str,
    /// How the provider fails.
    pub faults: Faults,
    /// Requests.
    pub requests: usize,
    /// Requests come this much closer together than in the world's recipe.
    pub crowding: i64,
}

/// A log and the configuration that wrote it.
pub struct Written {
    pub dir: TempDir,
    pub requests: usize,
}

impl Written {
    pub fn policy(&self) -> std::path::PathBuf {
        self.dir.path().join("policy.toml")
    }
    pub fn log(&self) -> std::path::PathBuf {
        self.dir.path().join("logs")
    }
}

/// The repository.
pub fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a scenario and writes its log.
pub fn run(scenario: &Scenario) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let recipe: Recipe = toml::from_str(WORLD).unwrap();
    let path = dir.path().join("policy.toml");
    // The same keys in each run, so the same draws.
    std::fs::write(dir.path().join("salt"), "a salt for a test").unwrap();
    std::fs::write(&path, policy(&recipe, scenario, &dir.path().join("logs"))).unwrap();
    let config = Arc::new(Config::build(Some(&path), &Flags::default(), &System).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let requests = runtime.block_on(drive(&recipe, scenario, &config));
    Written { dir, requests }
}

/// The configuration text.
pub fn policy(recipe: &Recipe, scenario: &Scenario, logs: &Path) -> String {
    let mut text = format!(
        "seed = 11\nsalt = {{ file = {:?} }}\nstate_dir = {:?}\n[log]\ndir = {logs:?}\nrow_rate = 1000000000\nqueue_bytes = \"1GB\"\n[models]\ndir = {:?}\ndeadline = \"60s\"\n{}\n",
        logs.with_file_name("salt"),
        logs.with_file_name("state"),
        root().join("models"),
        scenario.tables
    );
    for route in &recipe.routes {
        let name = &route.name;
        text += &format!("[providers.{name}]\nbase_url = \"http://{name}.test\"\nvolatile = [\"/generated_at\"]\n");
        text += &format!("[providers.{name}.prices]\nper_call = \"{}\"\nnot_modified = \"0.0001\"\n", route.price);
        text += &format!("[routes.{name}]\n{}\n", scenario.route);
    }
    text
}

async fn drive(recipe: &Recipe, scenario: &Scenario, config: &Arc<Config>) -> usize {
    let clock = Arc::new(Paused::new(recipe.start()));
    let truth = Arc::new(Truth {
        world: World::new(recipe.clone(), recipe.seed),
        clock: clock.clone(),
        faults: scenario.faults,
        taken: Default::default(),
        calls: Default::default(),
    });
    let library = std::env::var_os("FARTHING_ONNXRUNTIME").map(std::path::PathBuf::from);
    let options = StoreOptions { runtime: Runtime::load(library.as_deref()).ok(), slots: 1, ..StoreOptions::default() };
    let store = Store::open(config.models.dir.clone(), options);
    let client =
        |spec: &UpstreamSpec| -> Arc<dyn farthing_upstream::Origin> { Arc::new(Wire { name: spec.name.clone(), truth: truth.clone() }) };
    let inside = Inside::new(config, clock.clone(), store, &client).unwrap();
    let plan = plan(recipe, scenario);
    for (at, request, number) in plan.iter().map(|(at, event, number)| (*at, request(recipe, event, *number), *number)) {
        clock.until(at).await;
        if number % 50 == 0 {
            inside.plan();
        }
        let answer = inside.ask(request);
        tokio::spawn(async move { answer.await.into_body().collect().await.map(|_| ()) });
    }
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    let metrics = inside.close().await.unwrap();
    assert_eq!(metrics.dropped(), 0);
    plan.len()
}

/// Requests at even milliseconds, no two at once.
fn plan(recipe: &Recipe, scenario: &Scenario) -> Vec<(Time, Event, u64)> {
    let trace = recipe.generate(recipe.seed).unwrap();
    let mut last = 0;
    let reads = trace.events.iter().filter(|e| e.kind == EventKind::Read).take(scenario.requests);
    reads
        .zip(0..)
        .map(|(event, number)| {
            let since = event.at.since(recipe.start()).as_millis() as i64 / scenario.crowding;
            last = ((recipe.start().millis() + since) & !1).max(last + 2);
            (Time::from_millis(last), *event, number)
        })
        .collect()
}

/// A request; every fortieth asks for something special.
fn request(recipe: &Recipe, event: &Event, number: u64) -> Request<Body> {
    let name = &recipe.routes[usize::from(event.route)].name;
    let first = recipe.first_keys()[usize::from(event.route)];
    let parameters = CallRow::TABLE.columns.iter().any(|c| c.name == "query_parameters");
    let query = ["", "?lang=en", "?lang=en&n=1"][if parameters { event.key as usize % 3 } else { 0 }];
    let uri = format!("/r/{name}/{}{query}", event.key - first);
    let drawn = |salt: u128| Draw::new(5).bits(DrawKind::Sample, "request", u128::from(number) << 8 | salt, 0);
    let method = if drawn(1) % 60 == 0 {
        "HEAD"
    } else if drawn(1) % 200 == 1 {
        "POST"
    } else {
        "GET"
    };
    let mut request = Request::builder().method(method).uri(uri).header("host", "farthing.test");
    let special: [(&str, &str); 10] = [
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=5"),
        ("cache-control", "max-stale=100"),
        ("cache-control", "only-if-cached"),
        ("cache-control", "no-store"),
        ("x-farthing-cache", "off"),
        ("x-farthing-cache", "refresh"),
        ("x-farthing-cache", "read-only"),
        ("cookie", "session=1"),
        ("if-match", "\"x\""),
    ];
    if drawn(2) % 40 == 0 {
        let (header, value) = special[(drawn(3) % special.len() as u64) as usize];
        request = request.header(header, value);
    }
    request.body(Body::empty()).unwrap()
}

/// What `farthing replay ARGS --json` says.
pub fn replay(args: &[&str]) -> (Value, i32) {
    let out = Command::new(env!("CARGO_BIN_EXE_farthing")).arg("replay").args(args).arg("--json").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)));
    (report, out.status.code().unwrap())
}
