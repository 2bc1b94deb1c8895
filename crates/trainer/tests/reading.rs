//! Reading logs and traces: what is taken, and what is said about what cannot be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "a test ends here when it fails")]

mod common;

use std::path::Path;

use common::{call, decision, frame, request, table, write};
use farthing_contract::features::{TTL_FEATURES, TTL_SPEC};
use farthing_contract::log::{CallRow, Row, TABLE_KEY, VERSION_KEY};
use farthing_trainer::history::History;
use farthing_trainer::read::{read_log, read_trace};
use polars::prelude::{Column, DataFrame, NamedFrom, Series};

fn pattern(dir: &Path) -> String {
    format!("{}/**/*.parquet", dir.display())
}

#[test]
fn calls_requests_and_decisions_become_one_history() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), &[call(10, 1, 7, 1), call(20, 2, 7, 1), call(40, 3, 7, 2)]);
    table(dir.path(), &[request(10, 1, 7), request(15, 2, 7), request(20, 3, 7), request(40, 4, 7)]);
    let spec = TTL_SPEC.hash();
    table(dir.path(), &[decision(1, &spec, vec![0.5; TTL_FEATURES]), decision(2, "of another spec", vec![0.5; TTL_FEATURES])]);
    let log = read_log(&pattern(dir.path())).unwrap();
    assert_eq!((log.files, log.fetches.len(), log.reads.len(), log.recomputed), (3, 3, 4, 2));
    assert_eq!(log.fetches[0].features.as_deref(), Some([0.5; TTL_FEATURES].as_slice()));
    assert_eq!(log.fetches[0].cost_nanousd, Some(2_000_000));
    let history = History::of(&log);
    assert_eq!((history.rows.len(), history.rows.changes()), (2, 2));
    assert_eq!(history.rows.row(0), [0.5; TTL_FEATURES]);
    assert_eq!(read_log(dir.path().to_str().unwrap()).unwrap(), log, "a folder stands for its files");
}

#[test]
fn retries_errors_and_broken_transfers_are_not_answers() {
    let dir = tempfile::tempdir().unwrap();
    let failed = CallRow { attempt: 0, status: Some(503), canonical_hash: Some(9), ..call(10, 1, 7, 9) };
    let retried = CallRow { attempt: 1, ..call(11, 1, 7, 1) };
    let unreachable = CallRow { status: None, canonical_hash: None, ..call(12, 2, 7, 0) };
    let broken = CallRow { canonical_hash: None, ..call(13, 3, 7, 0) };
    let unchanged = CallRow { status: Some(304), canonical_hash: None, prev_canonical_hash: Some(1), ..call(14, 4, 7, 0) };
    table(dir.path(), &[failed, retried, unreachable, broken, unchanged]);
    let log = read_log(&pattern(dir.path())).unwrap();
    let told: Vec<(i64, u64)> = log.fetches.iter().map(|f| (f.at_ns / 1_000_000_000, f.hash)).collect();
    assert_eq!(told, [(11, 1), (14, 1)]);
}

#[test]
fn foreign_files_are_named_with_column_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let mut foreign = DataFrame::new(2, vec![Column::from(Series::new("price".into(), [1.0f64, 2.0]))]).unwrap();
    write(&dir.path().join("shop.parquet"), &mut foreign, &[]);
    let error = read_log(&pattern(dir.path())).unwrap_err().to_string();
    for part in ["shop.parquet", "`ts_ns`", "`price`", "log folder"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = read_trace(&dir.path().join("shop.parquet")).unwrap_err().to_string();
    assert!(error.contains("shop.parquet") && error.contains("`ts_ms`") && error.contains("a trace has the columns"), "{error}");
}

#[test]
fn a_changed_column_a_newer_version_and_damage_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = table(dir.path(), &[call(10, 1, 7, 1)]);
    let own = [(TABLE_KEY, CallRow::TABLE.name), (VERSION_KEY, "1")];
    let error = |contents: &mut DataFrame, metadata: &[(&str, &str)]| {
        write(&path, contents, metadata);
        read_log(&pattern(dir.path())).unwrap_err().to_string()
    };
    let mut calls = frame(&[call(10, 1, 7, 1)]);
    let text = error(&mut calls.drop("key_hash").unwrap(), &own);
    assert!(text.contains("`key_hash` is missing") && text.contains("0.parquet"), "{text}");
    let text = error(calls.clone().with_column(Column::from(Series::new("key_hash".into(), ["a"]))).unwrap(), &own);
    assert!(text.contains("`key_hash`") && text.contains("U64"), "{text}");
    let text = error(&mut calls, &[(TABLE_KEY, CallRow::TABLE.name), (VERSION_KEY, "99")]);
    assert!(text.contains("schema version 99") && text.contains("use the farthing-train"), "{text}");
    std::fs::write(&path, b"PAR1 and then nothing").unwrap();
    let text = read_log(&pattern(dir.path())).unwrap_err().to_string();
    assert!(text.contains("not readable as Parquet"), "{text}");
    let text = read_log("no/such/**/*.parquet").unwrap_err().to_string();
    assert!(text.contains("no Parquet file matches"), "{text}");
}

#[test]
fn traces_may_have_dictionaries_and_narrow_integers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.parquet");
    let columns = vec![
        Column::from(Series::new("ts_ms".into(), [5i64, 5, 9])),
        Column::from(Series::new("key".into(), [1u32, 1, 1])),
        Column::from(Series::new("endpoint".into(), ["/a", "/a", "/b"])),
        Column::from(Series::new("is_write".into(), [false, true, false])),
        Column::from(Series::new("bytes".into(), [0i32, 30, 0])),
    ];
    write(&path, &mut DataFrame::new(3, columns).unwrap(), &[]);
    let trace = read_trace(&path).unwrap();
    assert_eq!(trace.endpoints, ["/a", "/b"]);
    assert!(trace.rows[0].is_write && !trace.rows[1].is_write, "at equal times the change comes first");
}

/// Formats are read for ever: the fixture is a log of schema version 1, before the columns that tell how a row entered the statistics.
#[test]
fn a_log_of_the_first_version_is_still_read_and_learned_from() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log-v1");
    let log = read_log(fixture.to_str().unwrap()).unwrap();
    assert_eq!((log.fetches.len(), log.reads.len(), log.recomputed), (120, 360, 120), "features of then are computed anew");
    assert_eq!(log.fetches[7].cost_nanousd, Some(2_000_000));
    let history = History::of(&log);
    assert_eq!(history.rows.len(), 114, "every fetch but the last of each of six keys");
    // Twenty versions of the keys of the first route, and fewer of the others.
    assert!((10..114).contains(&history.rows.changes()), "{}", history.rows.changes());
}
