//! Rows as `COPY ... FROM STDIN (FORMAT binary)` wants them.
//!
//! The layout is that of PostgreSQL's documentation of `COPY`: a head, for each row the number of its fields and for each field its length
//! (-1 for null) and its bytes in network order, and a trailer.

use farthing_contract::log::{ColumnType, Value};

/// Signature, no flags, no extension.
const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// In the place of a number of fields.
const TRAILER: &[u8] = &(-1i16).to_be_bytes();
/// Object id of the type `real`, of the elements of arrays.
const REAL: u32 = 700;

/// The type that a column has in PostgreSQL. There are no unsigned integers: `bigint` has the same 64 bits, and `to_hex` shows them as headers do.
pub const fn type_of(ty: ColumnType) -> &'static str {
    match ty {
        ColumnType::I64 | ColumnType::U64 => "bigint",
        ColumnType::I32 => "integer",
        ColumnType::F64 => "double precision",
        ColumnType::F32 => "real",
        ColumnType::Bool => "boolean",
        ColumnType::Text => "text",
        ColumnType::F32List => "real[]",
    }
}

/// Rows on their way.
#[derive(Debug)]
pub struct Encoder {
    bytes: Vec<u8>,
    altered: u64,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { bytes: HEAD.to_vec(), altered: 0 }
    }
}

impl Encoder {
    /// Appends a row.
    pub fn row(&mut self, cells: &[Value<'_>]) {
        // No table has so many columns.
        let fields = i16::try_from(cells.len()).unwrap_or(i16::MAX);
        self.bytes.extend(fields.to_be_bytes());
        cells.iter().for_each(|cell| self.cell(cell));
    }

    /// Appends the trailer: nothing may follow.
    pub fn end(&mut self) {
        self.bytes.extend(TRAILER);
    }

    /// Bytes that can be taken.
    pub fn pending(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes so far; further rows begin anew.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Texts with a zero character, which PostgreSQL has not; they have U+FFFD in its place.
    pub const fn altered(&self) -> u64 {
        self.altered
    }

    fn cell(&mut self, cell: &Value<'_>) {
        match *cell {
            Value::Null => self.bytes.extend((-1i32).to_be_bytes()),
            Value::I64(value) => self.field(&value.to_be_bytes()),
            Value::U64(value) => self.field(&value.to_be_bytes()),
            Value::I32(value) => self.field(&value.to_be_bytes()),
            Value::F64(value) => self.field(&value.to_be_bytes()),
            Value::F32(value) => self.field(&value.to_be_bytes()),
            Value::Bool(value) => self.field(&[u8::from(value)]),
            Value::Text(text) if text.contains('\0') => {
                self.altered += 1;
                self.field(text.replace('\0', "\u{fffd}").as_bytes());
            }
            Value::Text(text) => self.field(text.as_bytes()),
            Value::F32List(list) => self.list(list),
        }
    }

    fn field(&mut self, bytes: &[u8]) {
        self.bytes.extend(length(bytes.len()));
        self.bytes.extend(bytes);
    }

    /// An array: dimensions, no nulls, the elements' type, and of the one dimension length and first index.
    fn list(&mut self, list: &[f32]) {
        let dimensions = u32::from(!list.is_empty());
        self.bytes.extend(length(12 + 8 * dimensions as usize + 8 * list.len()));
        for number in [dimensions, 0, REAL] {
            self.bytes.extend(number.to_be_bytes());
        }
        if !list.is_empty() {
            self.bytes.extend(length(list.len()));
            self.bytes.extend(1u32.to_be_bytes());
        }
        for element in list {
            self.field(&element.to_be_bytes());
        }
    }
}

/// A length as it is sent. A field that is too long for the format is refused by the server, not cut: the length is wrong then.
fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written out by hand after the documentation of COPY; that a server reads them is shown in `tests/postgres.rs`.
    #[test]
    fn rows_are_laid_out_as_documented() {
        let mut encoder = Encoder::default();
        assert_eq!(encoder.take().len(), 11 + 4 + 4);
        encoder.row(&[Value::Null, Value::U64(u64::MAX), Value::Bool(true), Value::Text("é")]);
        let row = [&[0, 4][..], &[255; 4], &[0, 0, 0, 8], &[255; 8], &[0, 0, 0, 1, 1], &[0, 0, 0, 2], "é".as_bytes()].concat();
        assert_eq!(encoder.take(), row);
        encoder.row(&[Value::F32List(&[1.0]), Value::F32List(&[])]);
        let list =
            [&[0, 0, 0, 28, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 188, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4][..], &1f32.to_be_bytes()].concat();
        let none = [0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 188];
        assert_eq!(encoder.take(), [&[0, 2][..], &list, &none].concat());
        encoder.end();
        assert_eq!(encoder.take(), [255, 255]);
    }

    #[test]
    fn what_postgresql_cannot_hold_is_altered_and_counted() {
        let mut encoder = Encoder::default();
        encoder.take();
        encoder.row(&[Value::Text("a\0b")]);
        assert_eq!((encoder.take(), encoder.altered()), ([&[0, 1, 0, 0, 0, 5][..], "a\u{fffd}b".as_bytes()].concat(), 1));
    }
}
