//! Rows into columns, for any table of the contract.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Float32Builder, Float64Builder, Int32Builder, Int64Builder, ListBuilder,
    StringDictionaryBuilder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use farthing_contract::log::{Column, ColumnType, Table, Value};

use crate::journal::AnyRow;

/// Columns of one table under construction.
pub(super) struct Columns {
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
    /// Names repeat a lot: each is held once.
    Text(StringDictionaryBuilder<Int32Type>),
    F32List(ListBuilder<Float32Builder>),
}

impl Columns {
    pub(super) fn new(table: &'static Table) -> Self {
        let builders = table.columns.iter().map(|column| Builder::new(column.ty)).collect();
        Self { table, schema: schema(table), builders, rows: 0 }
    }

    pub(super) fn push(&mut self, row: &dyn AnyRow) {
        self.rows += 1;
        let builders = &mut self.builders;
        row.visit(&mut |index, value| {
            if let Some(builder) = builders.get_mut(index) {
                builder.append(value);
            }
        });
    }

    /// The gathered rows.
    ///
    /// # Errors
    /// A row broke its table's declaration: a cell was missing, of another type, or absent where it may not be.
    pub(super) fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let arrays = self.builders.iter_mut().map(Builder::finish).collect();
        RecordBatch::try_new(self.schema, arrays)
    }

    /// A copy of the rows gathered so far.
    ///
    /// # Errors
    /// As [`Columns::finish`].
    pub(super) fn copy(&self) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(self.schema.clone(), self.builders.iter().map(Builder::copy).collect())
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) const fn table(&self) -> &'static Table {
        self.table
    }
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
            ColumnType::Text => Self::Text(StringDictionaryBuilder::new()),
            ColumnType::F32List => Self::F32List(ListBuilder::new(Float32Builder::new()).with_field(element())),
        }
    }

    fn append(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::I64(builder), Value::I64(v)) => builder.append_value(v),
            (Self::U64(builder), Value::U64(v)) => builder.append_value(v),
            (Self::I32(builder), Value::I32(v)) => builder.append_value(v),
            (Self::F64(builder), Value::F64(v)) => builder.append_value(v),
            (Self::F32(builder), Value::F32(v)) => builder.append_value(v),
            (Self::Bool(builder), Value::Bool(v)) => builder.append_value(v),
            (Self::Text(builder), Value::Text(v)) => builder.append_value(v),
            (Self::F32List(builder), Value::F32List(v)) => {
                builder.values().append_slice(v);
                builder.append(true);
            }
            // Also where the type is wrong: a column that may not be null then refuses the batch.
            (builder, _) => builder.append_null(),
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::I64(builder) => builder.append_null(),
            Self::U64(builder) => builder.append_null(),
            Self::I32(builder) => builder.append_null(),
            Self::F64(builder) => builder.append_null(),
            Self::F32(builder) => builder.append_null(),
            Self::Bool(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::F32List(builder) => builder.append(false),
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
            Self::Text(builder) => ArrayBuilder::finish(builder),
            Self::F32List(builder) => Arc::new(builder.finish()),
        }
    }

    fn copy(&self) -> ArrayRef {
        match self {
            Self::I64(builder) => Arc::new(builder.finish_cloned()),
            Self::U64(builder) => Arc::new(builder.finish_cloned()),
            Self::I32(builder) => Arc::new(builder.finish_cloned()),
            Self::F64(builder) => Arc::new(builder.finish_cloned()),
            Self::F32(builder) => Arc::new(builder.finish_cloned()),
            Self::Bool(builder) => Arc::new(builder.finish_cloned()),
            Self::Text(builder) => ArrayBuilder::finish_cloned(builder),
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
