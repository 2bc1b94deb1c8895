//! ClickHouse from packages: the conformance suite, and what a server and what is before it can be like.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing"
)]

mod deaths;
mod relay;
#[path = "../servers/mod.rs"]
mod servers;
#[path = "../suite/mod.rs"]
mod suite;

use std::sync::Arc;

use farthing_contract::log::{ALL, CallRow, Column, ColumnType, Request, Row, Table};
use farthing_ledger::archive::{FinishedFile, forget};
use farthing_sinks::clickhouse::{Clickhouse as Sink_, schema};
use farthing_sinks::{ClickhouseSpec, FaultReason, LogId, Shipment, Sink, SinkSpec, Target};
use farthing_types::Span;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use relay::{Mode, Relay};
use servers::clickhouse::{Clickhouse, STRANGER, USER, ask_at};
use servers::{PASSWORD, free_port};
use suite::{CANARY, HOUR, Holds, assert_equal, driver, log};

/// A server that is asked on its port.
struct Port(u16);

impl Holds for Port {
    fn rows(&self, table: &'static Table) -> Vec<Vec<String>> {
        let columns: Vec<String> = table.columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
        let answer = ask_at(self.0, &format!("SELECT {} FROM farthing.{} FORMAT JSONCompact", columns.join(", "), table.name)).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let row =
            |row: &serde_json::Value| row.as_array().unwrap().iter().zip(table.columns).map(|(cell, column)| text(cell, column)).collect();
        let mut rows: Vec<Vec<String>> = answer["data"].as_array().unwrap().iter().map(row).collect();
        rows.sort();
        rows
    }
}

impl Holds for Clickhouse {
    fn rows(&self, table: &'static Table) -> Vec<Vec<String>> {
        Port(self.port).rows(table)
    }
}

fn text(cell: &serde_json::Value, column: &Column) -> String {
    let plain = || cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    match column.ty {
        _ if cell.is_null() => String::new(),
        ColumnType::U64 => format!("{:016x}", plain().parse::<u64>().unwrap()),
        ColumnType::Bool => (plain() == "1").to_string(),
        ColumnType::F64 | ColumnType::F32 => cell.as_f64().unwrap().to_string(),
        ColumnType::F32List => format!("{:?}", cell.as_array().unwrap().iter().map(|e| e.as_f64().unwrap() as f32).collect::<Vec<_>>()),
        _ => plain(),
    }
}

fn spec_at(url: String) -> ClickhouseSpec {
    ClickhouseSpec { url, user: USER.to_owned(), password: Some(PASSWORD.into()), ..ClickhouseSpec::default() }
}

fn clickhouse(server: &Clickhouse) -> ClickhouseSpec {
    spec_at(server.url())
}

fn sink_with(spec: &ClickhouseSpec, deadline: Span) -> Arc<dyn Sink> {
    Arc::new(Sink_::new(spec, deadline).unwrap())
}

/// Short, because forgetting waits for so long.
const DEADLINE: Span = Span::from_secs(3);

fn sink(server: &Clickhouse) -> Arc<dyn Sink> {
    sink_with(&clickhouse(server), DEADLINE)
}

fn spec(target: ClickhouseSpec) -> SinkSpec {
    SinkSpec {
        name: "c".into(),
        tables: ALL.to_vec(),
        deadline: Span::from_secs(10),
        interval: Span::from_millis(50),
        retention: None,
        target: Target::Clickhouse(target),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clickhouse_conforms() {
    let Some(server) = Clickhouse::start() else { return };
    suite::conforms(sink(&server), &server).await;
}

/// By hand, with `FARTHING_TEST_CLICKHOUSE` the port of a server of another version on this machine, whose user `farthing` has the tests' password; what the database `farthing` has is lost.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server that somebody has started"]
async fn a_server_of_another_version_conforms() {
    let port = std::env::var("FARTHING_TEST_CLICKHOUSE").unwrap().parse().unwrap();
    ask_at(port, "DROP DATABASE IF EXISTS farthing").unwrap();
    let spec = spec_at(format!("http://127.0.0.1:{port}"));
    suite::conforms(sink_with(&spec, DEADLINE), &Port(port)).await;
    let (dir, deadline) = (tempfile::tempdir().unwrap(), Span::from_secs(30));
    ask_at(port, "DROP DATABASE farthing").unwrap();
    log(dir.path());
    driver(sink_with(&spec, deadline), self::spec(spec.clone()), dir.path()).round().await.unwrap();
    double(port);
    assert_equal(&Port(port), dir.path());
    let version = ask_at(port, "SELECT version()").unwrap();
    println!("conforms: ClickHouse {version}");
}

/// Sends all rows once more, past the look for what is there.
fn double(port: u16) {
    for table in ALL {
        let rows = schema::rows("farthing", table);
        let own = schema::OWN.iter().map(|(name, ..)| (*name).to_owned());
        let columns: Vec<String> = own.chain(table.columns.iter().map(|column| format!("\"{}\"", column.name))).collect();
        let columns = columns.join(", ");
        ask_at(
            port,
            &format!("INSERT INTO {rows} ({columns}) SELECT {} FROM {rows}", columns.replace("takes_until", "4294967295 AS takes_until")),
        )
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_are_those_of_the_contract() {
    let Some(server) = Clickhouse::start() else { return };
    let (dir, sink) = (tempfile::tempdir().unwrap(), sink(&server));
    log(dir.path());
    driver(sink.clone(), spec(clickhouse(&server)), dir.path()).round().await.unwrap();
    assert_equal(&server, dir.path());
    for table in ALL {
        let ask = |what: &str, of: String| {
            server.ask(&format!("SELECT {what} FROM system.columns WHERE database = 'farthing' AND table = '{of}' AND name NOT IN ('at', 'on_time') FORMAT JSONCompact"))
        };
        let cells = |answer: String| -> Vec<Vec<String>> {
            serde_json::from_value(serde_json::from_str::<serde_json::Value>(&answer).unwrap()["data"].clone()).unwrap()
        };
        let own = schema::OWN.iter().map(|(name, ty, doc)| vec![(*name).to_owned(), (*ty).to_owned(), (*doc).to_owned()]);
        let meant = table.columns.iter().map(|column| vec![column.name.to_owned(), schema::type_of(column), column.doc.trim().to_owned()]);
        assert_eq!(cells(ask("name, type, comment", schema::rows_name(table))), own.chain(meant).collect::<Vec<_>>());
        let names: Vec<Vec<String>> = table.columns.iter().map(|column| vec![column.name.to_owned()]).collect();
        assert_eq!(cells(ask("name", table.name.to_owned())), names);
        let parts = format!("SELECT groupUniqArray(partition) FROM system.parts WHERE active AND table = '{}'", schema::rows_name(table));
        assert!(["['20261127','20261128']", "['20261128','20261127']"].contains(&&*server.ask(&parts)), "a part has a day");
    }
    assert_eq!(server.ask("SELECT min(at), toTypeName(min(at)) FROM farthing.calls"), "2026-11-27 23:00:00\tDateTime(\\'UTC\\')");
    assert_eq!(server.ask("SELECT count(), uniqExact(log), uniqExact(file) FROM farthing.calls_rows"), "8\t1\t2");
}

/// However many rows a file has, the server has them in one piece: what it reads and gathers by itself is less.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_one_part() {
    let Some(server) = Clickhouse::start() else { return };
    let (dir, sink) = (tempfile::tempdir().unwrap(), sink_with(&clickhouse(&server), Span::from_secs(60)));
    suite::log_of_calls(dir.path(), (1, 40_000));
    let id = LogId::of(dir.path()).unwrap();
    sink.prepare().await.unwrap();
    let files = suite::files(dir.path());
    let Shipment::Shipped { rows, .. } = sink.ship(&id, &files[0]).await.unwrap() else { panic!("not shipped") };
    assert!(rows > 20_000, "{rows}");
    let parts = "SELECT count(), sum(rows), max(level) FROM system.parts WHERE active AND table = 'calls_rows'";
    assert_eq!(server.ask(parts), format!("1\t{rows}\t0"));
    assert_eq!(server.ask("SELECT count(), uniqExact(call_id) FROM farthing.calls"), format!("{rows}\t{rows}"));
}

/// What comes twice all the same, past every look, is there once for who asks, and in the end for the server.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_come_twice_are_seen_once() {
    let Some(server) = Clickhouse::start() else { return };
    let (dir, sink) = (tempfile::tempdir().unwrap(), sink(&server));
    log(dir.path());
    driver(sink.clone(), spec(clickhouse(&server)), dir.path()).round().await.unwrap();
    double(server.port);
    assert_equal(&server, dir.path());
    server.ask("OPTIMIZE TABLE farthing.calls_rows PARTITION 20261127 FINAL");
    server.ask("OPTIMIZE TABLE farthing.calls_rows PARTITION 20261128 FINAL");
    assert_eq!(server.ask("SELECT count() FROM farthing.calls_rows"), "8");
}

/// Tables of an older version get the columns that they lack; what is no table of ours is refused with its remedy.
#[tokio::test(flavor = "multi_thread")]
async fn older_tables_are_extended_and_foreign_ones_refused() {
    let Some(server) = Clickhouse::start() else { return };
    let (dir, sink) = (tempfile::tempdir().unwrap(), sink(&server));
    let id = log(dir.path());
    sink.prepare().await.unwrap();
    let later: Vec<&str> = CallRow::TABLE.columns.iter().filter(|column| column.since > 1).map(|column| column.name).collect();
    let drops: Vec<String> = later.iter().map(|name| format!("DROP COLUMN \"{name}\"")).collect();
    server.ask(&format!("ALTER TABLE farthing.calls_rows {}", drops.join(", ")));
    server.ask("ALTER TABLE farthing.calls_rows ADD COLUMN mine String DEFAULT 'kept'");
    server.ask("DROP TABLE farthing.calls");
    server.ask("CREATE VIEW farthing.calls AS SELECT ts_ns, call_id FROM farthing.calls_rows FINAL");
    for file in suite::files(dir.path()).iter().filter(|file| file.table == CallRow::TABLE) {
        assert_eq!(sink.ship(&id, file).await.unwrap_err().reason, FaultReason::Refused, "columns are missing");
    }
    driver(sink.clone(), spec(clickhouse(&server)), dir.path()).round().await.unwrap();
    assert_equal(&server, dir.path());
    assert_eq!(server.ask("SELECT count() FROM farthing.calls_rows WHERE mine = 'kept'"), "8");
    for (change, says) in [
        ("DROP TABLE farthing.outcomes", ""),
        ("CREATE TABLE farthing.outcomes (ts_ns Int64) ENGINE = Memory", "`outcomes` is a table of somebody else"),
        ("DROP TABLE farthing.outcomes_rows", ""),
        ("CREATE TABLE farthing.outcomes_rows (log String, file String) ENGINE = Memory", "no column `row_id`"),
    ] {
        server.ask(change);
        if !says.is_empty() {
            let refused = sink.prepare().await.unwrap_err();
            assert!(
                refused.reason == FaultReason::Refused && refused.detail.contains(says) && refused.detail.contains("another database"),
                "{refused}"
            );
        }
    }
    server.ask("DROP TABLE farthing.outcomes_rows");
    let plain = schema::create("farthing", ALL[3]).replace("ReplacingMergeTree", "MergeTree");
    server.ask(&plain);
    server.ask("DROP TABLE farthing.outcomes");
    assert!(sink.prepare().await.unwrap_err().detail.contains("the engine MergeTree, not ReplacingMergeTree"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_refuses_is_told_apart() {
    let Some(server) = Clickhouse::start() else { return };
    let other = "no such password at all";
    let wrong = ClickhouseSpec { password: Some(other.into()), ..clickhouse(&server) };
    let refused = sink_with(&wrong, DEADLINE).prepare().await.unwrap_err();
    assert!(
        refused.reason == FaultReason::Refused && !refused.detail.contains(other) && refused.detail.contains("Wrong password"),
        "{refused}"
    );
    let stranger = ClickhouseSpec { user: STRANGER.to_owned(), ..clickhouse(&server) };
    let refused = sink_with(&stranger, DEADLINE).prepare().await.unwrap_err();
    assert!(refused.reason == FaultReason::Refused && refused.detail.contains("denied"), "{refused}");
    let tls = spec_at(format!("https://127.0.0.1:{}", server.port));
    // A server without TLS answers nothing, or what is none.
    let asked = tokio::time::timeout(Span::from_secs(1), sink_with(&tls, DEADLINE).prepare()).await;
    assert!(!matches!(asked, Ok(Ok(()))));
    let nobody = spec_at(format!("http://127.0.0.1:{}", free_port()));
    assert_eq!(sink_with(&nobody, DEADLINE).prepare().await.unwrap_err().reason, FaultReason::Unreachable);
    assert!(!format!("{:?}", clickhouse(&server)).contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified() {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&key).unwrap();
    let own = KeyPair::generate().unwrap();
    let signed = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&own, &Issuer::new(authority, &key)).unwrap();
    let port = free_port();
    let started = Clickhouse::start_with(|dir| {
        std::fs::write(dir.join("server.crt"), signed.pem()).unwrap();
        std::fs::write(dir.join("server.key"), own.serialize_pem()).unwrap();
        let file = |name: &str| dir.join(name).display().to_string();
        format!(
            "<https_port>{port}</https_port><openSSL><server><certificateFile>{}</certificateFile><privateKeyFile>{}</privateKeyFile>\
             <verificationMode>none</verificationMode></server></openSSL>",
            file("server.crt"),
            file("server.key")
        )
    });
    let Some(_server) = started else { return };
    let url = format!("https://127.0.0.1:{port}");
    let known = ClickhouseSpec { authorities: Some(certificate.pem()), ..spec_at(url) };
    sink_with(&known, DEADLINE).prepare().await.unwrap();
    let public = ClickhouseSpec { authorities: None, ..known };
    let refused = sink_with(&public, DEADLINE).prepare().await.unwrap_err();
    assert!(refused.reason == FaultReason::Refused && refused.detail.contains("UnknownIssuer"), "{refused}");
}

/// The server stops answering: the deadline passes, and afterwards each row is there once.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_costs_a_deadline_and_no_row() {
    let Some(server) = Clickhouse::start() else { return };
    let (dir, deadline) = (tempfile::tempdir().unwrap(), Span::from_secs(1));
    log(dir.path());
    let sink = sink_with(&clickhouse(&server), deadline);
    sink.prepare().await.unwrap();
    server.signal("-STOP");
    let mut driver = driver(sink, SinkSpec { deadline, ..spec(clickhouse(&server)) }, dir.path());
    assert_eq!(driver.round().await.unwrap_err().reason, FaultReason::Timeout);
    server.signal("-CONT");
    while let Err(fault) = driver.round().await {
        assert_ne!(fault.reason, FaultReason::Refused, "{fault}");
    }
    assert_equal(&server, dir.path());
}

/// Several processes of one folder, and of two folders, into one database.
#[tokio::test(flavor = "multi_thread")]
async fn several_may_ship_at_once() {
    let Some(server) = Clickhouse::start() else { return };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    dirs.iter().for_each(|dir| drop(log(dir.path())));
    let rounds = [0, 0, 1, 1, 0, 1].map(|dir| {
        let mut driver = driver(sink(&server), spec(clickhouse(&server)), dirs[dir].path());
        // Who comes second while the first is at it is told so, and tries again.
        tokio::spawn(async move { while driver.round().await.is_err() {} })
    });
    for round in rounds {
        round.await.unwrap();
    }
    for table in ALL {
        let mut both = [0, 1].map(|dir| suite::logged(dirs[dir].path(), table)).concat();
        both.sort();
        assert_eq!(server.rows(table), both);
    }
    assert_eq!(server.ask("SELECT uniqExact(log), uniqExact(log, file) FROM farthing.calls_rows"), "2\t4");
}

fn file_of(dir: &std::path::Path, table: &'static Table) -> FinishedFile {
    suite::files(dir).into_iter().find(|file| file.table == table).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_doubles_nothing() {
    let Some(server) = Clickhouse::start() else { return };
    let relay = Relay::before(server.port).await;
    let (dir, sink) = (tempfile::tempdir().unwrap(), sink_with(&spec_at(format!("http://127.0.0.1:{}", relay.port)), DEADLINE));
    let id = log(dir.path());
    sink.prepare().await.unwrap();
    relay.set(Mode::LoseAnswer);
    let file = file_of(dir.path(), CallRow::TABLE);
    assert_eq!(sink.ship(&id, &file).await.unwrap_err().reason, FaultReason::Unreachable);
    relay.set(Mode::Pass);
    assert_eq!(sink.ship(&id, &file).await.unwrap(), Shipment::Held);
    assert_eq!(server.ask("SELECT count() FROM farthing.calls_rows"), "4");
}

/// A request with rows of the tenant hangs on its way, is given up, and comes when the tenant has been forgotten: the server refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_hung_does_not_bring_a_forgotten_tenant_back() {
    let Some(server) = Clickhouse::start() else { return };
    let relay = Relay::before(server.port).await;
    let (dir, deadline) = (tempfile::tempdir().unwrap(), Span::from_secs(1));
    let sink = sink_with(&spec_at(format!("http://127.0.0.1:{}", relay.port)), deadline);
    let id = log(dir.path());
    sink.prepare().await.unwrap();
    relay.set(Mode::Hold);
    let file = file_of(dir.path(), Request::TABLE);
    let (shipping, log_id, under_way) = (sink.clone(), id.clone(), file.clone());
    let shipping = tokio::spawn(async move { shipping.ship(&log_id, &under_way).await });
    relay.held.notified().await;
    shipping.abort();
    relay.set(Mode::Pass);
    forget(dir.path(), CANARY).unwrap();
    sink.forget(CANARY).await.unwrap();
    relay.release.notify_one();
    relay.heard.notified().await;
    let said = relay.said.lock().take().unwrap();
    assert!(said.contains("Code: 395"), "{said}");
    assert_eq!(server.ask("SELECT count() FROM farthing.requests_rows"), "0");
    assert_eq!(sink.ship(&id, &file_of(dir.path(), Request::TABLE)).await.unwrap(), Shipment::Shipped { rows: 2, altered: 0 });
    assert_eq!(server.ask("SELECT count(), countIf(tenant = 'acme') FROM farthing.requests"), "2\t2");
    assert_eq!(schema::partition(HOUR.div_euclid(24)).to_string(), server.ask("SELECT DISTINCT toYYYYMMDD(at) FROM farthing.requests"));
}

/// A server ends a request that breaks off, and has none of its rows: also one that takes it for a whole one.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_breaks_off_brings_no_row() {
    use std::io::Write;
    let Some(server) = Clickhouse::start() else { return };
    let sink = sink(&server);
    sink.prepare().await.unwrap();
    let origin = farthing_sinks::clickhouse::native::Origin { log: "l".to_owned(), file: "f".to_owned() };
    let mut encoder = farthing_sinks::clickhouse::native::Encoder::new(CallRow::TABLE, origin);
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    file_of(dir.path(), CallRow::TABLE).rows(&mut |cells| encoder.row(cells)).unwrap();
    let block = encoder.finish(u32::MAX).concat();
    let insert: String = schema::insert("farthing", CallRow::TABLE).bytes().map(|b| format!("%{b:02X}")).collect();
    let send = |bytes: &[u8]| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let head = format!(
            "POST /?query={insert} HTTP/1.1\r\nhost: h\r\nx-clickhouse-user: {USER}\r\nx-clickhouse-key: {PASSWORD}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        write!(stream, "{:x}\r\n", bytes.len()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.write_all(b"\r\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        std::io::Read::read_to_end(&mut stream, &mut Vec::new()).unwrap();
    };
    for part in [1, 40, block.len() / 2, block.len() - 1] {
        send(&block[..part]);
        assert_eq!(server.ask("SELECT count() FROM farthing.calls_rows"), "0", "{part}");
    }
    send(&block);
    assert_eq!(server.ask("SELECT count() FROM farthing.calls_rows"), "4", "what was cut were whole columns");
}
