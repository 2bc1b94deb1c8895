//! The finished files of the log, hour by hour: for whoever ships them elsewhere.

use std::fs::{File, Metadata};
use std::io::{self, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use farthing_contract::log::{Table, Value};
use farthing_types::Time;

use super::batches;
use crate::read::{ReadError, checked, each_row};

/// The folder of a table's rows of one hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HourFolder {
    /// Hours since 1970 UTC.
    pub hour: i64,
    /// The folder.
    pub path: PathBuf,
    /// When a file in it came, went or was replaced last, on the file system's clock.
    pub changed: Time,
}

/// A file under its final name: whole, and only ever replaced or removed as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedFile {
    /// The table of its rows.
    pub table: &'static Table,
    /// Hours since 1970 UTC of all its rows.
    pub hour: i64,
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// When it came under its name, on the file system's clock.
    pub modified: Time,
}

impl FinishedFile {
    /// Its name within its folder.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Hands each row to `each`, all cells in the order of the table's columns; those that the file does not have are absent.
    ///
    /// # Errors
    /// [`ReadError`]; rows before the damage have been handed over then.
    pub fn rows(&self, each: &mut dyn FnMut(&[Value<'_>])) -> Result<u64, ReadError> {
        each_row(&self.path, self.table, each)
    }

    /// Opens it and reads its end; `None` when it is there no more.
    ///
    /// # Errors
    /// It cannot be read, or is no file of the table.
    pub fn open(&self) -> Result<Option<OpenFile>, ReadError> {
        let failed = |error: io::Error| ReadError::File { file: self.path.clone(), source: error.into() };
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let bytes = file.metadata().map_err(failed)?.len();
        let end = checked(file.try_clone().map_err(failed)?, (&self.path, self.table))?;
        let rows = u64::try_from(end.metadata().file_metadata().num_rows()).unwrap_or_default();
        // Both handles have one position.
        (&file).rewind().map_err(failed)?;
        Ok(Some(OpenFile { file, bytes, rows }))
    }
}

/// A file that is open: what is read from it does not change when it is replaced or removed.
#[derive(Debug)]
pub struct OpenFile {
    /// The file, at its begin.
    pub file: File,
    /// Its length.
    pub bytes: u64,
    /// Its rows, as its end says.
    pub rows: u64,
}

/// Which of some hours of a table have a folder, oldest first.
pub fn hour_folders(dir: &Path, table: &Table, wanted: Range<i64>) -> Vec<HourFolder> {
    let folders = batches::hours_within(dir, table, &wanted);
    // One that is gone meanwhile has no files.
    folders.into_iter().filter_map(|(hour, path)| Some(HourFolder { hour, changed: modified(&path.metadata().ok()?), path })).collect()
}

/// The finished files in the folder of an hour, in the order of their names.
pub fn finished(folder: &HourFolder, table: &'static Table) -> Vec<FinishedFile> {
    let file = |path: PathBuf| {
        let meta = path.metadata().ok()?;
        Some(FinishedFile { table, hour: folder.hour, bytes: meta.len(), modified: modified(&meta), path })
    };
    batches::parts(&folder.path).into_iter().filter_map(file).collect()
}

fn modified(meta: &Metadata) -> Time {
    let since = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Time::ZERO + since
}
