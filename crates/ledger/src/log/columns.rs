//! Rows into columns, for any table of the contract.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, BooleanBuilder, Float32Builder, Float64Builder, Int32Builder, Int64Builder, ListBuilder,
    StringDictionaryBuilder, UInt64Builder, new_null_array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use farthing_contract::log::{Column, ColumnType, Row, Table, Value};

use crate::journal::{AnyRow, RawRow};

/// A row that adds itself to the columns of its table.
pub(crate) trait Gather: AnyRow {
    fn gather(&self, columns: &mut Columns);
}

impl<R: Row> Gather for R {
    fn gather(&self, columns: &mut Columns) {
        columns.rows += 1;
        self.cells(&mut |index, value| columns.cell(index, value));
    }
}

impl Gather for RawRow<'_> {
    fn gather(&self, columns: &mut Columns) {
        columns.rows += 1;
        self.visit(&mut |index, value| columns.cell(index, value));
    }
}

/// Columns of one table under construction. Most cells of a row are absent: a column is filled up to a row only when that brings a value.
pub(crate) struct Columns {
    table: &'static Table,
    schema: SchemaRef,
    builders: Vec<Builder>,
    rows: usize,
}

enum Builder {
    I64(Int64Builder),
    U64(UInt64Builder),
    I32(Int32Builder),
    F64(Float64Builder),
    F32(Float32Builder),
    Bool(BooleanBuilder),
    Text(Names),
    F32List(ListBuilder<Float32Builder>),
}

/// Names repeat a lot: each is held once, and one that comes again and again is looked up once.
#[derive(Default)]
struct Names {
    builder: StringDictionaryBuilder<Int32Type>,
    /// The last name ...
    last: String,
    /// ... and how often it is to be added still.
    run: usize,
}

impl Names {
    fn len(&self) -> usize {
        self.builder.len() + self.run
    }

    fn append(&mut self, missing: usize, name: &str) {
        if missing > 0 || self.run == 0 || self.last != name {
            self.settle();
            self.builder.append_nulls(missing);
            self.last.clear();
            self.last.push_str(name);
        }
        self.run += 1;
    }

    fn settle(&mut self) -> &mut StringDictionaryBuilder<Int32Type> {
        if self.run > 0 {
            self.builder.append_values(&self.last, std::mem::take(&mut self.run));
        }
        &mut self.builder
    }
}

impl Columns {
    pub(super) fn new(table: &'static Table) -> Self {
        let builders = table.columns.iter().map(|column| Builder::new(column.ty)).collect();
        Self { table, schema: schema(table), builders, rows: 0 }
    }

    /// Takes a cell of the last row. Inlined whatever its size: most callers know its type.
    #[inline(always)]
    fn cell(&mut self, index: usize, value: Value<'_>) {
        if value != Value::Null
            && let Some(builder) = self.builders.get_mut(index)
        {
            builder.append(self.rows - 1, value);
        }
    }

    /// The gathered rows.
    ///
    /// # Errors
    /// A row broke its table's declaration: a cell was missing, of another type, or absent where it may not be.
    pub(super) fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let arrays = self.arrays(Builder::finish);
        RecordBatch::try_new(self.schema, arrays)
    }

    /// A copy of the rows gathered so far.
    ///
    /// # Errors
    /// As [`Columns::finish`].
    pub(super) fn copy(&mut self) -> Result<RecordBatch, ArrowError> {
        let arrays = self.arrays(Builder::copy);
        RecordBatch::try_new(self.schema.clone(), arrays)
    }

    /// Absent is what no value came for; a column that may not be absent then refuses the batch. Columns without any value, which are many,
    /// share what takes their place.
    fn arrays(&mut self, array: fn(&mut Builder) -> ArrayRef) -> Vec<ArrayRef> {
        let (rows, mut absent) = (self.rows, Vec::<ArrayRef>::new());
        let columns = self.builders.iter_mut().zip(self.schema.fields());
        let arrays = columns.map(|(builder, field)| {
            if builder.len() > 0 {
                builder.fill(rows);
                return array(builder);
            }
            let known = absent.iter().find(|array| array.data_type() == field.data_type()).cloned();
            known.unwrap_or_else(|| {
                let array = new_null_array(field.data_type(), rows);
                absent.push(array.clone());
                array
            })
        });
        arrays.collect()
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) const fn table(&self) -> &'static Table {
        self.table
    }
}

/// How many rows a builder lacks before the one at `place`.
macro_rules! missing {
    ($builder:ident, $place:ident) => {
        $place.saturating_sub($builder.len())
    };
}

/// Adds a value for the row at `place`, and that those before it have none.
macro_rules! append {
    ($builder:ident, $place:ident, $value:expr) => {{
        let missing = missing!($builder, $place);
        if missing > 0 {
            $builder.append_nulls(missing);
        }
        $builder.append_value($value);
    }};
}

impl Builder {
    fn new(ty: ColumnType) -> Self {
        match ty {
            ColumnType::I64 => Self::I64(Int64Builder::new()),
            ColumnType::U64 => Self::U64(UInt64Builder::new()),
            ColumnType::I32 => Self::I32(Int32Builder::new()),
            ColumnType::F64 => Self::F64(Float64Builder::new()),
            ColumnType::F32 => Self::F32(Float32Builder::new()),
            ColumnType::Bool => Self::Bool(BooleanBuilder::new()),
            ColumnType::Text => Self::Text(Names::default()),
            ColumnType::F32List => Self::F32List(ListBuilder::new(Float32Builder::new()).with_field(element())),
        }
    }

    #[inline(always)]
    fn append(&mut self, place: usize, value: Value<'_>) {
        match (self, value) {
            (Self::I64(builder), Value::I64(v)) => append!(builder, place, v),
            (Self::U64(builder), Value::U64(v)) => append!(builder, place, v),
            (Self::I32(builder), Value::I32(v)) => append!(builder, place, v),
            (Self::F64(builder), Value::F64(v)) => append!(builder, place, v),
            (Self::F32(builder), Value::F32(v)) => append!(builder, place, v),
            (Self::Bool(builder), Value::Bool(v)) => append!(builder, place, v),
            (Self::Text(names), Value::Text(v)) => names.append(missing!(names, place), v),
            (Self::F32List(builder), Value::F32List(v)) => {
                builder.append_nulls(missing!(builder, place));
                builder.values().append_slice(v);
                builder.append(true);
            }
            // Where the type is wrong it is as if there were no value.
            _ => {}
        }
    }

    /// Rows so far.
    fn len(&self) -> usize {
        match self {
            Self::I64(builder) => builder.len(),
            Self::U64(builder) => builder.len(),
            Self::I32(builder) => builder.len(),
            Self::F64(builder) => builder.len(),
            Self::F32(builder) => builder.len(),
            Self::Bool(builder) => builder.len(),
            Self::Text(names) => names.len(),
            Self::F32List(builder) => builder.len(),
        }
    }

    /// Fills up to so many rows.
    fn fill(&mut self, rows: usize) {
        match self {
            Self::I64(builder) => builder.append_nulls(missing!(builder, rows)),
            Self::U64(builder) => builder.append_nulls(missing!(builder, rows)),
            Self::I32(builder) => builder.append_nulls(missing!(builder, rows)),
            Self::F64(builder) => builder.append_nulls(missing!(builder, rows)),
            Self::F32(builder) => builder.append_nulls(missing!(builder, rows)),
            Self::Bool(builder) => builder.append_nulls(missing!(builder, rows)),
            Self::Text(names) => {
                let missing = missing!(names, rows);
                names.settle().append_nulls(missing);
            }
            Self::F32List(builder) => builder.append_nulls(missing!(builder, rows)),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::I64(builder) => Arc::new(builder.finish()),
            Self::U64(builder) => Arc::new(builder.finish()),
            Self::I32(builder) => Arc::new(builder.finish()),
            Self::F64(builder) => Arc::new(builder.finish()),
            Self::F32(builder) => Arc::new(builder.finish()),
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Text(names) => ArrayBuilder::finish(&mut names.builder),
            Self::F32List(builder) => Arc::new(builder.finish()),
        }
    }

    fn copy(&mut self) -> ArrayRef {
        match self {
            Self::I64(builder) => Arc::new(builder.finish_cloned()),
            Self::U64(builder) => Arc::new(builder.finish_cloned()),
            Self::I32(builder) => Arc::new(builder.finish_cloned()),
            Self::F64(builder) => Arc::new(builder.finish_cloned()),
            Self::F32(builder) => Arc::new(builder.finish_cloned()),
            Self::Bool(builder) => Arc::new(builder.finish_cloned()),
            Self::Text(names) => ArrayBuilder::finish_cloned(&names.builder),
            Self::F32List(builder) => Arc::new(builder.finish_cloned()),
        }
    }
}

fn element() -> Field {
    Field::new("element", DataType::Float32, false)
}

/// The columns as they stand in files.
pub(crate) fn plain_schema(table: &Table) -> SchemaRef {
    of(table, &DataType::Utf8)
}

fn schema(table: &Table) -> SchemaRef {
    of(table, &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)))
}

fn of(table: &Table, text: &DataType) -> SchemaRef {
    let field = |column: &Column| {
        let ty = match column.ty {
            ColumnType::I64 => DataType::Int64,
            ColumnType::U64 => DataType::UInt64,
            ColumnType::I32 => DataType::Int32,
            ColumnType::F64 => DataType::Float64,
            ColumnType::F32 => DataType::Float32,
            ColumnType::Bool => DataType::Boolean,
            ColumnType::Text => text.clone(),
            ColumnType::F32List => DataType::List(Arc::new(element())),
        };
        Field::new(column.name, ty, column.nullable)
    };
    Arc::new(Schema::new(table.columns.iter().map(field).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, StringArray};
    use arrow::datatypes::Int64Type;
    use farthing_contract::log::Request;

    use super::*;

    /// A row with what is absent, and what repeats, in no regular order.
    fn row(n: i64) -> Request {
        let name = |n: i64| ["a", "b", "a", "a", ""][n as usize % 5];
        Request {
            ts_ns: n,
            tenant: name(n * n / 3).into(),
            team: (n * n % 7 < 3).then(|| name(n / 4).into()),
            trace_id: (n > 90 && n % 11 == 0).then(|| format!("{n:x}").into()),
            bytes_out: (n % 3 != 1).then_some(n * n),
            holdout: n % 2 == 0,
            ..Request::default()
        }
    }

    fn numbers(batch: &RecordBatch, name: &str) -> Vec<Option<i64>> {
        batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().iter().collect()
    }

    fn texts(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
        let column = batch.column_by_name(name).unwrap().as_dictionary::<Int32Type>().clone();
        column.downcast_dict::<StringArray>().unwrap().into_iter().map(|text| text.map(str::to_owned)).collect()
    }

    fn matches(batch: &RecordBatch, rows: i64) {
        let all = || (0..rows).map(row);
        let text = |text: &Arc<str>| text.to_string();
        assert_eq!(numbers(batch, "ts_ns"), all().map(|row| Some(row.ts_ns)).collect::<Vec<_>>());
        assert_eq!(numbers(batch, "bytes_out"), all().map(|row| row.bytes_out).collect::<Vec<_>>());
        assert_eq!(texts(batch, "tenant"), all().map(|row| Some(text(&row.tenant))).collect::<Vec<_>>());
        assert_eq!(texts(batch, "team"), all().map(|row| row.team.as_ref().map(text)).collect::<Vec<_>>());
        assert_eq!(texts(batch, "trace_id"), all().map(|row| row.trace_id.as_ref().map(text)).collect::<Vec<_>>());
        assert_eq!(batch.column_by_name("service").unwrap().null_count() as i64, rows);
        assert_eq!(batch.column_by_name("holdout").unwrap().as_boolean().true_count() as i64, (rows + 1) / 2);
    }

    #[test]
    fn what_is_absent_stands_where_it_is_absent_however_often_rows_are_copied() {
        let mut columns = Columns::new(Request::TABLE);
        for n in 0..200 {
            row(n).gather(&mut columns);
            if n % 37 == 0 {
                matches(&columns.copy().unwrap(), n + 1);
            }
        }
        matches(&columns.finish().unwrap(), 200);
    }
}
