//! Whatever a log holds, the trainer says what is wrong with it or learns from it: it never panics. And how a log is cut into
//! files says nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "a test ends here when it fails")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use common::{call, decision, frame, request, write};
use farthing_contract::bundle::{Bundle, Kind};
use farthing_contract::features::{TTL_FEATURES, TTL_OUTPUTS, TTL_SPEC};
use farthing_contract::log::{CallRow, Decision, Request, Row, TABLE_KEY, VERSION_KEY};
use farthing_trainer::fit::{Options, fit};
use farthing_trainer::learn::Unwatched;
use farthing_trainer::read::read_log;
use farthing_trainer::verify::verify;
use proptest::prelude::*;

/// Writes rows of one table into a file of its own.
fn part<R: Row>(root: &Path, name: &str, rows: &[R]) {
    let path = root.join(R::TABLE.name).join("date=2026-01-01/hour=00").join(name);
    write(&path, &mut frame(rows), &[(TABLE_KEY, R::TABLE.name), (VERSION_KEY, "2")]);
}

/// Fits on the log in a folder; the error's text, or nothing when there is a model that answers numbers.
fn outcome(root: &Path) -> Option<String> {
    let log = match read_log(root.to_str().unwrap()) {
        Ok(log) => log,
        Err(error) => return Some(error.to_string()),
    };
    match fit(&log, Options::default(), &Unwatched) {
        Err(error) => Some(error.to_string()),
        Ok(fit) => {
            for row in [[0.0; TTL_FEATURES], [f32::NAN; TTL_FEATURES], [f32::MAX; TTL_FEATURES]] {
                let mut out = [f32::NAN; TTL_OUTPUTS];
                fit.learned.model.eval(&row, &mut out);
                assert!(out.iter().all(|o| o.is_finite()), "{out:?}");
            }
            assert!(!fit.report.text().contains("NaN"), "{}", fit.report.text());
            None
        }
    }
}

fn time() -> impl Strategy<Value = i64> {
    let now = 1_767_225_600_000_000_000i64;
    prop_oneof![
        8 => (0..200_000i64).prop_map(move |s| now + s * 1_000_000_000),
        1 => (0..3i64).prop_map(move |ns| now + ns),
        1 => prop_oneof![Just(0), Just(-1), Just(i64::MIN), Just(i64::MAX), Just(i64::MAX / 2), any::<i64>()],
    ]
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![0..10_000i64, Just(-1), Just(i64::MIN), Just(i64::MAX), any::<i64>()]
}

fn id() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..6u64, 1 => Just(u64::MAX), 1 => any::<u64>()]
}

fn route() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just("geo"), 1 => Just(""), 1 => Just("weather\n\u{0}|`")]
}

fn a_call() -> impl Strategy<Value = CallRow> {
    let head = (time(), id(), 0..3i32, route(), id(), proptest::option::of(prop_oneof![Just(200), Just(304), Just(500), any::<i32>()]));
    let body = (proptest::option::of(0..4u64), proptest::option::of(id()), proptest::option::of(number()), proptest::option::of(number()));
    let stat = (
        proptest::option::of(0..2u64),
        proptest::option::of(number()),
        proptest::option::of(time()),
        any::<Option<bool>>(),
        proptest::option::of(number()),
    );
    (head, body, stat).prop_map(
        |((ts_ns, call_id, attempt, route, key_hash, status), (hash, before, bytes, cost), (run, seq, at, known, ttl))| CallRow {
            ts_ns,
            call_id,
            attempt,
            route: route.into(),
            key_hash,
            status,
            canonical_hash: hash,
            prev_canonical_hash: before,
            bytes_in: bytes,
            cost_nanousd: cost,
            last_modified_ns: at,
            origin_ttl_s: ttl,
            decision_id: before,
            stat_epoch: run,
            stat_seq: seq,
            stat_known: known,
            stat_at_ns: at,
            stat_hash: hash,
            steers: known,
            has_etag: known,
            query_parameters: bytes,
            body_bytes: ttl,
            ..CallRow::default()
        },
    )
}

fn a_request() -> impl Strategy<Value = Request> {
    (
        time(),
        id(),
        number(),
        route(),
        id(),
        prop_oneof![Just("hit"), Just("refused"), Just("")],
        proptest::option::of(0..2u64),
        proptest::option::of(0..30i64),
    )
        .prop_map(|(ts_ns, request_id, weight, route, key_hash, outcome, run, seq)| Request {
            ts_ns,
            request_id,
            weight,
            route: route.into(),
            key_hash,
            outcome,
            stat_epoch: run,
            stat_seq: seq,
            stat_known: seq.map(|s| s % 3 > 0),
            ..Request::default()
        })
}

fn a_decision() -> impl Strategy<Value = Decision> {
    let value = || prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::MIN), -3.0..3.0f32];
    let features = prop_oneof![proptest::collection::vec(value(), TTL_FEATURES), proptest::collection::vec(value(), 0..40)];
    (id(), id(), features).prop_map(|(id, call, features)| Decision { call_id: Some(call), ..decision(id, &TTL_SPEC.hash(), features) })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Any rows at all: a message, or a model that answers numbers; and the comparison of features ends as well.
    #[test]
    fn any_log_gives_a_message_or_a_model(
        calls in proptest::collection::vec(a_call(), 0..120), requests in proptest::collection::vec(a_request(), 0..120),
        decisions in proptest::collection::vec(a_decision(), 0..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        part(dir.path(), "0.parquet", &calls);
        part(dir.path(), "0.parquet", &requests);
        part(dir.path(), "0.parquet", &decisions);
        if let Some(error) = outcome(dir.path()) {
            prop_assert!(error.len() > 20, "{error}");
        }
        let verified = verify(dir.path().to_str().unwrap()).unwrap();
        prop_assert_eq!(verified.equal, 0, "nothing here was computed");
    }
}

#[test]
fn logs_of_one_kind_of_row_are_told_what_is_missing() {
    let cases: [(&str, Vec<CallRow>, Vec<Request>); 5] = [
        ("empty", vec![], vec![]),
        ("one row", vec![call(1_767_225_600, 1, 7, 1)], vec![request(1_767_225_600, 1, 7)]),
        ("no calls", vec![], (0..500).map(|i| request(1_767_225_600 + i, i as u64, 7)).collect()),
        ("no refetches", (0..500).map(|i| call(1_767_225_600 + i, i as u64, i as u64, 1)).collect(), vec![]),
        ("one moment", (0..500).map(|i| call(1_767_225_600, i, 7, i)).collect(), vec![]),
    ];
    for (what, calls, requests) in cases {
        let dir = tempfile::tempdir().unwrap();
        part(dir.path(), "0.parquet", &calls);
        part(dir.path(), "0.parquet", &requests);
        let said = outcome(dir.path()).unwrap_or_else(|| panic!("{what}: there is nothing to learn here"));
        assert!(said.contains("nothing to learn from"), "{what}: {said}");
    }
}

#[test]
fn rows_that_are_there_twice_and_in_disorder_are_one_log() {
    let (calls, requests) = a_log();
    let dir = tempfile::tempdir().unwrap();
    part(dir.path(), "0.parquet", &calls);
    part(dir.path(), "0.parquet", &requests);
    let plain = read_log(dir.path().to_str().unwrap()).unwrap();
    let twice: Vec<CallRow> = calls.iter().rev().chain(&calls).cloned().collect();
    part(dir.path(), "0.parquet", &twice);
    let disorder: Vec<Request> = requests.iter().rev().cloned().collect();
    part(dir.path(), "0.parquet", &disorder);
    let again = read_log(dir.path().to_str().unwrap()).unwrap();
    assert_eq!((again.fetches, again.reads, again.routes), (plain.fetches, plain.reads, plain.routes));
}

/// A log of ten hours of three routes.
fn a_log() -> (Vec<CallRow>, Vec<Request>) {
    let at = |i: u64| 1_767_225_600 + 60 * i as i64;
    let name = |i: u64| ["geo", "weather", "rates"][(i % 3) as usize];
    let calls = (1..600).map(|i| CallRow { route: name(i).into(), ..call(at(i), i, i % 6, 1 + i / (10 + 20 * (i % 3))) });
    let requests = (1..1_800).map(|i| Request { route: name(i).into(), ..request(at(i / 3), i, i % 6) });
    (calls.collect(), requests.collect())
}

fn bundle(logs: &Path, out: &Path, threads: &str) -> BTreeMap<String, Vec<u8>> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farthing-train"));
    command.args(["fit", "ttl", "--force", "--seed", "3", "--logs"]).arg(logs).arg("--out").arg(out).env("POLARS_MAX_THREADS", threads);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let files = std::fs::read_dir(out.join("ttl/1")).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())).collect()
}

/// Two processes, other threads, files cut and named otherwise: every file of the bundle is the same, but for the digest of the data.
#[test]
fn the_same_rows_give_the_same_bundle_however_they_lie_on_disk() {
    let (calls, requests) = a_log();
    let dir = tempfile::tempdir().unwrap();
    let (one, cut) = (dir.path().join("one"), dir.path().join("cut"));
    part(&one, "0.parquet", &calls);
    part(&one, "0.parquet", &requests);
    for (n, calls) in calls.chunks(100).enumerate() {
        part(&cut, &format!("{}.parquet", 9 - n), calls);
    }
    for (n, requests) in requests.chunks(700).enumerate() {
        part(&cut, &format!("{}.parquet", 9 - n), requests);
    }
    let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
    let first = bundle(&one, &a, "1");
    assert!(first == bundle(&one, &b, "4"), "byte for byte");
    let other = bundle(&cut, &c, "2");
    assert_eq!(first.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for name in ["model.onnx", "table.bin"] {
        assert!(undated(&first[name], &a) == undated(&other[name], &c), "{name}");
    }
}

/// A file without the digest of the data, which is that of the files.
fn undated(bytes: &[u8], root: &Path) -> Vec<u8> {
    let digest = Bundle::read(root, Kind::Ttl, 1).unwrap().manifest.training.data_digest;
    let place = bytes.windows(digest.len()).position(|window| window == digest.as_bytes());
    let mut bytes = bytes.to_vec();
    if let Some(place) = place {
        bytes[place..place + digest.len()].fill(b'-');
    }
    bytes
}
