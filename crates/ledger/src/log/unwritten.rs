//! Rows that no file holds yet, for queries that must see the last seconds too.

use std::collections::BTreeSet;
use std::path::Path;

use arrow::record_batch::RecordBatch;
use farthing_contract::log::Table;

use crate::journal::SegmentId;

/// A cut through the log of this process: the rows that are not in Parquet yet, and which files hold the others.
///
/// Take it first and list the files afterwards: a file that comes in between is told apart by [`Unwritten::covers`], so
/// that no row is counted twice and none is missed. What other processes that share the folder hold is not seen.
///
/// Texts are dictionary-encoded here (`Dictionary(Int32, Utf8)`), in files they are plain.
#[derive(Clone, Debug)]
pub struct Unwritten {
    /// The rows by table; several batches of one table may come.
    pub batches: Vec<(&'static Table, RecordBatch)>,
    /// Segments whose rows are among the batches.
    pub(super) waiting: BTreeSet<SegmentId>,
    /// The first segment of which nothing was filed; `None` when this process could not begin to write yet.
    pub(super) from: Option<SegmentId>,
}

impl Unwritten {
    /// Whether the rows of a file are NOT among the batches, so that it has to be read.
    pub fn covers(&self, path: &Path) -> bool {
        let Some(id) = SegmentId::of_part(path) else { return true };
        let later = self.from.as_ref().is_some_and(|from| from.run == id.run && id.number >= from.number);
        !later && !self.waiting.contains(&id)
    }
}
