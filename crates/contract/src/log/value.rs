//! Cells of log rows and their types.

use std::sync::Arc;

/// Type of a column, as in Arrow and Parquet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// 64-bit signed integer.
    I64,
    /// 64-bit unsigned integer.
    U64,
    /// 32-bit signed integer.
    I32,
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// Boolean.
    Bool,
    /// UTF-8 text (dictionary-encoded in the file).
    Text,
    /// List of 32-bit floats.
    F32List,
}

impl ColumnType {
    /// The name that people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::I64 => "int64",
            Self::U64 => "uint64",
            Self::I32 => "int32",
            Self::F64 => "double",
            Self::F32 => "float",
            Self::Bool => "bool",
            Self::Text => "text",
            Self::F32List => "list of float",
        }
    }
}

/// One cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Absent.
    Null,
    /// See [`ColumnType::I64`].
    I64(i64),
    /// See [`ColumnType::U64`].
    U64(u64),
    /// See [`ColumnType::I32`].
    I32(i32),
    /// See [`ColumnType::F64`].
    F64(f64),
    /// See [`ColumnType::F32`].
    F32(f32),
    /// See [`ColumnType::Bool`].
    Bool(bool),
    /// See [`ColumnType::Text`].
    Text(&'a str),
    /// See [`ColumnType::F32List`].
    F32List(&'a [f32]),
}

impl Value<'_> {
    /// The type; `None` for an absent cell.
    pub const fn ty(&self) -> Option<ColumnType> {
        Some(match self {
            Self::Null => return None,
            Self::I64(_) => ColumnType::I64,
            Self::U64(_) => ColumnType::U64,
            Self::I32(_) => ColumnType::I32,
            Self::F64(_) => ColumnType::F64,
            Self::F32(_) => ColumnType::F32,
            Self::Bool(_) => ColumnType::Bool,
            Self::Text(_) => ColumnType::Text,
            Self::F32List(_) => ColumnType::F32List,
        })
    }
}

/// A field type that can stand in a row.
pub trait Cell {
    /// Its column type.
    const TYPE: ColumnType;
    /// Whether it may be absent.
    const NULLABLE: bool = false;
    /// Its value.
    fn value(&self) -> Value<'_>;
    /// Bytes it refers to beyond its own size: of a text, of a list.
    #[inline]
    fn extent(&self) -> usize {
        0
    }
}

macro_rules! cell {
    ($($t:ty => $v:ident),+) => { $(impl Cell for $t {
        const TYPE: ColumnType = ColumnType::$v;
        #[inline]
        fn value(&self) -> Value<'_> { Value::$v(*self) }
    })+ };
}
cell!(i64 => I64, u64 => U64, i32 => I32, f64 => F64, f32 => F32, bool => Bool);

impl Cell for Arc<str> {
    const TYPE: ColumnType = ColumnType::Text;
    #[inline]
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
    fn extent(&self) -> usize {
        self.len()
    }
}
impl Cell for &'static str {
    const TYPE: ColumnType = ColumnType::Text;
    #[inline]
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
    fn extent(&self) -> usize {
        self.len()
    }
}
impl Cell for Vec<f32> {
    const TYPE: ColumnType = ColumnType::F32List;
    #[inline]
    fn value(&self) -> Value<'_> {
        Value::F32List(self)
    }
    fn extent(&self) -> usize {
        size_of_val(self.as_slice())
    }
}
impl<T: Cell> Cell for Option<T> {
    const TYPE: ColumnType = T::TYPE;
    const NULLABLE: bool = true;
    #[inline]
    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, Cell::value)
    }
    fn extent(&self) -> usize {
        self.as_ref().map_or(0, Cell::extent)
    }
}
