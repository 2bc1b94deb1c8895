//! The driver over the sink in memory: on a paused clock, without a server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing"
)]

mod suite;

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_contract::log::{ALL, Table};
use farthing_ledger::archive::prune;
use farthing_sinks::memory::Memory;
use farthing_sinks::{Fault, FaultReason, PostgresSpec, SinkSpec, Target};
use farthing_types::{Span, VirtualClock};
use suite::{HOUR, Holds, at_hour, driver, driver_at, log};
use tokio_util::sync::CancellationToken;

impl Holds for Memory {
    fn rows(&self, table: &'static Table) -> Vec<Vec<String>> {
        let mut rows = Memory::rows(self, table);
        rows.sort();
        rows
    }
}

fn spec() -> SinkSpec {
    SinkSpec {
        name: "m".into(),
        tables: ALL.to_vec(),
        deadline: Span::from_secs(5),
        interval: Span::from_secs(10),
        retention: None,
        target: Target::Postgres(PostgresSpec::default()),
    }
}

fn fault(reason: FaultReason) -> Option<Fault> {
    Some(Fault::new(reason, "as ordered"))
}

#[tokio::test]
async fn the_sink_in_memory_conforms() {
    let memory = Arc::new(Memory::default());
    suite::conforms(memory.clone(), &*memory).await;
}

#[tokio::test(start_paused = true)]
async fn a_round_ships_what_is_lacking_and_the_next_asks_nothing() {
    let (dir, memory) = (tempfile::tempdir().unwrap(), Arc::new(Memory::default()));
    log(dir.path());
    let mut driver = driver(memory.clone(), spec(), dir.path());
    driver.round().await.unwrap();
    suite::assert_equal(&*memory, dir.path());
    let stats = driver.state().stats();
    assert_eq!((stats.files, stats.rows, stats.waiting, stats.oldest), (8, 32, 0, None));
    let asked = memory.asked();
    driver.round().await.unwrap();
    assert!(memory.asked() == asked, "what is held is known");
    // Another start knows nothing and asks the sink.
    let mut again = suite::driver(memory.clone(), spec(), dir.path());
    again.round().await.unwrap();
    assert_eq!((again.state().stats().files, again.state().stats().waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_each_row_arrives_once() {
    let (dir, memory) = (tempfile::tempdir().unwrap(), Arc::new(Memory::default()));
    log(dir.path());
    // Every second operation fails, whichever it is.
    memory.fail((0..60).map(|n| if n % 2 == 1 { fault(FaultReason::Unreachable) } else { None }));
    let (driver, stop) = (driver(memory.clone(), spec(), dir.path()), CancellationToken::new());
    let (state, last) = (driver.state(), CancellationToken::new());
    let running = tokio::spawn(driver.run(stop.clone(), last.clone()));
    while state.stats().complete.is_none() {
        tokio::time::sleep(Span::from_secs(1)).await;
    }
    suite::assert_equal(&*memory, dir.path());
    assert!(state.stats().faults[&FaultReason::Unreachable] > 5);
    assert_eq!((state.stats().failures, state.problem()), (0, None));
    // What the log finishes at its end is shipped, too.
    stop.cancel();
    let writer = suite::open(dir.path(), Span::from_secs(10));
    suite::fill(&writer.handle());
    writer.close();
    last.cancel();
    running.await.unwrap();
    suite::assert_equal(&*memory, dir.path());
    assert_eq!(state.stats().files, 16);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_says_so_and_probes() {
    let (dir, memory) = (tempfile::tempdir().unwrap(), Arc::new(Memory::default()));
    log(dir.path());
    memory.fail((0..10).map(|_| fault(FaultReason::Refused)));
    let (driver, stop) = (driver(memory.clone(), spec(), dir.path()), CancellationToken::new());
    let state = driver.state();
    let running = tokio::spawn(driver.run(stop.clone(), stop.clone()));
    while state.stats().failures < 10 {
        tokio::time::sleep(Span::from_millis(100)).await;
    }
    assert_eq!(memory.asked(), 10, "one probe for each try");
    assert!(state.stats().open && state.problem().unwrap().contains("refused: as ordered"), "{:?}", state.problem());
    while state.stats().complete.is_none() {
        tokio::time::sleep(Span::from_secs(1)).await;
    }
    assert_eq!((state.stats().open, state.problem()), (false, None));
    stop.cancel();
    running.await.unwrap();
}

/// What a sink held when it was last asked says nothing after a fault.
#[tokio::test(start_paused = true)]
async fn what_a_sink_has_lost_in_a_fault_is_shipped_again() {
    let (dir, memory) = (tempfile::tempdir().unwrap(), Arc::new(Memory::default()));
    log(dir.path());
    let clock = Arc::new(VirtualClock::new(at_hour(HOUR + 2)));
    let (driver, stop) = (driver_at(memory.clone(), spec(), (dir.path(), BTreeMap::new(), clock)), CancellationToken::new());
    let state = driver.state();
    let running = tokio::spawn(driver.run(stop.clone(), stop.clone()));
    while state.stats().complete.is_none() {
        tokio::time::sleep(Span::from_secs(1)).await;
    }
    memory.lose_one();
    // A new file is the occasion to notice that the sink has failed.
    let writer = suite::open(dir.path(), Span::from_secs(10));
    suite::fill(&writer.handle());
    memory.fail([fault(FaultReason::Unreachable)]);
    writer.close();
    while state.stats().files < 17 {
        tokio::time::sleep(Span::from_secs(1)).await;
    }
    suite::assert_equal(&*memory, dir.path());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_told_while_the_sink_does_not_answer() {
    let (dir, memory) = (tempfile::tempdir().unwrap(), Arc::new(Memory::default()));
    let clock = Arc::new(VirtualClock::new(at_hour(HOUR + 2)));
    let (driver, stop) = (driver_at(memory.clone(), spec(), (dir.path(), BTreeMap::new(), clock)), CancellationToken::new());
    let state = driver.state();
    memory.fail((0..8).map(|_| fault(FaultReason::Unreachable)));
    let running = tokio::spawn(driver.run(stop.clone(), stop.clone()));
    while state.stats().failures < 3 {
        tokio::time::sleep(Span::from_millis(100)).await;
    }
    assert_eq!(state.stats().waiting, 0);
    log(dir.path());
    while state.stats().waiting < 8 {
        tokio::time::sleep(Span::from_millis(100)).await;
    }
    assert!(state.stats().open && state.stats().oldest.is_some());
    assert!(state.problem().unwrap().contains("8 files wait in the log"));
    while state.stats().files < 8 {
        tokio::time::sleep(Span::from_millis(100)).await;
    }
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_shipped_holds_up_no_other() {
    let (dir, memory) = (tempfile::tempdir().unwrap(), Arc::new(Memory::default()));
    log(dir.path());
    let bad = suite::files(dir.path()).remove(2);
    let whole = std::fs::read(&bad.path).unwrap();
    std::fs::write(&bad.path, "no Parquet").unwrap();
    let mut driver = driver(memory.clone(), spec(), dir.path());
    driver.round().await.unwrap();
    let stats = driver.state().stats();
    assert_eq!((stats.files, stats.waiting, stats.set_aside, stats.faults[&FaultReason::Unreadable]), (7, 1, 1, 1));
    assert!(driver.state().problem().unwrap().contains("1 files cannot be shipped"));
    driver.round().await.unwrap();
    assert_eq!(driver.state().stats().faults[&FaultReason::Unreadable], 1, "not at each round");
    std::fs::write(&bad.path, whole).unwrap();
    tokio::time::advance(Span::from_secs(600)).await;
    driver.round().await.unwrap();
    suite::assert_equal(&*memory, dir.path());
    assert_eq!((driver.state().stats().set_aside, driver.state().problem()), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_lags_behind_retention_is_told_before_rows_go_and_after() {
    let (dir, memory) = (tempfile::tempdir().unwrap(), Arc::new(Memory::default()));
    log(dir.path());
    let clock = Arc::new(VirtualClock::new(at_hour(HOUR + 2)));
    let kept = BTreeMap::from([("calls", Span::from_secs(10 * 3_600))]);
    let mut driver = driver_at(memory.clone(), spec(), (dir.path(), kept, clock.clone()));
    // Looks are answered, shipping is not.
    memory.fail((0..9).map(|_| None).chain([fault(FaultReason::Unavailable)]));
    assert!(driver.round().await.is_err());
    assert_eq!((driver.state().problem(), driver.state().stats().waiting), (None, 8));
    clock.set(at_hour(HOUR + 6));
    memory.fail([fault(FaultReason::Unavailable)]);
    assert!(driver.round().await.is_err());
    let problem = driver.state().problem().unwrap();
    assert!(problem.contains("`calls` have waited for 6 hours, and retention removes them after 10"), "{problem}");
    clock.set(at_hour(HOUR + 12));
    let retention = farthing_ledger::archive::Retention { tables: vec![("calls", Span::from_secs(10 * 3_600))], tenants: Vec::new() };
    assert_eq!(prune(dir.path(), &retention, at_hour(HOUR + 12), false).unwrap().rows, 8);
    driver.round().await.unwrap();
    let stats = driver.state().stats();
    assert_eq!((stats.missed, stats.files, stats.waiting, stats.behind), (2, 6, 0, None));
}

#[tokio::test(start_paused = true)]
async fn a_sink_with_a_retention_of_its_own_takes_and_keeps_no_older_days() {
    let (dir, memory) = (tempfile::tempdir().unwrap(), Arc::new(Memory::default()));
    log(dir.path());
    let clock = Arc::new(VirtualClock::new(at_hour(HOUR + 2)));
    let spec = SinkSpec { retention: Some(Span::from_secs(24 * 3_600)), ..spec() };
    let mut driver = driver_at(memory.clone(), spec, (dir.path(), BTreeMap::new(), clock.clone()));
    driver.round().await.unwrap();
    suite::assert_equal(&*memory, dir.path());
    // The first hour is the last of its day.
    clock.set(at_hour(HOUR + 1 + 24));
    tokio::time::advance(Span::from_secs(600)).await;
    driver.round().await.unwrap();
    assert_eq!((memory.rows(ALL[0]).len(), driver.state().stats().expired_days), (4, 4));
    tokio::time::advance(Span::from_secs(600)).await;
    driver.round().await.unwrap();
    assert_eq!((memory.rows(ALL[0]).len(), driver.state().stats().files), (4, 8), "not shipped anew");
}
