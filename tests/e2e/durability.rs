//! J4, O6: killing the process leaves whole files and nothing else under a final name; other tools read them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use farthing_tests::origin::ok;
use farthing_tests::skip::skip;
use farthing_tests::{Client, Origin};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The program, built beside the tests.
fn program() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let path = exe.parent()?.parent()?.join("farthing");
    path.exists().then_some(path)
}

struct Serving {
    child: Child,
    client: Client,
}

/// Starts `farthing serve` and waits for the line that names its data port.
async fn serve(program: &Path, origin: &Origin, logs: &Path) -> Serving {
    let mut child = Command::new(program)
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--price", "0.002"])
        .arg("--upstream")
        .arg(format!("geo=http://{}", origin.addr))
        .arg("--log-dir")
        .arg(logs)
        .arg("--models")
        .arg(logs.join("no-models"))
        .current_dir(logs)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut addr = None;
    while let Some(line) = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap() {
        if let Some((_, rest)) = line.split_once("http://127.0.0.1:") {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            addr = Some(format!("127.0.0.1:{port}").parse().unwrap());
            break;
        }
    }
    Serving { child, client: Client { addr: addr.expect("serve names its data port") } }
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
    let Some(program) = program() else { return skip("kill -9: the program is not built (cargo build -p farthing)") };
    let origin = Origin::simple(|_, n| ok(format!("{{\"n\":{n}}}"))).await;
    let logs = tempfile::tempdir().unwrap();
    let mut first = serve(&program, &origin, logs.path()).await;
    for n in 0..200 {
        first.client.get(&format!("/r/geo/doc/{n}"), &[]).await;
    }
    first.child.kill().await.unwrap();

    let mut second = serve(&program, &origin, logs.path()).await;
    for n in 0..200 {
        second.client.get(&format!("/r/geo/doc/{n}"), &[]).await;
    }
    let pid = second.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(30), second.child.wait()).await.expect("ends when told").unwrap();
    assert!(ended.success(), "{ended}");

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
