//! What a logged hit costs the processor: the row made and pushed, thinned, journaled, and written to Parquet, all threads
//! together. Hits come as 200 keys at a million a second give them; beside it rows of which no two are alike.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use farthing_bench::{median, write};
use farthing_contract::log::Request;
use farthing_ledger::{LogConfig, LogHandle, LogWriter};
use farthing_types::{Clock, RealClock, Span};
use serde::Serialize;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HITS: i64 = 3_000_000;
const ALONE: i64 = 300_000;
const KEYS: i64 = 200;
const ROUNDS: usize = 7;
/// Kernel's unit of processor time, per second.
const TICKS: f64 = 100.0;

#[derive(Serialize)]
struct Figure {
    case: &'static str,
    /// Rows for one second of one core; median and interval.
    per_core_second: farthing_bench::Median,
    /// Nanoseconds of all threads for one row.
    cpu_ns: f64,
    /// Nanoseconds of the pushing thread for one row, making it included.
    push_ns: f64,
    rows_in_files: u64,
    dropped: u64,
}

/// Processor seconds of this process, and of this thread.
fn cpu() -> anyhow::Result<(f64, f64)> {
    let read = |path: &Path| -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(path)?;
        let fields: Vec<&str> = text.rsplit(") ").next().context("stat")?.split(' ').collect();
        let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok()).context("stat");
        Ok((ticks(11)? + ticks(12)?) / TICKS)
    };
    Ok((read(Path::new("/proc/self/stat"))?, read(Path::new("/proc/thread-self/stat"))?))
}

fn hit(start: i64, n: i64, key: i64, names: &[Arc<str>; 4]) -> Request {
    let [tenant, route, method, by] = names.clone();
    Request {
        ts_ns: start + n * 1_000,
        request_id: n.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15),
        weight: 1,
        tenant,
        route,
        method,
        key_hash: key.cast_unsigned(),
        outcome: "hit",
        tier: Some("l1"),
        status: 200,
        bytes_out: Some(900),
        entry_age_ms: Some(n / 1_000 % 60_000),
        ttl_ms: Some(60_000),
        ttl_by: Some(by),
        decision_id: Some(key.cast_unsigned()),
        base_nanousd: Some(2_000_000),
        cost_nanousd: Some(0),
        saved_by: Some("l1"),
        latency_us: Some(n % 50),
        overhead_us: Some(n % 7),
        stat_epoch: Some(7),
        stat_seq: Some(n),
        ..Request::default()
    }
}

fn push(log: &LogHandle, (rows, keys): (i64, i64), start: i64) {
    let names: [Arc<str>; 4] = ["acme".into(), "geo".into(), "GET".into(), "model:3".into()];
    for n in 0..rows {
        log.write(hit(start, n, n % keys, &names));
        // As many wait as a second of hits may: beyond, the bench would measure drops.
        if n % 1_000 == 0 {
            while log.metrics().queued_bytes > 24 << 20 {
                std::thread::park_timeout(Span::from_micros(200));
            }
        }
    }
}

fn measure(case: &'static str, rows: i64, keys: i64, row_rate: u32) -> anyhow::Result<Figure> {
    let clock = Arc::new(RealClock::default());
    let (mut rates, mut pushes, mut in_files, mut dropped) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir()?;
        let (before, own) = cpu()?;
        let config = LogConfig { row_rate, queue_bytes: 64 << 20, journal_reserve: 0, ..LogConfig::default() };
        let writer = LogWriter::open(dir.path(), config, clock.clone())?;
        push(&writer.handle(), (rows, keys), clock.now().nanos());
        let pushed = cpu()?.1 - own;
        let metrics = writer.close();
        rates.push(rows as f64 / (cpu()?.0 - before));
        pushes.push(pushed * 1e9 / rows as f64);
        (in_files, dropped) = (metrics.rows(), metrics.dropped());
    }
    let per_core_second = median(&rates);
    Ok(Figure {
        case,
        per_core_second,
        cpu_ns: 1e9 / per_core_second.value,
        push_ns: median(&pushes).value,
        rows_in_files: in_files,
        dropped,
    })
}

fn main() -> anyhow::Result<()> {
    let figures = [
        measure("hits on 200 keys, thinned", HITS, KEYS, LogConfig::default().row_rate)?,
        measure("rows of which no two are alike", ALONE, i64::MAX, u32::MAX)?,
    ];
    for f in &figures {
        let rate = f.per_core_second;
        println!(
            "{:<32} {:>9.0} rows/s and core ({:.0} to {:.0})   {:>5.0} ns of all threads   {:>4.0} ns of the pushing one   {} rows in files, {} dropped",
            f.case, rate.value, rate.low, rate.high, f.cpu_ns, f.push_ns, f.rows_in_files, f.dropped
        );
    }
    println!("{}", write("log", &figures)?.display());
    Ok(())
}
