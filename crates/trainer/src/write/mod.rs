//! Writes rows of the log's tables as Parquet: columns, names and types come from the schema in `contract`, the layout is the proxy's.
//!
//! Files are made under hidden names and get their own all at once, when everything was written: a run that fails leaves nothing.

mod columns;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use farthing_contract::log::{Row, partition};

use crate::error::TrainError;

/// Writes rows as one Parquet file.
///
/// # Errors
/// What the system or the encoder says; the file may be left incomplete then.
pub fn write_file<R: Row>(path: &Path, rows: &[R]) -> Result<(), TrainError> {
    let bad = |reason: String| TrainError::Io { path: path.to_path_buf(), source: std::io::Error::other(reason) };
    let file = File::create(path).map_err(TrainError::io(path))?;
    columns::write(file, rows).map_err(|e| bad(e.to_string()))
}

/// An hour, ns.
pub(crate) const HOUR_NS: i64 = 3_600_000_000_000;

/// Files that were written but have not got their names yet.
pub struct Parts {
    dir: PathBuf,
    /// Hidden name now, folder it belongs to, number.
    written: Vec<(PathBuf, PathBuf, usize)>,
}

impl Parts {
    /// Of a log in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), written: Vec::new() }
    }

    /// Writes rows of one hour as one file.
    ///
    /// # Errors
    /// What the system or the encoder says.
    pub fn write<R: Row>(&mut self, hour: i64, rows: &[R]) -> Result<(), TrainError> {
        let folder = self.dir.join(R::TABLE.name).join(partition(hour));
        fs::create_dir_all(&folder).map_err(TrainError::io(&folder))?;
        let number = self.written.len();
        let hidden = folder.join(format!(".part-import-{}-{number:06}.parquet.tmp", std::process::id()));
        self.written.push((hidden.clone(), folder, number));
        write_file(&hidden, rows)
    }

    /// Gives every file its name: `part-<stem>-<number>.parquet`. What an earlier run under the same stem wrote is replaced.
    ///
    /// # Errors
    /// What the system says.
    pub fn publish(mut self, stem: &str) -> Result<usize, TrainError> {
        let mine = format!("part-{stem}-");
        for old in crate::read::find(&self.dir.to_string_lossy()).unwrap_or_default() {
            if old.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&mine)) {
                fs::remove_file(&old).map_err(TrainError::io(&old))?;
            }
        }
        let written = std::mem::take(&mut self.written);
        for (hidden, folder, number) in &written {
            let path = folder.join(format!("{mine}{number:06}.parquet"));
            fs::rename(hidden, &path).map_err(TrainError::io(&path))?;
        }
        Ok(written.len())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for (hidden, ..) in &self.written {
            let _ = fs::remove_file(hidden);
        }
    }
}

/// Rows by the hour they belong to, bounded in number.
pub struct ByHour<R> {
    hours: BTreeMap<i64, Vec<R>>,
    rows: usize,
}

impl<R> Default for ByHour<R> {
    fn default() -> Self {
        Self { hours: BTreeMap::new(), rows: 0 }
    }
}

impl<R: Row> ByHour<R> {
    /// Takes a row; when `most` are held, gives the hours that are to be written now: all but the newest, and that one too when it
    /// is what fills the room.
    pub fn push(&mut self, row: R, most: usize) -> Option<Vec<(i64, Vec<R>)>> {
        self.hours.entry(row.ts_ns().div_euclid(HOUR_NS)).or_default().push(row);
        self.rows += 1;
        if self.rows < most {
            return None;
        }
        if self.hours.last_key_value().is_none_or(|(_, newest)| 2 * newest.len() >= most) {
            return Some(self.take());
        }
        let newest = self.hours.pop_last();
        let full = self.take();
        self.hours.extend(newest);
        self.rows = self.hours.values().map(Vec::len).sum();
        Some(full)
    }

    /// All that is left.
    pub fn take(&mut self) -> Vec<(i64, Vec<R>)> {
        self.rows = 0;
        std::mem::take(&mut self.hours).into_iter().collect()
    }
}
