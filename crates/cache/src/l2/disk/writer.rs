//! The one thread that writes: appends records, begins and ends segments, drops the oldest.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use farthing_types::KeyHash;
use tokio::sync::oneshot;

use super::super::Whose;
use super::Shared;
use super::index::Segment;
use super::record::{HEADER, Header, Placed, SEGMENT_HEADER};
use super::segment;

/// Bytes that are gathered from the queue into one write.
const BATCH_BYTES: usize = 1 << 20;
/// Of a segment that is dropped, at most this part is written anew.
const KEPT_PART: usize = 4;

/// What the writer is asked to do.
pub(super) enum Job {
    Put {
        key: KeyHash,
        value: Bytes,
        expires: i64,
        now: i64,
    },
    Delete {
        key: KeyHash,
        done: oneshot::Sender<bool>,
    },
    /// Answers how many values that were, or nothing where the disk refused.
    Erase {
        whose: Whose,
        done: oneshot::Sender<Option<u64>>,
    },
    Flush(oneshot::Sender<bool>),
    Close(oneshot::Sender<bool>),
}

/// The segment that is being written.
pub(super) struct Active {
    pub id: u32,
    pub file: Arc<File>,
    pub len: u64,
    pub placed: Vec<Placed>,
}

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub active: Active,
    /// Records that are in the buffer but not yet in the file.
    buffer: Vec<u8>,
    pending: Vec<Placed>,
    /// The latest time that a job brought, ms since 1970.
    pub(super) now: i64,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, active: Active, now: i64) -> Self {
        Self { shared, active, buffer: Vec::new(), pending: Vec::new(), now }
    }

    /// Works until the queue closes or it is told to close.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        self.reclaim();
        while let Ok(first) = jobs.recv() {
            let mut acks = Vec::new();
            let mut closing = None;
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Put { key, value, expires, now } => self.put(key, &value, expires, now),
                    Job::Delete { key, done } => {
                        self.append(Header::of_deletion(key), &[]);
                        acks.push(done);
                    }
                    Job::Erase { whose, done } => {
                        let _nobody_waits = done.send(self.erase(&whose));
                    }
                    Job::Flush(done) => acks.push(done),
                    Job::Close(done) => closing = Some(done),
                }
                next = if closing.is_none() && self.buffer.len() < BATCH_BYTES { jobs.try_recv().ok() } else { None };
            }
            let written = self.write_buffer();
            self.reclaim();
            for done in acks {
                let _nobody_waits = done.send(written);
            }
            if let Some(done) = closing {
                let sealed = self.seal().is_ok();
                let _nobody_waits = done.send(written && sealed);
                return;
            }
        }
        self.write_buffer();
    }

    fn put(&mut self, key: KeyHash, value: &Bytes, expires: i64, now: i64) {
        self.now = self.now.max(now);
        self.append(Header::of_value(key, value, expires), value);
        self.shared.queued.fetch_sub(super::job_bytes(value), Ordering::AcqRel);
    }

    /// Adds a record to the buffer; begins a new segment where this one is full.
    pub(super) fn append(&mut self, header: Header, value: &[u8]) {
        let records = self.active.placed.len() + self.pending.len();
        let end = self.active.len + (self.buffer.len() + HEADER + value.len()) as u64;
        let full = end > self.shared.options.segment_bytes || records >= self.shared.options.segment_records();
        if full && records > 0 {
            self.write_buffer();
            self.next_segment();
        }
        let Ok(offset) = u32::try_from(self.active.len + self.buffer.len() as u64) else {
            // Only when no segment could be begun for very long.
            self.shared.failed_writes.fetch_add(1, Ordering::Relaxed);
            return;
        };
        header.write(&mut self.buffer);
        self.buffer.extend_from_slice(value);
        self.pending.push(Placed { key: header.key, offset, len: header.len, expires: header.expires });
    }

    /// Writes the buffer and makes its records readable; false when the disk refused, which loses them.
    pub(super) fn write_buffer(&mut self) -> bool {
        if self.buffer.is_empty() {
            return true;
        }
        let mut written = self.active.file.write_all_at(&self.buffer, self.active.len);
        if written.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::StorageFull) && self.drop_oldest(false) {
            written = self.active.file.write_all_at(&self.buffer, self.active.len);
        }
        match written {
            Ok(()) => self.publish(),
            Err(error) => self.failed(&error),
        }
        let ok = self.shared.healthy.load(Ordering::Acquire);
        self.buffer.clear();
        self.buffer.shrink_to(2 * BATCH_BYTES);
        self.pending.clear();
        ok
    }

    fn publish(&mut self) {
        self.active.len += self.buffer.len() as u64;
        let mut index = self.shared.index.lock();
        for placed in &self.pending {
            index.note(self.active.id, placed);
        }
        if let Some(segment) = index.segments.get_mut(&self.active.id) {
            segment.bytes = self.active.len;
        }
        drop(index);
        self.active.placed.append(&mut self.pending);
        if !self.shared.healthy.swap(true, Ordering::AcqRel) {
            tracing::info!(directory = %self.shared.dir.display(), "the disk cache is written again");
        }
    }

    /// What was to be written is lost; what was to be deleted must not be read, at least in this process.
    fn failed(&mut self, error: &io::Error) {
        self.shared.failed_writes.fetch_add(self.pending.len() as u64, Ordering::Relaxed);
        let mut index = self.shared.index.lock();
        for deleted in self.pending.iter().filter(|p| p.expires.is_none()) {
            index.note(self.active.id, deleted);
        }
        drop(index);
        // Half a record must not stand before whole ones.
        let _best_effort = self.active.file.set_len(self.active.len);
        if self.shared.healthy.swap(false, Ordering::AcqRel) {
            tracing::error!(directory = %self.shared.dir.display(), %error, "the disk cache cannot be written; values are dropped until it can");
        }
    }

    /// Ends the segment and begins the next one; goes on with this one if that fails, which is false.
    pub(super) fn next_segment(&mut self) -> bool {
        let id = self.active.id.wrapping_add(1);
        let begun = self.seal().and_then(|()| self.begin(id));
        begun.inspect_err(|error| self.failed(error)).is_ok()
    }

    fn begin(&mut self, id: u32) -> io::Result<()> {
        let file = segment::create(&self.shared.dir, id)?;
        self.shared.index.lock().segments.insert(id, Segment { file: Arc::clone(&file), bytes: SEGMENT_HEADER as u64 });
        self.active = Active { id, file, len: SEGMENT_HEADER as u64, placed: Vec::new() };
        Ok(())
    }

    /// Makes the segment durable and writes its index beside it.
    fn seal(&mut self) -> io::Result<()> {
        self.active.file.sync_data()?;
        let bytes = segment::write_index(&self.shared.dir, self.active.id, &self.active.placed, self.active.len)?;
        if let Some(segment) = self.shared.index.lock().segments.get_mut(&self.active.id) {
            segment.bytes = self.active.len + bytes;
        }
        Ok(())
    }

    /// Drops the oldest segments until everything is within its bounds again.
    fn reclaim(&mut self) {
        while self.beyond_bounds() {
            if !self.drop_oldest(true) {
                // Only the segment that is being written is left.
                self.next_segment();
                if !self.drop_oldest(false) {
                    return;
                }
            }
        }
    }

    fn beyond_bounds(&self) -> bool {
        let index = self.shared.index.lock();
        index.bytes() > self.shared.options.max_bytes || index.len() > self.shared.options.max_entries()
    }

    /// Drops the oldest segment unless it is the one being written; what was asked for in it is written anew when `keep`.
    fn drop_oldest(&mut self, keep: bool) -> bool {
        let oldest = self.shared.index.lock().segments.first_key_value().map(|(id, _)| *id);
        let Some(id) = oldest.filter(|id| *id != self.active.id) else { return false };
        let (segment, hot) = self.take_segment(id);
        if let Some(segment) = segment.filter(|_| keep) {
            self.keep_hot(&segment.file, hot);
        }
        self.shared.reclaimed.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = segment::remove(&self.shared.dir, id) {
            tracing::warn!(directory = %self.shared.dir.display(), segment = id, %error, "a segment of the disk cache was not removed");
        }
        true
    }

    /// Takes a segment out of the index in small steps, so that nobody who reads waits for long.
    fn take_segment(&self, id: u32) -> (Option<Segment>, Vec<Placed>) {
        const STEP: usize = 1024;
        let mut hot = Vec::new();
        match self.records(id) {
            Some(records) => {
                for step in records.chunks(STEP) {
                    self.shared.index.lock().take(id, step, self.now, &mut hot);
                }
            }
            None => self.shared.index.lock().take_all(id),
        }
        (self.shared.index.lock().segments.remove(&id), hot)
    }

    pub(super) fn records(&self, id: u32) -> Option<Vec<Placed>> {
        let file = Arc::clone(&self.shared.index.lock().segments.get(&id)?.file);
        let len = file.metadata().ok()?.len();
        segment::read_index(&self.shared.dir, id, len).map(|(placed, _)| placed).or_else(|| Some(segment::scan(&file, len).ok()?.0))
    }

    fn keep_hot(&mut self, file: &File, hot: Vec<Placed>) {
        let mut room = usize::try_from(self.shared.options.segment_bytes).unwrap_or(usize::MAX) / KEPT_PART;
        for placed in hot {
            let Some(left) = room.checked_sub(placed.record_bytes()) else { continue };
            let Ok(Some(value)) = segment::read(file, &placed) else { continue };
            room = left;
            self.append(Header::of_value(placed.key, &value, placed.expires.unwrap_or_default()), &value);
            self.shared.kept.fetch_add(1, Ordering::Relaxed);
        }
        self.write_buffer();
    }
}
