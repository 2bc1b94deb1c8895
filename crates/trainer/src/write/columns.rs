//! Rows of a table as the columns of a Parquet file.
//!
//! Written with the same library as the proxy's own log, column by column: what polars needs to make a frame of rows and a file of the
//! frame costs several times as much for tables of which most cells are absent.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use farthing_contract::log::{Column, ColumnType, Row, SCHEMA_VERSION, TABLE_KEY, VERSION_KEY, Value};
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type, TypePtr};

/// Writes rows as one file: all columns in the order and type of the schema, each optional.
pub(super) fn write<R: Row>(file: File, rows: &[R]) -> Result<()> {
    let schema = R::TABLE.columns;
    let mut columns: Vec<Filled> = schema.iter().map(|_| Filled::default()).collect();
    for (n, row) in rows.iter().enumerate() {
        row.cells(&mut |index, value| {
            let (Some(filled), Some(column)) = (columns.get_mut(index), schema.get(index)) else { return };
            if value != Value::Null {
                filled.push(column.ty, n, value);
            }
        });
    }
    let fields = schema.iter().map(field).collect::<Result<Vec<_>>>()?;
    let root = Type::group_type_builder("schema").with_fields(fields).build()?;
    let mut writer = SerializedFileWriter::new(file, Arc::new(root), Arc::new(properties(R::TABLE.name, schema)))?;
    let mut group = writer.next_row_group()?;
    for filled in columns {
        let Some(mut column) = group.next_column()? else { return Err(ParquetError::General("more columns than the schema has".into())) };
        filled.write(column.untyped(), rows.len())?;
        column.close()?;
    }
    group.close()?;
    writer.close().map(|_| ())
}

fn properties(table: &str, schema: &[Column]) -> WriterProperties {
    let pair = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let metadata = vec![pair(VERSION_KEY, SCHEMA_VERSION.to_string()), pair(TABLE_KEY, table.to_owned())];
    let builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(metadata))
        .set_created_by(format!("farthing {}", env!("CARGO_PKG_VERSION")))
        .set_dictionary_enabled(false);
    schema.iter().fold(builder, encoding).build()
}

/// Texts are names that repeat; integers are times and amounts, near to the one before; digests are neither.
fn encoding(builder: WriterPropertiesBuilder, column: &Column) -> WriterPropertiesBuilder {
    let path = ColumnPath::from(column.name);
    match column.ty {
        ColumnType::Text => {
            builder.set_column_dictionary_enabled(path.clone(), true).set_column_statistics_enabled(path, EnabledStatistics::None)
        }
        ColumnType::I64 | ColumnType::I32 => builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
        _ => builder,
    }
}

fn field(column: &Column) -> Result<TypePtr> {
    let of = |physical, logical| {
        let builder = Type::primitive_type_builder(column.name, physical).with_repetition(Repetition::OPTIONAL);
        builder.with_logical_type(logical).build().map(Arc::new)
    };
    match column.ty {
        ColumnType::I64 => of(Physical::INT64, None),
        ColumnType::U64 => of(Physical::INT64, Some(LogicalType::integer(64, false))),
        ColumnType::I32 => of(Physical::INT32, None),
        ColumnType::F64 => of(Physical::DOUBLE, None),
        ColumnType::F32 => of(Physical::FLOAT, None),
        ColumnType::Bool => of(Physical::BOOLEAN, None),
        ColumnType::Text => of(Physical::BYTE_ARRAY, Some(LogicalType::String)),
        ColumnType::F32List => {
            let element = Type::primitive_type_builder("element", Physical::FLOAT).with_repetition(Repetition::OPTIONAL).build()?;
            let list = Type::group_type_builder("list").with_repetition(Repetition::REPEATED).with_fields(vec![Arc::new(element)]);
            let whole = Type::group_type_builder(column.name).with_repetition(Repetition::OPTIONAL);
            whole.with_logical_type(Some(LogicalType::List)).with_fields(vec![Arc::new(list.build()?)]).build().map(Arc::new)
        }
    }
}

/// The cells of a column that are there.
#[derive(Default)]
enum Cells {
    #[default]
    None,
    I64(Vec<i64>),
    I32(Vec<i32>),
    F64(Vec<f64>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    /// All texts in a row, and where each ends.
    Text(Vec<u8>, Vec<usize>),
    /// All lists in a row, and how long each is.
    List(Vec<f32>, Vec<usize>),
}

/// A column in the making; absent cells cost nothing.
#[derive(Default)]
struct Filled {
    /// The rows that have a cell.
    rows: Vec<usize>,
    cells: Cells,
}

impl Filled {
    fn push(&mut self, ty: ColumnType, row: usize, value: Value<'_>) {
        if matches!(self.cells, Cells::None) {
            self.cells = Cells::of(ty);
        }
        if self.cells.push(value) {
            self.rows.push(row);
        }
    }

    fn write(self, writer: &mut ColumnWriter<'_>, rows: usize) -> Result<()> {
        if let Cells::List(values, lengths) = &self.cells {
            return write_lists(writer, rows, &self.rows, (values, lengths));
        }
        let mut levels = vec![0i16; rows];
        for row in &self.rows {
            if let Some(level) = levels.get_mut(*row) {
                *level = 1;
            }
        }
        let levels = Some(levels.as_slice());
        match (writer, self.cells) {
            (ColumnWriter::Int64ColumnWriter(w), Cells::I64(values)) => w.write_batch(&values, levels, None),
            (ColumnWriter::Int32ColumnWriter(w), Cells::I32(values)) => w.write_batch(&values, levels, None),
            (ColumnWriter::DoubleColumnWriter(w), Cells::F64(values)) => w.write_batch(&values, levels, None),
            (ColumnWriter::FloatColumnWriter(w), Cells::F32(values)) => w.write_batch(&values, levels, None),
            (ColumnWriter::BoolColumnWriter(w), Cells::Bool(values)) => w.write_batch(&values, levels, None),
            (ColumnWriter::ByteArrayColumnWriter(w), Cells::Text(bytes, ends)) => w.write_batch(&texts(bytes, &ends), levels, None),
            (writer, _) => write_nothing(writer, rows),
        }
        .map(|_| ())
    }
}

impl Cells {
    const fn of(ty: ColumnType) -> Self {
        match ty {
            ColumnType::I64 | ColumnType::U64 => Self::I64(Vec::new()),
            ColumnType::I32 => Self::I32(Vec::new()),
            ColumnType::F64 => Self::F64(Vec::new()),
            ColumnType::F32 => Self::F32(Vec::new()),
            ColumnType::Bool => Self::Bool(Vec::new()),
            ColumnType::Text => Self::Text(Vec::new(), Vec::new()),
            ColumnType::F32List => Self::List(Vec::new(), Vec::new()),
        }
    }

    /// Whether the value is of the column's type and was taken.
    fn push(&mut self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::I64(cells), Value::I64(v)) => cells.push(v),
            (Self::I64(cells), Value::U64(v)) => cells.push(v.cast_signed()),
            (Self::I32(cells), Value::I32(v)) => cells.push(v),
            (Self::F64(cells), Value::F64(v)) => cells.push(v),
            (Self::F32(cells), Value::F32(v)) => cells.push(v),
            (Self::Bool(cells), Value::Bool(v)) => cells.push(v),
            (Self::Text(bytes, ends), Value::Text(v)) => {
                bytes.extend_from_slice(v.as_bytes());
                ends.push(bytes.len());
            }
            (Self::List(values, lengths), Value::F32List(v)) => {
                values.extend_from_slice(v);
                lengths.push(v.len());
            }
            _ => return false,
        }
        true
    }
}

fn texts(bytes: Vec<u8>, ends: &[usize]) -> Vec<ByteArray> {
    let (bytes, mut start) = (Bytes::from(bytes), 0);
    let text = |end: &usize| ByteArray::from(bytes.slice(std::mem::replace(&mut start, *end)..*end));
    ends.iter().map(text).collect()
}

/// A column without a cell.
fn write_nothing(writer: &mut ColumnWriter<'_>, rows: usize) -> Result<usize> {
    let (levels, starts) = (vec![0i16; rows], vec![0i16; rows]);
    let levels = Some(levels.as_slice());
    match writer {
        ColumnWriter::Int64ColumnWriter(w) => w.write_batch(&[], levels, None),
        ColumnWriter::Int32ColumnWriter(w) => w.write_batch(&[], levels, None),
        ColumnWriter::DoubleColumnWriter(w) => w.write_batch(&[], levels, None),
        ColumnWriter::BoolColumnWriter(w) => w.write_batch(&[], levels, None),
        ColumnWriter::ByteArrayColumnWriter(w) => w.write_batch(&[], levels, None),
        ColumnWriter::FloatColumnWriter(w) => {
            let repeats = w.get_descriptor().max_rep_level() > 0;
            w.write_batch(&[], levels, repeats.then_some(starts.as_slice()))
        }
        _ => Err(ParquetError::General("a column of a type that no table has".into())),
    }
}

/// Lists: level 0 is an absent one, 1 an empty one, 3 an element; an element that begins no row repeats.
fn write_lists(writer: &mut ColumnWriter<'_>, rows: usize, at: &[usize], (values, lengths): (&[f32], &[usize])) -> Result<()> {
    let ColumnWriter::FloatColumnWriter(writer) = writer else { return Err(ParquetError::General("a list of something else".into())) };
    let (mut levels, mut repeats) = (Vec::with_capacity(rows + values.len()), Vec::with_capacity(rows + values.len()));
    let mut lists = at.iter().zip(lengths).peekable();
    for row in 0..rows {
        repeats.push(0i16);
        let Some((_, length)) = lists.next_if(|(at, _)| **at == row) else {
            levels.push(0i16);
            continue;
        };
        levels.push(if *length == 0 { 1 } else { 3 });
        levels.resize(levels.len() + length.saturating_sub(1), 3);
        repeats.resize(levels.len(), 1);
    }
    writer.write_batch(values, Some(&levels), Some(&repeats)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use farthing_contract::log::{Decision, OutcomeRow, Request};
    use polars::prelude::{DataType, SerReader};
    use polars_io::parquet::read::ParquetReader;

    use super::*;

    fn read_back<R: Row>(rows: &[R]) -> polars::prelude::DataFrame {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.parquet");
        write(File::create(&path).unwrap(), rows).unwrap();
        ParquetReader::new(File::open(&path).unwrap()).finish().unwrap()
    }

    fn types<R: Row>(rows: &[R]) {
        let frame = read_back(rows);
        assert_eq!((frame.height(), frame.width()), (rows.len(), R::TABLE.columns.len()));
        for column in R::TABLE.columns {
            assert_eq!(*frame.column(column.name).unwrap().dtype(), crate::read::data_type(column.ty), "{}", column.name);
        }
    }

    #[test]
    fn every_table_is_read_back_with_its_types() {
        types(&[Request::default(), Request::default()]);
        types(&[farthing_contract::log::CallRow::default()]);
        types(&[OutcomeRow::default()]);
        types::<Decision>(&[]);
    }

    #[test]
    fn cells_are_read_back_and_absent_ones_stay_absent() {
        let request = |n: u64| Request {
            request_id: u64::MAX - n,
            route: format!("route-{n}").into(),
            bytes_out: n.is_multiple_of(2).then_some(n as i64 - 1),
            ts_ns: [i64::MIN, i64::MAX, 0][n as usize],
            ..Request::default()
        };
        let frame = read_back(&[request(0), request(1), request(2)]);
        assert_eq!(frame.column("request_id").unwrap().u64().unwrap().get(2), Some(u64::MAX - 2));
        assert_eq!(frame.column("route").unwrap().str().unwrap().get(1), Some("route-1"));
        let times: Vec<_> = frame.column("ts_ns").unwrap().i64().unwrap().iter().collect();
        assert_eq!(times, [Some(i64::MIN), Some(i64::MAX), Some(0)]);
        let bytes: Vec<_> = frame.column("bytes_out").unwrap().i64().unwrap().iter().collect();
        assert_eq!(bytes, [Some(-1), None, Some(1)]);
    }

    #[test]
    fn lists_keep_their_lengths() {
        let lists = [vec![1.0, f32::NAN, 3.0], vec![], vec![4.0]];
        let rows: Vec<Decision> = lists.iter().map(|l| Decision { features: l.clone(), ..Decision::default() }).collect();
        let frame = read_back(&rows);
        let column = frame.column("features").unwrap();
        assert_eq!(*column.dtype(), DataType::List(Box::new(DataType::Float32)));
        for (n, list) in lists.iter().enumerate() {
            let found =
                column.list().unwrap().get_as_series(n).map(|s| s.f32().unwrap().iter().flatten().map(f32::to_bits).collect::<Vec<_>>());
            assert_eq!(found.unwrap_or_default(), list.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        }
    }
}
