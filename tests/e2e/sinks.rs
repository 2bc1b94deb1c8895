//! A proxy that ships its log to a real PostgreSQL, to a ClickHouse, and to a server that speaks S3: what is asked of one that runs, forgetting, and its end.

#[path = "../../crates/sinks/tests/servers/mod.rs"]
pub mod servers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use farthing_config::{ClickhouseConfig, LOG_TABLES, PostgresConfig, S3Config, S3Key, Secret, SinkConfig, SinkTarget};
use farthing_contract::log::{CallRow, Request, Row, Table, Value};
use farthing_ledger::archive::FinishedFile;
use farthing_tests::origin::answer_of;
use farthing_tests::{Origin, Setup, Started};
use farthing_types::{RealClock, Span, Time};
use http::StatusCode;

use servers::clickhouse::{Clickhouse, USER};
use servers::s3::{BUCKET, Store};
use servers::{PASSWORD, Server};

fn sink(server: &Server) -> SinkConfig {
    let (url, password) = (server.url(), Some(Secret::new(PASSWORD)));
    to("warehouse", SinkTarget::Postgres(PostgresConfig { url, password, authorities: None, schema: "farthing".to_owned() }))
}

fn to(name: &str, target: SinkTarget) -> SinkConfig {
    SinkConfig {
        name: name.into(),
        tables: LOG_TABLES.to_vec(),
        deadline: Span::from_secs(2),
        interval: Span::from_millis(50),
        retention: None,
        target,
    }
}

async fn origin() -> Origin {
    Origin::simple(|_, n| answer_of(StatusCode::OK, &[("cache-control", "max-age=3600")], format!("answer {n}"))).await
}

fn metric(started: &Started, line: &str) -> bool {
    farthing_proxy::telemetry::render(&started.proxy).unwrap().lines().any(|found| found == line)
}

async fn asks(started: &Started, path: &str, key: &str) {
    let answer = started.client.get(path, &[("x-farthing-key", key)]).await;
    assert_eq!(answer.status, StatusCode::OK);
}

pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let mut turn = tokio::time::interval(Duration::from_millis(10));
    let patience = async {
        while !holds() {
            turn.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), patience).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_proxy_goes_to_postgresql_each_row_once() {
    let Some(mut server) = Server::start() else { return };
    let origin = origin().await;
    let mut setup = Setup::new(origin.addr);
    setup.config.log.flush = Span::from_millis(100);
    setup.config.sinks = vec![sink(&server)];
    let keys = ["acme", "canary-7f3a9"].map(|tenant| setup.key(tenant));
    let started = setup.start_on(Arc::new(RealClock::default())).await;
    for n in 0..20 {
        asks(&started, &format!("/api/{}", n % 5), &keys[n % 2]).await;
    }
    started.proxy.flush_log().await.unwrap();
    let rows = |table: &str| server.ask(&format!("SELECT sum(weight) FROM farthing.{table}"));
    until("twenty requests are there", || {
        server.ask("SELECT to_regclass('farthing.requests') IS NOT NULL") == "t" && rows("requests") == "20"
    })
    .await;
    until("and what they cost", || server.ask("SELECT count(*), sum(cost_nanousd) FROM farthing.calls") == "10|20000000").await;
    assert!(metric(&started, "farthing_sink_breaker_open{sink=\"warehouse\"} 0.0"));

    // A server that is gone is told, and requests go on.
    server.kill();
    asks(&started, "/api/6", &keys[0]).await;
    started.proxy.flush_log().await.unwrap();
    until("the breaker opens", || metric(&started, "farthing_sink_breaker_open{sink=\"warehouse\"} 1.0")).await;
    let part = started.proxy.parts().into_iter().find(|part| part.name == "sink:warehouse").unwrap();
    assert!(part.problem.unwrap().contains("files wait in the log"));
    let unreached = started.proxy.forget("nobody", Span::from_secs(60)).await;
    assert!(unreached.left.iter().any(|left| left.starts_with("sink `warehouse`: unreachable")), "{unreached:?}");
    server.restart();
    until("what came meanwhile is there", || server.ask("SELECT sum(weight) FROM farthing.requests") == "21").await;

    // A tenant who is forgotten is forgotten there, too.
    let report = started.proxy.forget("canary-7f3a9", Span::from_secs(60)).await;
    assert!(report.finished && report.left.is_empty(), "{report:?}");
    assert!(report.sink_rows["warehouse"] >= 15, "ten requests, five calls and more: {report:?}");
    asks(&started, "/api/7", &keys[0]).await;
    // What is written at the end goes out at the end.
    started.proxy.shutdown().await.unwrap();
    assert_eq!(server.ask("SELECT tenant, sum(weight) FROM farthing.requests GROUP BY 1"), "acme|12");
    assert_eq!(server.ask("SELECT tenant, count(*) FROM farthing.calls GROUP BY 1"), "acme|7");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_proxy_goes_to_clickhouse_each_row_once() {
    let Some(mut server) = Clickhouse::start() else { return };
    let origin = origin().await;
    let mut setup = Setup::new(origin.addr);
    setup.config.log.flush = Span::from_millis(100);
    let password = Some(Secret::new(PASSWORD));
    let database = "spend".to_owned();
    let target = ClickhouseConfig { url: server.url(), user: USER.to_owned(), password, authorities: None, database };
    setup.config.sinks = vec![to("events", SinkTarget::Clickhouse(target))];
    let keys = ["acme", "canary-7f3a9"].map(|tenant| setup.key(tenant));
    let started = setup.start_on(Arc::new(RealClock::default())).await;
    for n in 0..20 {
        asks(&started, &format!("/api/{}", n % 5), &keys[n % 2]).await;
    }
    started.proxy.flush_log().await.unwrap();
    let answers = |sql: &str, answer: &str| server.try_ask(sql).as_deref() == Ok(answer);
    until("twenty requests are there", || answers("SELECT sum(weight) FROM spend.requests", "20")).await;
    until("and what they cost", || answers("SELECT count(), sum(cost_nanousd) FROM spend.calls", "10\t20000000")).await;

    // A server that is gone is told, and requests go on.
    server.kill();
    asks(&started, "/api/6", &keys[0]).await;
    started.proxy.flush_log().await.unwrap();
    until("the breaker opens", || metric(&started, "farthing_sink_breaker_open{sink=\"events\"} 1.0")).await;
    let unreached = started.proxy.forget("nobody", Span::from_secs(60)).await;
    assert!(unreached.left.iter().any(|left| left.starts_with("sink `events`: unreachable")), "{unreached:?}");
    server.restart();
    let answers = |sql: &str, answer: &str| server.try_ask(sql).as_deref() == Ok(answer);
    until("what came meanwhile is there", || answers("SELECT sum(weight) FROM spend.requests", "21")).await;

    // A tenant who is forgotten is forgotten there, too.
    let report = started.proxy.forget("canary-7f3a9", Span::from_secs(60)).await;
    assert!(report.finished && report.left.is_empty(), "{report:?}");
    assert!(report.sink_rows["events"] >= 15, "ten requests, five calls and more: {report:?}");
    asks(&started, "/api/7", &keys[0]).await;
    // What is written at the end goes out at the end.
    started.proxy.shutdown().await.unwrap();
    assert_eq!(server.ask("SELECT tenant, sum(weight) FROM spend.requests GROUP BY tenant"), "acme\t12");
    assert_eq!(server.ask("SELECT tenant, count() FROM spend.calls GROUP BY tenant"), "acme\t7");
}

/// What is below a prefix of the server's bucket.
pub fn bucket(store: &Store, prefix: &str) -> S3Config {
    let secret = |text: &str| Secret::new(text);
    S3Config {
        bucket: BUCKET.to_owned(),
        prefix: prefix.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(store.endpoint()),
        path_style: true,
        key: Some(S3Key { id: secret("tests"), secret: secret("of tests"), session_token: None }),
        machine: Vec::new(),
        authorities: None,
    }
}

/// Rows in the bucket by tenant, weighed where they have a weight.
fn by_tenant(store: &Store, table: &'static Table) -> BTreeMap<String, i64> {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| table.columns.iter().position(|column| column.name == name);
    let (tenant, weight) = (place("tenant").unwrap(), place("weight"));
    let mut found = BTreeMap::new();
    for name in store.names().into_keys().filter(|name| name.starts_with(&format!("prod/{}/", table.name))) {
        let path = dir.path().join("object.parquet");
        std::fs::write(&path, store.get(&name)).unwrap();
        let file = FinishedFile { table, hour: 0, path, bytes: 0, modified: Time::ZERO };
        file.rows(&mut |cells: &[Value<'_>]| {
            let Value::Text(tenant) = cells[tenant] else { panic!("no tenant") };
            let rows = weight.map_or(1, |weight| match cells[weight] {
                Value::I64(weight) => weight,
                Value::I32(weight) => i64::from(weight),
                _ => panic!("no weight"),
            });
            *found.entry(tenant.to_owned()).or_default() += rows;
        })
        .unwrap();
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_proxy_goes_to_a_bucket_each_row_once() {
    let Some(store) = Store::start() else { return };
    let origin = origin().await;
    let mut setup = Setup::new(origin.addr);
    setup.config.log.flush = Span::from_millis(100);
    setup.config.sinks = vec![to("lake", SinkTarget::S3(bucket(&store, "prod")))];
    let keys = ["acme", "canary-7f3a9"].map(|tenant| setup.key(tenant));
    let started = setup.start_on(Arc::new(RealClock::default())).await;
    for n in 0..20 {
        asks(&started, &format!("/api/{}", n % 5), &keys[n % 2]).await;
    }
    started.proxy.flush_log().await.unwrap();
    let both = |each: i64| BTreeMap::from([("acme".to_owned(), each), ("canary-7f3a9".to_owned(), each)]);
    until("twenty requests are there", || by_tenant(&store, Request::TABLE) == both(10)).await;
    until("and their calls", || by_tenant(&store, CallRow::TABLE) == both(5)).await;

    let report = started.proxy.forget("canary-7f3a9", Span::from_secs(60)).await;
    assert!(report.finished && report.left.is_empty(), "{report:?}");
    assert!(report.sink_rows["lake"] >= 15, "ten requests, five calls and more: {report:?}");
    asks(&started, "/api/7", &keys[0]).await;
    started.proxy.shutdown().await.unwrap();
    assert_eq!(by_tenant(&store, Request::TABLE), BTreeMap::from([("acme".to_owned(), 11)]));
    assert_eq!(by_tenant(&store, CallRow::TABLE), BTreeMap::from([("acme".to_owned(), 6)]));
}
