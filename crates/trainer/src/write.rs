//! Writes rows of the log's tables as Parquet: columns, names and types come from the schema in `contract`, the layout is the proxy's.
//!
//! Files are made under hidden names and get their own all at once, when everything was written: a run that fails leaves nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use farthing_contract::log::{ColumnType, Row, SCHEMA_VERSION, TABLE_KEY, VERSION_KEY, Value, partition};
use polars::prelude::{
    BooleanChunkedBuilder, ChunkedBuilder, Column, DataFrame, DataType, IntoSeries, ListBuilderTrait, ListPrimitiveChunkedBuilder,
    NamedFrom, PlSmallStr, PolarsResult, Series, StringChunkedBuilder,
};
use polars_io::parquet::write::{KeyValueMetadata, ParquetWriter};

use crate::error::TrainError;
use crate::read::data_type;

/// One column in the making; nulls cost nothing until the first value comes.
enum Cells {
    Null,
    I64(Vec<Option<i64>>),
    U64(Vec<Option<u64>>),
    I32(Vec<Option<i32>>),
    F64(Vec<Option<f64>>),
    F32(Vec<Option<f32>>),
    Bool(BooleanChunkedBuilder),
    Text(StringChunkedBuilder),
    List(Box<ListPrimitiveChunkedBuilder<polars::prelude::Float32Type>>),
}

impl Cells {
    /// A column of `ty` whose first `nulls` rows are null.
    fn new(name: &'static str, ty: ColumnType, nulls: usize, rows: usize) -> Self {
        let label = PlSmallStr::from_static(name);
        macro_rules! filled {
            () => {{
                let mut values = Vec::with_capacity(rows);
                values.resize(nulls, None);
                values
            }};
        }
        match ty {
            ColumnType::I64 => Self::I64(filled!()),
            ColumnType::U64 => Self::U64(filled!()),
            ColumnType::I32 => Self::I32(filled!()),
            ColumnType::F64 => Self::F64(filled!()),
            ColumnType::F32 => Self::F32(filled!()),
            ColumnType::Bool => {
                let mut builder = BooleanChunkedBuilder::new(label, rows);
                (0..nulls).for_each(|_| builder.append_null());
                Self::Bool(builder)
            }
            ColumnType::Text => {
                let mut builder = StringChunkedBuilder::new(label, rows);
                (0..nulls).for_each(|_| builder.append_null());
                Self::Text(builder)
            }
            ColumnType::F32List => {
                let mut builder = ListPrimitiveChunkedBuilder::new(label, rows, rows, DataType::Float32);
                (0..nulls).for_each(|_| builder.append_null());
                Self::List(Box::new(builder))
            }
        }
    }

    fn push(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::Null, _) => {}
            (Self::I64(c), v) => c.push(if let Value::I64(v) = v { Some(v) } else { None }),
            (Self::U64(c), v) => c.push(if let Value::U64(v) = v { Some(v) } else { None }),
            (Self::I32(c), v) => c.push(if let Value::I32(v) = v { Some(v) } else { None }),
            (Self::F64(c), v) => c.push(if let Value::F64(v) = v { Some(v) } else { None }),
            (Self::F32(c), v) => c.push(if let Value::F32(v) = v { Some(v) } else { None }),
            (Self::Bool(c), v) => c.append_option(if let Value::Bool(v) = v { Some(v) } else { None }),
            (Self::Text(c), v) => c.append_option(if let Value::Text(v) = v { Some(v) } else { None }),
            (Self::List(c), Value::F32List(v)) => c.append_slice(v),
            (Self::List(c), _) => c.append_null(),
        }
    }

    fn finish(self, name: &'static str, ty: ColumnType, rows: usize) -> Series {
        let label = PlSmallStr::from_static(name);
        match self {
            Self::Null => Series::full_null(label, rows, &data_type(ty)),
            Self::I64(c) => Series::new(label, c),
            Self::U64(c) => Series::new(label, c),
            Self::I32(c) => Series::new(label, c),
            Self::F64(c) => Series::new(label, c),
            Self::F32(c) => Series::new(label, c),
            Self::Bool(c) => c.finish().into_series(),
            Self::Text(c) => c.finish().into_series(),
            Self::List(mut c) => c.finish().into_series(),
        }
    }
}

/// Rows as a frame, all columns in the order and type of the schema.
fn frame<R: Row>(rows: &[R]) -> PolarsResult<DataFrame> {
    let schema = R::TABLE.columns;
    let mut columns: Vec<Cells> = schema.iter().map(|_| Cells::Null).collect();
    for (n, row) in rows.iter().enumerate() {
        row.cells(&mut |index, value| {
            let (Some(cells), Some(column)) = (columns.get_mut(index), schema.get(index)) else { return };
            if matches!(cells, Cells::Null) && value != Value::Null {
                *cells = Cells::new(column.name, column.ty, n, rows.len());
            }
            cells.push(value);
        });
    }
    let series = |(cells, column): (Cells, &farthing_contract::log::Column)| Column::from(cells.finish(column.name, column.ty, rows.len()));
    DataFrame::new(rows.len(), columns.into_iter().zip(schema).map(series).collect())
}

/// Writes rows as one Parquet file.
///
/// # Errors
/// What the system or the encoder says; the file may be left incomplete then.
pub fn write_file<R: Row>(path: &Path, rows: &[R]) -> Result<(), TrainError> {
    let bad = |reason: String| TrainError::Io { path: path.to_path_buf(), source: std::io::Error::other(reason) };
    let mut frame = frame(rows).map_err(|e| bad(e.to_string()))?;
    let pairs = vec![(VERSION_KEY.to_owned(), SCHEMA_VERSION.to_string()), (TABLE_KEY.to_owned(), R::TABLE.name.to_owned())];
    let file = File::create(path).map_err(TrainError::io(path))?;
    let writer = ParquetWriter::new(file).with_key_value_metadata(Some(KeyValueMetadata::from_static(pairs)));
    writer.finish(&mut frame).map(|_| ()).map_err(|e| bad(e.to_string()))
}

const HOUR_NS: i64 = 3_600_000_000_000;

/// Files that were written but have not got their names yet.
pub struct Parts {
    dir: PathBuf,
    /// Hidden name now, folder it belongs to, number.
    written: Vec<(PathBuf, PathBuf, usize)>,
}

impl Parts {
    /// Of a log in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), written: Vec::new() }
    }

    /// Writes rows of one hour as one file.
    ///
    /// # Errors
    /// What the system or the encoder says.
    pub fn write<R: Row>(&mut self, hour: i64, rows: &[R]) -> Result<(), TrainError> {
        let folder = self.dir.join(R::TABLE.name).join(partition(hour));
        fs::create_dir_all(&folder).map_err(TrainError::io(&folder))?;
        let number = self.written.len();
        let hidden = folder.join(format!(".part-import-{}-{number:06}.parquet.tmp", std::process::id()));
        self.written.push((hidden.clone(), folder, number));
        write_file(&hidden, rows)
    }

    /// Gives every file its name: `part-<stem>-<number>.parquet`. What an earlier run under the same stem wrote is replaced.
    ///
    /// # Errors
    /// What the system says.
    pub fn publish(mut self, stem: &str) -> Result<usize, TrainError> {
        let mine = format!("part-{stem}-");
        for old in crate::read::find(&self.dir.to_string_lossy()).unwrap_or_default() {
            if old.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&mine)) {
                fs::remove_file(&old).map_err(TrainError::io(&old))?;
            }
        }
        let written = std::mem::take(&mut self.written);
        for (hidden, folder, number) in &written {
            let path = folder.join(format!("{mine}{number:06}.parquet"));
            fs::rename(hidden, &path).map_err(TrainError::io(&path))?;
        }
        Ok(written.len())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for (hidden, ..) in &self.written {
            let _ = fs::remove_file(hidden);
        }
    }
}

/// Rows by the hour they belong to, bounded in number.
pub struct ByHour<R> {
    hours: BTreeMap<i64, Vec<R>>,
    rows: usize,
}

impl<R> Default for ByHour<R> {
    fn default() -> Self {
        Self { hours: BTreeMap::new(), rows: 0 }
    }
}

impl<R: Row> ByHour<R> {
    /// Takes a row; when `most` are held, gives the hours that are to be written now: all but the newest, and that one too when it
    /// is what fills the room.
    pub fn push(&mut self, row: R, most: usize) -> Option<Vec<(i64, Vec<R>)>> {
        self.hours.entry(row.ts_ns().div_euclid(HOUR_NS)).or_default().push(row);
        self.rows += 1;
        if self.rows < most {
            return None;
        }
        if self.hours.last_key_value().is_none_or(|(_, newest)| 2 * newest.len() >= most) {
            return Some(self.take());
        }
        let newest = self.hours.pop_last();
        let full = self.take();
        self.hours.extend(newest);
        self.rows = self.hours.values().map(Vec::len).sum();
        Some(full)
    }

    /// All that is left.
    pub fn take(&mut self) -> Vec<(i64, Vec<R>)> {
        self.rows = 0;
        std::mem::take(&mut self.hours).into_iter().collect()
    }
}
