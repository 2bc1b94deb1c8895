//! Deaths of the server, and of who ships.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use farthing_sinks::LogId;
use farthing_types::Span;
use tokio_util::sync::CancellationToken;

use crate::servers::clickhouse::Clickhouse;
use crate::suite::{self, assert_equal, driver};
use crate::{clickhouse, sink, spec, spec_at};

/// The acceptance: the server is killed, stopped and started under load, and no row is lost or doubled.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_and_stops_under_load_loses_and_doubles_no_row() {
    let Some(mut server) = Clickhouse::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let writer = suite::open(dir.path(), Span::from_millis(250));
    let (load, stop) = (CancellationToken::new(), CancellationToken::new());
    let writing = suite::calls_until(writer.handle(), load.clone());
    let driver = driver(sink(&server), spec(clickhouse(&server)), dir.path());
    let state = driver.state();
    let shipping = tokio::spawn(driver.run(stop.clone(), stop.clone()));
    let reaches = async |files: u64| {
        while state.stats().files < files {
            tokio::time::sleep(Span::from_millis(5)).await;
        }
    };
    let faults = || state.stats().faults.values().sum::<u64>();
    for round in 0..4 {
        let (files, noticed) = (state.stats().files, faults());
        reaches(files + 5).await;
        if round % 2 == 0 {
            server.kill()
        } else {
            server.stop()
        }
        // An outage that falls between two files would try nothing.
        while faults() == noticed {
            tokio::time::sleep(Span::from_millis(5)).await;
        }
        tokio::time::sleep(Span::from_millis(round * 70)).await;
        server.restart();
    }
    load.cancel();
    let calls = writing.await.unwrap();
    writer.close();
    let files = suite::files(dir.path()).len();
    let held = "SELECT uniqExact(file) FROM farthing.calls_rows";
    while state.stats().waiting > 0 || server.try_ask(held) != Ok(files.to_string()) {
        tokio::time::sleep(Span::from_millis(50)).await;
    }
    stop.cancel();
    shipping.await.unwrap();
    let stats = state.stats();
    println!("{calls} calls in {files} files; {stats:?}; rows that came twice: {}", doubled(&server));
    assert!(stats.faults.values().sum::<u64>() >= 4, "{stats:?}");
    assert_equal(&server, dir.path());
    let sum = calls * (calls + 1) / 2;
    assert_eq!(
        server.ask("SELECT count(), uniqExact(call_id), sum(call_id), sum(cost_nanousd) FROM farthing.calls"),
        format!("{calls}\t{calls}\t{sum}\t{sum}")
    );
}

fn doubled(server: &Clickhouse) -> String {
    server.ask("SELECT count() - uniqExact(row_id) FROM farthing.calls_rows")
}

/// Not a test by itself: ships a folder, a line for each round, until killed.
#[tokio::test(flavor = "multi_thread")]
async fn child_ships_until_killed() {
    let Some(dir) = std::env::var_os("FARTHING_TEST_LOG") else { return };
    let spec = spec(spec_at(std::env::var("FARTHING_TEST_URL").unwrap()));
    let mut driver = driver(farthing_sinks::open(&spec).unwrap(), spec, Path::new(&dir));
    let state = driver.state();
    loop {
        println!("begins");
        // What the one before had under way may still be.
        if driver.round().await.is_ok() {
            println!("shipped {}", state.stats().waiting);
        }
        tokio::time::sleep(Span::from_millis(20)).await;
    }
}

fn child(server: &Clickhouse, dir: &Path) -> (Child, impl Iterator<Item = String>) {
    let args = ["--exact", "deaths::child_ships_until_killed", "--nocapture", "--test-threads=1"];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(args).env("FARTHING_TEST_LOG", dir).env("FARTHING_TEST_URL", server.url());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    (child, lines)
}

/// Killed in the middle of files, at moments that come as they come; with the server stopped, rows are on their way that only the server's end of the connection knows of.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_while_it_ships_loses_and_doubles_no_row() {
    let Some(server) = Clickhouse::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let calls = suite::log_of_calls(dir.path(), (30, 500));
    sink(&server).prepare().await.unwrap();
    for round in 0..4 {
        let (mut child, mut lines) = child(&server, dir.path());
        assert!(lines.any(|line| line == "begins"));
        server.until(&format!("SELECT uniqExact(file) >= {} FROM farthing.calls_rows", round * 6 + 3), "1");
        if round % 2 == 1 {
            server.signal("-STOP");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        server.signal("-CONT");
    }
    let (mut last, mut lines) = child(&server, dir.path());
    assert!(lines.any(|line| line == "shipped 0"));
    last.kill().unwrap();
    last.wait().unwrap();
    println!("rows that came twice: {}", doubled(&server));
    assert_equal(&server, dir.path());
    assert_eq!(
        server.ask("SELECT count(), uniqExact(call_id), sum(call_id) FROM farthing.calls"),
        format!("{calls}\t{calls}\t{}", calls * (calls + 1) / 2)
    );
    assert_eq!(LogId::of(dir.path()).unwrap().as_str(), server.ask("SELECT DISTINCT log FROM farthing.calls_rows"));
}
