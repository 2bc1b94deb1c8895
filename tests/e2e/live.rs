//! C5, M2: a log of real time, written by the real program over loopback, comes out of `farthing replay` as it was: at least 99.5 % of the
//! outcomes, the bill within 0.5 %, every difference by its cause. Every way of reuse at once: predicted and fixed TTLs, explicit
//! freshness, prohibitions, confirmations, stale answers, a POST that may be repeated, writes, a holdout, a provider that fails now and
//! then, clients that crowd on one key, and a restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farthing_tests::origin::{answer_of, ok};
use farthing_tests::skip::skip;
use farthing_tests::{Client, Origin, Seen};
use farthing_types::{Body, Draw, DrawKind};
use http::{Method, Response, StatusCode};
use serde_json::Value;

use crate::bundles::shipped_root;
use crate::program::{self, Serving, said};

/// What a route is like: its name, and its lines in the configuration.
const ROUTES: [(&str, &str); 7] = [
    ("learned", "ttl = \"model\"\ntrust_shipped = true\nmin_ttl = \"100ms\"\nmax_ttl = \"2s\"\n"),
    ("pinned", "mode = \"override\"\nttl = \"fixed:400ms\"\nmin_ttl = \"100ms\"\n"),
    ("explicit", "mode = \"respect\"\n"),
    ("private", ""),
    ("tagged", "ttl = \"fixed:300ms\"\nmin_ttl = \"100ms\"\n"),
    ("renewed", "ttl = \"rule\"\nbase_ttl = \"300ms\"\nmin_ttl = \"100ms\"\nmax_ttl = \"600ms\"\nstale_while_revalidate = \"400ms\"\n"),
    ("search", "mode = \"override\"\nttl = \"fixed:700ms\"\nmin_ttl = \"100ms\"\nidempotent = true\n"),
];
const KEYS: f64 = 40.0;
const CLIENTS: u64 = 12;
/// Of one client, in one run of the program.
const REQUESTS: u64 = 300;
/// Mean time between two requests of a client, ms.
const PAUSE_MS: f64 = 10.0;

fn policy(dir: &Path, origin: &Origin) -> String {
    let logs = dir.join("logs");
    let mut text = format!(
        "seed = 3\nstate_dir = {dir:?}\n[log]\ndir = {logs:?}\nrow_rate = 1000000\n[models]\ndir = {:?}\ndeadline = \"60s\"\n\
         [holdout]\nshare = 0.03\nwindow = \"2s\"\n[providers.geo]\nbase_url = \"http://{}\"\n[providers.geo.upstream]\nattempts = 1\n\
         breaker_share = 1.0\n[providers.geo.prices]\nper_call = \"0.002\"\nnot_modified = \"0.0001\"\n",
        shipped_root(),
        origin.addr
    );
    for (name, lines) in ROUTES {
        text += &format!("[routes.{name}]\nprovider = \"geo\"\npath_prefix = \"/{name}\"\nstrip_prefix = \"/\"\n{lines}");
    }
    text
}

/// A provider whose documents change with the number of calls, and which takes 3 to 20 ms.
async fn provider() -> Origin {
    Origin::start(Arc::new(|seen, number| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_micros(3_000 + (number as u64 * 7_919) % 17_000)).await;
            answer(&seen, number)
        })
    }))
    .await
}

fn answer(seen: &Seen, number: usize) -> Response<Body> {
    let version = number / (60 + seen.target.len() * 11);
    let body = format!("{{\"target\":{:?},\"asked\":{:?},\"version\":{version}}}", seen.target, seen.body);
    let kind = seen.target.trim_start_matches('/').split('/').next().unwrap_or_default();
    let tag = format!("\"{version}\"");
    match kind {
        _ if number % 97 == 96 => answer_of(StatusCode::SERVICE_UNAVAILABLE, &[], "later"),
        "explicit" => answer_of(StatusCode::OK, &[("cache-control", "max-age=1")], body),
        "private" => answer_of(StatusCode::OK, &[("cache-control", "no-store")], body),
        "tagged" if seen.headers.get("if-none-match").is_some_and(|v| v.as_bytes() == tag.as_bytes()) => {
            answer_of(StatusCode::NOT_MODIFIED, &[("etag", &tag)], "")
        }
        "tagged" => answer_of(StatusCode::OK, &[("etag", &tag)], body),
        _ => ok(body),
    }
}

/// One client: most of what it asks for is popular; every twelfth time all clients crowd on one document.
async fn ask(client: Client, who: u64, run: u64) {
    let draw = Draw::new(17);
    let mut clock = tokio::time::interval(Duration::from_secs_f64(PAUSE_MS / 1e3));
    for n in 0..REQUESTS {
        let crowd = n % 12 == 0;
        let asking = u128::from(if crowd { run * 100 } else { run * 100 + who + 1 });
        let u = |what: &str| draw.uniform(DrawKind::Sample, what, asking, n as i64);
        clock.tick().await;
        // Between two ticks, so that clients meet by chance; a crowd comes at the tick.
        if !crowd {
            tokio::time::sleep(Duration::from_secs_f64(u("wait") * PAUSE_MS / 1e3)).await;
        }
        let (name, _) = ROUTES[(u("route") * ROUTES.len() as f64) as usize];
        let key = (u("key").powi(2) * KEYS) as u64;
        let special = u("special");
        let headers: &[(&str, &str)] = match special {
            x if x < 0.01 => &[("x-farthing-cache", "off")],
            x if x < 0.02 => &[("x-farthing-cache", "refresh")],
            x if x < 0.03 => &[("x-farthing-cache", "read-only")],
            x if x < 0.04 => &[("cache-control", "no-cache")],
            x if x < 0.05 => &[("cookie", "session=1")],
            _ => &[],
        };
        let (method, path, body) = match name {
            "search" => (Method::POST, "/search/all".to_owned(), Bytes::from(format!("{{\"q\":{key}}}"))),
            // A write drops the entry of its target.
            _ if special > 0.99 => (Method::PUT, format!("/{name}/{key}"), Bytes::from_static(b"{}")),
            _ => (Method::GET, format!("/{name}/{key}"), Bytes::new()),
        };
        let answer = client.send(method, &path, headers, body).await;
        assert!(matches!(answer.status.as_u16(), 200 | 503), "{name}: {answer:?}");
    }
}

/// One run of the program under traffic, ended in order.
async fn serve(program: &Path, dir: &Path, run: u64) {
    let serving = Serving::start(program, dir, &["--config", "policy.toml"]).await;
    let client = serving.data;
    let clients: Vec<_> = (0..CLIENTS).map(|who| tokio::task::spawn(ask(client, who, run))).collect();
    for client in clients {
        client.await.unwrap();
    }
    serving.end().await;
}

/// What `farthing replay --check` says of the log.
struct Replayed {
    report: Value,
    words: String,
    code: Option<i32>,
}

impl Replayed {
    async fn of(program: &Path, dir: &Path) -> Self {
        let args = ["replay", "--log", "logs", "--policy", "policy.toml", "--check"];
        let words = program::run(program::command(program, dir, &args)).await;
        let out = program::run(program::command(program, dir, &[&args[..], &["--json"]].concat())).await;
        let report = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", said(&out)));
        Self { report, words: said(&words), code: out.status.code() }
    }
    /// Requests by route and outcome.
    fn outcomes(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let routes = self.report["policy"]["routes"].as_array().unwrap();
        let of = |route: &Value| serde_json::from_value(route["outcomes"].clone()).unwrap();
        routes.iter().map(|route| (route["route"].as_str().unwrap().to_owned(), of(route))).collect()
    }
}

fn program() -> Option<PathBuf> {
    let found = program::built("farthing");
    if found.is_none() {
        skip("replay of a live log: the program is not built (cargo build -p farthing)");
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_log_is_replayed_faithfully() {
    let Some(program) = program() else { return };
    let (dir, origin) = (tempfile::tempdir().unwrap(), provider().await);
    std::fs::write(dir.path().join("policy.toml"), policy(dir.path(), &origin)).unwrap();
    for run in 0..2 {
        serve(&program, dir.path(), run).await;
    }
    let replayed = Replayed::of(&program, dir.path()).await;
    let (fidelity, told) = (&replayed.report["policy"]["fidelity"], &replayed.words);
    let requests = 2 * CLIENTS * REQUESTS;
    assert_eq!(fidelity["requests"], requests, "{told}");
    everything_came_up(&replayed.outcomes());
    let (share, bill) = (fidelity["same_share"].as_f64().unwrap(), fidelity["bill_difference"].as_f64().unwrap());
    assert!(share >= 0.995 && bill.abs() <= 0.005, "{share} {bill}\n{told}");
    assert_eq!((&fidelity["faithful"], replayed.code), (&Value::Bool(true), Some(0)), "{told}");
    // What differs is told by its cause, and what has none is next to nothing.
    let differences: BTreeMap<String, u64> = serde_json::from_value(fidelity["differences"].clone()).unwrap();
    let other = differences.get("other").copied().unwrap_or(0);
    assert!(other <= requests / 1_000, "{told}");
    for (cause, count) in &differences {
        assert!(told.contains(&format!("{count} other outcomes: {cause}")), "{told}");
    }
}

/// A test in which nothing happened would hold as well.
fn everything_came_up(outcomes: &BTreeMap<String, BTreeMap<String, u64>>) {
    let count = |route: &str, outcome: &str| outcomes.get(route).and_then(|of| of.get(outcome)).copied().unwrap_or(0);
    for (route, outcome, least) in [
        ("learned", "hit", 40),
        ("learned", "lead", 100),
        ("learned", "follow", 5),
        ("pinned", "hit", 150),
        ("explicit", "hit", 200),
        ("private", "bypass", 200),
        ("private", "lead", 40),
        ("tagged", "hit", 100),
        ("tagged", "lead", 100),
        ("renewed", "stale", 10),
        ("search", "hit", 200),
        ("search", "follow", 5),
    ] {
        assert!(count(route, outcome) >= least, "{route}, {outcome}: {outcomes:#?}");
    }
}
