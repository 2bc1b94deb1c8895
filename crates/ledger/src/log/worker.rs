//! The writer's thread.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use farthing_contract::log::{Request, Row, Table};
use farthing_types::{Clock, Span, Time};

use super::columns::Columns;
use super::files::Files;
use super::metrics::Counters;
use super::queue::{AnyRow, Queue, requests};
use super::thin::Thin;
use super::{LogConfig, Order, Unwritten};

/// How often the thread looks into the queue by itself.
const LOOK_EVERY: Span = Span::from_millis(50);
const HOUR_NS: i64 = 3_600_000_000_000;

/// Where rows and orders come from.
pub(super) struct Inbox {
    pub(super) queue: Arc<Queue>,
    pub(super) orders: Receiver<Order>,
}

pub(super) struct Worker {
    files: Files,
    thin: Thin,
    config: LogConfig,
    clock: Arc<dyn Clock>,
    inbox: Inbox,
    counters: Arc<Counters>,
    /// By table and hour since 1970.
    gathered: BTreeMap<(&'static str, i64), Gathered>,
    gathered_bytes: usize,
    /// When the oldest gathered row came.
    since: Option<Time>,
    error: Option<String>,
}

struct Gathered {
    columns: Columns,
    rows: usize,
    bytes: usize,
}

impl Worker {
    pub(super) fn new(dir: PathBuf, config: LogConfig, clock: Arc<dyn Clock>, inbox: Inbox, counters: Arc<Counters>) -> Self {
        let (files, thin) = (Files::new(dir, &config.instance), Thin::new(config.row_rate));
        Self { files, thin, config, clock, inbox, counters, gathered: BTreeMap::new(), gathered_bytes: 0, since: None, error: None }
    }

    pub(super) fn run(mut self) {
        self.files.remove_leftovers();
        loop {
            // The order is taken before the rows: what was written before it is then among them.
            let order = self.inbox.orders.try_recv();
            self.take(false);
            match order {
                Ok(Order::Flush(answer)) => self.answer(&answer),
                Ok(Order::Unwritten(answer)) => {
                    let _ = answer.send(self.unwritten());
                }
                Ok(Order::Close) | Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.write_due();
                    std::thread::park_timeout(LOOK_EVERY);
                }
            }
        }
        self.take(true);
        self.write_all();
    }

    fn take(&mut self, close: bool) {
        let queue = self.inbox.queue.clone();
        let (mut batches, mut bytes) = (Vec::new(), 0);
        queue.take(close, &mut |mut batch| {
            let each = batch.bytes() / batch.len().max(1);
            match requests(&mut *batch) {
                Some(taken) => {
                    bytes += batch.bytes();
                    batches.push(taken);
                }
                None => batch.visit(&mut |row| self.gather(batch.table(), row, each)),
            }
        });
        let before: usize = batches.iter().map(Vec::len).sum();
        let each = bytes / before.max(1);
        let rows = self.thin.apply(batches, self.clock.now());
        self.counters.of(Request::TABLE).merged.fetch_add((before - rows.len()) as u64, Relaxed);
        rows.iter().for_each(|row| self.gather(Request::TABLE, row, each));
    }

    pub(super) fn gather(&mut self, table: &'static Table, row: &dyn AnyRow, bytes: usize) {
        self.gathered_bytes += bytes;
        if self.since.is_none() {
            self.since = Some(self.clock.now());
        }
        let hour = row.at_ns().div_euclid(HOUR_NS);
        let gathered =
            self.gathered.entry((table.name, hour)).or_insert_with(|| Gathered { columns: Columns::new(table), rows: 0, bytes: 0 });
        gathered.columns.push(row);
        gathered.rows += 1;
        gathered.bytes += bytes;
        if self.gathered_bytes >= self.config.max_file_bytes {
            self.write_all();
        } else if gathered.rows >= self.config.max_file_rows
            && let Some(full) = self.gathered.remove(&(table.name, hour))
        {
            self.write(table, hour, full);
        }
    }

    pub(super) fn write_due(&mut self) {
        if self.since.is_some_and(|since| self.clock.now().since(since) >= self.config.flush_every) {
            self.write_all();
        }
    }

    pub(super) fn write_all(&mut self) {
        for ((_, hour), gathered) in std::mem::take(&mut self.gathered) {
            self.write(gathered.columns.table(), hour, gathered);
        }
        self.since = None;
    }

    fn write(&mut self, table: &'static Table, hour: i64, gathered: Gathered) {
        let rows = gathered.rows as u64;
        self.gathered_bytes -= gathered.bytes;
        let written = gathered.columns.finish().map_err(Into::into).and_then(|batch| self.files.write(table, hour, &batch));
        let counters = self.counters.of(table);
        match written {
            Ok(bytes) => {
                counters.rows.fetch_add(rows, Relaxed);
                counters.files.fetch_add(1, Relaxed);
                counters.bytes.fetch_add(bytes, Relaxed);
                self.counters.wrote();
            }
            Err(error) => {
                counters.dropped_write.fetch_add(rows, Relaxed);
                let error = format!("{}: {error}", table.name);
                tracing::warn!(table = table.name, rows, %error, "log rows dropped");
                self.counters.failed(error.clone());
                self.error = Some(error);
            }
        }
    }

    fn unwritten(&self) -> Result<Unwritten, String> {
        let copy = |gathered: &Gathered| gathered.columns.copy().map(|batch| (gathered.columns.table(), batch));
        let batches = self.gathered.values().map(copy).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        Ok(self.files.unwritten(batches))
    }

    fn answer(&mut self, answer: &Sender<Option<String>>) {
        self.write_all();
        let _ = answer.send(self.error.take());
    }
}

impl Drop for Worker {
    /// However the thread ends: rows that come later are refused, and so counted.
    fn drop(&mut self) {
        let counters = &self.counters;
        self.inbox.queue.take(true, &mut |batch| {
            counters.of(batch.table()).dropped_queue.fetch_add(batch.len() as u64, Relaxed);
        });
    }
}
