//! For each kind of predictor: a log that is empty, thin, of one class, or full of impossible values gives a message or a model, never a
//! panic; the same log and seed give the same bundle, byte for byte, whatever the threads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "a test ends here when it fails")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use common::{call, decision, request, table};
use farthing_contract::bundle::{Bundle, Kind};
use farthing_contract::features::{TTL_FEATURES, TTL_SPEC};
use farthing_contract::log::{CallRow, Decision, Request};

const START_S: i64 = 1_767_225_600;
const KINDS: [Kind; 4] = [Kind::Ttl, Kind::Strategy, Kind::Prefetch, Kind::Cost];

struct Rows {
    calls: Vec<CallRow>,
    requests: Vec<Request>,
    decisions: Vec<Decision>,
}

/// Every ten seconds a request of one of `keys` things on `routes` routes by one of five clients; each is a call, whose body changes with
/// every `changes`-th request.
fn rows(count: u64, (keys, routes): (u64, u64), changes: u64) -> Rows {
    let name = |i: u64| ["geo", "chat", "news"][(i % keys % routes) as usize];
    let at = |i: u64| START_S + 10 * i as i64;
    // What is asked for follows from what was asked for before: there is something to learn for each kind.
    let key = |i: u64| i % keys;
    let calls = (0..count).map(|i| CallRow {
        route: name(i).into(),
        tokens_input: Some(50 + (i % 7) as i64 * 100),
        tokens_output: Some(20 + (i % 7) as i64 * 40 + (i * 7_919 % 23) as i64),
        latency_us: 40_000 + (i % 9) as i64 * 5_000,
        ..call(at(i), i + 1, key(i), 1 + i / changes)
    });
    let requests = (0..count).map(|i| Request {
        route: name(i).into(),
        tenant: format!("client-{}", i / 4 % 5).into(),
        call_id: Some(i + 1),
        base_nanousd: Some(2_000_000),
        ..request(at(i), i + 1, key(i))
    });
    let nothing = |i: u64| decision(i + 1, &TTL_SPEC.hash(), vec![f32::NAN; TTL_FEATURES]);
    Rows { calls: calls.collect(), requests: requests.collect(), decisions: (0..count.min(100)).map(nothing).collect() }
}

/// Numbers that no deployment would write.
fn impossible(mut rows: Rows) -> Rows {
    let odd = [i64::MIN, i64::MAX, -1, 0, i64::MAX / 2];
    for (i, call) in rows.calls.iter_mut().enumerate() {
        let value = odd[i % odd.len()];
        match i % 7 {
            0 => call.cost_nanousd = Some(value),
            1 => (call.tokens_input, call.tokens_output) = (Some(value), Some(value)),
            2 => call.latency_us = value,
            3 => call.ts_ns = value,
            4 => (call.bytes_in, call.origin_ttl_s) = (Some(value), Some(value)),
            5 => (call.status, call.canonical_hash) = (None, Some(u64::MAX)),
            _ => call.key_hash = u64::MAX,
        }
    }
    for (i, request) in rows.requests.iter_mut().enumerate() {
        let value = odd[i % odd.len()];
        match i % 5 {
            0 => request.ts_ns = value,
            1 => request.weight = value,
            2 => (request.base_nanousd, request.cost_nanousd) = (Some(value), Some(value)),
            3 => request.ttl_ms = Some(value),
            _ => request.latency_us = Some(value),
        }
    }
    let rest = [f32::INFINITY, f32::MIN, f32::MAX, 0.0];
    for (i, decision) in rows.decisions.iter_mut().enumerate() {
        decision.features.fill(rest[i % rest.len()]);
    }
    rows
}

fn write(root: &Path, rows: &Rows) {
    table(root, &rows.calls);
    table(root, &rows.requests);
    table(root, &rows.decisions);
}

fn fit(kind: Kind, logs: &Path, (out, threads): (&Path, &str)) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farthing-train"));
    command.args(["fit", kind.as_str(), "--force", "--seed", "3", "--logs"]).arg(logs).arg("--out").arg(out);
    command.env("POLARS_MAX_THREADS", threads).env("RAYON_NUM_THREADS", threads).output().unwrap()
}

/// What came of a fit: a bundle that can be read, or a sentence.
fn outcome(kind: Kind, logs: &Path, what: &str) -> Result<Bundle, String> {
    let out = tempfile::tempdir().unwrap();
    let output = fit(kind, logs, (out.path(), "2"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked") && output.status.code().is_some_and(|code| code < 100), "{kind}, {what}: {said}");
    if output.status.code() == Some(0) {
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!report.contains("NaN"), "{kind}, {what}: {report}");
        return Ok(Bundle::read(out.path(), kind, 1).unwrap());
    }
    assert!(said.len() > 20 && said.lines().count() <= 5, "{kind}, {what}: {said}");
    assert!(Bundle::read(out.path(), kind, 1).is_err(), "{kind}, {what}: it failed and left a bundle");
    Err(said)
}

#[test]
fn thin_and_odd_logs_give_a_message_or_a_model() {
    let cases = [
        ("empty", rows(0, (1, 1), 1)),
        ("one row", rows(1, (1, 1), 1)),
        ("one key that never changes", rows(300, (1, 1), 1_000)),
        ("one route that never changes", rows(300, (9, 1), 1_000)),
        ("one route that always changes", rows(300, (9, 1), 1)),
        ("impossible values", impossible(rows(300, (9, 3), 40))),
    ];
    for (what, rows) in &cases {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), rows);
        for kind in KINDS {
            let came = outcome(kind, dir.path(), what);
            println!("{kind}, {what}: {}", came.as_ref().map_or_else(|said| said.trim(), |_| "a bundle"));
            if rows.calls.len() < 2 {
                assert!(came.is_err_and(|said| said.contains("nothing to learn from")), "{kind}, {what}");
            }
        }
    }
}

fn files(root: &Path, kind: Kind) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(root.join(kind.as_str()).join("1")).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn the_same_log_and_seed_give_the_same_bundle_of_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    write(&logs, &rows(2_000, (12, 3), 90));
    for kind in KINDS {
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        for (out, threads) in [(&one, "1"), (&other, "4")] {
            let output = fit(kind, &logs, (out, threads));
            assert_eq!(output.status.code(), Some(0), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let (first, second) = (files(&one, kind), files(&other, kind));
        assert!(first.contains_key("model.onnx") && first.contains_key("manifest.json"), "{:?}", first.keys());
        let differing: Vec<_> = first.iter().filter(|(name, bytes)| second.get(*name) != Some(bytes)).map(|(name, _)| name).collect();
        assert!(differing.is_empty() && first.len() == second.len(), "{kind}: {differing:?}");
    }
}
