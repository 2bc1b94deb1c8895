//! The tier: entries in, entries out, within a deadline, each question counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use farthing_freshness::{Entry, Keyer, Subject};
use farthing_types::{KeyHash, Span, Time};
use http::HeaderMap;
use tokio::sync::{mpsc, oneshot};

use super::envelope::{self, Found};
use super::outcome::Counts;
use super::seal::Sealer;
use super::{GetOutcome, OutcomeCounts, Put, PutOutcome, Store, StoreFault};
use crate::cached::Cached;

/// Bounds of a tier.
#[derive(Clone, Debug)]
pub struct TierOptions {
    /// The deployment's keyer, for answers that vary.
    pub keyer: Keyer,
    /// How long a look may take in all; then it is a miss.
    pub deadline: Span,
    /// Bytes of entries that wait to be written; what comes beyond is dropped and counted.
    pub queue_bytes: usize,
    /// How long past every TTL an entry is kept for validation.
    pub keep: Span,
}

/// L2 as the cache sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tier {
    inner: Arc<Inner>,
    queue: mpsc::UnboundedSender<Job>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    sealer: Option<Sealer>,
    options: TierOptions,
    counts: Counts,
    queued: AtomicUsize,
}

/// What waits for the writer; the order is kept.
#[derive(Debug)]
enum Job {
    Put(Arc<Cached>, Time),
    Delete(KeyHash),
    Flush(oneshot::Sender<()>),
}

/// What writes behind; somebody has to run it.
#[derive(Debug)]
pub struct Writer {
    inner: Arc<Inner>,
    jobs: mpsc::UnboundedReceiver<Job>,
}

impl Tier {
    /// A tier over a store, and the writer that has to run for anything to be kept. With a `sealer` all values are encrypted, and
    /// values that are not are misses.
    pub fn new(store: Arc<dyn Store>, sealer: Option<Sealer>, options: TierOptions) -> (Self, Writer) {
        let (queue, jobs) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner { store, sealer, options, counts: Counts::default(), queued: AtomicUsize::new(0) });
        (Self { inner: Arc::clone(&inner), queue }, Writer { inner, jobs })
    }

    /// The kind of its store.
    pub fn kind(&self) -> &'static str {
        self.inner.store.kind()
    }

    /// Looks for the answer that a request selects. Never takes longer than the deadline.
    ///
    /// # Errors
    /// Why there is none; counted already.
    pub async fn get(&self, subject: &Arc<Subject>, request: &HeaderMap, now: Time) -> Result<Box<Entry>, GetOutcome> {
        let looked = tokio::time::timeout(self.inner.options.deadline, self.look(subject, request, now)).await;
        let found = looked.unwrap_or(Err(GetOutcome::Late));
        self.inner.counts.get(found.as_ref().err().copied().unwrap_or(GetOutcome::Hit));
        found
    }

    /// Writes an entry behind: returns at once. What the key's statistics are by the time it is written travels with it.
    pub fn put(&self, entry: Arc<Cached>, now: Time) {
        let bytes = entry.size();
        let fits = |queued: usize| queued.checked_add(bytes).filter(|sum| *sum <= self.inner.options.queue_bytes);
        if self.inner.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_err() {
            return self.inner.counts.put(PutOutcome::Dropped);
        }
        if self.queue.send(Job::Put(entry, now)).is_err() {
            self.inner.queued.fetch_sub(bytes, Ordering::AcqRel);
            self.inner.counts.put(PutOutcome::Dropped);
        }
    }

    /// Forgets a key, behind everything put before.
    pub fn delete(&self, key: KeyHash) {
        let _closed = self.queue.send(Job::Delete(key));
    }

    /// Returns when everything put before has been given to the store and the store has flushed it; false when the writer is gone.
    pub async fn flush(&self) -> bool {
        let (done, told) = oneshot::channel();
        self.queue.send(Job::Flush(done)).is_ok() && told.await.is_ok()
    }

    /// How often each outcome came.
    pub fn outcomes(&self) -> OutcomeCounts {
        self.inner.counts.read()
    }

    /// Bytes of entries that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.inner.queued.load(Ordering::Relaxed)
    }

    async fn look(&self, subject: &Arc<Subject>, request: &HeaderMap, now: Time) -> Result<Box<Entry>, GetOutcome> {
        let names = match self.read(subject.key, subject, now).await? {
            Found::Entry(entry) => return self.inner.usable(entry, now),
            Found::Selector(names) => names,
        };
        let key = self.inner.options.keyer.selected(subject.key, &names, request);
        match self.read(key, subject, now).await? {
            Found::Entry(entry) => self.inner.usable(entry, now),
            Found::Selector(_) => Err(GetOutcome::OtherKey),
        }
    }

    async fn read(&self, key: KeyHash, subject: &Arc<Subject>, now: Time) -> Result<Found, GetOutcome> {
        let value = self.inner.store.get(key, now).await?.ok_or(GetOutcome::Absent)?;
        let found = envelope::unwrap(&value, key, subject, self.inner.sealer.as_ref());
        if matches!(found, Err(GetOutcome::Damaged)) {
            // It will not get better. Foreign values stay: another release or another key may still read them.
            let _closed = self.queue.send(Job::Delete(key));
        }
        found
    }
}

impl Inner {
    fn usable(&self, entry: Box<Entry>, now: Time) -> Result<Box<Entry>, GetOutcome> {
        if self.expiry(&entry) <= now { Err(GetOutcome::Outdated) } else { Ok(entry) }
    }

    fn expiry(&self, entry: &Entry) -> Time {
        entry.fetched_at + entry.longest().saturating_add(self.options.keep)
    }

    async fn write(&self, entry: &Cached, now: Time) -> PutOutcome {
        match self.try_write(entry, now).await {
            Ok(()) => PutOutcome::Stored,
            Err(outcome) => outcome,
        }
    }

    async fn try_write(&self, entry: &Cached, now: Time) -> Result<(), PutOutcome> {
        if entry.body.len() > self.store.max_value_bytes() {
            return Err(PutOutcome::TooLarge); // before the work of encoding it
        }
        let sealer = self.sealer.as_ref();
        let expires = self.expiry(entry);
        let value = envelope::wrap_entry(entry, &entry.stats(), sealer).map_err(|_| PutOutcome::Failed)?;
        if let Some(selected) = &entry.selected {
            let selector = envelope::wrap_selector(&entry.subject, &selected.names, sealer).map_err(|_| PutOutcome::Failed)?;
            self.keep(entry.subject.key, selector, expires, now).await?;
        }
        self.keep(entry.stored_key(), value, expires, now).await
    }

    async fn keep(&self, key: KeyHash, value: Bytes, expires: Time, now: Time) -> Result<(), PutOutcome> {
        Ok(self.store.put(Put { key, value, expires, now }).await?)
    }
}

impl Writer {
    /// Writes until the last [`Tier`] is dropped, and what waits by then.
    pub async fn run(mut self) {
        while let Some(job) = self.jobs.recv().await {
            match job {
                Job::Put(entry, now) => {
                    let outcome = self.inner.write(&entry, now).await;
                    self.inner.queued.fetch_sub(entry.size(), Ordering::AcqRel);
                    self.inner.counts.put(outcome);
                }
                Job::Delete(key) => forget(self.inner.store.as_ref(), key).await,
                Job::Flush(done) => {
                    let _faulted: Result<(), StoreFault> = self.inner.store.flush().await;
                    let _nobody_waits = done.send(());
                }
            }
        }
    }
}

/// A key that cannot be forgotten is met again, and then counted again.
async fn forget(store: &dyn Store, key: KeyHash) {
    if let Err(fault) = store.delete(key).await {
        tracing::debug!(store = store.kind(), fault = fault.as_str(), "a value was not deleted");
    }
}
