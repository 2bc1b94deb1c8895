//! Where the rows are: finished files, and what is in none yet.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use farthing_contract::log::{CallRow, Request, Row, Table, partition};

use super::query::CostQuery;
use super::report::{self, CostReport};
use super::scan::{Scan, Task};

/// Rows that are in no file yet.
pub trait RecentRows: Send + Sync {
    /// The rows that are in no file yet, and which files have the others, of one moment.
    ///
    /// # Errors
    /// Why they cannot be had; the answer is then made from the files alone and says so.
    fn recent(&self) -> Result<Recent, String>;
}

/// Whether a file has to be read.
pub type Reads = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// Rows of one moment.
#[derive(Clone, Default)]
pub struct Recent {
    /// Rows in no file, by the name of their table.
    pub batches: Vec<(&'static str, RecordBatch)>,
    /// Whether a file's rows are not among the batches, so that it has to be read; `None`: every file has to. Files are listed afterwards.
    pub reads: Option<Reads>,
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: usize = self.batches.iter().map(|(_, batch)| batch.num_rows()).sum();
        f.debug_struct("Recent").field("rows", &rows).finish_non_exhaustive()
    }
}

/// How much one answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of groups.
    pub bytes: usize,
    /// Threads that read.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 20, threads: std::thread::available_parallelism().map_or(2, usize::from).min(4) }
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// It would take more memory than an answer may.
    #[error("{0}")]
    TooLarge(String),
    /// It took longer than it may.
    #[error("not answered in time: ask for a shorter window")]
    Late,
    /// A thread broke off.
    #[error("reading the log broke off")]
    Broken,
}

/// The money in a log.
#[derive(Clone)]
pub struct CostStore {
    dir: PathBuf,
    recent: Option<Arc<dyn RecentRows>>,
    limits: Limits,
}

impl fmt::Debug for CostStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CostStore").field("dir", &self.dir).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl CostStore {
    /// The log in `dir`, and rows that `recent` has beside it.
    pub fn new(dir: impl Into<PathBuf>, recent: Option<Arc<dyn RecentRows>>, limits: Limits) -> Self {
        Self { dir: dir.into(), recent, limits }
    }

    /// Answers a question. Blocks: reads files. `late` is asked between batches; true ends it.
    ///
    /// Files that cannot be read are named in the answer, which lacks their rows.
    ///
    /// # Errors
    /// See [`CostError`].
    pub fn answer(&self, query: &CostQuery, late: &(dyn Fn() -> bool + Sync)) -> Result<CostReport, CostError> {
        let mut unreadable = Vec::new();
        let recent = match self.recent.as_ref().map(|recent| recent.recent()) {
            Some(Ok(recent)) => recent,
            Some(Err(problem)) => {
                unreadable.push(format!("rows that are in no file yet: {problem}"));
                Recent::default()
            }
            None => Recent::default(),
        };
        let (requests, calls) = query.reads();
        let mut tasks = Vec::new();
        for (table, read) in [(Request::TABLE, requests), (CallRow::TABLE, calls)] {
            if read {
                tasks.extend(self.tasks(table, query, &recent));
            }
        }
        let scan = Scan { query, tasks, limits: self.limits, late };
        let mut part = scan.run()?;
        part.unreadable.append(&mut unreadable);
        part.unreadable.sort();
        Ok(report::build(query, part))
    }

    /// Everything of a table that can have rows of the window.
    fn tasks(&self, table: &'static Table, query: &CostQuery, recent: &Recent) -> Vec<Task> {
        let reads = |file: &PathBuf| may_have(file, query) && recent.reads.as_ref().is_none_or(|reads| reads(file));
        let files = crate::read::files(&self.dir, table).into_iter().filter(reads).map(|file| Task::File(table, file));
        let batches = recent.batches.iter().filter(|(name, _)| *name == table.name).map(|(_, batch)| Task::Batch(table, batch.clone()));
        files.chain(batches).collect()
    }
}

/// Whether the hour of a file's folder touches the window; a folder of another name may have anything.
fn may_have(file: &Path, query: &CostQuery) -> bool {
    let Some(hour) = file.parent().and_then(Path::file_name).and_then(|name| name.to_str()) else { return true };
    let Some(date) = file.parent().and_then(Path::parent).and_then(Path::file_name).and_then(|name| name.to_str()) else { return true };
    if !date.starts_with("date=") || !hour.starts_with("hour=") {
        return true;
    }
    const HOUR: i64 = 3_600_000_000_000;
    let last = query.window.to.nanos().saturating_sub(1);
    let (first, last) = (partition(query.window.from.nanos().div_euclid(HOUR)), partition(last.div_euclid(HOUR)));
    let folder = format!("{date}/{hour}");
    // Years of four digits sort as time does.
    first <= folder && folder <= last
}
