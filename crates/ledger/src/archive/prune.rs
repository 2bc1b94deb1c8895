//! Removes what is older than its retention.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use arrow::array::{BooleanArray, StringArray};
use arrow::record_batch::RecordBatch;
use farthing_contract::log::{ALL, Table, partition};
use farthing_types::{Span, Time};
use serde::Serialize;

use super::batches::{begin_ns, column, hours, parts};
use super::retain::{Retained, count, retain};
use super::{ArchiveError, HOUR_NS, remover};

/// Beside the files of a partition: what was removed from it, so that it is not looked through again.
const MARK: &str = ".pruned";

/// How long rows stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// By table; a table that is not named stays for ever.
    pub tables: Vec<(&'static str, Span)>,
    /// Of one tenant, by table, in place of what the table says: for tables whose rows name a tenant.
    pub tenants: Vec<(String, &'static str, Span)>,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Partitions removed as a whole.
    pub partitions: u64,
    /// Files removed, those of whole partitions included.
    pub files_removed: u64,
    /// Files written anew without some of their rows.
    pub files_rewritten: u64,
    /// Rows removed.
    pub rows: u64,
    /// Bytes that became free.
    pub bytes: u64,
    /// Files that could not be read, and why: nothing was removed from them.
    pub skipped: Vec<String>,
}

/// Removes the rows that are due at `now`: of partitions whose last moment is older than the retention of the rows. With `dry`
/// nothing is removed, and what would be is told.
///
/// # Errors
/// Another process removes rows, or a file cannot be replaced or removed; what was done until then stays done.
pub fn prune(dir: &Path, retention: &Retention, now: Time, dry: bool) -> Result<Pruned, ArchiveError> {
    let _guard = if dry { None } else { Some(remover(dir)?) };
    let mut pruned = Pruned::default();
    for table in ALL {
        for (hour, folder) in hours(dir, table) {
            let age = now.nanos().saturating_sub(begin_ns(hour).saturating_add(HOUR_NS));
            let rules = retention.rules(table, age);
            if rules.removes() {
                Partition { table, hour, folder, rules, dry }.prune(&mut pruned)?;
            }
        }
    }
    Ok(pruned)
}

/// What is due of one partition.
struct Rules<'a> {
    /// Rows of tenants without a rule of their own.
    others: bool,
    /// Tenants with a rule of their own whose rows are due.
    due: Vec<&'a str>,
    /// Tenants with a rule of their own whose rows are not due.
    stay: Vec<&'a str>,
}

impl Retention {
    fn rules(&self, table: &Table, age: i64) -> Rules<'_> {
        let is_due = |span: &Span| i64::try_from(span.as_nanos()).is_ok_and(|span| age >= span);
        let own = self.tenants.iter().filter(|(_, of, _)| *of == table.name);
        let (due, stay): (Vec<_>, Vec<_>) = own.partition(|(_, _, span)| is_due(span));
        Rules {
            others: self.tables.iter().any(|(name, span)| *name == table.name && is_due(span)),
            due: due.into_iter().map(|(tenant, _, _)| tenant.as_str()).collect(),
            stay: stay.into_iter().map(|(tenant, _, _)| tenant.as_str()).collect(),
        }
    }
}

impl Rules<'_> {
    fn removes(&self) -> bool {
        self.others || !self.due.is_empty()
    }

    /// All rows go, whoever they belong to.
    fn all(&self) -> bool {
        self.others && self.stay.is_empty()
    }

    fn goes(&self, batch: &RecordBatch) -> BooleanArray {
        let tenants = column::<StringArray>(batch, "tenant");
        let goes = |row: usize| match tenants.map(|tenants| tenants.value(row)) {
            Some(tenant) if self.due.contains(&tenant) => true,
            Some(tenant) if self.stay.contains(&tenant) => false,
            _ => self.others,
        };
        (0..batch.num_rows()).map(|row| Some(goes(row))).collect()
    }

    /// What the mark says after these rules were applied to so many files.
    fn mark(&self, files: usize) -> String {
        format!("{files} others={} due={:?} stay={:?}\n", self.others, self.due, if self.others { &*self.stay } else { &[] })
    }
}

struct Partition<'a> {
    table: &'static Table,
    hour: i64,
    folder: PathBuf,
    rules: Rules<'a>,
    dry: bool,
}

impl Partition<'_> {
    fn prune(&self, pruned: &mut Pruned) -> Result<(), ArchiveError> {
        let mark = self.folder.join(MARK);
        let files = parts(&self.folder);
        if fs::read_to_string(&mark).is_ok_and(|text| text == self.rules.mark(files.len())) {
            return Ok(());
        }
        let skipped = pruned.skipped.len();
        for file in &files {
            if let Err(error) = self.file(file, pruned) {
                match error {
                    ArchiveError::Read(error) => pruned.skipped.push(error.to_string()),
                    error => return Err(error),
                }
            }
        }
        if self.dry || pruned.skipped.len() > skipped {
            return Ok(());
        }
        if self.rules.all() || parts(&self.folder).is_empty() {
            tracing::info!(table = self.table.name, partition = partition(self.hour), "log partition removed");
            pruned.partitions += 1;
            return self.remove();
        }
        fs::write(&mark, self.rules.mark(parts(&self.folder).len())).map_err(ArchiveError::io(&mark))
    }

    fn file(&self, file: &Path, pruned: &mut Pruned) -> Result<(), ArchiveError> {
        let size = |file: &Path| file.metadata().map_or(0, |meta| meta.len());
        let before = size(file);
        let mut goes = |batch: &RecordBatch| self.rules.goes(batch);
        let columns = ["ts_ns", "tenant"];
        let Retained { kept, removed } = match self.dry {
            true => count(file, self.table, &columns, &mut goes)?,
            false => retain(file, self.table, &columns, &mut goes)?,
        };
        pruned.rows += removed;
        match (kept, removed) {
            (_, 0) => return Ok(()),
            (0, _) => pruned.files_removed += 1,
            _ => pruned.files_rewritten += 1,
        }
        pruned.bytes += if self.dry { if kept == 0 { before } else { 0 } } else { before.saturating_sub(size(file)) };
        Ok(())
    }

    /// Removes the folder, and that of its date when it was the last hour. A file that came meanwhile keeps it there.
    fn remove(&self) -> Result<(), ArchiveError> {
        let gone = |done: io::Result<()>, path: &Path| match done {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                Err(ArchiveError::io(path)(error))
            }
            _ => Ok(()),
        };
        let mark = self.folder.join(MARK);
        gone(fs::remove_file(&mark), &mark)?;
        gone(fs::remove_dir(&self.folder), &self.folder)?;
        let date = self.folder.parent().unwrap_or(&self.folder);
        gone(fs::remove_dir(date), date)
    }
}
