//! Counters of the log's writer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use farthing_contract::log::{ALL, Table};
use parking_lot::Mutex;
use serde::Serialize;

use super::recorder::Room;

/// Counters of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableMetrics {
    /// Rows in files.
    pub rows: u64,
    /// Rows that were merged into others, whose `weight` counts them.
    pub merged: u64,
    /// Rows dropped because the queue was full or the log was closed.
    pub dropped_queue: u64,
    /// Rows dropped because their file could not be written, or because they broke the table's declaration.
    pub dropped_write: u64,
    /// Rows dropped because the disk is full: never records of money.
    pub dropped_disk: u64,
    /// Records of money lost because neither the disk nor the memory for them took any more.
    pub dropped_billing: u64,
    /// Files under their final name.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
}

impl TableMetrics {
    /// Rows dropped, for whatever reason.
    pub const fn dropped(&self) -> u64 {
        self.dropped_queue + self.dropped_write + self.dropped_disk + self.dropped_billing
    }
}

/// State of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JournalMetrics {
    /// Whether all rows are journaled: false without a journal, and when the disk is full.
    pub records_all: bool,
    /// Whether records of money would be lost if the process died now.
    pub billing_at_risk: bool,
    /// Bytes of records of money in memory that found no room on the disk.
    pub held_bytes: u64,
    /// Segments that could not be made into files; they are tried again.
    pub kept_segments: u64,
    /// Segments read back: of processes that died, after files could not be written, and where more waited than memory is for.
    pub replayed_segments: u64,
    /// Rows in them.
    pub replayed_rows: u64,
    /// Bytes cut from the ends of segments whose process died while it wrote.
    pub torn_bytes: u64,
    /// Damaged places in segments.
    pub damaged: u64,
    /// What was last cut or skipped, with the file's name.
    pub last_repair: Option<String>,
}

/// The writer's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogMetrics {
    /// By table.
    pub tables: BTreeMap<&'static str, TableMetrics>,
    /// Bytes of rows that wait for the writer's thread.
    pub queued_bytes: usize,
    /// Whether the last file could be written (true before the first).
    pub healthy: bool,
    /// The last error, also after the writer has recovered.
    pub last_error: Option<String>,
    /// The journal.
    pub journal: JournalMetrics,
}

impl LogMetrics {
    /// Rows dropped, for whatever reason, over all tables.
    pub fn dropped(&self) -> u64 {
        self.tables.values().map(TableMetrics::dropped).sum()
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
    pub(super) dropped_disk: AtomicU64,
    pub(super) dropped_billing: AtomicU64,
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct JournalCounters {
    records_all: AtomicBool,
    at_risk: AtomicBool,
    pub(super) held_bytes: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) replayed_segments: AtomicU64,
    pub(super) replayed_rows: AtomicU64,
    pub(super) torn_bytes: AtomicU64,
    pub(super) damaged: AtomicU64,
    pub(super) last_repair: Mutex<Option<String>>,
}

impl JournalCounters {
    pub(super) fn set_room(&self, room: Room) {
        self.records_all.store(room == Room::Plenty, Relaxed);
        self.at_risk.store(room == Room::None, Relaxed);
    }

    fn snapshot(&self) -> JournalMetrics {
        JournalMetrics {
            records_all: self.records_all.load(Relaxed),
            billing_at_risk: self.at_risk.load(Relaxed),
            held_bytes: self.held_bytes.load(Relaxed),
            kept_segments: self.kept.load(Relaxed),
            replayed_segments: self.replayed_segments.load(Relaxed),
            replayed_rows: self.replayed_rows.load(Relaxed),
            torn_bytes: self.torn_bytes.load(Relaxed),
            damaged: self.damaged.load(Relaxed),
            last_repair: self.last_repair.lock().clone(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    tables: [TableCounters; ALL.len()],
    /// Tables that the contract does not list (in tests).
    other: TableCounters,
    unhealthy: AtomicBool,
    last_error: Mutex<Option<String>>,
    pub(super) journal: JournalCounters,
}

impl Counters {
    pub(super) fn of(&self, table: &Table) -> &TableCounters {
        ALL.iter().position(|known| known.name == table.name).map_or(&self.other, |index| &self.tables[index])
    }

    pub(super) fn billing_at_risk(&self) -> bool {
        self.journal.at_risk.load(Relaxed)
    }

    pub(super) fn wrote(&self) {
        self.unhealthy.store(false, Relaxed);
    }

    /// The journal could not be synced.
    pub(super) fn unsynced(&self, error: &std::io::Error) {
        tracing::warn!(%error, "the journal could not be synced: a power cut would cost its last records");
        self.failed(format!("journal: {error}"));
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
            dropped_disk: counters.dropped_disk.load(Relaxed),
            dropped_billing: counters.dropped_billing.load(Relaxed),
            files: counters.files.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
        };
        let mut tables: BTreeMap<_, _> = ALL.iter().zip(&self.tables).map(|(table, counters)| (table.name, read(counters))).collect();
        let other = read(&self.other);
        if other != TableMetrics::default() {
            tables.insert("(other)", other);
        }
        let journal = self.journal.snapshot();
        let healthy = !self.unhealthy.load(Relaxed);
        LogMetrics { tables, queued_bytes, healthy, last_error: self.last_error.lock().clone(), journal }
    }
}
