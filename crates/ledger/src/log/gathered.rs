//! Rows gathered for the next files.

use std::collections::BTreeMap;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use farthing_contract::log::Table;

use super::columns::{Columns, Gather};

const HOUR_NS: i64 = 3_600_000_000_000;

/// What becomes one file.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) table: &'static Table,
    /// Hours since 1970.
    pub(crate) hour: i64,
    pub(crate) batch: RecordBatch,
}

/// Rows in columns, by table and hour.
#[derive(Default)]
pub(crate) struct Gathered {
    parts: BTreeMap<(&'static str, i64), Columns>,
    bytes: usize,
    /// Rows of the longest part.
    longest: usize,
}

impl Gathered {
    /// Adds a row that takes about so many bytes.
    pub(crate) fn push(&mut self, table: &'static Table, row: &dyn Gather, bytes: usize) {
        let hour = row.at_ns().div_euclid(HOUR_NS);
        let columns = self.parts.entry((table.name, hour)).or_insert_with(|| Columns::new(table));
        row.gather(columns);
        self.longest = self.longest.max(columns.rows());
        self.bytes += bytes;
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
    pub(super) const fn longest(&self) -> usize {
        self.longest
    }
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Takes all rows out: what can be made a batch of, and the tables and rows for which a row breaks its table's declaration.
    pub(crate) fn finish(&mut self) -> (Vec<Part>, Vec<(&'static Table, usize, ArrowError)>) {
        let (mut parts, mut broken) = (Vec::new(), Vec::new());
        for ((_, hour), columns) in std::mem::take(self).parts {
            let (table, rows) = (columns.table(), columns.rows());
            match columns.finish() {
                Ok(batch) => parts.push(Part { table, hour, batch }),
                Err(error) => broken.push((table, rows, error)),
            }
        }
        (parts, broken)
    }

    /// A copy of all rows.
    pub(super) fn copy(&mut self) -> Result<Vec<(&'static Table, RecordBatch)>, ArrowError> {
        self.parts.values_mut().map(|columns| columns.copy().map(|batch| (columns.table(), batch))).collect()
    }
}
