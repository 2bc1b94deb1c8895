//! The process dies, or the power goes, in the middle of any operation on the disk: what was safe is in files exactly once.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn call(id: u64) -> CallRow {
    // Rows of two hours, so that a segment becomes several files.
    CallRow { ts_ns: (id % 2).cast_signed() * HOUR_NS, call_id: id, tenant: "acme".into(), sent: true, ..CallRow::default() }
}

/// What a life came to, each up to an id that is not among it, while the disk was alive for sure.
struct Life {
    next: u64,
    /// Safe from a kill.
    killed: u64,
    /// Safe from a power cut.
    cut: u64,
    /// Whether files were made of what earlier lives left.
    filed: bool,
}

/// One life of a process: writes calls from `first` on until it has come to its end, or the disk is dead.
fn live(disk: &MemoryDisk, clock: &Arc<VirtualClock>, first: u64) -> Life {
    let config = LogConfig { max_file_rows: 40, journal_reserve: 2_000, ..config() };
    let mut rig = Rig::start(Arc::new(disk.clone()), Path::new("/log"), config, clock);
    let alive = |rig: &Rig| rig.metrics().journal.records_all && disk.is_alive();
    let (mut next, mut killed, mut cut, mut filed) = (first, first, first, false);
    for step in 0..12 {
        (0..5).for_each(|_| {
            rig.write(call(next));
            next += 1;
        });
        if step % 3 == 0 {
            rig.write(decision(1));
        }
        rig.worker.take(false);
        if alive(&rig) {
            killed = next;
        }
        rig.turn(Span::from_millis(1_500));
        if alive(&rig) {
            cut = next;
        }
        if step % 4 == 1 {
            rig.file();
            filed |= alive(&rig);
        }
    }
    if first.is_multiple_of(2) {
        rig.close();
        if disk.is_alive() {
            (killed, cut, filed) = (next, next, true);
        }
    }
    Life { next, killed, cut, filed }
}

/// How often each call is in files.
fn calls(disk: &MemoryDisk) -> BTreeMap<u64, u64> {
    let (dir, mut seen) = (tempfile::tempdir().unwrap(), BTreeMap::new());
    disk.dump(dir.path());
    read::rows(&dir.path().join("log"), CallRow::TABLE, &["call_id"], &mut |cells| {
        if let [Value::U64(id)] = cells {
            *seen.entry(*id).or_default() += 1;
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    seen
}

/// A process that lives to its end: afterwards nothing is left in the journal but space set aside.
fn settle(disk: &MemoryDisk, clock: &Arc<VirtualClock>) -> LogMetrics {
    let mut rig = Rig::start(Arc::new(disk.clone()), Path::new("/log"), config(), clock);
    rig.file();
    let metrics = rig.close();
    let left: Vec<_> = disk.paths().into_iter().filter(|path| path.starts_with("/log/journal")).collect();
    assert!(left.iter().all(|path| [".damaged", "reserve-"].iter().any(|kind| path.to_string_lossy().contains(kind))), "{left:?}");
    assert!(disk.paths().iter().all(|path| !path.to_string_lossy().ends_with(".tmp")));
    metrics
}

fn dies(points: &[(usize, bool)]) {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(VirtualClock::new(Time::from_millis(1_790_000_000_000))));
    let (mut next, mut safe) = (0, Vec::new());
    // Written, and not synced when the process was killed: a power cut takes it until somebody has made files of it.
    let mut written = Vec::new();
    for (point, power_cut) in points {
        disk.kill_after(*point);
        let first = next;
        let life = live(&disk, &clock, first);
        disk.restart(*power_cut);
        if life.filed {
            safe.append(&mut written);
        }
        if *power_cut {
            written.clear();
        } else {
            written.extend(life.cut..life.killed);
        }
        safe.extend(first..life.cut);
        next = life.next;
        clock.advance(Span::from_secs(1));
    }
    settle(&disk, &clock);
    safe.append(&mut written);
    let seen = calls(&disk);
    assert!(seen.values().all(|times| *times == 1), "twice: {points:?} {seen:?}");
    let missing: Vec<_> = safe.iter().filter(|id| !seen.contains_key(id)).collect();
    assert!(missing.is_empty(), "missing after {points:?}: {missing:?}");
}

#[test]
fn death_at_every_single_operation_loses_nothing_safe_and_doubles_nothing() {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(VirtualClock::new(Time::ZERO)));
    live(&disk, &clock, 0);
    let operations = disk.operations();
    assert!(operations > 60, "{operations}");
    for point in 1..operations {
        dies(&[(point, false)]);
        dies(&[(point, true)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn many_deaths_in_a_row_lose_nothing_safe_and_double_nothing(points in prop::collection::vec((1usize..400, any::<bool>()), 1..6)) {
        dies(&points);
    }
}

/// A process that is killed right after its rows were taken from the queue: everything is in its one segment.
fn abandoned(disk: &MemoryDisk, clock: &Arc<VirtualClock>, calls: u64) -> std::path::PathBuf {
    let mut rig = Rig::start(Arc::new(disk.clone()), Path::new("/log"), config(), clock);
    (0..calls).for_each(|id| {
        rig.write(call(id));
        rig.worker.take(false);
    });
    drop(rig);
    disk.restart(false);
    let segments: Vec<_> = disk.paths().into_iter().filter(|path| path.extension().is_some_and(|end| end == "fj")).collect();
    assert_eq!(segments.len(), 1);
    segments[0].clone()
}

#[test]
fn a_torn_tail_is_cut_with_a_message() {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(VirtualClock::new(Time::ZERO)));
    let segment = abandoned(&disk, &clock, 4);
    disk.change(&segment, |bytes| bytes.truncate(bytes.len() - 3));
    let journal = settle(&disk, &clock).journal;
    assert_eq!(calls(&disk).into_keys().collect::<Vec<_>>(), [0, 1, 2]);
    let message = journal.last_repair.unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(message.contains(name) && message.contains(&format!("torn tail of {} bytes cut", journal.torn_bytes)), "{message}");
    assert_eq!((journal.replayed_segments, journal.replayed_rows, journal.damaged), (1, 3, 0));
    assert!(journal.torn_bytes > 20);
}

#[test]
fn damage_in_the_middle_costs_the_record_it_hits() {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(VirtualClock::new(Time::ZERO)));
    let segment = abandoned(&disk, &clock, 9);
    disk.change(&segment, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
    });
    let journal = settle(&disk, &clock).journal;
    assert_eq!((calls(&disk).len(), journal.damaged, journal.torn_bytes), (8, 1, 0));
    assert!(journal.last_repair.unwrap().contains("1 damaged places"));
}

#[test]
fn a_segment_of_a_newer_version_is_left_alone_and_one_that_is_none_is_put_aside() {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(VirtualClock::new(Time::ZERO)));
    let segment = abandoned(&disk, &clock, 2);
    disk.change(&segment, |bytes| bytes[8] = 9);
    let mut rig = Rig::start(Arc::new(disk.clone()), Path::new("/log"), config(), &clock);
    rig.file();
    let metrics = rig.close();
    assert!(disk.exists(&segment) && metrics.rows() == 0);
    disk.change(&segment, |bytes| *bytes = b"something else altogether".to_vec());
    let journal = settle(&disk, &clock).journal;
    assert_eq!(journal.damaged, 1);
    assert!(disk.exists(&segment.with_extension("fj.damaged")) && !disk.exists(&segment));
}

#[test]
fn a_process_that_dies_is_buried_by_one_that_lives() {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(VirtualClock::new(Time::ZERO)));
    let dying = Rig::start(Arc::new(disk.clone()), Path::new("/log"), config(), &clock);
    let mut living = Rig::start(Arc::new(disk.clone()), Path::new("/log"), config(), &clock);
    dying.write(call(1));
    let mut dying = dying;
    dying.worker.take(false);
    living.turn(Span::from_secs(120));
    living.file();
    assert_eq!(living.metrics().rows(), 0, "it lives");
    drop(dying);
    living.turn(Span::from_secs(120));
    let cut = living.worker.unwritten().unwrap();
    assert_eq!(cut.batches.iter().map(|(_, batch)| batch.num_rows()).sum::<usize>(), 1, "taken over, not filed yet");
    living.file();
    assert_eq!((living.metrics().rows(), calls(&disk)), (1, BTreeMap::from([(1, 1)])));
    let file = disk.paths().into_iter().find(|path| path.starts_with("/log/calls")).unwrap();
    assert!(!cut.covers(&file) && living.worker.unwritten().unwrap().covers(&file));
    living.close();
}
