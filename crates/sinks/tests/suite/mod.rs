//! What every sink must do, and logs to ship.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use farthing_contract::log::{ALL, CallRow, Decision, OutcomeRow, Request, Table, Value};
use farthing_ledger::archive::{FinishedFile, finished, forget, hour_folders};
use farthing_ledger::{LogConfig, LogHandle, LogWriter};
use farthing_sinks::{Driver, LogId, Shipment, Sink, SinkSpec, Source};
use farthing_types::{Clock, Draw, RealClock, Span, Time};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The first hour with rows, since 1970: the last of a day.
pub const HOUR: i64 = 24 * 20_784 + 23;
pub const HOUR_NS: i64 = 3_600_000_000_000;
/// The tenant that will be forgotten.
pub const CANARY: &str = "canary-7f3a9";

/// Rows of two tenants in two hours of different days: calls for keys of their own and for one that both use, what was decided and what became of it.
pub fn fill(log: &LogHandle) {
    for hour in 0..2_i64 {
        for (tenant, number) in [("acme", 1_u64), (CANARY, 2)] {
            for n in 0..2_u64 {
                row(log, (HOUR + hour) * HOUR_NS + n.cast_signed(), (tenant, number), hour.unsigned_abs() * 100 + number * 10 + n);
            }
        }
    }
}

fn row(log: &LogHandle, ts_ns: i64, (tenant, number): (&str, u64), id: u64) {
    let (key_hash, route): (_, Arc<str>) = if id.is_multiple_of(2) { (u64::MAX - number, "own".into()) } else { (9, "shared".into()) };
    let request = Request { ts_ns, request_id: id, weight: 1, tenant: tenant.into(), route: route.clone(), key_hash, ..Request::default() };
    log.write(Request { tags: Some(format!("quote='\"\\,\n\tteam={tenant}").into()), ..request });
    let call = CallRow { ts_ns, call_id: 1_000 + id, tenant: tenant.into(), route: route.clone(), key_hash, ..CallRow::default() };
    log.write(CallRow { cost_nanousd: Some(id.cast_signed()), decision_id: Some(2_000 + id), changed: Some(true), ..call });
    let decision = Decision { ts_ns, decision_id: 2_000 + id, kind: "ttl", key_hash, route: route.clone(), ..Decision::default() };
    log.write(Decision { call_id: Some(1_000 + id), features: vec![0.5, -1.5], action_value: f64::MIN_POSITIVE, ..decision });
    log.write(OutcomeRow { ts_ns, decision_id: 2_000 + id, route, key_hash, ..OutcomeRow::default() });
}

/// A finished log of [`fill`].
pub fn log(dir: &Path) -> LogId {
    let writer = open(dir, Span::from_secs(10));
    fill(&writer.handle());
    writer.close();
    LogId::of(dir).unwrap()
}

pub fn open(dir: &Path, flush_every: Span) -> LogWriter {
    let config = LogConfig { journal_reserve: 1_000, flush_every, ..LogConfig::default() };
    LogWriter::open(dir, config, Arc::new(RealClock::default())).unwrap()
}

/// A call that has cost as many nano-dollars as its id.
fn call(id: u64) -> CallRow {
    CallRow {
        ts_ns: HOUR * HOUR_NS + id.cast_signed(),
        call_id: id,
        tenant: "acme".into(),
        cost_nanousd: Some(id.cast_signed()),
        ..CallRow::default()
    }
}

/// Writes calls 1, 2, 3 and so on until told to end; how many.
pub fn calls_until(log: LogHandle, ends: CancellationToken) -> JoinHandle<u64> {
    tokio::task::spawn_blocking(move || {
        let mut calls = 0_u64;
        while !ends.is_cancelled() {
            (0..5).for_each(|_| {
                calls += 1;
                log.write(call(calls));
            });
            std::thread::park_timeout(Span::from_millis(2));
        }
        calls
    })
}

/// A finished log of so many files of so many calls each, 1, 2, 3 and so on; how many calls.
pub fn log_of_calls(dir: &Path, (files, each): (u64, u64)) -> u64 {
    let writer = open(dir, Span::from_secs(60));
    let mut calls = 0_u64;
    for _ in 0..files {
        for _ in 0..each {
            calls += 1;
            writer.handle().write(call(calls));
        }
        writer.handle().flush(Span::from_secs(30)).unwrap();
    }
    writer.close();
    calls
}

/// All files of a log.
pub fn files(dir: &Path) -> Vec<FinishedFile> {
    let of = |table| hour_folders(dir, table, i64::MIN..i64::MAX).into_iter().flat_map(move |folder| finished(&folder, table));
    ALL.into_iter().flat_map(of).collect()
}

/// A driver, of real time.
pub fn driver(sink: Arc<dyn Sink>, spec: SinkSpec, dir: &Path) -> Driver {
    driver_at(sink, spec, (dir, BTreeMap::new(), Arc::new(RealClock::default())))
}

pub fn driver_at(sink: Arc<dyn Sink>, spec: SinkSpec, (dir, kept, clock): (&Path, BTreeMap<&'static str, Span>, Arc<dyn Clock>)) -> Driver {
    let real = Arc::new(RealClock::default());
    Driver::new(sink, spec, Arc::new(Source { dir: dir.to_owned(), kept, clock, real, draw: Draw::new(1) }))
}

/// What a sink holds, for comparison: the rows of a table, cells as text as [`farthing_ledger::read::text`] has them, sorted.
pub trait Holds {
    fn rows(&self, table: &'static Table) -> Vec<Vec<String>>;
}

/// The same of the log.
pub fn logged(dir: &Path, table: &'static Table) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for file in files(dir).into_iter().filter(|file| file.table == table) {
        file.rows(&mut |cells: &[Value<'_>]| rows.push(cells.iter().map(farthing_ledger::read::text).collect())).unwrap();
    }
    rows.sort();
    rows
}

/// That a sink holds what the log has, each row once.
pub fn assert_equal(holds: &dyn Holds, dir: &Path) {
    for table in ALL {
        assert_eq!(holds.rows(table), logged(dir, table), "{}", table.name);
    }
}

/// The conformance suite: what every sink must do.
pub async fn conforms(sink: Arc<dyn Sink>, holds: &dyn Holds) {
    let dir = tempfile::tempdir().unwrap();
    let id = log(dir.path());
    sink.prepare().await.unwrap();
    sink.prepare().await.unwrap();
    whole_files_once(&*sink, (&id, dir.path()), holds).await;
    two_logs_do_not_mix(&*sink, dir.path(), holds).await;
    a_forgotten_tenant_stays_away(&*sink, (&id, dir.path()), holds).await;
    days_go_as_a_whole(&*sink, (&id, dir.path()), holds).await;
}

async fn whole_files_once(sink: &dyn Sink, (id, dir): (&LogId, &Path), holds: &dyn Holds) {
    let files = files(dir);
    assert_eq!(files.len(), 8, "two hours of four tables");
    for file in &files {
        assert!(sink.held(id, file.table, file.hour.div_euclid(24)).await.unwrap().is_empty());
        assert_eq!(sink.ship(id, file).await.unwrap(), Shipment::Shipped { rows: 4, altered: 0 });
        let held = sink.held(id, file.table, file.hour.div_euclid(24)).await.unwrap();
        assert_eq!(held.into_iter().collect::<Vec<_>>(), [format!("hour={:02}/{}", file.hour.rem_euclid(24), file.name())]);
    }
    for file in &files {
        assert_eq!(sink.ship(id, file).await.unwrap(), Shipment::Held, "again");
    }
    assert_equal(holds, dir);
    let gone = FinishedFile { path: dir.join("none.parquet"), ..files[0].clone() };
    assert_eq!(sink.ship(id, &gone).await.unwrap(), Shipment::Gone);
    let damaged = FinishedFile { path: dir.join("damaged.parquet"), ..files[0].clone() };
    std::fs::write(&damaged.path, "no Parquet").unwrap();
    assert!(sink.ship(id, &damaged).await.unwrap_err().reason.is_of_file());
    std::fs::remove_file(damaged.path).unwrap();
    assert_equal(holds, dir);
}

/// Names of files are unique within a log only.
async fn two_logs_do_not_mix(sink: &dyn Sink, dir: &Path, holds: &dyn Holds) {
    let other = tempfile::tempdir().unwrap();
    let id = LogId::of(other.path()).unwrap();
    let file = files(dir).remove(0);
    let before = holds.rows(file.table).len();
    assert!(sink.held(&id, file.table, file.hour.div_euclid(24)).await.unwrap().is_empty());
    assert_eq!(sink.ship(&id, &file).await.unwrap(), Shipment::Shipped { rows: 4, altered: 0 });
    assert_eq!(holds.rows(file.table).len(), before + 4);
}

async fn a_forgotten_tenant_stays_away(sink: &dyn Sink, (id, dir): (&LogId, &Path), holds: &dyn Holds) {
    forget(dir, CANARY).unwrap();
    let erased = sink.forget(CANARY).await.unwrap();
    // Of each table half of the rows; the second log's four requests have two of it.
    assert_eq!(erased.rows, BTreeMap::from([("requests", 6), ("calls", 4), ("decisions", 4), ("outcomes", 4)]));
    for file in files(dir) {
        assert_eq!(sink.ship(id, &file).await.unwrap(), Shipment::Held, "written anew, and not shipped anew");
    }
    let of_canary = |table| holds.rows(table).into_iter().flatten().any(|cell| cell.contains(CANARY));
    assert!(ALL.into_iter().all(|table| !of_canary(table)));
    let left: Vec<usize> = ALL.into_iter().map(|table| holds.rows(table).len()).collect();
    assert_eq!(left, [6, 4, 4, 4]);
    assert!(sink.forget(CANARY).await.unwrap().rows.values().all(|rows| *rows == 0));
}

async fn days_go_as_a_whole(sink: &dyn Sink, (id, _): (&LogId, &Path), holds: &dyn Holds) {
    let (day, table) = (HOUR.div_euclid(24), ALL[1]);
    assert_eq!(sink.expire(table, day).await.unwrap(), 0);
    assert_eq!(sink.expire(table, day + 1).await.unwrap(), 1);
    assert_eq!((holds.rows(table).len(), holds.rows(ALL[0]).len()), (2, 6));
    assert!(sink.held(id, table, day).await.unwrap().is_empty());
    assert_eq!(sink.held(id, table, day + 1).await.unwrap().len(), 1);
}

/// Now, on the clock of the rows.
pub fn at_hour(hour: i64) -> Time {
    Time::from_nanos(hour * HOUR_NS)
}
