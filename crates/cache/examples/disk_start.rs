//! How long a disk store takes to open, per GiB: after a clean end (an index beside every segment), after a kill (the newest segment is
//! scanned), and with every index gone (everything is scanned). Prints one line of JSON for each.
//!
//! `cargo run --release -p farthing-cache --example disk_start -- DIR [MiB] [bytes of a value]`. Files are in the page cache unless the
//! caller drops it between the steps.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a measurement that stops where something is wrong"
)]

use std::path::Path;
use std::time::Instant;

use farthing_cache::l2::{DiskOptions, DiskStore, Put, Store, StoreFault};
use farthing_types::{Clock, KeyHash, RealClock, Span};

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let Some(dir) = args.next() else {
        eprintln!("usage: disk_start DIR [MiB] [bytes of a value]");
        std::process::exit(2);
    };
    let mut number = |default: usize| args.next().map_or(default, |a| a.parse().expect("a number"));
    let (mib, size) = (number(1024), number(4096));
    let dir = Path::new(&dir).join("disk-start");
    let _not_there = std::fs::remove_dir_all(&dir);

    let entries = mib * (1 << 20) / (size + 48);
    let store = open(&dir, mib);
    let started = Instant::now();
    fill(&store, entries, size).await;
    let filling = started.elapsed();
    store.close().await.unwrap();
    println!("{{\"step\":\"fill\",\"mib\":{mib},\"value_bytes\":{size},\"entries\":{entries},\"seconds\":{:.3}}}", filling.as_secs_f64());
    drop(store);

    measure(&dir, mib, "clean").await;
    let segments = |extension: &str| {
        let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|f| f.unwrap().path()).collect();
        files.retain(|f| f.extension().is_some_and(|e| e == extension));
        files.sort();
        files
    };
    std::fs::remove_file(segments("index").last().unwrap()).unwrap();
    measure(&dir, mib, "newest segment without index").await;
    segments("index").iter().for_each(|f| std::fs::remove_file(f).unwrap());
    measure(&dir, mib, "no index at all").await;
    std::fs::remove_dir_all(&dir).unwrap();
}

fn open(dir: &Path, mib: usize) -> DiskStore {
    let bytes = (mib as u64) << 20;
    // Room for the index files, so that nothing is reclaimed.
    let options = DiskOptions { max_bytes: bytes + bytes / 4, index_bytes: usize::MAX, ..DiskOptions::new(bytes) };
    DiskStore::open(dir, options, RealClock::default().now()).unwrap()
}

async fn fill(store: &DiskStore, entries: usize, size: usize) {
    let now = RealClock::default().now();
    for key in 0..entries {
        let value: Vec<u8> = (0..size).map(|i| (i ^ key) as u8).collect();
        let spread = KeyHash((key as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let put = Put { key: spread, value: value.into(), expires: now + Span::from_secs(86_400), now };
        while store.put(put.clone()).await == Err(StoreFault::Busy) {
            store.flush().await.unwrap();
        }
    }
    store.flush().await.unwrap();
}

async fn measure(dir: &Path, mib: usize, step: &str) {
    let started = Instant::now();
    let store = open(dir, mib);
    let seconds = started.elapsed().as_secs_f64();
    let stats = store.stats();
    let per_gib = seconds * 1024.0 / mib as f64;
    println!("{{\"step\":\"{step}\",\"seconds\":{seconds:.3},\"seconds_per_gib\":{per_gib:.3},\"entries\":{}}}", stats.entries);
    store.close().await.unwrap();
}
