//! The writer's thread: takes rows out of the queue, records them in the journal, gathers them for files.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use farthing_contract::log::{Request, Row};
use farthing_types::{Clock, Span, Time};

use super::filer::{Filer, Job, Sealed};
use super::files::Files;
use super::gathered::Gathered;
use super::metrics::Counters;
use super::queue::Queue;
use super::recorder::{HEAL_EVERY, Recorded, Recorder, Room};
use super::shelf::Shelf;
use super::thin::Thin;
use super::tick::{Entry, Tick};
use super::{LogConfig, Order, Unwritten};
use crate::journal::{Disk, Folder, Unsynced};

/// How often the thread looks into the queue by itself.
const LOOK_EVERY: Span = Span::from_millis(50);
/// How often it is looked whether another process that shares the folder has died.
const BURY_EVERY: Span = Span::from_secs(60);
/// Rows that are recorded at once.
const CHUNK: usize = 1_000;

/// Where rows and orders come from.
pub(super) struct Inbox {
    pub(super) queue: Arc<Queue>,
    pub(super) orders: Receiver<Order>,
}

pub(super) struct Worker {
    thin: Thin,
    config: LogConfig,
    clock: Arc<dyn Clock>,
    inbox: Inbox,
    counters: Arc<Counters>,
    folder: Folder,
    recorder: Recorder,
    gathered: Gathered,
    /// When the oldest gathered row came.
    since: Option<Time>,
    /// Given to the filer and not in files yet.
    shelf: Shelf,
    jobs: Sender<Job>,
    syncs: Sender<Unsynced>,
    healed: Time,
    buried: Time,
    tried: Time,
    error: Option<String>,
}

/// The writer in its three parts, each for a thread of its own.
pub(super) struct Trio {
    pub(super) worker: Worker,
    /// Makes files of what the worker seals.
    pub(super) filer: Filer,
    pub(super) jobs: Receiver<Job>,
    /// Syncs what the worker appends: that may take seconds on a busy disk, and rows must not wait for it.
    pub(super) syncs: Receiver<Unsynced>,
}

pub(super) fn trio(
    (disk, dir): (Arc<dyn Disk>, PathBuf),
    config: LogConfig,
    clock: Arc<dyn Clock>,
    inbox: Inbox,
    counters: Arc<Counters>,
) -> Trio {
    let (jobs, received) = crossbeam_channel::unbounded();
    let (reports, reported) = crossbeam_channel::unbounded();
    let (syncs, to_sync) = crossbeam_channel::bounded(1);
    let folder = Folder::of(disk.clone(), &dir);
    let filer = Filer::new(Files::new(disk, dir), folder.clone(), counters.clone(), reports);
    let worker = Worker {
        thin: Thin::new(config.row_rate),
        recorder: Recorder::new(folder.clone(), config.clone(), counters.clone()),
        config,
        clock,
        inbox,
        counters,
        folder,
        gathered: Gathered::default(),
        since: None,
        shelf: Shelf::new(reported),
        jobs,
        syncs,
        healed: Time::ZERO,
        buried: Time::ZERO,
        tried: Time::ZERO,
        error: None,
    };
    Trio { worker, filer, jobs: received, syncs: to_sync }
}

impl Worker {
    /// Works until the log is closed. The filer must be running then.
    pub(super) fn run(mut self, filer: impl FnOnce()) {
        self.begin();
        loop {
            // The order is taken before the rows: what was written before it is then among them.
            let order = self.inbox.orders.try_recv();
            self.take(false);
            match order {
                Ok(Order::Flush(answer)) => self.flush(answer),
                Ok(Order::Unwritten(answer)) => {
                    let _ = answer.send(self.unwritten());
                }
                Ok(Order::Close) | Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.turn();
                    std::thread::park_timeout(LOOK_EVERY);
                }
            }
        }
        self.close(filer);
    }

    /// Before the first row: begins the run, and sees to what the dead left.
    pub(super) fn begin(&mut self) {
        let now = self.clock.now();
        self.recorder.begin_run(now);
        self.bury(now);
        if let Some(run) = self.recorder.run() {
            self.job(Job::Tidy(run.clone()));
        }
        self.heal(now);
    }

    /// What is due by the clock.
    pub(super) fn turn(&mut self) {
        let now = self.clock.now();
        self.shelf.look();
        // One sync at a time: while the disk is busy with it, what comes is written, and synced with the next.
        if self.syncs.is_empty()
            && let Some(unsynced) = self.recorder.sync_due(now)
        {
            let _ = self.syncs.try_send(unsynced);
        }
        if (self.recorder.in_trouble() || self.recorder.run().is_none()) && now.since(self.healed) >= HEAL_EVERY {
            self.heal(now);
        }
        // Not while the filer is busy: what it tries again may take it longer than this.
        if now.since(self.tried) >= self.config.flush_every && self.jobs.is_empty() {
            self.tried = now;
            self.retry();
        }
        if now.since(self.buried) >= BURY_EVERY {
            self.bury(now);
        }
        let due = self.since.is_some_and(|since| now.since(since) >= self.config.flush_every);
        if due && !self.recorder.clings() {
            self.seal();
        }
    }

    fn retry(&mut self) {
        if self.shelf.kept() > 0 {
            self.job(Job::Retry);
        }
    }

    /// Takes the segments of the dead over.
    fn bury(&mut self, now: Time) {
        self.buried = now;
        for dead in self.folder.dead(self.recorder.run()) {
            if !dead.segments.is_empty() {
                tracing::info!(segments = dead.segments.len(), "the journal of a process that died is taken over");
            }
            self.recorder.inherit(&dead.run);
            for id in dead.segments.clone() {
                let length = self.folder.disk.len(&self.folder.path(&id)).unwrap_or_default();
                self.give(Sealed::on_disk(id), (0, length));
            }
            self.job(Job::Release(dead));
        }
    }

    /// Takes rows out of the queue.
    pub(super) fn take(&mut self, close: bool) {
        let queue = self.inbox.queue.clone();
        let mut tick = Tick::default();
        queue.take(close, &mut |batch| tick.add(batch));
        let merged = tick.thin(&mut self.thin, self.clock.now(), self.recorder.in_trouble());
        self.counters.of(Request::TABLE).merged.fetch_add(merged as u64, Relaxed);
        for chunk in tick.entries().chunks(CHUNK.min(self.config.max_file_rows.max(1))) {
            self.record(chunk);
        }
        tick.into_batches().for_each(|batch| queue.give_back(batch));
    }

    fn record(&mut self, entries: &[Entry<'_>]) {
        let recorded = loop {
            match self.recorder.record(entries, self.shelf.is_crowded()) {
                Recorded::Full(error) => {
                    if self.recorder.room() == Room::Plenty {
                        self.hand_over();
                    }
                    self.recorder.worsen(&error);
                }
                recorded => break recorded,
            }
        };
        match recorded {
            Recorded::All(refused) => self.gather(entries, &refused, false),
            Recorded::Billing(refused) => self.gather(entries, &refused, true),
            Recorded::Nothing | Recorded::Full(_) => {}
        }
        let full = self.gathered.bytes() >= self.config.max_file_bytes || self.gathered.longest() >= self.config.max_file_rows;
        if full && !self.recorder.clings() {
            self.seal();
        }
    }

    fn gather(&mut self, entries: &[Entry<'_>], refused: &[usize], only_billing: bool) {
        for (place, entry) in entries.iter().enumerate() {
            if (entry.billing || !only_billing) && !refused.contains(&place) {
                self.gathered.push(entry.table, entry.row, entry.bytes);
            }
        }
        if self.since.is_none() && !self.gathered.is_empty() {
            self.since = Some(self.clock.now());
        }
    }

    /// Ends the segment, has files made of its rows and begins the next.
    fn seal(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        self.hand_over();
        self.recorder.begin();
    }

    fn hand_over(&mut self) {
        self.since = None;
        let bytes = self.gathered.bytes();
        let (parts, broken) = self.gathered.finish();
        for (table, rows, error) in broken {
            self.counters.of(table).dropped_write.fetch_add(rows as u64, Relaxed);
            self.fail(format!("{}: {error}", table.name));
        }
        let rows: usize = parts.iter().map(|part| part.batch.num_rows()).sum();
        match self.recorder.seal() {
            Some((id, length, unsynced)) => {
                let journaled = self.recorder.room() != Room::Off;
                let in_memory = !journaled || self.shelf.bytes() < self.config.max_file_bytes;
                self.give(Sealed { id, journaled, parts: in_memory.then(|| Arc::new(parts)), unsynced }, (bytes, length));
            }
            None => {
                parts.iter().for_each(|part| {
                    self.counters.of(part.table).dropped_write.fetch_add(part.batch.num_rows() as u64, Relaxed);
                });
                if rows > 0 {
                    self.fail(self.recorder.problem().unwrap_or_else(|| "the folder cannot be written to".to_owned()));
                }
            }
        }
    }

    fn fail(&mut self, error: String) {
        tracing::warn!(%error, "log rows dropped");
        self.counters.failed(error.clone());
        self.error = Some(error);
    }

    fn give(&mut self, sealed: Sealed, (bytes, length): (usize, u64)) {
        self.shelf.put(&sealed, bytes, length);
        self.job(Job::File(sealed));
        // Without a journal the rows are nowhere else, so that memory is bounded by waiting; the queue counts what it drops.
        while self.recorder.room() == Room::Off && self.shelf.bytes() > 2 * self.config.max_file_bytes {
            if !self.shelf.wait() {
                break;
            }
        }
    }

    fn job(&self, job: Job) {
        // The filer ends after this thread.
        let _ = self.jobs.send(job);
    }

    /// Tries whether the disk has room again.
    fn heal(&mut self, now: Time) {
        self.healed = now;
        if !self.recorder.begin_run(now) || !self.recorder.in_trouble() {
            return;
        }
        let set_aside = self.recorder.set_aside();
        if self.recorder.room() == Room::Tight && !set_aside {
            return;
        }
        if !self.gathered.is_empty() || self.recorder.is_in_reserve() {
            self.hand_over();
        }
        if let Some(held) = self.recorder.recover(set_aside) {
            self.gathered = held;
            self.since = (!self.gathered.is_empty()).then_some(now);
        }
    }

    fn flush(&mut self, answer: Sender<Option<String>>) {
        self.heal(self.clock.now());
        if !self.recorder.clings() {
            self.seal();
        }
        self.retry();
        let error = self.error.take().or_else(|| self.recorder.problem());
        self.job(Job::Barrier(answer, error));
    }

    pub(super) fn unwritten(&mut self) -> Result<Unwritten, String> {
        let text = |error: arrow::error::ArrowError| error.to_string();
        let from = self.recorder.current();
        let (mut batches, waiting) = self.shelf.rows(&self.folder)?;
        batches.extend(self.gathered.copy().map_err(text)?);
        batches.extend(self.recorder.held().copy().map_err(text)?);
        Ok(Unwritten { batches, waiting, from })
    }

    /// Writes everything out; `filer` waits until that is done.
    pub(super) fn close(mut self, filer: impl FnOnce()) {
        self.take(true);
        self.heal(self.clock.now());
        self.hand_over();
        self.retry();
        // Without senders the filer ends when it has done what it was given.
        self.jobs = crossbeam_channel::unbounded().0;
        self.syncs = crossbeam_channel::bounded(1).0;
        filer();
        self.recorder.end();
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
