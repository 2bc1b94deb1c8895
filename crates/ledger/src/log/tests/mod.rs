mod deaths;
mod full;
mod processes;

use std::ops::ControlFlow;
use std::path::Path;

use crossbeam_channel::{Receiver, unbounded};
use farthing_contract::log::{ALL, CallRow, Decision, OutcomeRow, Request, Row, Table, Value};
use farthing_types::{RealClock, Time, VirtualClock};

use super::filer::{Filer, Job};
use super::worker::Worker;
use super::*;
use crate::journal::memory_disk::MemoryDisk;
use crate::journal::{Disk, SegmentId, Unsynced};
use crate::read;

const HOUR_NS: i64 = 3_600_000_000_000;
const WAIT: Span = Span::from_secs(60);

fn config() -> LogConfig {
    LogConfig { instance: "t1".to_owned(), journal_reserve: 10_000, ..LogConfig::default() }
}

fn open(dir: &Path) -> LogWriter {
    LogWriter::open(dir, config(), Arc::new(RealClock::default())).unwrap()
}

fn request(n: i64) -> Request {
    let text = |text: &str| -> Arc<str> { text.into() };
    Request {
        ts_ns: 1_790_000_000_000_000_000 + n,
        request_id: u64::MAX - n as u64,
        weight: 1,
        tenant: text("acme"),
        tags: (n % 2 == 0).then(|| text("team=a,über=ja")),
        route: text(if n % 3 == 0 { "geo" } else { "openai" }),
        method: text("GET"),
        outcome: "hit",
        status: 200,
        base_nanousd: (n % 5 != 0).then_some(2_000_000),
        propensity: (n % 2 == 1).then_some(0.1),
        stale_verdict: Some(n % 7 == 0),
        ..Request::default()
    }
}

fn decision(n: i64) -> Decision {
    let features = (0..n % 30).map(|i| i as f32 / 3.0).collect();
    Decision {
        ts_ns: n * HOUR_NS,
        decision_id: n as u64,
        kind: "ttl",
        route: "geo".into(),
        features,
        by: "model:3".into(),
        ..Decision::default()
    }
}

/// All cells of all rows, as text that tells null from empty.
fn stored<R: Row>(dir: &Path) -> Vec<Vec<String>> {
    let names: Vec<_> = R::TABLE.columns.iter().map(|column| column.name).collect();
    let mut rows = Vec::new();
    read::rows(dir, R::TABLE, &names, &mut |cells| {
        rows.push(cells.iter().map(|cell| format!("{cell:?}")).collect());
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

fn cells<R: Row>(row: &R) -> Vec<String> {
    let mut cells = Vec::new();
    row.cells(&mut |_, value| cells.push(format!("{value:?}")));
    cells
}

fn names_under(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for table in ALL {
        for path in partitions(&dir.join(table.name)).iter().flat_map(|partition| list(partition)) {
            names.push(path.strip_prefix(dir).unwrap().display().to_string());
        }
    }
    names
}

#[test]
fn what_is_written_is_read_back_cell_by_cell() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, requests): (_, Vec<_>) = (open(dir.path()), (0..500).map(request).collect());
    let log = writer.handle();
    requests.iter().for_each(|row| log.write(row.clone()));
    let decisions: Vec<_> = (0..50).map(decision).collect();
    decisions.iter().for_each(|row| log.write(row.clone()));
    let call = CallRow { ts_ns: -1, status: None, sent: true, gap_ms: Some(i64::MIN), provider: "".into(), ..CallRow::default() };
    log.write(call.clone());
    log.write(OutcomeRow::default());
    let metrics = writer.close();
    assert_eq!((metrics.rows(), metrics.dropped(), metrics.healthy, metrics.queued_bytes), (552, 0, true, 0));
    assert_eq!((metrics.tables["requests"].files, metrics.tables["decisions"].files), (1, 50));
    assert_eq!(stored::<Request>(dir.path()), requests.iter().map(cells).collect::<Vec<_>>());
    assert_eq!(stored::<Decision>(dir.path()), decisions.iter().map(cells).collect::<Vec<_>>());
    assert_eq!(stored::<CallRow>(dir.path()), [cells(&call)]);
    assert_eq!(stored::<OutcomeRow>(dir.path()), [cells(&OutcomeRow::default())]);
    let names = names_under(dir.path());
    assert_eq!(names.iter().filter(|name| name.starts_with("calls/date=1969-12-31/hour=23/")).count(), 1, "{names:?}");
    let ids: Vec<_> = names.iter().map(|name| SegmentId::of_part(Path::new(name)).unwrap()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]) && names[0].contains("/part-t1-"), "one segment: {names:?}");
    assert!(
        std::fs::read_dir(dir.path().join("journal")).unwrap().all(|entry| entry
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .starts_with("reserve-"))
    );
    let summary = read::summary(dir.path());
    assert_eq!(summary.iter().map(|table| table.rows).collect::<Vec<_>>(), [500, 1, 50, 1]);
    assert_eq!((summary[0].first_ns, summary[0].last_ns), (Some(requests[0].ts_ns), Some(requests[499].ts_ns)));
    assert_eq!(summary[0].bytes, metrics.tables["requests"].bytes);
}

#[test]
fn files_and_the_unwritten_together_hold_each_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let writer = open(dir.path());
    let log = writer.handle();
    (0..30).for_each(|n| log.write(request(n)));
    log.flush(WAIT).unwrap();
    (30..50).for_each(|n| log.write(request(n)));
    log.write(decision(1));
    let cut = log.unwritten(WAIT).unwrap();
    // Files that come after the cut hold what it holds already.
    (50..60).for_each(|n| log.write(request(n)));
    log.flush(WAIT).unwrap();
    let rows = |table: &Table| cut.batches.iter().filter(|(of, _)| of.name == table.name).map(|(_, batch)| batch.num_rows()).sum::<usize>();
    assert_eq!((rows(Request::TABLE), rows(Decision::TABLE)), (20, 1));
    let files = read::files(dir.path(), Request::TABLE);
    let covered: Vec<_> = files.iter().map(|file| cut.covers(file)).collect();
    assert_eq!(covered, [true, false]);
    assert!(cut.covers(Path::new("requests/date=2026-09-21/hour=14/part-other-1790000000000000-000007.parquet")));
    assert!(log.unwritten(WAIT).unwrap().batches.is_empty() && !log.billing_at_risk());
}

#[test]
fn the_tail_is_the_newest_rows_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let writer = open(dir.path());
    (0..50).for_each(|n| writer.handle().write(decision(n)));
    writer.close();
    let tail = read::tail(dir.path(), Decision::TABLE, &["decision_id", "by", "draw"], 3).unwrap();
    assert_eq!(
        tail.iter().map(|row| row.join(" ")).collect::<Vec<_>>(),
        ["000000000000002f model:3 ", "0000000000000030 model:3 ", "0000000000000031 model:3 "]
    );
    assert_eq!(read::tail(dir.path(), Decision::TABLE, &["kind"], 1_000).unwrap().len(), 50);
    let error = read::tail(dir.path(), Decision::TABLE, &["pricing"], 1).unwrap_err().to_string();
    assert_eq!(error, "table `decisions` has no column `pricing`");
}

#[test]
fn a_foreign_or_damaged_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let writer = open(dir.path());
    writer.handle().write(OutcomeRow::default());
    writer.close();
    let outcome = read::files(dir.path(), OutcomeRow::TABLE).remove(0);
    let home = dir.path().join("requests/date=2026-11-24/hour=02");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::copy(&outcome, home.join("part-x.parquet")).unwrap();
    std::fs::write(home.join("part-y.parquet"), b"PAR1 but not for long").unwrap();
    let requests = &read::summary(dir.path())[0];
    assert_eq!((requests.files, requests.unreadable.len()), (0, 2));
    assert!(requests.unreadable[0].contains("part-x.parquet") && requests.unreadable[0].contains("table `outcomes`"), "{requests:?}");
    assert!(requests.unreadable[1].contains("part-y.parquet"), "{requests:?}");
    assert!(matches!(
        read::rows(dir.path(), Request::TABLE, &["ts_ns"], &mut |_| ControlFlow::Continue(())),
        Err(read::ReadError::Foreign { .. })
    ));
}

#[test]
fn a_full_queue_drops_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = LogConfig { queue_bytes: 1, ..config() };
    let writer = LogWriter::open(dir.path(), tiny, Arc::new(RealClock::default())).unwrap();
    let log = writer.handle();
    (0..10).for_each(|n| log.write(request(n)));
    log.write(decision(0));
    let metrics = writer.close();
    assert_eq!((metrics.rows(), metrics.tables["requests"].dropped_queue, metrics.tables["decisions"].dropped_queue), (0, 10, 1));
    // After the end, too, a row is counted.
    log.write(request(1));
    let metrics = log.metrics();
    assert_eq!((metrics.dropped(), metrics.queued_bytes), (12, 0));
    assert!(matches!(log.flush(WAIT), Err(LogError::NoAnswer(_))));
}

#[test]
fn every_row_is_written_or_counted_under_pressure() {
    let dir = tempfile::tempdir().unwrap();
    let small = LogConfig { row_rate: 500, queue_bytes: 40_000, max_file_bytes: 300_000, max_file_rows: 100, ..config() };
    let writer = LogWriter::open(dir.path(), small, Arc::new(RealClock::default())).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let log = writer.handle();
            scope.spawn(move || (0..2_000).for_each(|n| log.write(request(n))));
        }
    });
    let metrics = writer.close();
    let summary = &read::summary(dir.path())[0];
    let mut weight = 0;
    let count = read::rows(dir.path(), Request::TABLE, &["weight"], &mut |cells| {
        weight += if let [Value::I64(n)] = cells { *n as u64 } else { 0 };
        ControlFlow::Continue(())
    });
    let merged = metrics.tables["requests"].merged;
    assert_eq!((weight + metrics.dropped(), metrics.rows() + merged + metrics.dropped()), (8_000, 8_000));
    assert_eq!(count.unwrap(), metrics.rows());
    assert_eq!((summary.rows, summary.files), (metrics.tables["requests"].rows, metrics.tables["requests"].files));
    assert!(summary.files >= summary.rows / 200);
}

#[test]
fn a_folder_that_refuses_costs_log_rows_and_heals() {
    for journal in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, b"a file in the way").unwrap();
        assert!(check_dir(&path).unwrap_err().to_string().contains("cannot be written"));
        let writer = LogWriter::open(&path, LogConfig { journal, ..config() }, Arc::new(RealClock::default())).unwrap();
        let log = writer.handle();
        log.write(request(1));
        log.write(decision(1));
        assert!(matches!(log.flush(WAIT), Err(LogError::Unwritten(_))));
        let metrics = log.metrics();
        assert_eq!((metrics.healthy, metrics.rows(), log.billing_at_risk()), (false, 0, journal));
        assert_eq!((metrics.tables["requests"].dropped(), metrics.tables["decisions"].dropped()), (u64::from(!journal), 1));
        std::fs::remove_file(&path).unwrap();
        check_dir(&path).unwrap();
        log.write(request(2));
        log.flush(WAIT).unwrap();
        let metrics = log.metrics();
        // What is worth money was held in memory until then; without a journal nothing is.
        assert_eq!((metrics.rows(), metrics.dropped()), if journal { (2, 1) } else { (1, 2) });
        assert!(metrics.healthy && metrics.last_error.is_some() && !log.billing_at_risk());
    }
}

#[test]
fn an_instance_is_a_file_name() {
    for name in ["", "a/b", "a-b", "a b", "..\u{0}", &"x".repeat(65)] {
        let config = LogConfig { instance: name.to_owned(), ..LogConfig::default() };
        assert!(matches!(LogWriter::open("/nowhere", config, Arc::new(RealClock::default())), Err(LogError::Instance(_))), "{name}");
    }
}

/// A writer without its threads: the test says when they look.
struct Rig {
    worker: Worker,
    filer: Filer,
    jobs: Receiver<Job>,
    syncs: Receiver<Unsynced>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    clock: Arc<VirtualClock>,
}

impl Rig {
    fn start(disk: Arc<dyn Disk>, dir: &Path, config: LogConfig, clock: &Arc<VirtualClock>) -> Self {
        let (queue, counters) = (Arc::new(Queue::new(64 << 20)), Arc::new(Counters::default()));
        let inbox = Inbox { queue: queue.clone(), orders: unbounded().1 };
        let Trio { mut worker, filer, jobs, syncs } = worker::trio((disk, dir.to_owned()), config, clock.clone(), inbox, counters.clone());
        worker.begin();
        Self { worker, filer, jobs, syncs, queue, counters, clock: clock.clone() }
    }

    fn write<R: Row>(&self, row: R) {
        assert_ne!(self.queue.push(row), Pushed::Refused);
    }

    /// Time passes, the writer looks into the queue and does what is due.
    fn turn(&mut self, span: Span) {
        self.clock.advance(span);
        self.worker.take(false);
        self.worker.turn();
        self.syncs.try_iter().for_each(|unsynced| unsynced.sync().unwrap_or_default());
    }

    /// The other thread does what it was given.
    fn file(&mut self) {
        self.jobs.try_iter().for_each(|job| self.filer.run(job));
    }

    fn close(self) -> LogMetrics {
        let Self { worker, mut filer, jobs, counters, .. } = self;
        worker.close(|| jobs.iter().for_each(|job| filer.run(job)));
        counters.snapshot(0)
    }

    fn metrics(&self) -> LogMetrics {
        self.counters.snapshot(0)
    }
}

#[test]
fn rows_wait_for_the_flush_time_or_for_company() {
    let config = LogConfig { flush_every: Span::from_secs(10), max_file_rows: 3, max_file_bytes: 4_000, ..config() };
    let mut rig = Rig::start(Arc::new(MemoryDisk::default()), Path::new("/log"), config, &Arc::default());
    let rows = |rig: &mut Rig, secs: u64| {
        rig.turn(Span::from_secs(secs));
        rig.file();
        rig.metrics().rows()
    };
    rig.write(decision(1));
    assert_eq!(rows(&mut rig, 0), 0);
    rig.write(decision(2));
    assert_eq!(rows(&mut rig, 9), 0);
    assert_eq!(rows(&mut rig, 1), 2, "the oldest has waited long enough");
    (0..2).for_each(|_| rig.write(request(1)));
    assert_eq!(rows(&mut rig, 0), 2);
    rig.write(request(1));
    assert_eq!(rows(&mut rig, 0), 5, "a full file");
    rig.write(decision(1));
    rig.write(Decision { features: vec![1.0; 1_000], ..decision(2) });
    assert_eq!(rows(&mut rig, 0), 7, "too many bytes in memory");
}

#[test]
fn a_row_that_breaks_its_declaration_costs_itself_and_without_a_journal_its_file() {
    struct Bad;
    impl Row for Bad {
        const TABLE: &'static Table = OutcomeRow::TABLE;
        fn ts_ns(&self) -> i64 {
            0
        }
        fn cells<P: FnMut(usize, Value<'_>) + ?Sized>(&self, put: &mut P) {
            put(0, Value::Text("not a time"));
            (1..OutcomeRow::TABLE.columns.len()).for_each(|index| put(index, Value::Null));
        }
    }
    for (journal, dropped) in [(true, 1), (false, 2)] {
        let rig = Rig::start(Arc::new(MemoryDisk::default()), Path::new("/log"), LogConfig { journal, ..config() }, &Arc::default());
        rig.write(Bad);
        rig.write(OutcomeRow::default());
        rig.write(decision(1));
        let metrics = rig.close();
        assert_eq!((metrics.tables["outcomes"].dropped_write, metrics.tables["outcomes"].rows), (dropped, 2 - dropped));
        assert_eq!(metrics.tables["decisions"].rows, 1);
    }
}
