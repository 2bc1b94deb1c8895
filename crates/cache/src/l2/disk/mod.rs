//! L2 in a directory: append-only segments, bounded in bytes, with the index in memory (docs/adr/0006-disk-store.md).
//!
//! One thread writes; readers use positioned reads on tokio's blocking threads, a bounded number at once. Records carry checksums, so a
//! file that was cut or changed gives misses and no wrong answer. What was written is in the kernel's hands within milliseconds and
//! survives the death of the process; a power failure may cost what was written since the last segment was sealed.
//! When the bounds are reached the oldest segment goes as a whole; what was asked for in it is written anew, up to a quarter of a segment.

mod erase;
mod index;
mod record;
mod recover;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use crossbeam_channel::{Sender, TrySendError};
use farthing_types::{KeyHash, Time};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::{Put, Store, StoreFault, StoreFuture, Whose};
use index::Index;
use writer::{Job, Writer};

/// Jobs that wait for the writer at most; puts are bounded in bytes besides.
const QUEUE_JOBS: usize = 16_384;
/// Reads at once.
const READERS: usize = 16;
/// Least bytes of a store, and of a segment.
const MIN_BYTES: u64 = 1 << 20;
const MIN_SEGMENT: u64 = 64 << 10;
const MAX_SEGMENT: u64 = 64 << 20;

/// Bounds of a disk store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Bytes of all files. While a segment is being dropped there may be one segment more.
    pub max_bytes: u64,
    /// Bytes of one segment; also bounds a value.
    pub segment_bytes: u64,
    /// Bytes of memory for the index; where values are many and small it fills before the disk does, and the oldest go.
    pub index_bytes: usize,
    /// Bytes of values that wait to be written.
    pub queue_bytes: usize,
}

impl DiskOptions {
    /// Bounds for a store of `max_bytes` (at least 1 MiB): 16 segments of at most 64 MiB or as many more as it takes, an index of a sixteenth.
    pub fn new(max_bytes: u64) -> Self {
        let max_bytes = max_bytes.max(MIN_BYTES);
        Self {
            max_bytes,
            segment_bytes: (max_bytes / 16).clamp(MIN_SEGMENT, MAX_SEGMENT),
            index_bytes: usize::try_from(max_bytes / 16).unwrap_or(usize::MAX),
            queue_bytes: 16 << 20,
        }
    }

    pub(crate) fn max_entries(&self) -> usize {
        (self.index_bytes / index::ENTRY_BYTES).max(1)
    }

    /// Records of one segment: no segment may fill the whole index, or reclaiming it would leave nothing.
    pub(crate) fn segment_records(&self) -> usize {
        (self.max_entries() / 8).max(1)
    }
}

/// Why a directory cannot be used.
#[derive(Debug)]
pub enum DiskError {
    /// Another process holds it.
    InUse(PathBuf),
    /// The file system refused.
    Io(PathBuf, io::Error),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(dir) => write!(f, "{}: another process uses this directory; give each instance its own", dir.display()),
            Self::Io(dir, error) => write!(f, "{}: {error}", dir.display()),
        }
    }
}
impl std::error::Error for DiskError {}

/// Sizes and counters of a disk store now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Values that can be read.
    pub entries: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Segments.
    pub segments: usize,
    /// Bytes of values that wait to be written.
    pub queued_bytes: usize,
    /// Puts refused because too much was waiting.
    pub dropped: u64,
    /// Records that the file system did not take.
    pub failed_writes: u64,
    /// Segments dropped to stay within the bounds.
    pub reclaimed: u64,
    /// Values written anew because they were asked for.
    pub kept: u64,
    /// Reads of records that were not what had been written.
    pub damaged: u64,
    /// Bytes that could not be read when the directory was opened.
    pub lost_bytes: u64,
}

/// What readers and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    dir: PathBuf,
    options: DiskOptions,
    index: Mutex<Index>,
    queued: AtomicUsize,
    healthy: AtomicBool,
    dropped: AtomicU64,
    failed_writes: AtomicU64,
    reclaimed: AtomicU64,
    kept: AtomicU64,
    damaged: AtomicU64,
    lost_bytes: u64,
    /// Held until the writer has ended, so that no second process writes here.
    lock: File,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.unlock();
    }
}

impl Shared {
    /// Said and not left to the closing of the file: a process that is being started may have it open for a moment, too.
    fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::debug!(directory = %self.dir.display(), %error, "the disk cache's directory was not unlocked");
        }
    }
}

/// The store.
pub struct DiskStore {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    readers: Arc<Semaphore>,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

/// Bytes that a waiting put is counted with.
fn job_bytes(value: &Bytes) -> usize {
    value.len() + size_of::<Job>() + 64
}

impl DiskStore {
    /// Opens a directory, made if it is not there, with what earlier runs left in it. Reads the index of every segment: call it where waiting is
    /// allowed. What cannot be read is left out with a message.
    ///
    /// # Errors
    /// The directory cannot be made, read or written, or another process uses it.
    pub fn open(dir: &Path, options: DiskOptions, now: Time) -> Result<Self, DiskError> {
        let io = |error| DiskError::Io(dir.to_owned(), error);
        let options = DiskOptions { segment_bytes: options.segment_bytes.clamp(MIN_SEGMENT, MAX_SEGMENT), ..options };
        fs::create_dir_all(dir).map_err(io)?;
        let lock = File::create(dir.join("lock")).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DiskError::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let recovered = recover::recover(dir, options.segment_bytes, now.millis()).map_err(io)?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            options,
            index: Mutex::new(recovered.index),
            queued: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            dropped: AtomicU64::new(0),
            failed_writes: AtomicU64::new(0),
            reclaimed: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            lost_bytes: recovered.lost_bytes,
            lock,
        });
        let (jobs, queue) = crossbeam_channel::bounded(QUEUE_JOBS);
        let writer = Writer::new(Arc::clone(&shared), recovered.active, now.millis());
        let thread = thread::Builder::new().name("farthing-l2".to_owned()).spawn(move || writer.run(&queue)).map_err(io)?;
        Ok(Self { shared, jobs, readers: Arc::new(Semaphore::new(READERS)), writer: Mutex::new(Some(thread)) })
    }

    /// Writes everything accepted, makes it durable and ends the writer. The store takes nothing afterwards.
    ///
    /// # Errors
    /// [`StoreFault::Failed`] when the disk refused, [`StoreFault::Unavailable`] when it is closed already.
    pub async fn close(&self) -> Result<(), StoreFault> {
        self.ask(Job::Close).await?;
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            let ended = tokio::task::spawn_blocking(move || writer.join().is_ok()).await;
            // Whoever still holds the store only reads.
            self.shared.unlock();
            return if ended.unwrap_or(false) { Ok(()) } else { Err(StoreFault::Failed) };
        }
        Ok(())
    }

    /// Whether the last write went well.
    pub fn is_healthy(&self) -> bool {
        self.shared.healthy.load(Ordering::Acquire)
    }

    /// Sizes and counters now.
    pub fn stats(&self) -> DiskStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let index = self.shared.index.lock();
        DiskStats {
            entries: index.len(),
            bytes: index.bytes(),
            segments: index.segments.len(),
            queued_bytes: self.shared.queued.load(Ordering::Relaxed),
            dropped: read(&self.shared.dropped),
            failed_writes: read(&self.shared.failed_writes),
            reclaimed: read(&self.shared.reclaimed),
            kept: read(&self.shared.kept),
            damaged: read(&self.shared.damaged),
            lost_bytes: self.shared.lost_bytes,
        }
    }

    async fn read(&self, key: KeyHash, now: Time) -> Result<Option<Bytes>, StoreFault> {
        let found = self.shared.index.lock().find(key, now.millis());
        let Some((place, file)) = found else { return Ok(None) };
        let permit = Arc::clone(&self.readers).acquire_owned().await.map_err(|_| StoreFault::Unavailable)?;
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || {
            let value = segment::read(&file, &place);
            drop(permit);
            match value {
                Ok(Some(value)) => Ok(Some(value)),
                Ok(None) => {
                    shared.damaged.fetch_add(1, Ordering::Relaxed);
                    shared.index.lock().forget(&place);
                    Err(StoreFault::Damaged)
                }
                Err(error) => {
                    tracing::warn!(directory = %shared.dir.display(), %error, "a value of the disk cache cannot be read");
                    Err(StoreFault::Failed)
                }
            }
        });
        read.await.unwrap_or(Err(StoreFault::Failed))
    }

    fn accept(&self, put: Put) -> Result<(), StoreFault> {
        if put.value.len() > self.max_value_bytes() {
            return Err(StoreFault::TooLarge);
        }
        let bytes = job_bytes(&put.value);
        let fits = |queued: usize| queued.checked_add(bytes).filter(|sum| *sum <= self.shared.options.queue_bytes);
        if self.shared.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return Err(StoreFault::Busy);
        }
        let job = Job::Put { key: put.key, value: put.value, expires: put.expires.millis(), now: put.now.millis() };
        let fault = match self.jobs.try_send(job) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(_)) => StoreFault::Busy,
            Err(TrySendError::Disconnected(_)) => StoreFault::Unavailable,
        };
        self.shared.queued.fetch_sub(bytes, Ordering::AcqRel);
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        Err(fault)
    }

    /// Gives the writer a job and waits until it says that it is done. Where the queue is full this fails: nothing may block here.
    async fn ask(&self, job: impl FnOnce(oneshot::Sender<bool>) -> Job) -> Result<(), StoreFault> {
        let (done, told) = oneshot::channel();
        self.jobs.try_send(job(done)).map_err(|e| if e.is_full() { StoreFault::Busy } else { StoreFault::Unavailable })?;
        match told.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreFault::Failed),
            Err(_) => Err(StoreFault::Unavailable),
        }
    }
}

impl Store for DiskStore {
    fn kind(&self) -> &'static str {
        "disk"
    }
    fn max_value_bytes(&self) -> usize {
        usize::try_from(self.shared.options.segment_bytes).unwrap_or(usize::MAX) - record::SEGMENT_HEADER - record::HEADER
    }
    fn is_shared(&self) -> bool {
        false
    }
    fn get(&self, key: KeyHash, now: Time) -> StoreFuture<'_, Option<Bytes>> {
        Box::pin(self.read(key, now))
    }
    fn put(&self, put: Put) -> StoreFuture<'_, ()> {
        Box::pin(std::future::ready(self.accept(put)))
    }
    fn delete(&self, key: KeyHash) -> StoreFuture<'_, ()> {
        Box::pin(self.ask(move |done| Job::Delete { key, done }))
    }
    fn erase(&self, whose: Whose) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            let (done, told) = oneshot::channel();
            let job = Job::Erase { whose, done };
            self.jobs.try_send(job).map_err(|e| if e.is_full() { StoreFault::Busy } else { StoreFault::Unavailable })?;
            told.await.map_err(|_| StoreFault::Unavailable)?.ok_or(StoreFault::Failed)
        })
    }
    fn flush(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.ask(Job::Flush))
    }
}
