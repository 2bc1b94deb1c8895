//! The journal: rows are safe within a second, long before their Parquet file is whole.
//!
//! Below the log's folder, `journal/` holds for each run of a process
//! - `run-<instance>-<start>.lock`, locked as long as the process lives,
//! - `seg-<instance>-<start>-<n>.fj`, the segments: what was recorded since the one before was sealed,
//! - `reserve-<instance>-<start>`, zeros: space set aside for records of money when the disk is full.
//!
//! A sealed segment becomes one Parquet file for each table and hour in it, all with the segment's own name, and is then
//! removed. So whatever the moment of death, the segments left behind are made into files again: those that are there
//! already are kept, the others are written, and each record is in files exactly once. The next process that starts, and
//! any that runs, does that for the segments of the dead.

mod cells;
mod disk;
mod frame;
#[cfg(test)]
pub(crate) mod memory_disk;
mod runs;
mod writer;

pub(crate) use cells::RawRow;
pub(crate) use disk::{Disk, DiskFile, Guard, RealDisk};
pub(crate) use frame::{Framer, Loss, NoSegment, Segment, header};
pub(crate) use runs::{Dead, Folder, Run, SegmentId};
pub(crate) use writer::{Unsynced, Writer};

use farthing_contract::log::{Row, Table, Value};

/// Name of the folder below the log's.
pub(crate) const FOLDER: &str = "journal";

/// A [`Row`] of whatever table, in memory or in the bytes of a segment.
pub(crate) trait AnyRow: Send {
    fn at_ns(&self) -> i64;
    fn visit(&self, put: &mut dyn FnMut(usize, Value<'_>));
    /// Writes the row behind `out`.
    ///
    /// # Errors
    /// As [`cells::put`].
    fn put(&self, out: &mut Vec<u8>, table: &Table) -> Result<(), &'static str> {
        cells::put(out, table, |put| self.visit(&mut |index, value| put.cell(index, value)))
    }
}

impl<R: Row> AnyRow for R {
    fn at_ns(&self) -> i64 {
        self.ts_ns()
    }
    fn visit(&self, put: &mut dyn FnMut(usize, Value<'_>)) {
        self.cells(put);
    }
    // Its own table, and not the one at hand, is known when this is compiled.
    fn put(&self, out: &mut Vec<u8>, _table: &Table) -> Result<(), &'static str> {
        cells::put(out, R::TABLE, |put| self.cells(&mut |index, value| put.cell(index, value)))
    }
}
