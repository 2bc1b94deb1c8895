//! The request log: four tables with one schema source.
//!
//! [`requests`](Request), [`calls`](CallRow), [`decisions`](Decision) and [`outcomes`](OutcomeRow) are declared once, in
//! `tables.rs`. The Parquet writer of the proxy, the reader of the trainer and `docs/request-log.md` follow the
//! declaration. Columns are only ever added; [`SCHEMA_VERSION`] counts the additions.

mod tables;
mod value;

pub use tables::{CallRow, Decision, OutcomeRow, Request};
pub use value::{Cell, ColumnType, Value};

/// Version of the four tables, in each file's metadata under [`VERSION_KEY`].
pub const SCHEMA_VERSION: u32 = 5;
/// Parquet metadata key of the schema version.
pub const VERSION_KEY: &str = "farthing.schema_version";
/// Parquet metadata key of the table's name.
pub const TABLE_KEY: &str = "farthing.table";

/// One column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name in the file.
    pub name: &'static str,
    /// Type in the file.
    pub ty: ColumnType,
    /// Whether a value may be absent.
    pub nullable: bool,
    /// The schema version that added it: older files lack it, and there it is absent.
    pub since: u32,
    /// Meaning and unit.
    pub doc: &'static str,
}

/// A table of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Name of the table and of its folder: `<log>/<name>/date=YYYY-MM-DD/hour=HH/*.parquet`.
    pub name: &'static str,
    /// What one row is.
    pub doc: &'static str,
    /// The columns in file order.
    pub columns: &'static [Column],
}

/// A row of one of the tables.
pub trait Row: Send + 'static {
    /// The table it belongs to.
    const TABLE: &'static Table;
    /// When the row happened (ns): decides the partition.
    fn ts_ns(&self) -> i64;
    /// Bytes that its texts and lists hold.
    fn extent(&self) -> usize {
        let mut bytes = 0;
        self.cells(&mut |_, value| match value {
            Value::Text(text) => bytes += text.len(),
            Value::F32List(list) => bytes += size_of_val(list),
            _ => {}
        });
        bytes
    }
    /// Hands each cell to `put`, in column order. Generic, so that what is done with a cell is compiled for its type.
    fn cells<P: FnMut(usize, Value<'_>) + ?Sized>(&self, put: &mut P);
}

/// The four tables.
pub const ALL: [&Table; 4] = [Request::TABLE, CallRow::TABLE, Decision::TABLE, OutcomeRow::TABLE];

/// `date=YYYY-MM-DD/hour=HH`: the folder within a table's of the rows of an hour since 1970 UTC.
pub fn partition(hour: i64) -> String {
    let (year, month, day) = farthing_types::civil(hour.div_euclid(24));
    format!("date={year:04}-{month:02}-{day:02}/hour={:02}", hour.rem_euclid(24))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_columns_described() {
        for table in ALL {
            let names: BTreeSet<_> = table.columns.iter().map(|c| c.name).collect();
            assert_eq!(names.len(), table.columns.len(), "{}", table.name);
            assert!(table.columns.iter().all(|c| !c.doc.trim().is_empty()), "{}", table.name);
            assert_eq!(table.columns[0].name, "ts_ns");
        }
    }

    /// Files of older releases are read for ever: what they lack must be able to be absent.
    #[test]
    fn later_columns_may_be_absent_and_come_last() {
        for table in ALL {
            assert!(
                table.columns.iter().all(|c| (1..=SCHEMA_VERSION).contains(&c.since) && (c.since == 1 || c.nullable)),
                "{}",
                table.name
            );
            assert!(table.columns.windows(2).all(|c| c[0].since <= c[1].since), "{}", table.name);
        }
    }

    #[test]
    fn the_extent_is_that_of_texts_and_lists() {
        let row =
            Decision { route: "abc".into(), kind: "ttl", features: vec![1.0, 2.0], variant: Some("xy".into()), ..Decision::default() };
        let mut sum = 0;
        row.cells(&mut |_, value| match value {
            Value::Text(text) => sum += text.len(),
            Value::F32List(list) => sum += size_of_val(list),
            _ => {}
        });
        assert_eq!((row.extent(), sum), (3 + 3 + 8 + 2, 3 + 3 + 8 + 2));
    }

    #[test]
    fn cells_come_in_column_order_with_declared_types() {
        let row = Decision { features: vec![1.0], ..Decision::default() };
        let mut seen = Vec::new();
        row.cells(&mut |index, value| seen.push((index, value.ty())));
        assert_eq!(seen.len(), Decision::TABLE.columns.len());
        for (index, ty) in seen {
            assert!(ty.is_none_or(|ty| ty == Decision::TABLE.columns[index].ty), "{}", Decision::TABLE.columns[index].name);
        }
    }
}
