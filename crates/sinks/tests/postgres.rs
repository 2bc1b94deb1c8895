//! PostgreSQL from packages: the conformance suite, crashes of either side, and what a server can be like.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing"
)]

mod servers;
mod suite;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use farthing_contract::log::{ALL, CallRow, Column, ColumnType, Request, Row, Table};
use farthing_sinks::postgres::{Postgres, schema};
use farthing_sinks::{FaultReason, LogId, PostgresSpec, Shipment, Sink, SinkSpec, Target};
use farthing_types::Span;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use servers::{PASSWORD, Server};
use suite::{CANARY, HOUR, Holds, assert_equal, driver, log};
use tokio_util::sync::CancellationToken;

const DEADLINE: Span = Span::from_secs(10);

impl Holds for Server {
    fn rows(&self, table: &'static Table) -> Vec<Vec<String>> {
        let text = |column: &Column| {
            let name = format!("\"{}\"", column.name);
            match column.ty {
                ColumnType::U64 => format!("lpad(to_hex({name}), 16, '0')"),
                _ => name,
            }
        };
        let columns: Vec<String> = table.columns.iter().map(text).collect();
        // As JSON, so that no text can be taken for two cells.
        let ask = format!("SELECT json_build_array({})::text FROM farthing.{}", columns.join(", "), table.name);
        let answer = self.ask(&ask);
        let mut rows: Vec<Vec<String>> = answer.lines().map(cells).collect();
        rows.sort();
        rows
    }
}

fn cells(line: &str) -> Vec<String> {
    let cells: Vec<serde_json::Value> = serde_json::from_str(line).unwrap();
    let text = |cell: serde_json::Value| match cell {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text,
        serde_json::Value::Number(number) if number.is_f64() => number.as_f64().unwrap().to_string(),
        serde_json::Value::Array(list) => format!("{:?}", list.iter().map(|e| e.as_f64().unwrap() as f32).collect::<Vec<_>>()),
        other => other.to_string(),
    };
    cells.into_iter().map(text).collect()
}

fn postgres(server: &Server) -> PostgresSpec {
    PostgresSpec { url: server.url(), password: Some(PASSWORD.into()), ..PostgresSpec::default() }
}

fn sink_with(spec: &PostgresSpec, deadline: Span) -> Arc<dyn Sink> {
    Arc::new(Postgres::new(spec, deadline).unwrap())
}

fn sink(server: &Server) -> Arc<dyn Sink> {
    sink_with(&postgres(server), DEADLINE)
}

fn spec(url: &str) -> SinkSpec {
    let target = PostgresSpec { url: url.to_owned(), password: Some(PASSWORD.into()), ..PostgresSpec::default() };
    SinkSpec {
        name: "p".into(),
        tables: ALL.to_vec(),
        deadline: DEADLINE,
        interval: Span::from_millis(50),
        retention: None,
        target: Target::Postgres(target),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_conforms() {
    let Some(server) = Server::start() else { return };
    suite::conforms(sink(&server), &server).await;
}

/// The tables say what the columns mean, times are times, and later days have their partition before they come.
#[tokio::test(flavor = "multi_thread")]
async fn the_tables_are_those_of_the_contract() {
    let Some(server) = Server::start() else { return };
    let (dir, sink) = (tempfile::tempdir().unwrap(), sink(&server));
    log(dir.path());
    driver(sink.clone(), spec(&server.url()), dir.path()).round().await.unwrap();
    for table in ALL {
        let ask = format!(
            "SELECT attname, attnotnull, col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = 'farthing.{}'::regclass AND attnum > 0 ORDER BY attnum",
            table.name
        );
        let told: Vec<String> = server.ask(&ask).lines().map(str::to_owned).collect();
        let null = |column: &Column| if column.nullable { "f" } else { "t" };
        let meant = table.columns.iter().map(|column| format!("{}|{}|{}", column.name, null(column), column.doc.trim()));
        assert_eq!(told, meant.chain(["at|f|".to_owned()]).collect::<Vec<_>>());
        let days = format!(
            "SELECT string_agg(relname, ' ' ORDER BY 1) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'farthing.{}'::regclass",
            table.name
        );
        let named = |day: i64| schema::partition_name(table, day);
        assert_eq!(server.ask(&days), [20_784, 20_785, 20_786].map(named).join(" "));
    }
    assert_eq!(server.ask("SELECT min(at) AT TIME ZONE 'UTC' FROM farthing.calls"), "2026-11-27 23:00:00");
    assert_eq!(server.ask("SELECT count(*), sum(rows) FROM farthing.shipped_files"), "8|32");
    assert_eq!(server.ask("SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = 'farthing'"), "f");
}

/// Tables of an older version get the columns that they lack; what is no table of ours is refused with its remedy.
#[tokio::test(flavor = "multi_thread")]
async fn older_tables_are_extended_and_foreign_ones_refused() {
    let Some(server) = Server::start() else { return };
    let (dir, sink) = (tempfile::tempdir().unwrap(), sink(&server));
    let id = log(dir.path());
    sink.prepare().await.unwrap();
    let later: Vec<&str> = CallRow::TABLE.columns.iter().filter(|column| column.since > 1).map(|column| column.name).collect();
    let drops: Vec<String> = later.iter().map(|name| format!("DROP COLUMN \"{name}\"")).collect();
    server.ask(&format!("ALTER TABLE farthing.calls {}", drops.join(", ")));
    server.ask("ALTER TABLE farthing.calls ADD COLUMN mine text DEFAULT 'kept'");
    // The rows of the older version are in a partition already.
    server.ask(
        "CREATE TABLE farthing.calls_20261127 PARTITION OF farthing.calls FOR VALUES FROM (1795737600000000000) TO (1795824000000000000)",
    );
    for file in suite::files(dir.path()) {
        if file.table == CallRow::TABLE {
            assert_eq!(sink.ship(&id, &file).await.unwrap_err().reason, FaultReason::Refused, "columns are missing");
        }
    }
    driver(sink.clone(), spec(&server.url()), dir.path()).round().await.unwrap();
    assert_equal(&server, dir.path());
    assert_eq!(server.ask("SELECT count(*) FROM farthing.calls WHERE mine = 'kept'"), "8");
    server.ask("DROP TABLE farthing.outcomes; CREATE TABLE farthing.outcomes (ts_ns text)");
    let refused = sink.prepare().await.unwrap_err();
    assert_eq!(refused.reason, FaultReason::Refused);
    assert!(
        refused.detail.contains("column `ts_ns` of `outcomes` is text, not bigint") && refused.detail.contains("another schema"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_refuses_is_told_apart() {
    let Some(server) = Server::start() else { return };
    let (url, other) = (server.url(), "no such password at all");
    let wrong = PostgresSpec { password: Some(other.into()), ..postgres(&server) };
    let refused = sink_with(&wrong, DEADLINE).prepare().await.unwrap_err();
    assert_eq!(refused.reason, FaultReason::Refused);
    assert!(refused.detail.contains("password authentication failed") && !refused.detail.contains(other), "{refused}");
    let rights = PostgresSpec { schema: "elsewhere".to_owned(), ..postgres(&server) };
    let refused = sink_with(&rights, DEADLINE).prepare().await.unwrap_err();
    assert!(refused.reason == FaultReason::Refused && refused.detail.contains("permission denied for database"), "{refused}");
    let plain = PostgresSpec { url: format!("{url}?sslmode=require"), ..postgres(&server) };
    assert_eq!(sink_with(&plain, DEADLINE).prepare().await.unwrap_err().reason, FaultReason::Unreachable, "it has no TLS");
    let nobody = PostgresSpec { url: format!("postgres://farthing@127.0.0.1:{}/d", servers::free_port()), ..postgres(&server) };
    assert_eq!(sink_with(&nobody, DEADLINE).prepare().await.unwrap_err().reason, FaultReason::Unreachable);
    assert!(!format!("{:?}", postgres(&server)).contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified() {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&key).unwrap();
    let own = KeyPair::generate().unwrap();
    let signed = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&own, &Issuer::new(authority, &key)).unwrap();
    let started = Server::start_with(|dir| {
        std::fs::write(dir.join("server.crt"), signed.pem()).unwrap();
        std::fs::write(dir.join("server.key"), own.serialize_pem()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(dir.join("server.key"), mode).unwrap();
        let file = |name: &str| dir.join(name).display().to_string();
        vec!["ssl=on".to_owned(), format!("ssl_cert_file={}", file("server.crt")), format!("ssl_key_file={}", file("server.key"))]
    });
    let Some(server) = started else { return };
    let url = format!("{}?sslmode=require", server.url());
    let known = PostgresSpec { authorities: Some(certificate.pem()), url, ..postgres(&server) };
    sink_with(&known, DEADLINE).prepare().await.unwrap();
    let public = PostgresSpec { authorities: None, ..known };
    let refused = sink_with(&public, DEADLINE).prepare().await.unwrap_err();
    assert!(refused.reason == FaultReason::Refused && refused.detail.contains("UnknownIssuer"), "{refused}");
}

/// A transaction of somebody else holds the table: the deadline passes, and afterwards each row is there once.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_costs_a_deadline_and_no_row() {
    let Some(server) = Server::start() else { return };
    let (dir, deadline) = (tempfile::tempdir().unwrap(), Span::from_secs(2));
    let id = log(dir.path());
    let sink = sink_with(&postgres(&server), deadline);
    sink.prepare().await.unwrap();
    let file = suite::files(dir.path()).into_iter().find(|file| file.table == CallRow::TABLE).unwrap();
    let lock = server.lock("farthing.calls");
    assert_eq!(sink.ship(&id, &file).await.unwrap_err().reason, FaultReason::Timeout, "the server's own bound");
    drop(lock);
    server.signal_all("-STOP");
    let mut driver = driver(sink, SinkSpec { deadline, ..spec(&server.url()) }, dir.path());
    assert_eq!(driver.round().await.unwrap_err().reason, FaultReason::Timeout);
    server.signal_all("-CONT");
    driver.round().await.unwrap();
    assert_equal(&server, dir.path());
}

/// Two processes of one folder, and of two folders, into one database.
#[tokio::test(flavor = "multi_thread")]
async fn several_may_ship_at_once() {
    let Some(server) = Server::start() else { return };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    dirs.iter().for_each(|dir| drop(log(dir.path())));
    let rounds = [0, 0, 1, 1, 0, 1].map(|dir| {
        let mut driver = driver(sink(&server), spec(&server.url()), dirs[dir].path());
        tokio::spawn(async move { driver.round().await })
    });
    for round in rounds {
        round.await.unwrap().unwrap();
    }
    for table in ALL {
        let mut both = [0, 1].map(|dir| suite::logged(dirs[dir].path(), table)).concat();
        both.sort();
        assert_eq!(server.rows(table), both);
    }
    assert_eq!(server.ask("SELECT count(DISTINCT log), count(*), sum(rows) FROM farthing.shipped_files"), "2|16|64");
}

/// A file with rows of the tenant is under way while it is forgotten: they do not come after the erasure.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_under_way_does_not_bring_a_forgotten_tenant_back() {
    let Some(server) = Server::start() else { return };
    let (dir, sink) = (tempfile::tempdir().unwrap(), sink(&server));
    let id = log(dir.path());
    sink.prepare().await.unwrap();
    let file = suite::files(dir.path()).into_iter().find(|file| file.table == Request::TABLE).unwrap();
    let lock = lock_partition(&server, file.table);
    let (shipping, log_id, under_way) = (sink.clone(), id.clone(), file.clone());
    let shipping = tokio::spawn(async move { shipping.ship(&log_id, &under_way).await });
    server.until("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND wait_event_type = 'Lock'", "1");
    // The rows have been read by now.
    let forgetting = sink.clone();
    let forgetting = tokio::spawn(async move { forgetting.forget(CANARY).await });
    server.until("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%LOCK TABLE%SHARE ROW%' AND wait_event_type = 'Lock'", "1");
    drop(lock);
    assert_eq!(shipping.await.unwrap().unwrap(), Shipment::Shipped { rows: 4, altered: 0 });
    assert_eq!(forgetting.await.unwrap().unwrap().rows["requests"], 2, "after the file, not before it");
    assert_eq!(server.ask("SELECT count(*), count(*) FILTER (WHERE tenant = 'acme') FROM farthing.requests"), "2|2");
}

/// Makes the partition of the first hour and the next, and locks that of the first: a COPY waits there with its rows under way.
fn lock_partition(server: &Server, table: &'static Table) -> servers::Lock {
    let day = HOUR.div_euclid(24);
    [day, day + 1].iter().for_each(|day| drop(server.ask(&schema::partition("farthing", table, *day))));
    server.lock(&format!("farthing.{}", schema::partition_name(table, day)))
}

/// The acceptance: the server is killed, stopped and started under load, and no row is lost or doubled.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_and_stops_under_load_loses_and_doubles_no_row() {
    let Some(mut server) = Server::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let writer = suite::open(dir.path(), Span::from_millis(100));
    let (load, stop) = (CancellationToken::new(), CancellationToken::new());
    let writing = suite::calls_until(writer.handle(), load.clone());
    let driver = driver(sink(&server), spec(&server.url()), dir.path());
    let state = driver.state();
    let shipping = tokio::spawn(driver.run(stop.clone(), stop.clone()));
    let reaches = async |files: u64| {
        while state.stats().files < files {
            tokio::time::sleep(Span::from_millis(5)).await;
        }
    };
    let faults = || state.stats().faults.values().sum::<u64>();
    for round in 0..6 {
        let (files, noticed) = (state.stats().files, faults());
        reaches(files + 8).await;
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
    let files = suite::files(dir.path()).len() as u64;
    while state.stats().waiting > 0 || server.ask("SELECT count(*) FROM farthing.shipped_files") != files.to_string() {
        tokio::time::sleep(Span::from_millis(50)).await;
    }
    stop.cancel();
    shipping.await.unwrap();
    let stats = state.stats();
    println!("{calls} calls in {files} files; {stats:?}");
    assert!(stats.faults.values().sum::<u64>() >= 6, "{stats:?}");
    assert_equal(&server, dir.path());
    let sum = calls * (calls + 1) / 2;
    assert_eq!(
        server.ask("SELECT count(*), count(DISTINCT call_id), sum(call_id), sum(cost_nanousd) FROM farthing.calls"),
        format!("{calls}|{calls}|{sum}|{sum}")
    );
}

/// Not a test by itself: ships a folder, a line for each round, until killed.
#[tokio::test(flavor = "multi_thread")]
async fn child_ships_until_killed() {
    let Some(dir) = std::env::var_os("FARTHING_TEST_LOG") else { return };
    let url = std::env::var("FARTHING_TEST_URL").unwrap();
    let spec = spec(&url);
    let mut driver = driver(farthing_sinks::open(&spec).unwrap(), spec, Path::new(&dir));
    let state = driver.state();
    loop {
        println!("begins");
        driver.round().await.unwrap();
        println!("shipped {}", state.stats().waiting);
        tokio::time::sleep(Span::from_millis(20)).await;
    }
}

fn child(server: &Server, dir: &Path) -> (Child, impl Iterator<Item = String>) {
    let args = ["--exact", "child_ships_until_killed", "--nocapture", "--test-threads=1"];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(args).env("FARTHING_TEST_LOG", dir).env("FARTHING_TEST_URL", server.url());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    (child, lines)
}

/// Killed in the middle of a COPY, between its name and its rows, and at moments that come as they come.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_while_it_ships_loses_and_doubles_no_row() {
    let Some(server) = Server::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let calls = suite::log_of_calls(dir.path(), (40, 500));
    sink(&server).prepare().await.unwrap();
    let lock = lock_partition(&server, CallRow::TABLE);
    let (mut copying, _lines) = child(&server, dir.path());
    server.until("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND wait_event_type = 'Lock'", "1");
    copying.kill().unwrap();
    copying.wait().unwrap();
    drop(lock);
    server.until("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'farthing'", "0");
    assert_eq!(server.ask("SELECT (SELECT count(*) FROM farthing.shipped_files), (SELECT count(*) FROM farthing.calls)"), "0|0");
    for round in 0..5 {
        let (mut child, mut lines) = child(&server, dir.path());
        assert!(lines.any(|line| line == "begins"));
        let wanted = format!("SELECT count(*) >= {} FROM farthing.shipped_files", round * 6 + 3);
        server.until(&wanted, "t");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (mut last, mut lines) = child(&server, dir.path());
    assert!(lines.any(|line| line == "shipped 0"));
    last.kill().unwrap();
    last.wait().unwrap();
    assert_equal(&server, dir.path());
    assert_eq!(
        server.ask("SELECT count(*), count(DISTINCT call_id), sum(call_id) FROM farthing.calls"),
        format!("{calls}|{calls}|{}", calls * (calls + 1) / 2)
    );
    assert_eq!(server.ask("SELECT sum(rows) FROM farthing.shipped_files"), calls.to_string());
    assert_eq!(LogId::of(dir.path()).unwrap().as_str(), server.ask("SELECT DISTINCT log FROM farthing.shipped_files"));
}
