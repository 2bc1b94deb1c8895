//! Rows that no file holds yet, for queries that must see the last seconds too.

use std::path::Path;

use arrow::record_batch::RecordBatch;
use farthing_contract::log::Table;

/// A cut through the log of this process: the rows gathered but not yet in Parquet, and which files hold the others.
///
/// Take it first and list the files afterwards: a file that comes in between is told apart by [`Unwritten::covers`], so
/// that no row is counted twice and none is missed. What other processes that share the folder hold is not seen.
///
/// Texts are dictionary-encoded here (`Dictionary(Int32, Utf8)`), in files they are plain.
#[derive(Clone, Debug)]
pub struct Unwritten {
    /// The rows by table; several batches of one table may come.
    pub batches: Vec<(&'static Table, RecordBatch)>,
    /// What the names of this process' files begin with.
    pub(super) stem: String,
    /// Number of the first file whose rows are among the batches.
    pub(super) from: u64,
}

impl Unwritten {
    /// Whether the rows of a file are NOT among the batches, so that it has to be read.
    pub fn covers(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix(&self.stem)).and_then(|rest| rest.strip_suffix(".parquet"));
        number.and_then(|number| number.parse::<u64>().ok()).is_none_or(|number| number < self.from)
    }
}
