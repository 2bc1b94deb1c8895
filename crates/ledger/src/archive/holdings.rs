//! What is there.

use std::collections::BTreeSet;
use std::path::Path;

use arrow::array::Int64Array;
use arrow::compute::{max, min};
use farthing_contract::log::{ALL, Table, partition};
use serde::Serialize;

use super::batches::{column, hours, parts, visit};
use super::journal;
use crate::journal::Segment;
use crate::read::version;

/// One table's rows of one hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holding {
    /// The table.
    pub table: &'static str,
    /// `date=YYYY-MM-DD/hour=HH`.
    pub partition: String,
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
    /// Schema versions under which they were written.
    pub versions: BTreeSet<u32>,
    /// Files that are no files of this table, or damaged, and why.
    pub unreadable: Vec<String>,
}

/// What is in the journal: rows that are in no file yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JournalHolding {
    /// Segments, of whatever process.
    pub segments: u64,
    /// Whole rows in them.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Segments that cannot be read.
    pub unreadable: u64,
}

/// A log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holdings {
    /// By table, then time.
    pub partitions: Vec<Holding>,
    /// The journal.
    pub journal: JournalHolding,
}

/// What the log in `dir` holds. Each file is read, the times of its rows at least.
pub fn holdings(dir: &Path) -> Holdings {
    let of = |table: &'static Table| hours(dir, table).into_iter().map(move |(hour, path)| holding(table, hour, &path));
    Holdings { partitions: ALL.into_iter().flat_map(of).collect(), journal: in_journal(dir) }
}

fn holding(table: &'static Table, hour: i64, path: &Path) -> Holding {
    let mut holding = Holding {
        table: table.name,
        partition: partition(hour),
        files: 0,
        rows: 0,
        bytes: 0,
        first_ns: None,
        last_ns: None,
        versions: BTreeSet::new(),
        unreadable: Vec::new(),
    };
    for file in parts(path) {
        if let Err(error) = holding.add(table, &file) {
            holding.unreadable.push(error.to_string());
        }
    }
    holding
}

impl Holding {
    fn add(&mut self, table: &'static Table, file: &Path) -> Result<(), super::ArchiveError> {
        let (mut rows, mut first, mut last) = (0, self.first_ns, self.last_ns);
        visit(file, table, Some(&["ts_ns"]), &mut |batch| {
            let times = column::<Int64Array>(&batch, "ts_ns");
            rows += batch.num_rows() as u64;
            first = [first, times.and_then(min)].into_iter().flatten().min();
            last = [last, times.and_then(max)].into_iter().flatten().max();
            Ok(())
        })?;
        self.versions.extend(version(file)?);
        self.files += 1;
        self.rows += rows;
        self.bytes += file.metadata().map_or(0, |meta| meta.len());
        (self.first_ns, self.last_ns) = (first, last);
        Ok(())
    }
}

pub(super) fn in_journal(dir: &Path) -> JournalHolding {
    let (folder, mut holding) = (journal(dir), JournalHolding::default());
    for id in folder.segments() {
        let Ok(bytes) = folder.disk.read(&folder.path(&id)) else { continue };
        holding.segments += 1;
        holding.bytes += bytes.len() as u64;
        match Segment::read(&bytes) {
            Ok(segment) => segment.rows(&mut |_, _| holding.rows += 1),
            Err(crate::journal::NoSegment::Empty) => {}
            Err(_) => holding.unreadable += 1,
        }
    }
    holding
}
