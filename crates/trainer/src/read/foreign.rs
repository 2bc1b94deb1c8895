//! Parquet files of others: any column as plain values, a slice of rows at a time.

use std::fs::File;
use std::path::{Path, PathBuf};

use polars::prelude::{DataFrame, DataType, PolarsError, TimeUnit};
use polars_io::SerReader;
use polars_io::parquet::read::ParquetReader;

use super::columns::Columns;
use crate::error::TrainError;

/// A column's values.
#[derive(Clone, Debug, PartialEq)]
pub enum ForeignColumn {
    /// Whole numbers; points in time as nanoseconds.
    Ints(Vec<Option<i64>>),
    /// Numbers.
    Floats(Vec<Option<f64>>),
    /// Yes or no.
    Bools(Vec<Option<bool>>),
    /// Texts: the distinct ones, and each row's place among them.
    Texts(Vec<String>, Vec<Option<u32>>),
}

/// A Parquet file of others.
pub struct ForeignTable {
    path: PathBuf,
    names: Vec<String>,
    rows: usize,
}

impl ForeignTable {
    /// Reads the footer.
    ///
    /// # Errors
    /// When the file cannot be opened or is not whole.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let mut reader = reader(path)?;
        let bad = |e: PolarsError| TrainError::Unreadable { path: path.to_path_buf(), reason: e.to_string() };
        let rows = reader.get_metadata().map_err(bad)?.num_rows;
        let names = reader.schema().map_err(bad)?.iter_names().map(ToString::to_string).collect();
        Ok(Self { path: path.to_path_buf(), names, rows })
    }

    /// Names of the columns.
    pub fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The named columns of rows `from..from + count`, in the order of `places`; none where no name is given.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn slice(&mut self, (from, count): (usize, usize), places: &[Option<&str>]) -> Result<Vec<Option<ForeignColumn>>, TrainError> {
        let bad = |e: PolarsError| TrainError::Unreadable { path: self.path.clone(), reason: e.to_string() };
        let mut wanted: Vec<String> = places.iter().flatten().map(ToString::to_string).collect();
        wanted.sort();
        wanted.dedup();
        let frame = reader(&self.path)?.with_slice(Some((from, count))).with_columns(Some(wanted)).finish().map_err(bad)?;
        places.iter().map(|place| place.map(|name| column(&frame, name).map_err(bad)).transpose().map(Option::flatten)).collect()
    }
}

fn reader(path: &Path) -> Result<ParquetReader<File>, TrainError> {
    Ok(ParquetReader::new(File::open(path).map_err(TrainError::io(path))?))
}

/// A column's values; `None` for types that hold no single value.
fn column(frame: &DataFrame, name: &str) -> Result<Option<ForeignColumn>, PolarsError> {
    let columns = Columns(frame);
    let ty = frame.column(name)?.dtype().clone();
    Ok(Some(match ty {
        DataType::Boolean => ForeignColumn::Bools(columns.bools(name)?),
        DataType::Float32 | DataType::Float64 => ForeignColumn::Floats(columns.f64s(name)?),
        DataType::Datetime(unit, _) => {
            let nanos = match unit {
                TimeUnit::Nanoseconds => 1,
                TimeUnit::Microseconds => 1_000,
                TimeUnit::Milliseconds => 1_000_000,
            };
            ForeignColumn::Ints(columns.i64s(name)?.into_iter().map(|t| t.and_then(|t| t.checked_mul(nanos))).collect())
        }
        ty if ty.is_integer() => ForeignColumn::Ints(columns.i64s(name)?),
        DataType::String | DataType::Categorical(..) => {
            let (values, places) = columns.texts(name)?;
            ForeignColumn::Texts(values, places)
        }
        _ => return Ok(None),
    }))
}
