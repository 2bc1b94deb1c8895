//! A proxy that ships its log to a real PostgreSQL: what is asked of one that runs, forgetting, and its end.

#[path = "../../crates/sinks/tests/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::time::Duration;

use farthing_config::{LOG_TABLES, PostgresConfig, Secret, SinkConfig, SinkTarget};
use farthing_tests::origin::answer_of;
use farthing_tests::{Origin, Setup, Started};
use farthing_types::{RealClock, Span};
use http::StatusCode;

use servers::{PASSWORD, Server};

fn sink(server: &Server) -> SinkConfig {
    let (url, password) = (server.url(), Some(Secret::new(PASSWORD)));
    SinkConfig {
        name: "warehouse".into(),
        tables: LOG_TABLES.to_vec(),
        deadline: Span::from_secs(2),
        interval: Span::from_millis(50),
        retention: None,
        target: SinkTarget::Postgres(PostgresConfig { url, password, authorities: None, schema: "farthing".to_owned() }),
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

async fn until(what: &str, holds: impl Fn() -> bool) {
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
