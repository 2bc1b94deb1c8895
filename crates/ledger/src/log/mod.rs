//! The request log's writer: rows in, Parquet files out, never in the way of a request.
//!
//! [`LogHandle::write`] moves a row into a queue that is bounded in bytes and returns; a full queue drops the row and
//! counts it. One thread looks into the queue every 50 ms and appends the rows to a segment of the journal, which a killed
//! process leaves behind and the next one reads. At the latest [`LogConfig::flush_every`] after a row came the segment is
//! sealed, and another thread makes it into a file per table and hour
//! (`<dir>/<table>/date=YYYY-MM-DD/hour=HH/part-<instance>-<start>-<n>.parquet`). A file is written under a hidden temporary
//! name, synced, then renamed: under its final name it is whole, whenever the process dies.
//!
//! A full disk costs log rows, counted, and the health flag; records of money (all of `calls`, and requests that cost or
//! saved something) go into space that was set aside, and when that is used up into bounded memory, which
//! [`LogHandle::billing_at_risk`] tells.

mod columns;
mod filer;
mod files;
mod gathered;
mod metrics;
mod queue;
mod recorder;
mod shelf;
#[cfg(test)]
mod tests;
mod thin;
mod tick;
mod unwritten;
mod worker;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{JoinHandle, Thread};

use crossbeam_channel::{Sender, bounded, unbounded};
use farthing_contract::log::Row;
use farthing_types::{Clock, Span};
use parking_lot::Mutex;

pub(crate) use columns::plain_schema;
pub(crate) use files::{TEMP_END, list, names, options, partitions, properties};
pub use files::{check_dir, look_at_dir};
pub use metrics::{JournalMetrics, LogMetrics, TableMetrics};
pub use unwritten::Unwritten;

use metrics::Counters;
use queue::{Pushed, Queue};
use worker::{Inbox, Trio};

use crate::journal::RealDisk;

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Longest time between a row and the file that holds it.
    pub flush_every: Span,
    /// Rows of one table and hour that are gathered before a file is written.
    pub max_file_rows: usize,
    /// Rows of the table `requests` in a second, with a second's worth of burst; beyond, alike rows of the same 100 ms
    /// become one with a `weight`.
    pub row_rate: u32,
    /// Bytes of rows, all tables together, that are gathered before files are written.
    pub max_file_bytes: usize,
    /// Bytes of rows that may wait for the writer's thread; beyond, rows are dropped and counted.
    pub queue_bytes: usize,
    /// Whether rows are journaled before they are in files.
    pub journal: bool,
    /// Longest time between a journaled row and its being safe from a power cut.
    pub journal_sync: Span,
    /// Bytes on the disk that are set aside for records of money, for when it is full.
    pub journal_reserve: u64,
    /// Names the writer in file names: letters, digits, `_` and `.`, unique among the machines that share the folder.
    pub instance: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            flush_every: Span::from_secs(10),
            max_file_rows: 200_000,
            row_rate: 5_000,
            max_file_bytes: 32 << 20,
            queue_bytes: 32 << 20,
            journal: true,
            journal_sync: Span::from_millis(500),
            journal_reserve: 16 << 20,
            instance: "local".to_owned(),
        }
    }
}

/// What can go wrong with the log as a whole. Rows that cannot be written are counted instead, see [`LogMetrics`].
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The instance's name cannot stand in a file name.
    #[error("log instance `{0}`: use 1 to 64 letters, digits, `_` or `.`")]
    Instance(String),
    /// The writer's thread could not be started.
    #[error("cannot start the log's thread")]
    Thread(#[source] std::io::Error),
    /// The folder cannot be written to.
    #[error("log folder `{}` cannot be written ({source}): make it writable, or name another in log.dir", path.display())]
    Dir {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Some rows are in no file: they were dropped and counted, or they wait in the journal for a disk that takes them.
    #[error("log rows are in no file: {0}")]
    Unwritten(String),
    /// The rows that wait cannot be copied.
    #[error("the rows that wait for their file cannot be copied: {0}")]
    Uncopied(String),
    /// The writer's thread is gone or did not answer in time.
    #[error("the log's thread did not answer within {0:?}")]
    NoAnswer(Span),
}

/// Owns the writer's thread. Dropping it closes the log.
#[derive(Debug)]
pub struct LogWriter {
    handle: LogHandle,
    thread: Option<JoinHandle<()>>,
}

/// Writes rows; cheap to clone.
#[derive(Clone)]
pub struct LogHandle(Arc<Shared>);

struct Shared {
    queue: Arc<Queue>,
    orders: Sender<Order>,
    counters: Arc<Counters>,
    thread: Mutex<Option<Thread>>,
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogHandle").field(&self.metrics()).finish()
    }
}

/// What the thread is told beside rows.
enum Order {
    /// Write everything out; the answer is the last error since the flush before, if there was one.
    Flush(Sender<Option<String>>),
    /// Copy what no file holds yet.
    Unwritten(Sender<Result<Unwritten, String>>),
    Close,
}

impl LogWriter {
    /// Starts the writer for `dir`, which is created when needed.
    ///
    /// A folder that cannot be written is no error here, as it may heal: rows are dropped and counted, and
    /// [`LogMetrics::healthy`] is false. Use [`check_dir`] to refuse it up front. `clock` measures
    /// [`LogConfig::flush_every`]: pass the real one, also where requests run on another time.
    ///
    /// # Errors
    /// An instance name that is no file name, or no thread to be had.
    pub fn open(dir: impl Into<PathBuf>, config: LogConfig, clock: Arc<dyn Clock>) -> Result<Self, LogError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
        if !(1..=64).contains(&config.instance.len()) || !config.instance.bytes().all(fits) {
            return Err(LogError::Instance(config.instance));
        }
        let (orders, received) = unbounded();
        let queue = Arc::new(Queue::new(config.queue_bytes));
        let counters = Arc::new(Counters::default());
        let inbox = Inbox { queue: queue.clone(), orders: received };
        let Trio { worker, mut filer, jobs, syncs } =
            worker::trio((Arc::new(RealDisk), dir.into()), config, clock, inbox, counters.clone());
        let unsynced = counters.clone();
        let sync = move || syncs.iter().filter_map(|what| what.sync().err()).for_each(|error| unsynced.unsynced(&error));
        let syncing = thread("farthing-sync", sync)?;
        let filing = thread("farthing-files", move || jobs.iter().for_each(|job| filer.run(job)))?;
        let end = move || {
            let _ = (filing.join(), syncing.join());
        };
        let thread = thread("farthing-log", move || worker.run(end))?;
        let shared = Shared { queue, orders, counters, thread: Mutex::new(Some(thread.thread().clone())) };
        Ok(Self { handle: LogHandle(Arc::new(shared)), thread: Some(thread) })
    }

    /// A handle to write with.
    pub fn handle(&self) -> LogHandle {
        self.handle.clone()
    }

    /// Writes everything out and ends the thread; rows written later are dropped and counted. Blocks.
    pub fn close(mut self) -> LogMetrics {
        self.end();
        self.handle.metrics()
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.handle.0.orders.send(Order::Close);
            thread.thread().unpark();
            let _ = thread.join();
            *self.handle.0.thread.lock() = None;
        }
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LogError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(LogError::Thread)
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.end();
    }
}

impl LogHandle {
    /// Hands a row to the writer. Never blocks; a row that finds the queue full is dropped and counted.
    pub fn write<R: Row>(&self, row: R) {
        // The thread looks into the queue by itself; it is woken only when that may be too late, because waking costs
        // a system call.
        match self.0.queue.push(row) {
            Pushed::Queued => {}
            Pushed::QueuedHalf => self.wake(),
            Pushed::Refused => {
                self.0.counters.of(R::TABLE).dropped_queue.fetch_add(1, Relaxed);
            }
        }
    }

    /// Has everything written so far put into files. Blocks for at most `wait`.
    ///
    /// # Errors
    /// [`LogError::Unwritten`] when rows had to be dropped since the last flush, [`LogError::NoAnswer`] when the thread
    /// is busy for longer or gone.
    pub fn flush(&self, wait: Span) -> Result<(), LogError> {
        let (answer, answered) = bounded(1);
        self.0.orders.send(Order::Flush(answer)).map_err(|_| LogError::NoAnswer(wait))?;
        self.wake();
        match answered.recv_timeout(wait) {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(LogError::Unwritten(error)),
            Err(_) => Err(LogError::NoAnswer(wait)),
        }
    }

    /// The rows written so far that are in no file yet, and which files hold the others. Blocks for at most `wait`.
    ///
    /// # Errors
    /// [`LogError::NoAnswer`] when the thread is busy for longer or gone, [`LogError::Uncopied`] when a row breaks its
    /// table's declaration.
    pub fn unwritten(&self, wait: Span) -> Result<Unwritten, LogError> {
        let (answer, answered) = bounded(1);
        self.0.orders.send(Order::Unwritten(answer)).map_err(|_| LogError::NoAnswer(wait))?;
        self.wake();
        answered.recv_timeout(wait).map_err(|_| LogError::NoAnswer(wait))?.map_err(LogError::Uncopied)
    }

    /// Whether records of money may be lost if the process dies now: the disk takes nothing any more, not even from the
    /// reserve, and they wait in memory. Cheap: one load.
    pub fn billing_at_risk(&self) -> bool {
        self.0.counters.billing_at_risk()
    }

    /// Rows, drops, files and bytes so far.
    pub fn metrics(&self) -> LogMetrics {
        self.0.counters.snapshot(self.0.queue.bytes())
    }

    fn wake(&self) {
        if let Some(thread) = &*self.0.thread.lock() {
            thread.unpark();
        }
    }
}
