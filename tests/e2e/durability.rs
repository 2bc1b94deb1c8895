//! J4, O6: killing the process leaves whole files and nothing else under a final name; other tools read them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use farthing_tests::Origin;
use farthing_tests::origin::ok;
use farthing_tests::skip::skip;
use tokio::process::Command;

use crate::program::{Serving, built};

/// Starts `farthing serve` with a log in `logs`; it greets at once.
async fn serve(program: &Path, origin: &Origin, logs: &Path) -> Serving {
    let (upstream, dir, models) = (format!("geo=http://{}", origin.addr), logs.to_string_lossy(), logs.join("no-models"));
    let models = models.to_string_lossy();
    let args = ["--price", "0.002", "--upstream", &upstream, "--log-dir", &dir, "--models", &models];
    tokio::time::timeout(Duration::from_secs(20), Serving::start(program, logs, &args)).await.expect("serve names its data port")
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, out) } else { out.push(path) }
    }
}

fn parquet(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    files(dir, &mut all);
    all.retain(|p| p.extension().is_some_and(|e| e == "parquet"));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_leaves_only_whole_files() {
    let Some(program) = built("farthing") else { return skip("kill -9: the program is not built (cargo build -p farthing)") };
    let origin = Origin::simple(|_, n| ok(format!("{{\"n\":{n}}}"))).await;
    let logs = tempfile::tempdir().unwrap();
    let first = serve(&program, &origin, logs.path()).await;
    for n in 0..200 {
        first.data.get(&format!("/r/geo/doc/{n}"), &[]).await;
    }
    first.signal("-KILL").await;

    let second = serve(&program, &origin, logs.path()).await;
    for n in 0..200 {
        second.data.get(&format!("/r/geo/doc/{n}"), &[]).await;
    }
    tokio::time::timeout(Duration::from_secs(30), second.end()).await.expect("ends when told");

    let whole = parquet(logs.path());
    assert!(!whole.is_empty());
    let tables = farthing_ledger::read::summary(logs.path());
    assert!(tables.iter().all(|t| t.unreadable.is_empty()), "{tables:?}");
    let requests = tables.iter().find(|t| t.table == "requests").expect("requests were logged");
    assert!(requests.rows >= 200, "{}", requests.rows);
    check_with_other_tools(logs.path()).await;
}

/// polars, pandas and DuckDB agree with the schema and with each other.
async fn check_with_other_tools(logs: &Path) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../target/venv/bin/python");
    if !python.exists() {
        return skip("polars, pandas and DuckDB on the log: no target/venv (make deps)");
    }
    let output = Command::new(python).arg(root.join("python/read_logs.py")).arg(logs).output().await.unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}
