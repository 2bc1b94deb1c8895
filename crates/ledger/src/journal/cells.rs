//! A row as bytes, for any table of the contract.
//!
//! One bit for each column (set: there is a value), then the values in column order: `I64` and `I32` as varints with the
//! sign in the lowest bit, `U64`, `F64`, `F32` little endian, `Bool` one byte, `Text` its length as a varint and its bytes,
//! `F32List` its length as a varint and its elements.

use farthing_contract::log::{Column, ColumnType, Table, Value};

use super::AnyRow;

/// Writes a row behind `out`; `visit` hands each of its cells to [`Put::cell`].
///
/// # Errors
/// The name of the first column for which the row breaks its table's declaration; nothing is written then.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, table: &Table, visit: impl FnOnce(&mut Put<'_>)) -> Result<(), &'static str> {
    let (start, count) = (out.len(), table.columns.len());
    out.resize(start + count.div_ceil(8), 0);
    let mut put = Put { out, columns: table.columns, start, next: 0, wrong: None };
    visit(&mut put);
    let Put { next, wrong, .. } = put;
    match wrong.or((next != count).then_some(next)) {
        None => Ok(()),
        Some(index) => {
            out.truncate(start);
            Err(table.columns.get(index).map_or("(unknown)", |column| column.name))
        }
    }
}

/// A row on its way into bytes.
pub(crate) struct Put<'a> {
    out: &'a mut Vec<u8>,
    columns: &'static [Column],
    /// Where its bits begin.
    start: usize,
    /// The column that comes next.
    next: usize,
    /// The first that broke the declaration.
    wrong: Option<usize>,
}

impl Put<'_> {
    /// Writes the next cell. Where the table and the row's type are known when this is compiled, what is left of a cell is its value alone:
    /// hence it is inlined whatever its size.
    #[inline(always)]
    pub(crate) fn cell(&mut self, index: usize, value: Value<'_>) {
        let fits = |column: &&Column| index == self.next && value.ty().map_or(column.nullable, |ty| ty == column.ty);
        if self.columns.get(index).filter(fits).is_none() {
            self.wrong = self.wrong.or(Some(index.min(self.next)));
        } else if value != Value::Null {
            if let Some(byte) = self.out.get_mut(self.start + index / 8) {
                *byte |= 1 << (index % 8);
            }
            put_value(self.out, &value);
        }
        self.next += 1;
    }
}

#[inline(always)]
fn put_value(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Null => {}
        Value::I64(v) => put_varint(out, zigzag(*v)),
        Value::U64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I32(v) => put_varint(out, zigzag(i64::from(*v))),
        Value::F64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::Text(v) => {
            put_varint(out, v.len() as u64);
            out.extend_from_slice(v.as_bytes());
        }
        Value::F32List(list) => {
            put_varint(out, list.len() as u64);
            list.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
        }
    }
}

/// Reads rows one after the other from `bytes`; `types` are those of the columns when they were written.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) types: &'a [ColumnType],
}

/// One row within the bytes of a segment.
#[derive(Clone, Copy)]
pub(crate) struct RawRow<'a> {
    row: Rows<'a>,
    /// Columns of the table today: those that the row does not have yet are absent.
    columns: usize,
    at_ns: i64,
}

impl<'a> Rows<'a> {
    /// The next row, as one of `table`; `None` at the end and where the bytes are no row.
    pub(crate) fn next(&mut self, table: &Table) -> Option<RawRow<'a>> {
        let (start, mut at_ns) = (*self, None);
        self.read(&mut |index, value| {
            if let (0, Value::I64(ts)) = (index, value) {
                at_ns = Some(ts);
            }
        })?;
        let taken = start.bytes.len() - self.bytes.len();
        let row = Self { bytes: start.bytes.get(..taken)?, types: start.types };
        Some(RawRow { row, columns: table.columns.len(), at_ns: at_ns? })
    }

    fn read(&mut self, each: &mut dyn FnMut(usize, Value<'_>)) -> Option<()> {
        let bits = self.take(self.types.len().div_ceil(8))?;
        for (index, ty) in self.types.iter().enumerate() {
            if bits.get(index / 8)? >> (index % 8) & 1 == 0 {
                each(index, Value::Null);
            } else {
                self.value(*ty, &mut |value| each(index, value))?;
            }
        }
        Some(())
    }

    fn value(&mut self, ty: ColumnType, each: &mut dyn FnMut(Value<'_>)) -> Option<()> {
        match ty {
            ColumnType::I64 => each(Value::I64(unzigzag(self.varint()?))),
            ColumnType::U64 => each(Value::U64(u64::from_le_bytes(self.chunk()?))),
            ColumnType::I32 => each(Value::I32(i32::try_from(unzigzag(self.varint()?)).ok()?)),
            ColumnType::F64 => each(Value::F64(f64::from_le_bytes(self.chunk()?))),
            ColumnType::F32 => each(Value::F32(f32::from_le_bytes(self.chunk()?))),
            ColumnType::Bool => each(Value::Bool(self.chunk::<1>()? != [0])),
            ColumnType::Text => {
                let length = self.varint()?;
                each(Value::Text(std::str::from_utf8(self.take(usize::try_from(length).ok()?)?).ok()?));
            }
            ColumnType::F32List => {
                let length = usize::try_from(self.varint()?).ok()?.checked_mul(4)?;
                let (elements, _) = self.take(length)?.as_chunks::<4>();
                let list: Vec<f32> = elements.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
                each(Value::F32List(&list));
            }
        }
        Some(())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(head)
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.chunk()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

impl AnyRow for RawRow<'_> {
    fn at_ns(&self) -> i64 {
        self.at_ns
    }
    fn visit(&self, put: &mut dyn FnMut(usize, Value<'_>)) {
        let mut row = self.row;
        // It was read once already, so there is nothing in it that cannot be read.
        let _ = row.read(put);
        (self.row.types.len()..self.columns).for_each(|index| put(index, Value::Null));
    }
}

const fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use farthing_contract::log::{CallRow, Decision, OutcomeRow, Request, Row};
    use proptest::prelude::*;

    use super::*;

    fn cells(row: &dyn AnyRow) -> Vec<String> {
        let mut cells = Vec::new();
        row.visit(&mut |index, value| cells.push(format!("{index} {value:?}")));
        cells
    }

    fn types(table: &Table) -> Vec<ColumnType> {
        table.columns.iter().map(|column| column.ty).collect()
    }

    fn comes_back<R: Row>(rows: &[R]) {
        let (mut out, types) = (Vec::new(), types(R::TABLE));
        rows.iter().for_each(|row| row.put(&mut out, R::TABLE).unwrap());
        let mut read = Rows { bytes: &out, types: &types };
        for row in rows {
            let back = read.next(R::TABLE).unwrap();
            assert_eq!((cells(&back), back.at_ns()), (cells(row), row.ts_ns()));
        }
        assert!(read.bytes.is_empty() && read.next(R::TABLE).is_none());
    }

    #[test]
    fn rows_of_all_tables_come_back_cell_by_cell() {
        comes_back(&[Request::default(), Request { ts_ns: i64::MIN, tenant: "ä".into(), propensity: Some(0.1), ..Request::default() }]);
        comes_back(&[CallRow { ts_ns: -1, attempt: i32::MIN, changed: Some(true), cost_nanousd: Some(i64::MAX), ..CallRow::default() }]);
        comes_back(&[Decision { features: vec![1.5, f32::MIN], pmf: vec![], eligible_mask: u64::MAX, ..Decision::default() }]);
        comes_back(&[OutcomeRow::default(), OutcomeRow { hits: 1 << 40, ..OutcomeRow::default() }]);
    }

    #[test]
    fn columns_that_were_added_later_are_absent() {
        let old = Table { columns: Request::TABLE.columns.split_at(3).0, ..*Request::TABLE };
        struct Old;
        impl AnyRow for Old {
            fn at_ns(&self) -> i64 {
                5
            }
            fn visit(&self, put: &mut dyn FnMut(usize, Value<'_>)) {
                [Value::I64(5), Value::U64(6), Value::I64(7)].into_iter().enumerate().for_each(|(n, value)| put(n, value));
            }
        }
        let mut out = Vec::new();
        Old.put(&mut out, &old).unwrap();
        let types = types(&old);
        let row = Rows { bytes: &out, types: &types }.next(Request::TABLE).unwrap();
        let cells = cells(&row);
        assert_eq!((cells.len(), cells[2].as_str(), cells[3].as_str()), (Request::TABLE.columns.len(), "2 I64(7)", "3 Null"));
    }

    #[test]
    fn a_row_that_breaks_its_declaration_is_refused_by_name() {
        struct Bad(&'static [(usize, Value<'static>)]);
        impl AnyRow for Bad {
            fn at_ns(&self) -> i64 {
                0
            }
            fn visit(&self, put: &mut dyn FnMut(usize, Value<'_>)) {
                self.0.iter().for_each(|(index, value)| put(*index, *value));
            }
        }
        let table = Table { columns: OutcomeRow::TABLE.columns.split_at(2).0, ..*OutcomeRow::TABLE };
        for (row, column) in [
            (Bad(&[(0, Value::Text("no time"))]), "ts_ns"),
            (Bad(&[(0, Value::I64(1)), (1, Value::Null)]), "decision_id"),
            (Bad(&[(0, Value::I64(1))]), "decision_id"),
            (Bad(&[(0, Value::I64(1)), (1, Value::U64(1)), (2, Value::Null)]), "(unknown)"),
            (Bad(&[(1, Value::U64(1)), (0, Value::I64(1))]), "ts_ns"),
        ] {
            let mut out = vec![9];
            assert_eq!((row.put(&mut out, &table), out), (Err(column), vec![9]));
        }
    }

    proptest! {
        #[test]
        fn numbers_of_any_size_come_back(value: i64, raw: u64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
            let mut out = Vec::new();
            put_varint(&mut out, raw);
            prop_assert_eq!(Rows { bytes: &out, types: &[] }.varint(), Some(raw));
        }

        #[test]
        fn whatever_bytes_come_nothing_breaks(bytes: Vec<u8>) {
            for table in farthing_contract::log::ALL {
                let types = types(table);
                let mut rows = Rows { bytes: &bytes, types: &types };
                while let Some(row) = rows.next(table) {
                    prop_assert_eq!(cells(&row).len(), table.columns.len());
                }
            }
        }
    }
}
