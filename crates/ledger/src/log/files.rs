//! Files: their names, and how one comes to be whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use farthing_contract::log::{ALL, SCHEMA_VERSION, TABLE_KEY, Table, VERSION_KEY, partition};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::LogError;
use super::gathered::Part;
use crate::journal::{Disk, Run, SegmentId};

/// End of a temporary name; together with the leading dot no reader's `*.parquet` finds it.
pub(crate) const TEMP_END: &str = ".tmp";
/// Rows that a writer holds in memory at most.
const ROW_GROUP: usize = 262_144;
/// Columns whose values hardly ever come twice, wherever they are: a dictionary of them would hold each of them, and be looked up for each.
const RISING: [&str; 4] = ["ts_ns", "ended_ns", "stat_at_ns", "stat_seq"];
/// The same, of numbers that look like drawn ones.
const IDS: [&str; 2] = ["request_id", "call_id"];

/// The log's folder as one process writes to it.
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir }
    }

    /// Removes temporary files of runs whose process has died; others may still be written.
    pub(super) fn remove_leftovers(&self, lives: &dyn Fn(&Run) -> bool) {
        for table in ALL {
            let dates = self.disk.list(&self.dir.join(table.name));
            for path in dates.iter().flat_map(|date| self.disk.list(date)).flat_map(|hour| self.disk.list(&hour)) {
                if of_leftover(&path).is_some_and(|id| !lives(&id.run)) {
                    let _ = self.disk.remove(&path);
                }
            }
        }
    }

    /// Writes the file of a segment for one table and hour, unless it is there; answers its size in bytes when it was not.
    ///
    /// # Errors
    /// Whatever the file system or the encoder says; nothing is left behind then.
    pub(super) fn write(&self, id: &SegmentId, part: &Part) -> Result<Option<u64>, ParquetError> {
        let partition = self.dir.join(part.table.name).join(partition(part.hour));
        let path = partition.join(id.part_name());
        if self.disk.exists(&path) {
            return Ok(None);
        }
        self.disk.create_dirs(&partition)?;
        self.replace(&path, part.table, &part.batch).map(Some)
    }

    /// Puts a whole file under a name, in the place of what was there.
    ///
    /// # Errors
    /// As [`Files::write`].
    pub(crate) fn replace(&self, path: &Path, table: &Table, batch: &RecordBatch) -> Result<u64, ParquetError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let temp = path.with_file_name(format!(".{name}{TEMP_END}"));
        let written = self.write_temp(&temp, table, batch).and_then(|bytes| {
            self.disk.rename(&temp, path)?;
            self.disk.sync_dir(path.parent().unwrap_or(path))?;
            Ok(bytes)
        });
        if written.is_err() {
            let _ = self.disk.remove(&temp);
        }
        written
    }

    fn write_temp(&self, temp: &Path, table: &Table, batch: &RecordBatch) -> Result<u64, ParquetError> {
        let mut writer = ArrowWriter::try_new_with_options(self.disk.create(temp)?, batch.schema(), options(properties(names(table))))?;
        writer.write(batch)?;
        writer.into_inner()?.sync()?;
        Ok(self.disk.len(temp)?)
    }
}

/// Tells a file of a table from others.
pub(crate) fn names(table: &Table) -> Vec<KeyValue> {
    let pair = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    vec![pair(VERSION_KEY, SCHEMA_VERSION.to_string()), pair(TABLE_KEY, table.name.to_owned())]
}

/// Without Arrow's own schema, readers see plain Parquet text and not our in-memory dictionaries.
pub(crate) fn options(properties: WriterProperties) -> ArrowWriterOptions {
    ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true)
}

/// How all files of the log are written.
pub(crate) fn properties(metadata: Vec<KeyValue>) -> WriterProperties {
    let all = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(metadata))
        .set_created_by(format!("farthing {}", env!("CARGO_PKG_VERSION")))
        .set_max_row_group_row_count(Some(ROW_GROUP));
    let plain = RISING.iter().chain(&IDS).fold(all, |builder, name| builder.set_column_dictionary_enabled((*name).into(), false));
    RISING.iter().fold(plain, |builder, name| builder.set_column_encoding((*name).into(), Encoding::DELTA_BINARY_PACKED)).build()
}

/// The segment that a temporary file was to be a part of.
fn of_leftover(path: &Path) -> Option<SegmentId> {
    let name = path.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(TEMP_END)?;
    SegmentId::of_part(Path::new(name))
}

/// Creates `dir` when needed and tries to write into it.
///
/// # Errors
/// [`LogError::Dir`] with what the system says.
pub fn check_dir(dir: &Path) -> Result<(), LogError> {
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    let tried = fs::create_dir_all(dir).and_then(|()| File::create(&probe)).and_then(|_| fs::remove_file(&probe));
    // A disk that is full is a trouble that passes, with space of its own for records of money.
    let tried = tried.or_else(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Ok(()),
        _ => Err(error),
    });
    tried.map_err(|source| LogError::Dir { path: dir.to_owned(), source })
}

/// Whether a folder could be there, as far as that can be told without making it: what is there already of its path has to be folders.
///
/// # Errors
/// [`LogError::Dir`] with what is in the way.
pub fn look_at_dir(dir: &Path) -> Result<(), LogError> {
    let known = |path: &Path| fs::metadata(if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let looked = dir.ancestors().map(known).find(|found| found.as_ref().map_or_else(|error| !is_absent(error), |_| true));
    let source = match looked {
        Some(Ok(found)) if !found.is_dir() => io::ErrorKind::NotADirectory.into(),
        Some(Err(error)) => error,
        _ => return Ok(()),
    };
    Err(LogError::Dir { path: dir.to_owned(), source })
}

/// Whether nothing is there; what is below a file is not there either.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The partition folders of a table.
pub(crate) fn partitions(table_dir: &Path) -> Vec<PathBuf> {
    list(table_dir).iter().flat_map(|date| list(date)).collect()
}

/// The entries of a folder in order of their names; none when it cannot be read.
pub(crate) fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| -> io::Result<Vec<PathBuf>> { fs::read_dir(dir)?.map(|entry| entry.map(|e| e.path())).collect() };
    let mut paths = entries(dir).unwrap_or_default();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use farthing_contract::log::ColumnType;

    use super::*;

    #[test]
    fn what_is_written_without_a_dictionary_is_in_the_tables() {
        let number = |name: &str| {
            let mut columns = ALL.iter().flat_map(|table| table.columns).filter(|column| column.name == name).peekable();
            columns.peek().is_some() && columns.all(|column| matches!(column.ty, ColumnType::I64 | ColumnType::U64))
        };
        assert!(RISING.iter().chain(&IDS).all(|name| number(name)));
    }

    #[test]
    fn hours_become_dates() {
        for (hour, text) in [
            (0, "date=1970-01-01/hour=00"),
            (-1, "date=1969-12-31/hour=23"),
            (24 * 11_016, "date=2000-02-29/hour=00"),
            (24 * 19_782 + 7, "date=2024-02-29/hour=07"),
            (24 * 20_776 - 1, "date=2026-11-18/hour=23"),
        ] {
            assert_eq!(partition(hour), text);
        }
    }

    #[test]
    fn days_follow_each_other() {
        use farthing_types::civil;
        let (mut year, mut month, mut day) = civil(-200_000);
        for days in -199_999..200_000 {
            let (y, m, d) = civil(days);
            let next_day = y == year && m == month && d == day + 1;
            let next_month = d == 1 && ((y == year && m == month + 1) || (y == year + 1 && m == 1 && month == 12));
            assert!(next_day || next_month && day >= 28, "{days}: {y}-{m}-{d} after {year}-{month}-{day}");
            (year, month, day) = (y, m, d);
        }
    }
}
