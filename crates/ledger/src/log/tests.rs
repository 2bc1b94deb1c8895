use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crossbeam_channel::unbounded;
use farthing_contract::log::{ALL, CallRow, Decision, OutcomeRow, Request, Table, Value};
use farthing_types::{RealClock, Time, VirtualClock};

use super::*;
use crate::read;

const HOUR_NS: i64 = 3_600_000_000_000;
const WAIT: Span = Span::from_secs(60);

fn config() -> LogConfig {
    LogConfig { instance: "t1".to_owned(), ..LogConfig::default() }
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
    let own = std::process::id();
    let names = names_under(dir.path());
    assert_eq!(names.iter().filter(|name| name.starts_with("calls/date=1969-12-31/hour=23/")).count(), 1, "{names:?}");
    assert!(names.iter().all(|name| name.contains(&format!("/part-t1-{own}-")) && name.ends_with(".parquet")), "{names:?}");
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
    assert!(cut.covers(Path::new("requests/date=2026-09-21/hour=14/part-other-1-000007.parquet")));
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
    assert!(summary.files >= summary.rows / 100);
}

#[test]
fn a_folder_that_refuses_costs_rows_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, b"a file in the way").unwrap();
    assert!(check_dir(&path).unwrap_err().to_string().contains("cannot be written"));
    let writer = open(&path);
    let log = writer.handle();
    log.write(request(1));
    log.write(decision(1));
    assert!(matches!(log.flush(WAIT), Err(LogError::Unwritten(_))));
    let metrics = log.metrics();
    assert_eq!((metrics.healthy, metrics.rows()), (false, 0));
    assert_eq!((metrics.tables["requests"].dropped_write, metrics.tables["decisions"].dropped_write), (1, 1));
    std::fs::remove_file(&path).unwrap();
    check_dir(&path).unwrap();
    log.write(request(2));
    log.flush(WAIT).unwrap();
    let metrics = log.metrics();
    assert_eq!((metrics.healthy, metrics.rows(), metrics.dropped()), (true, 1, 2));
    assert!(metrics.last_error.is_some());
}

#[test]
fn an_instance_is_a_file_name() {
    for name in ["", "a/b", "a-b", "a b", "..\u{0}", &"x".repeat(65)] {
        let config = LogConfig { instance: name.to_owned(), ..LogConfig::default() };
        assert!(matches!(LogWriter::open("/nowhere", config, Arc::new(RealClock::default())), Err(LogError::Instance(_))), "{name}");
    }
}

/// A worker without its thread: the test says when it looks.
fn worker(dir: &Path, config: LogConfig, clock: &Arc<VirtualClock>) -> (Worker, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let inbox = Inbox { queue: Arc::new(Queue::new(1 << 20)), orders: unbounded().1 };
    (Worker::new(dir.to_owned(), config, clock.clone(), inbox, counters.clone()), counters)
}

#[test]
fn rows_wait_for_the_flush_time_or_for_company() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::new(Time::ZERO));
    let config = LogConfig { flush_every: Span::from_secs(10), max_file_rows: 3, max_file_bytes: 10_000, ..config() };
    let (mut worker, counters) = worker(dir.path(), config, &clock);
    let rows = || counters.snapshot(0).rows();
    worker.gather(Decision::TABLE, &decision(1), 100);
    worker.write_due();
    clock.advance(Span::from_secs(9));
    worker.gather(Decision::TABLE, &decision(2), 100);
    worker.write_due();
    assert_eq!(rows(), 0);
    clock.advance(Span::from_secs(1));
    worker.write_due();
    assert_eq!(rows(), 2);
    (0..3).for_each(|_| worker.gather(Request::TABLE, &request(1), 100));
    worker.gather(Decision::TABLE, &decision(1), 100);
    assert_eq!(rows(), 5, "a full file is written, the others wait");
    worker.gather(Decision::TABLE, &decision(2), 9_900);
    assert_eq!(rows(), 7, "too many bytes in memory: all are written");
}

#[test]
fn a_row_that_breaks_its_declaration_costs_its_file_only() {
    struct Bad;
    impl Row for Bad {
        const TABLE: &'static Table = &Table { columns: Request::TABLE.columns.split_at(2).0, ..*OutcomeRow::TABLE };
        fn ts_ns(&self) -> i64 {
            0
        }
        fn cells(&self, put: &mut dyn FnMut(usize, Value<'_>)) {
            put(0, Value::Text("not a time"));
            put(1, Value::Null);
            put(9, Value::Null);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut worker, counters) = worker(dir.path(), config(), &Arc::default());
    worker.gather(Bad::TABLE, &Bad, 1);
    worker.gather(Decision::TABLE, &decision(1), 1);
    worker.write_all();
    let metrics = counters.snapshot(0);
    assert_eq!((metrics.tables["outcomes"].dropped_write, metrics.tables["decisions"].rows), (1, 1));
    assert_eq!(names_under(dir.path()).len(), 1);
}

/// Runs another test of this binary in a process of its own, with `dir` in its environment.
fn child(test: &str, dir: &Path, shell: &str) -> Child {
    let script = format!("{shell} exec \"$0\" \"$@\"");
    let args = ["--exact", test, "--nocapture", "--test-threads=1"];
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(exe).args(args).env("FARTHING_TEST_LOG", dir).stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// Not a test by itself: writes until killed, a line for each flush.
#[test]
fn child_writes_until_killed() {
    let Some(dir) = std::env::var_os("FARTHING_TEST_LOG") else { return };
    let dir = Path::new(&dir);
    let writer = open(dir);
    let log = writer.handle();
    for batch in 0.. {
        (0..400).for_each(|n| log.write(decision(batch * 400 + n % 4)));
        (0..100).for_each(|n| log.write(request(batch * 100 + n)));
        log.flush(WAIT).unwrap();
        println!("flushed {}", (batch + 1) * 500);
    }
}

#[test]
fn killed_at_any_moment_the_log_holds_whole_files_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut promised = 0;
    for round in 0..4 {
        let mut child = child("log::tests::child_writes_until_killed", dir.path(), "");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut flushed = 0;
        // Kill at another moment each time: right after a line, the next batch is being written.
        while flushed < (round + 1) * 500 {
            let line = lines.next().unwrap().unwrap();
            flushed = line.split("flushed ").nth(1).map_or(flushed, |n| n.parse().unwrap());
        }
        (0..round * 20_000).for_each(|_| std::hint::spin_loop());
        child.kill().unwrap();
        child.wait().unwrap();
        promised += flushed;
    }
    let summary = read::summary(dir.path());
    assert!(summary.iter().all(|table| table.unreadable.is_empty()), "{summary:?}");
    let rows: u64 = summary.iter().map(|table| table.rows).sum();
    assert!(rows >= promised, "{rows} rows, {promised} were flushed");
    // The next start clears away what the dead left, and only that.
    let alive = dir.path().join("requests/date=2026-09-21/hour=14/.part-t1-1-000000.parquet.tmp");
    std::fs::write(&alive, b"still being written").unwrap();
    let mut orphan = Command::new("true").spawn().unwrap();
    let dead = alive.with_file_name(format!(".part-t1-{}-000007.parquet.tmp", orphan.id()));
    orphan.wait().unwrap();
    std::fs::write(&dead, b"half a fi").unwrap();
    open(dir.path()).close();
    let left: Vec<_> = names_under(dir.path()).into_iter().filter(|name| name.ends_with(".tmp")).collect();
    assert!(left.len() == 1 && alive.exists(), "{left:?}");
}

/// Not a test by itself: its process may write files of 8 KiB and no more, which a full disk looks like in the middle.
#[test]
fn child_on_a_full_disk() {
    let Some(dir) = std::env::var_os("FARTHING_TEST_LOG") else { return };
    let dir = Path::new(&dir);
    let writer = open(dir);
    let log = writer.handle();
    // No two rows alike.
    let noise = |n: i64| Request { key_hash: n as u64, request_id: (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15), ..request(n) };
    (0..20_000).for_each(|n| log.write(noise(n)));
    assert!(matches!(log.flush(WAIT), Err(LogError::Unwritten(_))));
    log.write(OutcomeRow { ts_ns: 1, ..OutcomeRow::default() });
    log.flush(WAIT).unwrap();
    let metrics = writer.close();
    println!("dropped {} rows {} healthy {}", metrics.dropped(), metrics.rows(), metrics.healthy);
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_file_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = child("log::tests::child_on_a_full_disk", dir.path(), "trap '' XFSZ; ulimit -f 16;");
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
    assert!(output.contains("dropped 20000 rows 1 healthy true"), "{output}");
    assert_eq!(names_under(dir.path()).len(), 1);
}
