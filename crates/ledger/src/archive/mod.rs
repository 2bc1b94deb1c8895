//! The log's files as a whole: what is there, taking some of it away for others, and removing what must not stay.
//!
//! - [`holdings`]: what is there, by table and hour; what is in the journal still.
//! - [`export`](fn@export): a verified copy of some of it, with a manifest of checksums.
//! - [`prune`](fn@prune): removes what is older than its retention.
//! - [`forget`](fn@forget): removes everything of a tenant.
//! - [`finished`](fn@finished): the files as they are shipped elsewhere.
//! - [`Forgetter`]: the same as [`forget`] for files that lie elsewhere.
//!
//! Files are only ever replaced as a whole (written beside, synced, renamed) or removed, so a reader and a crash find each
//! either as it was or as it is to be.

mod batches;
mod day;
mod elsewhere;
mod export;
mod finished;
mod focus;
mod forget;
mod holdings;
mod prune;
mod retain;
mod selection;
#[cfg(test)]
mod tests;
mod traces;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

pub use day::day_number;
pub use elsewhere::{Elsewhere, Forgetter, without_rows};
pub use export::{ExportedFile, Format, Manifest, Order, export};
pub use finished::{FinishedFile, HourFolder, OpenFile, finished, hour_folders};
pub use forget::{Forgotten, forget};
pub use holdings::{Holding, Holdings, JournalHolding, holdings};
pub use prune::{Pruned, Retention, prune};
pub use selection::Selection;

use crate::journal::{Disk, FOLDER, Folder, Guard, RealDisk};
use crate::read::ReadError;

/// Nanoseconds of an hour: of one partition.
pub(crate) const HOUR_NS: i64 = 3_600_000_000_000;

/// What can go wrong with the log's files.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file cannot be written, replaced or removed.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written as Parquet.
    #[error("`{}` cannot be written as Parquet: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the writer says.
        #[source]
        source: ParquetError,
    },
    /// Rows do not fit the table.
    #[error("rows of table `{table}` cannot be copied: {source}")]
    Rows {
        /// The table.
        table: &'static str,
        /// What is wrong.
        #[source]
        source: ArrowError,
    },
    /// Another process removes rows.
    #[error("another prune or forget is at work on `{}`; wait until it has ended", .0.display())]
    Busy(PathBuf),
    /// The folder of an export holds something already.
    #[error("`{}` is not empty: name a new folder", .0.display())]
    NotEmpty(PathBuf),
    /// What was written does not read back as it was.
    #[error("`{}` has {found} rows where {written} were written", path.display())]
    Unverified {
        /// The file.
        path: PathBuf,
        /// Rows that are in it.
        found: u64,
        /// Rows that should be.
        written: u64,
    },
}

impl ArchiveError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// Held while rows are removed, so that no two processes replace the same file.
fn remover(dir: &Path) -> Result<Guard, ArchiveError> {
    let (folder, lock) = (dir.join(FOLDER), dir.join(FOLDER).join("remove.lock"));
    RealDisk.create_dirs(&folder).map_err(ArchiveError::io(&folder))?;
    let held = match RealDisk.lock(&lock, true) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => RealDisk.lock(&lock, false),
        held => held,
    };
    held.map_err(ArchiveError::io(&lock))?.ok_or_else(|| ArchiveError::Busy(dir.to_owned()))
}

/// Whether a process writes the log in `dir` now.
pub fn is_written(dir: &Path) -> bool {
    let folder = journal(dir);
    folder.runs().iter().any(|run| folder.lives(run))
}

fn journal(dir: &Path) -> Folder {
    Folder::of(Arc::new(RealDisk), dir)
}
