//! A log of real time, written by the real proxy over loopback, comes out of the replay as it was: at least 99.5 % of the outcomes, the
//! bill within 0.5 %, every difference by its cause.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use farthing_config::{Config, Flags, System};
use farthing_proxy::Proxy;
use farthing_tests::origin::ok;
use farthing_tests::skip::skip;
use farthing_tests::{Client, Origin};
use farthing_types::{Draw, DrawKind, RealClock};
use serde_json::Value;

const KEYS: u64 = 60;
const CLIENTS: u64 = 8;
const REQUESTS: u64 = 700;
/// Mean time between two requests of a client, ms.
const PAUSE_MS: f64 = 12.0;

/// The program, built beside the tests.
fn program() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let path = exe.parent()?.parent()?.join("farthing");
    path.exists().then_some(path)
}

fn policy(dir: &Path, origin: &Origin) -> String {
    format!(
        "seed = 3\nstate_dir = {dir:?}\n[data]\nlisten = \"127.0.0.1:0\"\n[log]\ndir = {:?}\nrow_rate = 1000000\n\
         [models]\ndir = {:?}\n[holdout]\nshare = 0.02\nwindow = \"2s\"\n\
         [providers.geo]\nbase_url = \"http://{}\"\nprice = \"0.002\"\n[routes.geo]\nttl = \"rule\"\nbase_ttl = \"2s\"\nmin_ttl = \"200ms\"\n\
         stale_while_revalidate = \"500ms\"\n",
        dir.join("logs"),
        dir.join("no-models"),
        origin.addr
    )
}

/// A provider whose documents change every few seconds and which takes 5 to 25 ms.
async fn provider() -> Origin {
    Origin::start(Arc::new(|seen, number| {
        Box::pin(async move {
            let key: u64 = seen.target.trim_start_matches('/').parse().unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(5 + (number as u64 * 7) % 21)).await;
            let version = number as u64 / (40 + key * 11);
            ok(format!("{{\"id\":{key},\"version\":{version}}}"))
        })
    }))
    .await
}

async fn ask(client: Client, who: u64) {
    let draw = Draw::new(17);
    for n in 0..REQUESTS {
        let u = draw.uniform(DrawKind::Sample, "key", u128::from(who), n as i64);
        let key = (u * u * KEYS as f64) as u64;
        assert_eq!(client.get(&format!("/r/geo/{key}"), &[]).await.status, 200);
        let wait = -draw.uniform(DrawKind::Sample, "wait", u128::from(who), n as i64).max(1e-9).ln() * PAUSE_MS;
        tokio::time::sleep(Duration::from_secs_f64(wait / 1e3)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_log_is_replayed_faithfully() {
    let Some(program) = program() else { return skip("replay of a live log: no program beside the tests (cargo build -p farthing)") };
    let (dir, origin) = (tempfile::tempdir().unwrap(), provider().await);
    let path = dir.path().join("policy.toml");
    std::fs::write(&path, policy(dir.path(), &origin)).unwrap();
    let config = Config::build(Some(&path), &Flags::default(), &System).unwrap();
    let proxy = Proxy::start(Arc::new(config), Arc::new(RealClock::default())).await.unwrap();
    let client = Client { addr: proxy.data_addr() };
    let clients: Vec<_> = (0..CLIENTS).map(|who| tokio::task::spawn(ask(client, who))).collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(proxy.shutdown().await.unwrap().dropped(), 0);
    let log = dir.path().join("logs");
    let out =
        Command::new(program).arg("replay").arg("--log").arg(&log).arg("--policy").arg(&path).args(["--check", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)));
    let (fidelity, total) = (&report["policy"]["fidelity"], &report["policy"]["total"]);
    let count = |name: &str| total["outcomes"][name].as_f64().unwrap_or(0.0);
    assert_eq!(fidelity["requests"], CLIENTS * REQUESTS, "{fidelity:#}");
    assert!(count("hit") > 500.0 && count("lead") > 100.0 && count("stale") > 5.0, "{total:#}");
    assert_eq!(fidelity["faithful"], true, "{fidelity:#}");
    assert_eq!(out.status.code(), Some(0));
    assert!(fidelity["same_share"].as_f64().unwrap() >= 0.995, "{fidelity:#}");
    assert!(fidelity["bill_difference"].as_f64().unwrap().abs() <= 0.005, "{fidelity:#}");
    let unexplained = fidelity["differences"]["other"].as_f64().unwrap_or(0.0);
    assert!(unexplained <= (CLIENTS * REQUESTS) as f64 * 0.001, "{fidelity:#}");
}
