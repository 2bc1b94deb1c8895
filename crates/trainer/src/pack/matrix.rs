//! Training rows as a Parquet file: one column per feature, labels, weight, time, route, split.

use std::fs::File;
use std::path::{Path, PathBuf};

use farthing_contract::features::FeatureSpec;
use polars::prelude::{Column, DataFrame};
use polars_io::parquet::write::{KeyValueMetadata, ParquetWriter};

use super::Parts;
use crate::error::TrainError;
use crate::rows::Rows;

/// Name of the file within the folder.
pub const FILE: &str = "rows.parquet";

/// What is written.
pub struct Matrix<'a> {
    /// The spec of the features.
    pub spec: &'a FeatureSpec,
    /// The rows.
    pub parts: &'a Parts,
    /// Digest of the data.
    pub digest: &'a str,
}

/// Writes the matrix to `dir`; where. Column names are those of the features; labels are `survived_K` and `within_K` (expected changes per age
/// interval, `docs/learning.md`, section 4), `changed`; then `weight`, `at_ns`, `route`, `split` (`train` or `test`).
///
/// # Errors
/// When the folder cannot be written.
pub fn write(dir: &Path, matrix: &Matrix<'_>) -> Result<PathBuf, TrainError> {
    std::fs::create_dir_all(dir).map_err(TrainError::io(dir))?;
    let path = dir.join(FILE);
    let bad = |e: polars::prelude::PolarsError| TrainError::Unreadable { path: path.clone(), reason: e.to_string() };
    let mut frame = frame(matrix).map_err(bad)?;
    let spec = matrix.spec;
    let edges: Vec<String> = spec.horizons.iter().map(ToString::to_string).collect();
    let pairs = vec![
        ("farthing.task".to_owned(), spec.kind.to_owned()),
        ("farthing.spec_hash".to_owned(), spec.hash()),
        ("farthing.spec_version".to_owned(), spec.version.to_string()),
        ("farthing.features".to_owned(), spec.names.join(",")),
        ("farthing.horizons_s".to_owned(), edges.join(",")),
        ("farthing.data_digest".to_owned(), matrix.digest.to_owned()),
        ("farthing.cut_ns".to_owned(), matrix.parts.cut_ns.to_string()),
    ];
    // Whole or not there: under its name once it is complete.
    let temporary = dir.join(format!(".{FILE}.tmp"));
    let file = File::create(&temporary).map_err(TrainError::io(&temporary))?;
    let writer = ParquetWriter::new(file).with_key_value_metadata(Some(KeyValueMetadata::from_static(pairs)));
    writer.finish(&mut frame).map_err(bad)?;
    std::fs::rename(&temporary, &path).map_err(TrainError::io(&path))?;
    Ok(path)
}

fn frame(matrix: &Matrix<'_>) -> Result<DataFrame, polars::prelude::PolarsError> {
    let parts = [&matrix.parts.train, &matrix.parts.test];
    let count: usize = parts.iter().map(|p| p.len()).sum();
    let rows = || parts.into_iter().flat_map(|part| (0..part.len()).map(move |i| (part, i)));
    let floats = |name: String, of: &dyn Fn(&Rows, usize) -> f32| {
        let values: Vec<f32> = rows().map(|(part, i)| of(part, i)).collect();
        Column::new(name.into(), values)
    };
    let mut columns = Vec::new();
    for (k, name) in matrix.spec.names.iter().enumerate() {
        columns.push(floats((*name).to_owned(), &|part, i| part.row(i)[k]));
    }
    for k in 0..matrix.spec.outputs() {
        columns.push(floats(format!("survived_{k}"), &|part, i| part.exposure(i).0[k]));
        columns.push(floats(format!("within_{k}"), &|part, i| part.exposure(i).1[k]));
    }
    columns.push(Column::new("changed".into(), rows().map(|(part, i)| part.changed(i)).collect::<Vec<bool>>()));
    columns.push(floats("weight".to_owned(), &|part, i| part.weights[i]));
    columns.push(Column::new("at_ns".into(), rows().map(|(part, i)| part.at_ns[i]).collect::<Vec<i64>>()));
    let route = |(part, i): (&Rows, usize)| part.routes.get(part.route[i] as usize).cloned().unwrap_or_default();
    columns.push(Column::new("route".into(), rows().map(route).collect::<Vec<String>>()));
    let train = parts[0].len();
    let split: Vec<&str> = (0..count).map(|n| if n < train { "train" } else { "test" }).collect();
    columns.push(Column::new("split".into(), split));
    DataFrame::new(count, columns)
}
