//! How soon the disk store answers again after a restart: it is filled with a GiB, closed, and opened anew, for small and large values. Reading
//! the same files to their end with nothing but the system's calls is measured beside it.
#![allow(clippy::print_stdout)]

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use farthing_bench::write;
use farthing_cache::l2::{DiskOptions, DiskStore, Put, Store, StoreFault};
use farthing_types::{Clock, KeyHash, RealClock, Span, Time};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use serde::Serialize;

/// Bytes that the store is filled with.
const FILL: usize = 1 << 30;

#[derive(Serialize)]
struct Line {
    value_bytes: usize,
    entries: usize,
    bytes: u64,
    fill_s: f64,
    open_s: f64,
    open_s_per_gib: f64,
    /// All of the files read once more, in pieces of a MiB.
    read_s_per_gib: f64,
    /// Of a sample of keys, how many were there again.
    found: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for value_bytes in [1_400, 16_384] {
        let line = measure(value_bytes).await?;
        println!(
            "{:>6} B a value: {:>7} entries, {:>5.2} GiB; open {:>5.2} s ({:.2} s per GiB; reading alone {:.2}); found again {:.2} %",
            line.value_bytes,
            line.entries,
            gib(line.bytes),
            line.open_s,
            line.open_s_per_gib,
            line.read_s_per_gib,
            100.0 * line.found
        );
        lines.push(line);
    }
    println!("{}", write("disk", &lines)?.display());
    Ok(())
}

fn fault(fault: StoreFault) -> anyhow::Error {
    anyhow::anyhow!("the disk store: {fault:?}")
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

async fn measure(value_bytes: usize) -> anyhow::Result<Line> {
    let (clock, dir) = (RealClock::default(), tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR"))?);
    let options = || DiskOptions { index_bytes: 256 << 20, ..DiskOptions::new(2 * FILL as u64) };
    let started = clock.now();
    let keys = fill(dir.path(), options(), value_bytes).await?;
    let fill_s = clock.now().since(started).as_secs_f64();

    let started = clock.now();
    let store = DiskStore::open(dir.path(), options(), clock.now())?;
    let open_s = clock.now().since(started).as_secs_f64();
    let stats = store.stats();
    let mut found = 0;
    let sample: Vec<_> = keys.iter().step_by(97).collect();
    for key in &sample {
        found += usize::from(store.get(**key, clock.now()).await.map_err(fault)?.is_some_and(|value| value.len() == value_bytes));
    }
    let read_s = read_all(dir.path(), &clock)?;
    Ok(Line {
        value_bytes,
        entries: stats.entries,
        bytes: stats.bytes,
        fill_s,
        open_s,
        open_s_per_gib: open_s / gib(stats.bytes),
        read_s_per_gib: read_s / gib(stats.bytes),
        found: found as f64 / sample.len().max(1) as f64,
    })
}

async fn fill(dir: &Path, options: DiskOptions, value_bytes: usize) -> anyhow::Result<Vec<KeyHash>> {
    let now = Time::from_millis(1_700_000_000_000);
    let store = DiskStore::open(dir, options, now)?;
    let mut rng = StdRng::seed_from_u64(1);
    let mut keys = Vec::new();
    for n in 0..FILL / value_bytes {
        let mut value = vec![0u8; value_bytes];
        rng.fill_bytes(&mut value);
        let key = KeyHash(rng.random());
        let put = Put { key, value: Bytes::from(value), expires: now + Span::from_secs(400 * 86_400 * 20), now };
        store.put(put).await.map_err(fault)?;
        keys.push(key);
        if n % 64 == 0 {
            store.flush().await.map_err(fault)?;
        }
    }
    store.close().await.map_err(fault)?;
    Ok(keys)
}

fn read_all(dir: &Path, clock: &RealClock) -> anyhow::Result<f64> {
    let started = clock.now();
    let mut piece = vec![0u8; 1 << 20];
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() {
            let mut file = File::open(path)?;
            while file.read(&mut piece)? > 0 {}
        }
    }
    Ok(clock.now().since(started).as_secs_f64())
}
