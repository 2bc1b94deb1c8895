//! Files: their names, and how one comes to be whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use arrow::record_batch::RecordBatch;
use farthing_contract::log::{ALL, SCHEMA_VERSION, TABLE_KEY, Table, VERSION_KEY, partition};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::{LogError, Unwritten};

/// End of a temporary name; together with the leading dot no reader's `*.parquet` finds it.
const TEMP_END: &str = ".tmp";

/// The log's folder as one process writes to it.
pub(super) struct Files {
    dir: PathBuf,
    /// `part-<instance>-`, then the process id: together unique among the living.
    stem: String,
    sequence: u64,
}

impl Files {
    pub(super) fn new(dir: PathBuf, instance: &str) -> Self {
        Self { dir, stem: format!("part-{instance}-"), sequence: 0 }
    }

    /// The cut before the next file: `batches` are the rows that it and later ones will hold.
    pub(super) fn unwritten(&self, batches: Vec<(&'static Table, RecordBatch)>) -> Unwritten {
        Unwritten { batches, stem: format!("{}{}-", self.stem, std::process::id()), from: self.sequence }
    }

    /// Removes temporary files of this instance whose process has died; others may still be written.
    pub(super) fn remove_leftovers(&self) {
        for table in ALL {
            for path in partitions(&self.dir.join(table.name)).iter().flat_map(|dir| list(dir)) {
                if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| self.is_leftover(name)) {
                    let _ = fs::remove_file(path);
                }
            }
        }
    }

    fn is_leftover(&self, name: &str) -> bool {
        let rest = name.strip_prefix('.').and_then(|name| name.strip_prefix(&self.stem)).and_then(|name| name.strip_suffix(TEMP_END));
        let Some(pid) = rest.and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse::<u32>().ok()) else { return false };
        let alive = || Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{pid}")).exists();
        pid == std::process::id() || alive()
    }

    /// Writes `batch` as one file into the partition of `hour` (hours since 1970); answers its size in bytes.
    ///
    /// # Errors
    /// Whatever the file system or the encoder says; nothing is left behind then.
    pub(super) fn write(&mut self, table: &Table, hour: i64, batch: &RecordBatch) -> Result<u64, ParquetError> {
        let partition = self.dir.join(table.name).join(partition(hour));
        fs::create_dir_all(&partition)?;
        let name = loop {
            let name = format!("{}{}-{:06}.parquet", self.stem, std::process::id(), self.sequence);
            self.sequence += 1;
            // A process with the same id may have written here before.
            if !partition.join(&name).exists() {
                break name;
            }
        };
        let temp = partition.join(format!(".{name}{TEMP_END}"));
        let written = write_temp(&temp, table, batch).and_then(|bytes| {
            fs::rename(&temp, partition.join(&name))?;
            File::open(&partition)?.sync_all()?;
            Ok(bytes)
        });
        if written.is_err() {
            let _ = fs::remove_file(&temp);
        }
        written
    }
}

fn write_temp(temp: &Path, table: &Table, batch: &RecordBatch) -> Result<u64, ParquetError> {
    let metadata =
        vec![KeyValue::new(VERSION_KEY.to_owned(), SCHEMA_VERSION.to_string()), KeyValue::new(TABLE_KEY.to_owned(), table.name.to_owned())];
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(metadata))
        .set_created_by(format!("farthing {}", env!("CARGO_PKG_VERSION")))
        .build();
    // Without Arrow's own schema, readers see plain Parquet text and not our in-memory dictionaries.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(File::create(temp)?, batch.schema(), options)?;
    writer.write(batch)?;
    let file = writer.into_inner()?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// Creates `dir` when needed and tries to write into it.
///
/// # Errors
/// [`LogError::Dir`] with what the system says.
pub fn check_dir(dir: &Path) -> Result<(), LogError> {
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    let tried = fs::create_dir_all(dir).and_then(|()| File::create(&probe)).and_then(|_| fs::remove_file(&probe));
    tried.map_err(|source| LogError::Dir { path: dir.to_owned(), source })
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
    use super::*;

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

    #[test]
    fn only_the_dead_leave_leftovers() {
        let files = Files::new(PathBuf::from("x"), "a");
        let own = std::process::id();
        assert!(files.is_leftover(&format!(".part-a-{own}-000001.parquet.tmp")));
        // Process 1 lives as long as the machine does.
        for name in
            [".part-a-1-000001.parquet.tmp", ".part-b-4194305-000001.parquet.tmp", "part-a-1-000001.parquet", ".part-a-x.parquet.tmp"]
        {
            assert!(!files.is_leftover(name), "{name}");
        }
    }
}
