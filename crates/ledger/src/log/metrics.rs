//! Counters of the log's writer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use farthing_contract::log::{ALL, Table};
use parking_lot::Mutex;
use serde::Serialize;

/// Counters of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableMetrics {
    /// Rows in files.
    pub rows: u64,
    /// Rows that were merged into others, whose `weight` counts them.
    pub merged: u64,
    /// Rows dropped because the queue was full or the log was closed.
    pub dropped_queue: u64,
    /// Rows dropped because their file could not be written.
    pub dropped_write: u64,
    /// Files under their final name.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
}

/// The writer's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogMetrics {
    /// By table.
    pub tables: BTreeMap<&'static str, TableMetrics>,
    /// Bytes of rows that wait for the writer's thread.
    pub queued_bytes: usize,
    /// Whether the last file could be written (true before the first).
    pub healthy: bool,
    /// The last error, also after the writer has recovered.
    pub last_error: Option<String>,
}

impl LogMetrics {
    /// Rows dropped, for whatever reason, over all tables.
    pub fn dropped(&self) -> u64 {
        self.tables.values().map(|table| table.dropped_queue + table.dropped_write).sum()
    }

    /// Rows in files over all tables.
    pub fn rows(&self) -> u64 {
        self.tables.values().map(|table| table.rows).sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct TableCounters {
    pub(super) rows: AtomicU64,
    pub(super) merged: AtomicU64,
    pub(super) dropped_queue: AtomicU64,
    pub(super) dropped_write: AtomicU64,
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    tables: [TableCounters; ALL.len()],
    /// Tables that the contract does not list (in tests).
    other: TableCounters,
    unhealthy: AtomicBool,
    billing_at_risk: AtomicBool,
    last_error: Mutex<Option<String>>,
}

impl Counters {
    pub(super) fn of(&self, table: &Table) -> &TableCounters {
        ALL.iter().position(|known| known.name == table.name).map_or(&self.other, |index| &self.tables[index])
    }

    pub(super) fn billing_at_risk(&self) -> bool {
        self.billing_at_risk.load(Relaxed)
    }

    pub(super) fn wrote(&self) {
        self.unhealthy.store(false, Relaxed);
    }

    pub(super) fn failed(&self, error: String) {
        self.unhealthy.store(true, Relaxed);
        *self.last_error.lock() = Some(error);
    }

    pub(super) fn snapshot(&self, queued_bytes: usize) -> LogMetrics {
        let read = |counters: &TableCounters| TableMetrics {
            rows: counters.rows.load(Relaxed),
            merged: counters.merged.load(Relaxed),
            dropped_queue: counters.dropped_queue.load(Relaxed),
            dropped_write: counters.dropped_write.load(Relaxed),
            files: counters.files.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
        };
        let mut tables: BTreeMap<_, _> = ALL.iter().zip(&self.tables).map(|(table, counters)| (table.name, read(counters))).collect();
        let other = read(&self.other);
        if other != TableMetrics::default() {
            tables.insert("(other)", other);
        }
        LogMetrics { tables, queued_bytes, healthy: !self.unhealthy.load(Relaxed), last_error: self.last_error.lock().clone() }
    }
}
