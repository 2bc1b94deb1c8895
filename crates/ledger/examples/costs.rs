//! Measures questions about money on a large log: `cargo run --release -p farthing-ledger --example costs -- write DIR [ROWS]` writes one
//! (seven days, seeded: the same arguments give the same rows), `... -- ask DIR` asks, and prints seconds and memory as JSON.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::Arc;

use farthing_contract::log::{CallRow, Request};
use farthing_ledger::costs::{Asked, CostQuery, CostStore, Limits, Window, utc};
use farthing_ledger::{LogConfig, LogWriter};
use farthing_types::{Clock, Draw, DrawKind, RealClock, Span, Time};

const HOUR: i64 = 3_600_000_000_000;
/// 2026-11-19 00:00 UTC.
const START: i64 = 1_795_046_400_000_000_000;
const HOURS: i64 = 168;
const ROUNDS: usize = 5;
/// One row in so many is a call.
const CALLS: u64 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", dir] => write(dir, 10_000_000),
        ["write", dir, rows] => write(dir, rows.parse()?),
        ["ask", dir] => ask(dir),
        _ => Err("write DIR [ROWS], or ask DIR".into()),
    }
}

fn write(dir: &str, rows: u64) -> Result<(), Box<dyn Error>> {
    let config = LogConfig { row_rate: u32::MAX, queue_bytes: 1 << 30, max_file_bytes: 1 << 30, ..LogConfig::default() };
    let writer = LogWriter::open(dir, config, Arc::new(RealClock::default()))?;
    let (log, draw) = (writer.handle(), Draw::new(1));
    let names = |kind: &str, many: usize| (0..many).map(|n| Arc::<str>::from(format!("{kind}-{n}"))).collect::<Vec<_>>();
    let (tenants, teams, routes) = (names("tenant", 200), names("team", 12), names("route", 40));
    let (providers, targets, tags) = (names("provider", 6), names("target", 15), names("city=c", 50));
    let per_hour = rows.div_ceil(HOURS as u64);
    for row in 0..rows {
        let bits = draw.bits(DrawKind::Sample, "costs", u128::from(row), 0);
        let of = |list: &[Arc<str>], shift: u32| list[(bits >> shift) as usize % list.len()].clone();
        let ts_ns = START + (row / per_hour) as i64 * HOUR + (row % per_hour) as i64 * (HOUR / per_hour as i64);
        let (route, price) = (of(&routes, 8), (bits >> 40) as i64 % 3_000_000);
        if row % CALLS == 0 {
            log.write(CallRow {
                ts_ns,
                call_id: row,
                tenant: of(&tenants, 0),
                team: Some(of(&teams, 0)),
                provider: of(&providers, 8),
                upstream: of(&providers, 8),
                target: Some(of(&targets, 16)),
                key_hash: bits,
                purpose: if bits % 10 == 0 { "refresh" } else { "user" },
                fetch_reason: "cold",
                sent: true,
                status: Some(200),
                latency_us: price,
                cost_nanousd: (bits % 100 > 0).then_some(price),
                route,
                ..CallRow::default()
            });
        } else {
            let hit = bits % 3 > 0;
            log.write(Request {
                ts_ns,
                request_id: row,
                weight: 1 + (bits >> 60) as i64,
                tenant: of(&tenants, 0),
                team: Some(of(&teams, 0)),
                tags: (bits % 2 == 0).then(|| of(&tags, 24)),
                provider: Some(of(&providers, 8)),
                key_hash: bits,
                method: "GET".into(),
                outcome: if hit { "hit" } else { "lead" },
                saved_by: hit.then_some("l1"),
                status: 200,
                latency_us: Some(price),
                base_nanousd: (bits % 100 > 0).then_some(price),
                cost_nanousd: (bits % 100 > 0).then_some(if hit { 0 } else { price }),
                route,
                ..Request::default()
            });
        }
        if row % 100_000 == 99_999 {
            log.flush(Span::from_secs(60))?;
        }
    }
    let metrics = writer.close();
    if metrics.dropped() == 0 { Ok(()) } else { Err(format!("rows were dropped: {metrics:?}").into()) }
}

fn ask(dir: &str) -> Result<(), Box<dyn Error>> {
    let store = CostStore::new(dir, None, Limits::default());
    let window = Window { from: Time::from_nanos(START), to: Time::from_nanos(START + HOURS * HOUR) };
    let times = format!("{},{}", utc(window.from), utc(window.to));
    let clock = RealClock::default();
    let mut told = Vec::new();
    for (name, by, filter, step) in [
        ("team,route", "team,route", "", None),
        ("tenant", "tenant", "", None),
        ("route by day, one provider", "route", "provider:provider-1", Some("1d")),
        ("tag", "tag:city", "", None),
    ] {
        let query = CostQuery::parse(Asked { window: Some(&times), by: Some(by), filter: Some(filter), top: None, step }, window.to)?;
        let (mut seconds, busy) = (Vec::new(), cpu_seconds());
        let mut totals = (0, 0, 0);
        for _ in 0..ROUNDS {
            let started = clock.now();
            let report = store.answer(&query, &|| false)?;
            seconds.push(clock.now().since(started).as_secs_f64());
            let (requests, calls) = (report.total.requests.unwrap_or_default(), report.total.calls.unwrap_or_default());
            totals = (report.rows, calls.bill, requests.base);
        }
        seconds.sort_by(f64::total_cmp);
        told.push(serde_json::json!({
            "question": name, "rows": totals.0, "bill_nanousd": totals.1.to_string(), "base_nanousd": totals.2.to_string(),
            "median_s": seconds[ROUNDS / 2], "cpu_s": (cpu_seconds() - busy) / ROUNDS as f64, "first_to_last_s": [seconds[0], seconds[ROUNDS - 1]],
        }));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(str::trim).unwrap_or("unknown").to_owned();
    println!("{}", serde_json::to_string_pretty(&serde_json::json!({ "engine": "farthing", "peak_memory": peak, "questions": told }))?);
    Ok(())
}

/// Time on processors so far, user and system: what a question takes on a machine that has other work, too. In ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program may have spaces; it ends with a parenthesis.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
