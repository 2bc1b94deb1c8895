//! Writes a small log with rows of all four tables: `cargo run -p farthing-ledger --example sample_log -- DIR`.
//! `tests/python/read_logs.py DIR` then reads it as users do.

use std::error::Error;
use std::sync::Arc;

use farthing_contract::log::{CallRow, Decision, OutcomeRow, Request};
use farthing_ledger::{LogConfig, LogWriter};
use farthing_types::RealClock;

const HOUR_NS: i64 = 3_600_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).ok_or("which folder?")?;
    let writer = LogWriter::open(dir, LogConfig::default(), Arc::new(RealClock::default()))?;
    let log = writer.handle();
    for n in 0..1_000_i64 {
        let ts_ns = 1_790_000_000_000_000_000 + n * HOUR_NS / 400;
        let key_hash = u64::MAX - n as u64 % 90;
        let route: Arc<str> = ["geo", "weather"][n as usize % 2].into();
        let hit = n % 3 > 0;
        log.write(Request {
            ts_ns,
            request_id: n as u64,
            weight: 1,
            tenant: "local".into(),
            tags: (n % 5 == 0).then(|| "team=maps,city=Zürich".into()),
            route: route.clone(),
            method: "GET".into(),
            key_hash,
            outcome: if hit { "hit" } else { "lead" },
            uncached_reason: (!hit).then_some("cold"),
            status: 200,
            base_nanousd: Some(2_000_000),
            cost_nanousd: Some(if hit { 0 } else { 2_000_000 }),
            ..Request::default()
        });
        if hit {
            continue;
        }
        let decision_id = u64::MAX / 2 + n as u64;
        log.write(CallRow {
            ts_ns,
            route: route.clone(),
            key_hash,
            purpose: "user",
            fetch_reason: "cold",
            sent: true,
            ..CallRow::default()
        });
        let features = (0..20).map(|i| (i * n) as f32 / 7.0).collect();
        log.write(Decision {
            ts_ns,
            decision_id,
            kind: "ttl",
            route: route.clone(),
            features,
            by: "model:1".into(),
            ..Decision::default()
        });
        log.write(OutcomeRow { ts_ns, decision_id, route, key_hash, closed_by: "replaced", hits: 2, ..OutcomeRow::default() });
    }
    let metrics = writer.close();
    if metrics.dropped() == 0 { Ok(()) } else { Err(format!("rows were dropped: {metrics:?}").into()) }
}
