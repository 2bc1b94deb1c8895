//! The hours of a log that are closed, and the files in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use farthing_contract::log::{CallRow, Decision, Request, Row};
use farthing_types::{Span, Time, days_of};
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::error::TrainError;
use crate::write::HOUR_NS;

/// Tables that fits read.
const TABLES: [&str; 3] = [Request::TABLE.name, CallRow::TABLE.name, Decision::TABLE.name];

/// Files by the hour (since 1970 UTC) of their rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions {
    hours: BTreeMap<i64, Vec<PathBuf>>,
}

impl Partitions {
    /// The hours in the folders that are over, with a grace, at `now`. Files in the making have other names and are passed over.
    ///
    /// # Errors
    /// A folder that is not there or cannot be read.
    pub fn closed(folders: &[PathBuf], (now, grace): (Time, Span)) -> Result<Self, TrainError> {
        let until = (now - grace).nanos().div_euclid(HOUR_NS);
        let mut hours: BTreeMap<i64, Vec<PathBuf>> = BTreeMap::new();
        for folder in folders {
            std::fs::read_dir(folder).map_err(TrainError::io(folder))?;
            for date in TABLES.iter().flat_map(|table| entries(&folder.join(table))) {
                let Some(day) = named(&date, "date=").and_then(day_of) else { continue };
                for place in entries(&date) {
                    let hour = named(&place, "hour=").and_then(|hour| hour.parse::<i64>().ok()).filter(|hour| (0..24).contains(hour));
                    let Some(hour) = hour.map(|hour| day * 24 + hour).filter(|hour| *hour < until) else { continue };
                    let files = entries(&place).into_iter().filter(|file| is_whole(file));
                    hours.entry(hour).or_default().extend(files);
                }
            }
        }
        hours.retain(|_, files| !files.is_empty());
        hours.values_mut().for_each(|files| files.sort());
        Ok(Self { hours })
    }

    /// The end of the newest hour, in hours since 1970 UTC; `None` where there is none.
    pub fn until(&self) -> Option<i64> {
        self.hours.last_key_value().map(|(hour, _)| hour + 1)
    }

    /// Closed hours at or after one.
    pub fn since(&self, hour: i64) -> usize {
        self.hours.range(hour..).count()
    }

    /// The files of the newest hours: within `window` of the newest, and of at most `rows` rows together (the newest hour always). Sorted by path.
    ///
    /// # Errors
    /// A file that cannot be read as Parquet.
    pub fn newest(&self, window: Span, rows: u64) -> Result<Chosen, TrainError> {
        let from = self.until().unwrap_or(0) - (window.as_secs() / 3_600).max(1) as i64;
        let mut chosen = Chosen::default();
        for (hour, files) in self.hours.range(from..).rev() {
            let mut here = 0;
            for file in files {
                here += rows_of(file)?;
            }
            if !chosen.files.is_empty() && chosen.rows + here > rows {
                chosen.cut = true;
                break;
            }
            chosen.rows += here;
            chosen.hours += 1;
            chosen.from = *hour;
            chosen.files.extend(files.iter().cloned());
        }
        chosen.files.sort();
        Ok(chosen)
    }
}

/// What is learned from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Rows in them.
    pub rows: u64,
    /// Hours.
    pub hours: usize,
    /// The first hour, since 1970 UTC.
    pub from: i64,
    /// More was within the window, and beyond the most rows.
    pub cut: bool,
}

/// What is in a folder; nothing where there is none, or where it went meanwhile (retention).
fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path()).collect()
}

fn named<'a>(path: &'a Path, prefix: &str) -> Option<&'a str> {
    path.file_name()?.to_str()?.strip_prefix(prefix)
}

/// Days since 1970 of `YYYY-MM-DD`.
fn day_of(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    days_of(parts.next()??, parts.next()??, parts.next()??)
}

fn is_whole(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    !name.starts_with('.') && name.ends_with(".parquet") && file.is_file()
}

fn rows_of(path: &Path) -> Result<u64, TrainError> {
    let file = File::open(path).map_err(TrainError::io(path))?;
    let reader = SerializedFileReader::new(file).map_err(|e| TrainError::Unreadable { path: path.to_path_buf(), reason: e.to_string() })?;
    Ok(u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(dir: &Path, hour: i64, name: &str) {
        let folder = dir.join("requests").join(farthing_contract::log::partition(hour));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), b"").unwrap();
    }

    #[test]
    fn only_hours_that_are_over_and_files_that_are_whole_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let at = |hour: i64, minutes: i64| Time::from_nanos(hour * HOUR_NS + minutes * 60_000_000_000);
        for hour in [490_000, 490_001, 490_023, 490_024] {
            touch(dir.path(), hour, "part-local-1-0.parquet");
        }
        touch(dir.path(), 490_001, ".part-local-1-1.parquet.tmp");
        touch(dir.path(), 490_002, ".part-local-1-2.parquet");
        std::fs::create_dir_all(dir.path().join("requests/date=x/hour=99")).unwrap();
        std::fs::create_dir_all(dir.path().join("journal")).unwrap();
        let folders = [dir.path().to_path_buf()];
        let grace = Span::from_secs(600);
        let closed = |now| Partitions::closed(&folders, (now, grace)).unwrap();
        assert_eq!(closed(at(490_024, 9)).until(), Some(490_002), "the grace is not over");
        assert_eq!(closed(at(490_024, 10)).until(), Some(490_024));
        let all = closed(at(490_030, 0));
        assert_eq!((all.until(), all.since(490_001), all.since(0)), (Some(490_025), 3, 4));
        assert!(all.hours[&490_001].len() == 1 && !all.hours.contains_key(&490_002));
        assert!(Partitions::closed(&[dir.path().join("nowhere")], (at(0, 0), grace)).is_err());
    }
}
