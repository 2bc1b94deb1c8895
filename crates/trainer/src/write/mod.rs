//! Writes rows of the log's tables as Parquet: columns, names and types come from the schema in `contract`, the layout is the proxy's.
//!
//! Files are made under hidden names and get their own all at once, when everything was written: a run that fails leaves nothing.

mod columns;

use std::collections::{BTreeMap, BTreeSet, HashSet};
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
    written: Vec<Part>,
    /// Which of what is written apart is written now, and how many files that has.
    whole: usize,
    number: usize,
}

/// A file without its name.
struct Part {
    /// Its name now.
    hidden: PathBuf,
    folder: PathBuf,
    /// What it is a part of, and which.
    whole: usize,
    number: usize,
}

impl Parts {
    /// Of a log in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), written: Vec::new(), whole: 0, number: 0 }
    }

    /// What is written from here on is part of another whole, with a stem of its own.
    pub fn begin(&mut self, whole: usize) {
        (self.whole, self.number) = (whole, 0);
    }

    /// Writes rows of one hour as one file.
    ///
    /// # Errors
    /// What the system or the encoder says.
    pub fn write<R: Row>(&mut self, hour: i64, rows: &[R]) -> Result<(), TrainError> {
        let folder = self.dir.join(R::TABLE.name).join(partition(hour));
        fs::create_dir_all(&folder).map_err(TrainError::io(&folder))?;
        let hidden = folder.join(format!(".part-import-{}-{:06}.parquet.tmp", std::process::id(), self.written.len()));
        self.written.push(Part { hidden: hidden.clone(), folder, whole: self.whole, number: self.number });
        self.number += 1;
        write_file(&hidden, rows)
    }

    /// Gives every file its name: `part-<stem>-<number>.parquet`. What an earlier run under the same stem wrote is replaced,
    /// unless there is nothing to put there.
    ///
    /// # Errors
    /// What the system says.
    pub fn publish(self, stem: &str) -> Result<usize, TrainError> {
        self.publish_each(&[(stem.to_owned(), Vec::new())])
    }

    /// As [`Parts::publish`], for several wholes: each one's stem, and further stems that it takes the place of.
    ///
    /// # Errors
    /// What the system says.
    pub fn publish_each(mut self, wholes: &[(String, Vec<String>)]) -> Result<usize, TrainError> {
        let mut written = std::mem::take(&mut self.written).into_iter();
        let (mut named, mut filled) = (HashSet::new(), BTreeSet::new());
        let result = written.try_for_each(|part| {
            let stem = wholes.get(part.whole).map_or("import", |(stem, _)| stem.as_str());
            let path = part.folder.join(format!("part-{stem}-{:06}.parquet", part.number));
            let renamed = fs::rename(&part.hidden, &path).map_err(TrainError::io(&path));
            filled.insert(part.whole);
            if renamed.is_err() {
                self.written.push(part);
            }
            renamed.map(|()| {
                named.insert(path);
            })
        });
        self.written.extend(written);
        result?;
        // Rather twice for a moment than not at all when this is broken off: the next run cleans up. What gave nothing takes no place.
        let filled = wholes.iter().enumerate().filter(|(whole, _)| filled.contains(whole));
        let stems: BTreeSet<&str> = filled.flat_map(|(_, (stem, more))| std::iter::once(stem).chain(more)).map(String::as_str).collect();
        self.remove(&stems, &named)?;
        Ok(named.len())
    }

    /// Removes the parts under these stems but for the named ones.
    fn remove(&self, stems: &BTreeSet<&str>, named: &HashSet<PathBuf>) -> Result<(), TrainError> {
        for old in crate::read::find(&self.dir.to_string_lossy()).unwrap_or_default() {
            let name = old.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("part-"));
            let stem = name.and_then(|n| n.rsplit_once('-')).map(|(stem, _)| stem);
            if stem.is_some_and(|stem| stems.contains(stem)) && !named.contains(&old) {
                fs::remove_file(&old).map_err(TrainError::io(&old))?;
            }
        }
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for part in &self.written {
            let _ = fs::remove_file(&part.hidden);
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
