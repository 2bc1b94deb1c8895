//! Logs as the proxy writes them, made by hand.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use farthing_contract::log::{CallRow, Decision, Request, Row, SCHEMA_VERSION, TABLE_KEY, VERSION_KEY, Value};
use farthing_replay::{Process, Recipe, RecipeRoute, RecipeTerms};
use polars::prelude::{Column, DataFrame, DataType, NamedFrom, Series};
use polars_io::parquet::write::{KeyValueMetadata, ParquetWriter};

/// Rows of one table as a frame, all columns in the order and type of the schema.
pub fn frame<R: Row>(rows: &[R]) -> DataFrame {
    let columns = R::TABLE.columns.iter().enumerate().map(|(index, column)| {
        let mut numbers: Vec<Option<i64>> = Vec::new();
        let mut words: Vec<Option<u64>> = Vec::new();
        let mut floats: Vec<Option<f64>> = Vec::new();
        let mut flags: Vec<Option<bool>> = Vec::new();
        let mut texts: Vec<Option<String>> = Vec::new();
        let mut lists: Vec<Series> = Vec::new();
        for row in rows {
            row.cells(&mut |i, value| {
                if i == index {
                    numbers.push(match value {
                        Value::I64(v) => Some(v),
                        Value::I32(v) => Some(i64::from(v)),
                        _ => None,
                    });
                    words.push(match value {
                        Value::U64(v) => Some(v),
                        _ => None,
                    });
                    floats.push(match value {
                        Value::F64(v) => Some(v),
                        _ => None,
                    });
                    flags.push(match value {
                        Value::Bool(v) => Some(v),
                        _ => None,
                    });
                    texts.push(match value {
                        Value::Text(v) => Some(v.to_owned()),
                        _ => None,
                    });
                    lists.push(match value {
                        Value::F32List(v) => Series::new("".into(), v),
                        _ => Series::new("".into(), &[] as &[f32]),
                    });
                }
            });
        }
        use farthing_contract::log::ColumnType as T;
        let name = column.name;
        let series = match column.ty {
            T::I64 => Series::new(name.into(), numbers),
            T::I32 => Series::new(name.into(), numbers).cast(&DataType::Int32).unwrap(),
            T::U64 => Series::new(name.into(), words),
            T::F64 => Series::new(name.into(), floats),
            T::F32 => Series::new(name.into(), floats).cast(&DataType::Float32).unwrap(),
            T::Bool => Series::new(name.into(), flags),
            T::Text => Series::new(name.into(), texts),
            T::F32List => Series::new(name.into(), lists).cast(&DataType::List(Box::new(DataType::Float32))).unwrap(),
        };
        Column::from(series)
    });
    DataFrame::new(rows.len(), columns.collect()).unwrap()
}

/// Writes a frame as Parquet with the metadata given.
pub fn write(path: &Path, frame: &mut DataFrame, metadata: &[(&str, &str)]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pairs = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let writer = ParquetWriter::new(File::create(path).unwrap()).with_key_value_metadata(Some(KeyValueMetadata::from_static(pairs)));
    writer.finish(frame).unwrap();
}

/// Writes rows under the table's folder; the path of the file.
pub fn table<R: Row>(root: &Path, rows: &[R]) -> PathBuf {
    let path = root.join(R::TABLE.name).join("date=2026-01-01/hour=00/0.parquet");
    write(&path, &mut frame(rows), &[(TABLE_KEY, R::TABLE.name), (VERSION_KEY, &SCHEMA_VERSION.to_string())]);
    path
}

/// When worlds begin: the first of January 2026, UTC, seconds.
pub const START_S: i64 = 1_767_225_600;

/// A world of two routes of so many keys, asked so often a second: what the first one's documents do is told, the other's change every fifty minutes.
pub fn world(hours: f64, (keys, rate): (u32, f64), first: Process) -> Recipe {
    let route = |name: &str, process| RecipeRoute {
        name: name.to_owned(),
        keys,
        weight: 1.0,
        price: "0.002".parse().unwrap(),
        bytes: 900,
        latency_ms: 10,
        process,
        terms: RecipeTerms::default(),
        tokens: None,
    };
    Recipe {
        seed: 1,
        start_s: START_S,
        duration_s: hours * 3_600.0,
        rate,
        zipf: 0.9,
        stale_price: "0.02".parse().unwrap(),
        routes: vec![route("one", first), route("other", Process::Poisson { mean_interval_s: 3_000.0, sigma: 1.0 })],
    }
}

/// A call that brought a whole answer.
pub fn call(at_s: i64, id: u64, key: u64, hash: u64) -> CallRow {
    CallRow {
        ts_ns: at_s * 1_000_000_000,
        call_id: id,
        route: "geo".into(),
        key_hash: key,
        status: Some(200),
        sent: true,
        bytes_in: Some(100),
        canonical_hash: Some(hash),
        decision_id: Some(id),
        cost_nanousd: Some(2_000_000),
        ..CallRow::default()
    }
}

/// A request of a key.
pub fn request(at_s: i64, id: u64, key: u64) -> Request {
    Request {
        ts_ns: at_s * 1_000_000_000,
        request_id: id,
        weight: 1,
        route: "geo".into(),
        key_hash: key,
        outcome: "lead",
        ..Request::default()
    }
}

/// A `ttl` decision with features.
pub fn decision(id: u64, spec: &str, features: Vec<f32>) -> Decision {
    Decision { decision_id: id, kind: "ttl", spec_hash: Some(spec.into()), features, ..Decision::default() }
}
