//! Real processes on the real file system: killed, and on a disk that is full.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use super::*;

/// As [`config`], on the real disk; a journal's reserve as in production is not needed here.
fn writer(dir: &Path, journal: bool) -> LogWriter {
    LogWriter::open(dir, LogConfig { journal, ..config() }, Arc::new(RealClock::default())).unwrap()
}

/// Runs another test of this binary in a process of its own, with `dir` in its environment.
fn child(test: &str, dir: &Path, shell: &str) -> Child {
    command(test, dir, shell).spawn().unwrap()
}

fn command(test: &str, dir: &Path, shell: &str) -> Command {
    let script = format!("{shell} exec \"$0\" \"$@\"");
    let args = ["--exact", test, "--nocapture", "--test-threads=1"];
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(exe).args(args).env("FARTHING_TEST_LOG", dir).stdin(Stdio::null()).stdout(Stdio::piped());
    command
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
        let mut child = child("log::tests::processes::child_writes_until_killed", dir.path(), "");
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
    // The next start makes files of what the dead left, and clears away what they were writing, and only that.
    let living = open(dir.path());
    living.handle().flush(WAIT).unwrap();
    let lock = std::fs::read_dir(dir.path().join("journal")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let lock = lock.into_iter().find(|name| name.starts_with("run-")).unwrap();
    let run = lock.trim_start_matches("run-").trim_end_matches(".lock").to_owned();
    let alive = dir.path().join(format!("requests/date=2026-09-21/hour=14/.part-{run}-000900.parquet.tmp"));
    std::fs::write(&alive, b"still being written").unwrap();
    let dead = alive.with_file_name(".part-t1-0000000000000007-000000.parquet.tmp");
    std::fs::write(&dead, b"half a fi").unwrap();
    open(dir.path()).close();
    let left: Vec<_> = names_under(dir.path()).into_iter().filter(|name| name.ends_with(".tmp")).collect();
    assert!(left.len() == 1 && alive.exists(), "{left:?}");
    living.close();
}

/// Not a test by itself: writes numbered calls until killed, and says how far it is.
#[test]
fn child_counts_until_killed() {
    let Some(dir) = std::env::var_os("FARTHING_TEST_LOG") else { return };
    let round: u64 = std::env::var("FARTHING_TEST_ROUND").unwrap().parse().unwrap();
    // Files are made often, so that many a death meets one being made.
    let often = LogConfig { flush_every: Span::from_millis(150), ..config() };
    let writer = LogWriter::open(Path::new(&dir), often, Arc::new(RealClock::default())).unwrap();
    let log = writer.handle();
    for n in 0_u64.. {
        (0..20).for_each(|k| log.write(CallRow { call_id: (round << 32) | (n * 20 + k), tenant: "acme".into(), ..CallRow::default() }));
        log.write(request(n.cast_signed()));
        println!("wrote {}", n * 20 + 20);
        std::thread::park_timeout(Span::from_millis(2));
    }
}

/// A counting process that was killed.
struct Killed {
    at: Time,
    /// Its calls so far, and when it said so.
    said: Vec<(Time, u64)>,
}

fn killed_after(dir: &Path, round: u64, life: Span) -> Killed {
    let clock = RealClock::default();
    let mut command = command("log::tests::processes::child_counts_until_killed", dir, "");
    let mut child = command.env("FARTHING_TEST_ROUND", round.to_string()).spawn().unwrap();
    let (lines, mut said) = (BufReader::new(child.stdout.take().unwrap()).lines(), Vec::new());
    for line in lines {
        let line = line.unwrap();
        let Some(count) = line.split("wrote ").nth(1) else { continue };
        let now = clock.now();
        said.push((now, count.parse::<u64>().unwrap()));
        if now.since(said[0].0) >= life {
            break;
        }
    }
    let at = clock.now();
    child.kill().unwrap();
    child.wait().unwrap();
    Killed { at, said }
}

/// How old the oldest record was that a kill cost.
fn kill_rounds(rounds: u64) -> Span {
    let dir = tempfile::tempdir().unwrap();
    // From 1 to 1.6 seconds, at another point each time.
    let life = |round: u64| Span::from_micros(1_000_000 + round.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 600_000);
    let killed: Vec<Killed> = (0..rounds).map(|round| killed_after(dir.path(), round, life(round))).collect();
    let last = open(dir.path());
    // Where the machine is busy the dead leave much: no life was long enough to make files of it.
    last.handle().flush(WAIT * 20).unwrap();
    last.close();
    let mut seen = std::collections::HashSet::new();
    let rows = read::rows(dir.path(), CallRow::TABLE, &["call_id"], &mut |cells| {
        if let [Value::U64(id)] = cells {
            assert!(seen.insert(*id), "{id:x} twice");
        }
        ControlFlow::Continue(())
    });
    assert!(read::summary(dir.path()).iter().all(|table| table.unreadable.is_empty()));
    let lost = |(round, killed): (u64, &Killed)| {
        let missing = (0..).find(|n| !seen.contains(&((round << 32) | n)))?;
        let first = killed.said.iter().find(|(_, count)| *count > missing)?;
        Some(killed.at.since(first.0))
    };
    let oldest = (0..).zip(&killed).filter_map(lost).max().unwrap_or_default();
    println!("{rounds} kills, {} calls in files, none twice; the oldest that was lost was {oldest:?} old", rows.unwrap());
    oldest
}

#[test]
fn killed_at_random_points_every_record_older_than_a_second_is_there_once() {
    assert!(kill_rounds(4) < Span::from_secs(1));
}

/// Acceptance: `make simulate`.
#[test]
#[ignore = "takes five minutes"]
fn killed_at_two_hundred_random_points() {
    assert!(kill_rounds(200) < Span::from_secs(1));
}

/// Not a test by itself: its process may write files of 8 KiB and no more, which a full disk looks like in the middle.
#[test]
fn child_on_a_full_disk() {
    let Some(dir) = std::env::var_os("FARTHING_TEST_LOG") else { return };
    let dir = Path::new(&dir);
    let writer = writer(dir, false);
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
    let mut child = child("log::tests::processes::child_on_a_full_disk", dir.path(), "trap '' XFSZ; ulimit -f 16;");
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
    assert!(output.contains("dropped 20000 rows 1 healthy true"), "{output}");
    assert_eq!(names_under(dir.path()).len(), 1);
}

/// A small file system of its own; gone when dropped. None where the system does not let us.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(dir.path()).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(dir))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn on_a_real_disk_that_is_full_records_of_money_stay() {
    let Some(small) = Small::mount("size=2m") else { return skip("a full disk: no tmpfs can be mounted here") };
    let dir = small.0.path();
    let config = LogConfig { journal_reserve: 100_000, ..config() };
    let writer = LogWriter::open(dir, config, Arc::new(RealClock::default())).unwrap();
    let log = writer.handle();
    log.flush(WAIT).unwrap();
    assert!(std::fs::write(dir.join("ballast"), vec![1; 4 << 20]).is_err(), "filled to the last page");
    let call = |id| CallRow { call_id: id, tenant: "acme".into(), ..CallRow::default() };
    for id in 0..3_000 {
        log.write(call(id));
        log.write(decision(1));
    }
    assert!(matches!(log.flush(WAIT), Err(LogError::Unwritten(_))));
    let metrics = log.metrics();
    assert!(metrics.tables["calls"].dropped() == 0 && metrics.tables["decisions"].dropped_disk > 1_000, "{metrics:?}");
    assert!(log.billing_at_risk() && metrics.journal.held_bytes > 0);
    std::fs::remove_file(dir.join("ballast")).unwrap();
    log.flush(WAIT).unwrap();
    assert!(!log.billing_at_risk());
    let metrics = writer.close();
    assert_eq!((metrics.tables["calls"].rows, metrics.healthy), (3_000, true));
    let mut seen = std::collections::HashSet::new();
    let rows = read::rows(dir, CallRow::TABLE, &["call_id"], &mut |cells| {
        seen.insert(format!("{cells:?}"));
        ControlFlow::Continue(())
    });
    assert_eq!((rows.unwrap(), seen.len()), (3_000, 3_000));
}

/// Says what could not be tested here; `make test` lists it at its end.
fn skip(what: &str) {
    eprintln!("skipped: {what}");
    if let Some(list) = std::env::var_os("FARTHING_SKIPPED") {
        use std::io::Write;
        let mut list = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(list, "{what}").unwrap();
    }
}
