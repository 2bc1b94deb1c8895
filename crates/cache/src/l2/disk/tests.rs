//! Tests of the disk store beyond the conformance suite: restarts, kills, damage on disk, bounds.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::l2::tests::{now, put};
use farthing_types::Span;

fn options() -> DiskOptions {
    DiskOptions { segment_bytes: 64 << 10, ..DiskOptions::new(2 << 20) }
}

fn open(dir: &Path) -> DiskStore {
    DiskStore::open(dir, options(), now()).unwrap()
}

/// A value that tells its key, so that a wrong answer shows.
fn value(key: u128, len: usize) -> Vec<u8> {
    let mut out = key.to_le_bytes().to_vec();
    out.extend((16..len.max(16)).map(|i| (i as u128 * 31 + key) as u8));
    out
}

async fn fill(store: &DiskStore, keys: std::ops::Range<u128>, len: usize) {
    for key in keys {
        while store.put(put(key, value(key, len))).await == Err(StoreFault::Busy) {
            store.flush().await.unwrap();
        }
    }
    store.flush().await.unwrap();
}

/// How many of the keys are there; what is there is right.
async fn served(store: &DiskStore, keys: std::ops::Range<u128>, len: usize) -> usize {
    let mut count = 0;
    for key in keys {
        match store.get(KeyHash(key), now()).await {
            Ok(Some(found)) => {
                assert_eq!(found, value(key, len));
                count += 1;
            }
            Ok(None) | Err(StoreFault::Damaged) => {}
            Err(fault) => panic!("{fault:?}"),
        }
    }
    count
}

#[tokio::test]
async fn a_restart_finds_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0..500, 1000).await;
    store.delete(KeyHash(13)).await.unwrap();
    store.put(Put { expires: now() + Span::from_millis(1), ..put(14, "short") }).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(store.close().await, Err(StoreFault::Unavailable));
    assert_eq!(store.put(put(1, "x")).await, Err(StoreFault::Unavailable));
    drop(store);
    // Also after a run that wrote nothing.
    for _ in 0..3 {
        let store = open(dir.path());
        assert_eq!(served(&store, 0..500, 1000).await, 498);
        assert_eq!(store.stats().lost_bytes, 0);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn restarts_do_not_make_ever_more_files() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let store = open(dir.path());
        fill(&store, round..round + 1, 100).await;
        store.close().await.unwrap();
        assert_eq!(store.stats().segments, 1);
    }
    assert_eq!(served(&open(dir.path()), 0..20, 100).await, 20);
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(dir.path());
    let error = DiskStore::open(dir.path(), options(), now()).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
}

#[tokio::test]
async fn bytes_and_memory_stay_within_their_bounds_and_what_was_asked_for_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let hot = 0..10u128;
    for round in 0..20u128 {
        fill(&store, round * 500..(round + 1) * 500, 1000).await;
        served(&store, hot.clone(), 1000).await;
        let stats = store.stats();
        let on_disk: u64 = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
        assert!(stats.bytes <= options().max_bytes && on_disk <= options().max_bytes + options().segment_bytes, "{stats:?} {on_disk}");
        assert!(stats.entries <= options().max_entries());
    }
    let stats = store.stats();
    assert!(stats.reclaimed > 100 && stats.kept >= 10, "{stats:?}");
    assert_eq!(served(&store, hot, 1000).await, 10, "asked for all the time");
    assert_eq!(served(&store, 10..500, 1000).await, 0, "never asked for, and old");
    assert!(served(&store, 9_000..10_000, 1000).await > 900, "new");
}

#[tokio::test]
async fn small_values_are_bounded_by_the_memory_of_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let options = DiskOptions { index_bytes: 500 * index::ENTRY_BYTES, ..options() };
    let store = DiskStore::open(dir.path(), options, now()).unwrap();
    fill(&store, 0..5_000, 16).await;
    assert!(store.stats().entries <= 500 && store.stats().entries > 0, "{:?}", store.stats());
    assert_eq!(served(&store, 4_990..5_000, 16).await, 10);
}

#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path(), DiskOptions { queue_bytes: 10_000, ..options() }, now()).unwrap();
    let refused = (0..2_000).filter(|i| store.accept(put(*i, value(*i, 3_000))) == Err(StoreFault::Busy)).count();
    store.flush().await.unwrap();
    let stats = store.stats();
    assert_eq!((stats.dropped, stats.queued_bytes), (refused as u64, 0));
    assert!(refused > 0);
}

/// Cuts, flips and zeroes in every kind of file, at places that a generator finds: the store opens, and what it serves is right.
#[tokio::test]
async fn damaged_files_give_misses_and_no_wrong_answer() {
    let mut runner = TestRunner::deterministic();
    let damage = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..4);
    for _ in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        fill(&store, 0..150, 1000).await;
        store.delete(KeyHash(0)).await.unwrap();
        let (which, at, kind) = damage.new_tree(&mut runner).unwrap().current();
        let killed = kind % 2 == 0;
        if !killed {
            store.close().await.unwrap();
        }
        wait_for_end(store).await;
        let mut files: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().path()).filter(|f| f.ends_with("lock").eq(&false)).collect();
        files.sort();
        let file = fs::File::options().read(true).write(true).open(which.get(&files)).unwrap();
        let len = file.metadata().unwrap().len() as usize;
        let at = at.index(len) as u64;
        match kind / 2 {
            0 => file.set_len(at).unwrap(),
            _ => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
            }
        }
        let store = open(dir.path());
        let alive = served(&store, 0..150, 1000).await;
        assert!(alive >= 80, "one of three segments was touched, {alive} of 149 are left");
        fill(&store, 200..210, 1000).await;
        store.close().await.unwrap();
        wait_for_end(store).await;
        assert_eq!(served(&open(dir.path()), 200..210, 1000).await, 10, "what is written behind the damage is found");
    }
}

/// Ends a store as a kill would: without sealing. Its thread must be gone before the directory can be opened again.
async fn wait_for_end(store: DiskStore) {
    let writer = store.writer.lock().take();
    drop(store);
    if let Some(writer) = writer {
        tokio::task::spawn_blocking(move || writer.join().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_segment_of_another_version_or_none_is_put_away_with_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path()).unwrap();
    let mut other = record::segment_header();
    other[8] = 9;
    fs::write(segment::segment_path(dir.path(), 3), other).unwrap();
    fs::write(segment::segment_path(dir.path(), 4), b"FRTH").unwrap();
    fs::write(dir.path().join("notes.txt"), b"not ours").unwrap();
    let store = open(dir.path());
    assert_eq!((store.stats().lost_bytes, store.stats().segments), (20, 1));
    assert!(dir.path().join("notes.txt").exists());
    fill(&store, 0..3, 100).await;
    assert_eq!(served(&store, 0..3, 100).await, 3);
}

#[tokio::test]
async fn a_disk_that_refuses_costs_values_and_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0..10, 1000).await;
    // No new segment can be begun in a directory that is gone.
    fs::remove_dir_all(dir.path()).unwrap();
    for key in 10..200 {
        let _full = store.put(put(key, value(key, 1000))).await;
    }
    let _failed = store.flush().await;
    assert_eq!(served(&store, 0..10, 1000).await, 10, "what is open can be read");
    fs::create_dir_all(dir.path()).unwrap();
    fill(&store, 200..300, 1000).await;
    assert_eq!(served(&store, 200..300, 1000).await, 100);
}

const CHILD: &str = "FARTHING_TEST_L2_CHILD";

/// Not a test of its own: what the two below start as a process. Writes keys 0, 1, 2 ... and says so, until it is ended.
#[tokio::test]
async fn child_that_writes() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let store = DiskStore::open(Path::new(&dir), DiskOptions::new(64 << 20), now()).unwrap();
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    for key in 0u128.. {
        store.put(put(key, value(key, 2_000))).await.unwrap();
        println!("put {key} {}", now().nanos());
        let pause = tokio::time::sleep(Duration::from_millis(1));
        tokio::select! {
            () = pause => {}
            _ = term.recv() => {
                store.close().await.unwrap();
                std::process::exit(0);
            }
        }
    }
}

struct Writing {
    child: Child,
    lines: std::sync::mpsc::Receiver<(u128, i64)>,
}

impl Writing {
    fn start(dir: &Path) -> Self {
        let exe = std::env::current_exe().unwrap();
        let mut child = Command::new(exe)
            .args(["l2::disk::tests::child_that_writes", "--exact", "--nocapture"])
            .env(CHILD, dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let mut words = line.split(' ');
                if words.next() == Some("put") {
                    let mut number = || words.next().unwrap().parse::<i128>().unwrap();
                    let _gone = tell.send((number() as u128, number() as i64));
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for `n` puts; ends the process with a signal; returns all puts that it told of, and when it was ended.
    fn end(mut self, n: usize, signal: &str) -> (Vec<(u128, i64)>, i64) {
        let wait = Duration::from_secs(60);
        let mut puts: Vec<_> = (0..n).map(|_| self.lines.recv_timeout(wait).unwrap()).collect();
        let ended = now().nanos();
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
        self.child.wait().unwrap();
        puts.extend(self.lines.iter());
        (puts, ended)
    }
}

async fn share_served(dir: &Path, puts: &[(u128, i64)], written_before: i64) -> f64 {
    let store = DiskStore::open(dir, DiskOptions::new(64 << 20), now()).unwrap();
    let old: Vec<u128> = puts.iter().filter(|(_, at)| *at <= written_before).map(|(key, _)| *key).collect();
    let mut count = 0;
    for key in &old {
        count += served(&store, *key..*key + 1, 2_000).await;
    }
    println!("{count} of {} are served again, {} bytes lost", old.len(), store.stats().lost_bytes);
    assert!(old.len() > 300);
    count as f64 / old.len() as f64
}

#[tokio::test]
async fn after_kill_9_what_is_older_than_a_second_is_served_again() {
    let dir = tempfile::tempdir().unwrap();
    let (puts, killed) = Writing::start(dir.path()).end(2_000, "-KILL");
    let share = share_served(dir.path(), &puts, killed - 1_000_000_000).await;
    assert!(share >= 0.95, "{share}");
}

#[tokio::test]
async fn after_sigterm_everything_is_served_again() {
    let dir = tempfile::tempdir().unwrap();
    let (puts, _) = Writing::start(dir.path()).end(1_000, "-TERM");
    let share = share_served(dir.path(), &puts, i64::MAX).await;
    assert!(share >= 0.99, "{share}");
}
