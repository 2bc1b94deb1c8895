//! The disk is full, or refuses: log rows go, counted; records of money stay, and come into files once.

use std::collections::BTreeSet;

use super::*;

fn call(id: u64) -> CallRow {
    CallRow { ts_ns: 0, call_id: id, tenant: "acme".into(), ..CallRow::default() }
}

fn clock() -> Arc<VirtualClock> {
    Arc::new(VirtualClock::new(Time::from_millis(1_790_000_000_000)))
}

fn rig(disk: &MemoryDisk, config: LogConfig) -> Rig {
    Rig::start(Arc::new(disk.clone()), Path::new("/log"), config, &clock())
}

/// Ids of the calls in files; each must be there once.
fn filed(disk: &MemoryDisk) -> BTreeSet<u64> {
    let (dir, mut seen) = (tempfile::tempdir().unwrap(), BTreeSet::new());
    disk.dump(dir.path());
    read::rows(&dir.path().join("log"), CallRow::TABLE, &["call_id"], &mut |cells| {
        if let [Value::U64(id)] = cells {
            assert!(seen.insert(*id), "{id} twice");
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    seen
}

fn in_memory(rig: &mut Rig) -> usize {
    let cut = rig.worker.unwritten().unwrap();
    cut.batches.iter().filter(|(table, _)| table.name == "calls").map(|(_, batch)| batch.num_rows()).sum()
}

/// Writes calls and as many rows without money, a few at a time.
fn write(rig: &mut Rig, ids: std::ops::Range<u64>) {
    for id in ids {
        rig.write(call(id));
        rig.write(decision(1));
        rig.turn(Span::from_millis(50));
    }
}

#[test]
fn a_full_disk_costs_log_rows_and_no_record_of_money() {
    let disk = MemoryDisk::default();
    let mut rig = rig(&disk, config());
    write(&mut rig, 0..10);
    disk.capacity(Some(disk.used()));
    write(&mut rig, 10..30);
    let metrics = rig.metrics();
    assert_eq!((metrics.tables["decisions"].dropped_disk, metrics.tables["calls"].dropped()), (20, 0));
    assert!(!metrics.healthy && !metrics.journal.records_all && !rig.counters.billing_at_risk());
    assert_eq!(in_memory(&mut rig), 30);
    // The space set aside is used up: the rest waits in memory.
    write(&mut rig, 30..200);
    let metrics = rig.metrics();
    assert!(rig.counters.billing_at_risk() && metrics.journal.billing_at_risk && metrics.journal.held_bytes > 1_000);
    assert_eq!((metrics.dropped(), metrics.tables["decisions"].dropped_disk, in_memory(&mut rig)), (190, 190, 200));
    // Room again: everything comes to the disk.
    disk.capacity(None);
    rig.turn(Span::from_secs(1));
    assert!(!rig.counters.billing_at_risk() && rig.metrics().journal.records_all);
    assert_eq!((rig.metrics().journal.held_bytes, in_memory(&mut rig)), (0, 200));
    write(&mut rig, 200..205);
    let metrics = rig.close();
    assert_eq!((metrics.tables["calls"].rows, metrics.tables["decisions"].rows, metrics.healthy), (205, 15, true));
    assert_eq!(filed(&disk), (0..205).collect());
}

#[test]
fn what_is_in_the_space_set_aside_outlives_the_process() {
    let disk = MemoryDisk::default();
    let mut first = rig(&disk, config());
    write(&mut first, 0..10);
    disk.capacity(Some(disk.used()));
    write(&mut first, 10..30);
    drop(first);
    disk.restart(false);
    // The next process finds the disk full still, then with room.
    let mut second = rig(&disk, config());
    second.file();
    assert!(second.metrics().journal.kept_segments > 0 && second.counters.billing_at_risk());
    second.write(call(30));
    second.turn(Span::from_secs(1));
    assert_eq!(in_memory(&mut second), 31);
    disk.capacity(None);
    second.turn(Span::from_secs(20));
    second.file();
    let metrics = second.close();
    assert_eq!((metrics.journal.kept_segments, metrics.dropped()), (0, 0));
    assert_eq!(filed(&disk), (0..31).collect());
}

#[test]
fn records_of_money_in_memory_are_bounded_and_merged() {
    let disk = MemoryDisk::default();
    let mut rig = rig(&disk, LogConfig { journal_reserve: 1_000, max_file_bytes: 20_000, ..config() });
    disk.capacity(Some(disk.used()));
    let hit = |id: u64| Request { ts_ns: 5, request_id: id, weight: 1, base_nanousd: Some(7), outcome: "hit", ..Request::default() };
    for step in 0..40 {
        (0..50).for_each(|id| rig.write(hit(step * 50 + id)));
        rig.turn(Span::from_millis(10));
    }
    let metrics = rig.metrics();
    assert_eq!(
        (metrics.dropped(), metrics.tables["requests"].merged),
        (0, 39 * 49),
        "alike hits of a turn are one row, from the second on"
    );
    (0..1_000).for_each(|id| rig.write(call(id)));
    rig.turn(Span::from_millis(10));
    let metrics = rig.metrics();
    let (lost, held) = (metrics.tables["calls"].dropped_billing, in_memory(&mut rig) as u64);
    assert!(lost > 0 && metrics.journal.held_bytes <= 20_000 && lost + held == 1_000, "{lost} {held}");
    disk.capacity(None);
    let metrics = rig.close();
    assert_eq!((metrics.tables["calls"].rows, metrics.tables["calls"].dropped_billing), (held, lost));
}

#[test]
fn without_room_to_the_end_the_loss_is_counted() {
    let disk = MemoryDisk::default();
    disk.capacity(Some(0));
    let mut rig = rig(&disk, config());
    write(&mut rig, 0..5);
    let metrics = rig.close();
    assert_eq!((metrics.tables["calls"].dropped_billing, metrics.tables["decisions"].dropped_disk, metrics.rows()), (5, 5, 0));
}

#[test]
fn files_that_cannot_be_written_stay_in_the_journal_and_are_tried_again() {
    let disk = MemoryDisk::default();
    let mut rig = rig(&disk, config());
    disk.refuse(Some("/calls/"));
    write(&mut rig, 0..10);
    rig.turn(Span::from_secs(10));
    rig.file();
    rig.turn(Span::from_secs(1));
    let metrics = rig.metrics();
    assert_eq!((metrics.tables["decisions"].rows, metrics.tables["calls"].rows, metrics.dropped()), (10, 0, 0));
    assert_eq!((metrics.healthy, metrics.journal.kept_segments), (false, 1));
    // A query sees them all the same, and the file of their segment that is there already is not read beside them.
    let cut = rig.worker.unwritten().unwrap();
    assert_eq!(cut.batches.iter().map(|(_, batch)| batch.num_rows()).sum::<usize>(), 20);
    assert!(disk.paths().iter().filter(|path| path.starts_with("/log/decisions")).all(|path| !cut.covers(path)));
    disk.refuse(None);
    rig.turn(Span::from_secs(10));
    rig.file();
    rig.turn(Span::ZERO);
    assert_eq!((rig.metrics().journal.kept_segments, in_memory(&mut rig)), (0, 0));
    assert!(rig.metrics().healthy);
    let metrics = rig.close();
    assert_eq!((metrics.tables["decisions"].rows, metrics.tables["calls"].rows), (10, 10));
    assert_eq!(filed(&disk), (0..10).collect());
}
