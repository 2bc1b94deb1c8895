//! Reads the request log back: for the command line and for tests.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, PrimitiveArray, StringArray, UInt64Array,
};
use arrow::datatypes::{ArrowPrimitiveType, DataType};
use arrow::record_batch::RecordBatch;
use farthing_contract::log::{ALL, Column, ColumnType, TABLE_KEY, Table, VERSION_KEY, Value};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::reader::ChunkReader;
use serde::Serialize;

/// A file of the log that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not a Parquet file, or damaged.
    #[error("`{}` cannot be read as Parquet: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the reader says.
        #[source]
        source: ParquetError,
    },
    /// A column is missing or of another type: not a file of this table.
    #[error("`{}` is not a file of table `{table}`: column `{column}` {what}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// The table that was expected.
        table: &'static str,
        /// The column.
        column: String,
        /// What is wrong with it.
        what: String,
    },
    /// A column was asked for that the table does not have.
    #[error("table `{table}` has no column `{column}`")]
    NoColumn {
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
    },
}

/// What one table's folder holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableSummary {
    /// The table.
    pub table: &'static str,
    /// Readable files.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The earliest row, ns since 1970 UTC; `None` without rows.
    pub first_ns: Option<i64>,
    /// The latest row.
    pub last_ns: Option<i64>,
    /// Files under a final name that are no files of this table, and why.
    pub unreadable: Vec<String>,
}

/// Called with each row's cells in the order asked for; `Break` ends the reading.
pub type Visit<'a> = dyn FnMut(&[Value<'_>]) -> ControlFlow<()> + 'a;

/// The table's files in order of time.
pub fn files(dir: &Path, table: &Table) -> Vec<PathBuf> {
    let dirs = crate::log::partitions(&dir.join(table.name));
    dirs.iter().flat_map(|dir| crate::log::list(dir)).filter(|path| is_part(path)).collect()
}

/// Whether a file bears a final name.
pub(crate) fn is_part(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with(".parquet") && !name.starts_with('.')
}

/// The schema version that a file names.
///
/// # Errors
/// No Parquet file.
pub(crate) fn version(file: &Path) -> Result<Option<u32>, ReadError> {
    let damaged = |source: ParquetError| ReadError::File { file: file.to_owned(), source };
    let handle = File::open(file).map_err(|error| damaged(error.into()))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(handle).map_err(damaged)?;
    let pairs = reader.metadata().file_metadata().key_value_metadata();
    let named = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == VERSION_KEY)?.value.as_deref()?.parse().ok());
    Ok(named)
}

/// What the log in `dir` holds, by table; files that cannot be read are named, not fatal.
pub fn summary(dir: &Path) -> Vec<TableSummary> {
    ALL.iter().map(|table| table_summary(dir, table)).collect()
}

fn table_summary(dir: &Path, table: &'static Table) -> TableSummary {
    let mut summary =
        TableSummary { table: table.name, files: 0, rows: 0, bytes: 0, first_ns: None, last_ns: None, unreadable: Vec::new() };
    for file in files(dir, table) {
        let (mut first, mut last) = (summary.first_ns, summary.last_ns);
        let read = read_file(&file, table, &table.columns[..1], &mut |cells| {
            if let [Value::I64(ts)] = cells {
                first = Some(first.map_or(*ts, |first| first.min(*ts)));
                last = Some(last.map_or(*ts, |last| last.max(*ts)));
            }
            ControlFlow::Continue(())
        });
        match read {
            Ok((rows, _)) => {
                summary.files += 1;
                summary.rows += rows;
                summary.bytes += file.metadata().map_or(0, |meta| meta.len());
                (summary.first_ns, summary.last_ns) = (first, last);
            }
            Err(error) => summary.unreadable.push(error.to_string()),
        }
    }
    summary
}

/// Reads the named columns of all rows of `table` in the order of the files; answers how many rows were visited.
///
/// # Errors
/// [`ReadError`], naming file and column. Rows of the files before have been visited then.
pub fn rows(dir: &Path, table: &'static Table, columns: &[&str], visit: &mut Visit<'_>) -> Result<u64, ReadError> {
    rows_of(&files(dir, table), table, columns, visit)
}

/// As [`rows`], of these files of the table alone.
///
/// # Errors
/// As [`rows`].
pub fn rows_of(files: &[PathBuf], table: &'static Table, columns: &[&str], visit: &mut Visit<'_>) -> Result<u64, ReadError> {
    let columns = find_columns(table, columns)?;
    let mut rows = 0;
    for file in files {
        let (read, flow) = read_file(file, table, &columns, visit)?;
        rows += read;
        if flow.is_break() {
            break;
        }
    }
    Ok(rows)
}

/// Hands each row of one file to `each`, all cells in the order of the table's columns; answers how many rows there were.
///
/// # Errors
/// As [`rows`].
pub(crate) fn each_row(file: &Path, table: &'static Table, each: &mut dyn FnMut(&[Value<'_>])) -> Result<u64, ReadError> {
    let mut visit = |cells: &[Value<'_>]| {
        each(cells);
        ControlFlow::Continue(())
    };
    Ok(read_file(file, table, table.columns, &mut visit)?.0)
}

/// The last `count` rows as text, empty where null: the newest files are read first, so a long log costs nothing.
///
/// # Errors
/// As [`rows`].
pub fn tail(dir: &Path, table: &'static Table, columns: &[&str], count: usize) -> Result<Vec<Vec<String>>, ReadError> {
    let columns = find_columns(table, columns)?;
    let mut tail: Vec<Vec<String>> = Vec::new();
    for file in files(dir, table).into_iter().rev() {
        let mut rows: Vec<Vec<String>> = Vec::new();
        let (_, _) = read_file(&file, table, &columns, &mut |cells| {
            rows.push(cells.iter().map(text).collect());
            ControlFlow::Continue(())
        })?;
        let missing = count - tail.len();
        let mut rows = rows.split_off(rows.len().saturating_sub(missing));
        rows.append(&mut tail);
        tail = rows;
        if tail.len() >= count {
            break;
        }
    }
    Ok(tail)
}

/// A cell as text; null is empty.
pub fn text(value: &Value<'_>) -> String {
    match value {
        Value::Null => String::new(),
        Value::I64(v) => v.to_string(),
        Value::U64(v) => format!("{v:016x}"),
        Value::I32(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
        Value::F32(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        Value::Text(v) => (*v).to_owned(),
        Value::F32List(v) => format!("{v:?}"),
    }
}

fn find_columns(table: &'static Table, names: &[&str]) -> Result<Vec<Column>, ReadError> {
    let find = |name: &&str| {
        let found = table.columns.iter().find(|column| column.name == *name).copied();
        found.ok_or_else(|| ReadError::NoColumn { table: table.name, column: (*name).to_owned() })
    };
    names.iter().map(find).collect()
}

fn read_file(file: &Path, table: &'static Table, columns: &[Column], visit: &mut Visit<'_>) -> Result<(u64, ControlFlow<()>), ReadError> {
    let damaged = |source: ParquetError| ReadError::File { file: file.to_owned(), source };
    let foreign = |column: &str, what: &str| ReadError::Foreign {
        file: file.to_owned(),
        table: table.name,
        column: column.to_owned(),
        what: what.to_owned(),
    };
    let mut rows = 0;
    for batch in open(file, table, columns)? {
        let batch = batch.map_err(|error| damaged(error.into()))?;
        let cells: Vec<Cells<'_>> = columns
            .iter()
            .map(|column| Cells::new(&batch, column).map_err(|what| foreign(column.name, &what)))
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            let values: Vec<Value<'_>> = cells.iter().map(|cells| cells.get(row)).collect();
            rows += 1;
            if visit(&values).is_break() {
                return Ok((rows, ControlFlow::Break(())));
            }
        }
    }
    Ok((rows, ControlFlow::Continue(())))
}

pub(crate) fn open(file: &Path, table: &'static Table, columns: &[Column]) -> Result<ParquetRecordBatchReader, ReadError> {
    let handle = File::open(file).map_err(|error| ReadError::File { file: file.to_owned(), source: error.into() })?;
    open_in(handle, (file, table), columns)
}

/// The same of a file's bytes, wherever they are; `file` names it in errors.
pub(crate) fn open_in<R: ChunkReader + 'static>(
    source: R,
    (file, table): (&Path, &'static Table),
    columns: &[Column],
) -> Result<ParquetRecordBatchReader, ReadError> {
    let builder = checked(source, (file, table))?;
    let mask = ProjectionMask::columns(builder.metadata().file_metadata().schema_descr(), columns.iter().map(|column| column.name));
    builder.with_projection(mask).build().map_err(|source| ReadError::File { file: file.to_owned(), source })
}

/// Reads the end of a file, where it says what it is.
pub(crate) fn checked<R: ChunkReader + 'static>(
    source: R,
    (file, table): (&Path, &'static Table),
) -> Result<ParquetRecordBatchReaderBuilder<R>, ReadError> {
    let damaged = |source: ParquetError| ReadError::File { file: file.to_owned(), source };
    let builder = ParquetRecordBatchReaderBuilder::try_new(source).map_err(damaged)?;
    let pairs = builder.metadata().file_metadata().key_value_metadata();
    let named = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == TABLE_KEY)?.value.clone());
    if named.as_deref() != Some(table.name) {
        let what = named.map_or("is in a file without the table's name".to_owned(), |name| format!("is in a file of table `{name}`"));
        return Err(ReadError::Foreign { file: file.to_owned(), table: table.name, column: TABLE_KEY.to_owned(), what });
    }
    Ok(builder)
}

/// One column of a batch.
pub(crate) enum Cells<'a> {
    I64(&'a Int64Array),
    U64(&'a UInt64Array),
    I32(&'a Int32Array),
    F64(&'a Float64Array),
    F32(&'a Float32Array),
    Bool(&'a BooleanArray),
    Text(&'a StringArray),
    /// The lists and all their elements.
    F32List(&'a ListArray, &'a Float32Array),
    /// A later column that this file does not have yet.
    Absent,
}

impl<'a> Cells<'a> {
    pub(crate) fn new(batch: &'a RecordBatch, column: &Column) -> Result<Self, String> {
        let Some(array) = batch.column_by_name(column.name) else {
            return if column.nullable { Ok(Self::Absent) } else { Err("is missing".to_owned()) };
        };
        let typed = match column.ty {
            ColumnType::I64 => cast(array).map(Self::I64),
            ColumnType::U64 => cast(array).map(Self::U64),
            ColumnType::I32 => cast(array).map(Self::I32),
            ColumnType::F64 => cast(array).map(Self::F64),
            ColumnType::F32 => cast(array).map(Self::F32),
            ColumnType::Bool => cast(array).map(Self::Bool),
            ColumnType::Text => cast(array).map(Self::Text),
            ColumnType::F32List => cast::<ListArray>(array).and_then(|lists| Some(Self::F32List(lists, cast(lists.values())?))),
        };
        typed.ok_or_else(|| format!("is {} instead of {:?}", type_of(array), column.ty))
    }

    pub(crate) fn get(&self, row: usize) -> Value<'a> {
        match *self {
            Self::I64(array) => primitive(array, row, Value::I64),
            Self::U64(array) => primitive(array, row, Value::U64),
            Self::I32(array) => primitive(array, row, Value::I32),
            Self::F64(array) => primitive(array, row, Value::F64),
            Self::F32(array) => primitive(array, row, Value::F32),
            Self::Bool(array) if array.is_valid(row) => Value::Bool(array.value(row)),
            Self::Text(array) if array.is_valid(row) => Value::Text(array.value(row)),
            Self::F32List(lists, elements) if lists.is_valid(row) => {
                let (from, to) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
                Value::F32List(&elements.values()[from..to])
            }
            Self::Bool(_) | Self::Text(_) | Self::F32List(..) | Self::Absent => Value::Null,
        }
    }
}

fn cast<T: Array + 'static>(array: &ArrayRef) -> Option<&T> {
    array.as_any().downcast_ref()
}

fn primitive<'a, T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, row: usize, value: fn(T::Native) -> Value<'a>) -> Value<'a> {
    if array.is_valid(row) { value(array.value(row)) } else { Value::Null }
}

fn type_of(array: &ArrayRef) -> &DataType {
    array.data_type()
}
