//! The tier: entries in, entries out, within a deadline, each question counted.

use std::collections::hash_map;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use farthing_fleet::lease::Ending;
use farthing_freshness::index::KeyMap;
use farthing_freshness::{Entry, Keyer, Subject};
use farthing_types::{KeyHash, Span, Time};
use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, oneshot};

use super::asked::Asked;
use super::envelope::{self, Found, PURGES_KEY, Selector};
use super::leases::{FillLease, Leases};
use super::outcome::Counts;
use super::purges::Purges;
use super::seal::Sealer;
use super::{GetOutcome, OutcomeCounts, Put, PutOutcome, Store, StoreFault};
use crate::cached::Cached;
use crate::hearing::Hearing;
use crate::purge::{Purge, Since};

/// How long the list of purges of a shared store is trusted before it is read again.
const PURGES_TRUSTED: Span = Span::from_secs(1);
/// How far the clocks of those who share a store may differ.
const SKEW: Span = Span::from_secs(1);
/// Deletions that wait at once; purged keys beyond go into the list, which is bounded by itself.
const MOST_DELETIONS: usize = 65_536;
/// How long the list of purges is kept: longer than anything it is about.
const PURGES_KEPT: Span = Span::from_secs(10 * 365 * 86_400);

/// Bounds of a tier.
#[derive(Clone, Debug)]
pub struct TierOptions {
    /// The deployment's keyer, for answers that vary.
    pub keyer: Keyer,
    /// How long a look may take in all; then it is a miss.
    pub deadline: Span,
    /// Bytes of entries that wait to be written; what comes beyond is dropped and counted.
    pub queue_bytes: usize,
    /// Largest value that is written, bytes; the store may take less.
    pub max_value_bytes: usize,
    /// How long past every TTL an entry is kept for validation.
    pub keep: Span,
}

/// L2 as the cache sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tier {
    pub(super) inner: Arc<Inner>,
    queue: mpsc::UnboundedSender<Job>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Arc<dyn Store>,
    pub(super) leases: OnceLock<Arc<Leases>>,
    sealer: Option<Sealer>,
    options: TierOptions,
    counts: Counts,
    queued: AtomicUsize,
    pub(super) known: Mutex<Known>,
    pub(super) hearing: OnceLock<Arc<Hearing>>,
}

/// What is known about purges.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Primary keys that are about to be deleted, and how often; how many deletions that are.
    leaving: KeyMap<usize>,
    deletions: usize,
    /// Whether the list is about to be written.
    unwritten: bool,
    pub(super) purges: Purges,
    /// When the store's list was read last; nothing read from the store is trusted before it was.
    read: Option<Time>,
}

/// An entry that a look found.
#[derive(Clone, Debug, PartialEq)]
pub struct Looked {
    /// The entry.
    pub entry: Box<Entry>,
    /// Whether a soft purge has made it stale.
    pub soft_purged: bool,
}

/// What waits for the writer; the order is kept.
#[derive(Debug)]
enum Job {
    Put(Arc<Cached>, Asked, Time),
    /// A damaged value, of no use to anybody.
    Drop(KeyHash),
    /// A purged primary key.
    Purge(KeyHash, Time),
    Purges(Time),
    /// A tenant's name out of the list of purges.
    Unname(Arc<str>, Time, oneshot::Sender<Result<(), StoreFault>>),
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
        let (counts, queued) = (Counts::default(), AtomicUsize::new(0));
        let inner = Arc::new(Inner {
            store,
            leases: OnceLock::new(),
            sealer,
            options,
            counts,
            queued,
            known: Mutex::default(),
            hearing: OnceLock::new(),
        });
        (Self { inner: Arc::clone(&inner), queue }, Writer { inner, jobs })
    }

    /// Judges what it reads by the fleet's purges, too, from now on.
    pub(crate) fn heed(&self, hearing: Arc<Hearing>) {
        let _only_once = self.inner.hearing.set(hearing);
    }

    /// Whether other processes write to its store, too.
    pub fn is_shared(&self) -> bool {
        self.inner.store.is_shared()
    }

    /// The kind of its store.
    pub fn kind(&self) -> &'static str {
        self.inner.store.kind()
    }

    /// Looks for the answer that a request selects. Never takes longer than the deadline.
    ///
    /// # Errors
    /// Why there is none; counted already.
    pub async fn get(&self, subject: &Arc<Subject>, request: &HeaderMap, now: Time) -> Result<Looked, GetOutcome> {
        let looked = tokio::time::timeout(self.inner.options.deadline, self.look(subject, request, now)).await;
        let found = looked.unwrap_or(Err(GetOutcome::Late));
        self.inner.counts.get(found.as_ref().err().copied().unwrap_or(GetOutcome::Hit));
        found
    }

    /// Whether an entry of this size is kept here, if all goes well.
    pub fn takes(&self, bytes: usize) -> bool {
        bytes <= self.inner.options.max_value_bytes
    }

    /// Writes an entry behind: returns at once. What the key's statistics are by the time it is written travels with it.
    pub fn put_asked(&self, entry: Arc<Cached>, mut asked: Asked, now: Time) {
        let bytes = entry.size();
        let fits = |queued: usize| queued.checked_add(bytes).filter(|sum| *sum <= self.inner.options.queue_bytes);
        if self.inner.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_err() {
            // Who waits for it need not.
            FillLease::end_in(&mut asked.lease, Ending::Unkept);
            return self.inner.counts.put(PutOutcome::Dropped);
        }
        if self.queue.send(Job::Put(entry, asked, now)).is_err() {
            self.inner.queued.fetch_sub(bytes, Ordering::AcqRel);
            self.inner.counts.put(PutOutcome::Dropped);
        }
    }

    /// Remembers a purge: from now on no look returns what it is about and was fetched before. It is written behind like entries, so that a
    /// restart, and others who share the store, hear of it.
    pub fn purge(&self, purge: &Purge, soft: bool, now: Time) {
        let mut known = self.inner.known.lock();
        let job = match purge {
            // Every write of a client's purges a key: the list would overflow. With its selector a key's variants go, too.
            Purge::Key(key) if !soft && known.deletions < MOST_DELETIONS => {
                *known.leaving.entry(*key).or_default() += 1;
                known.deletions += 1;
                Job::Purge(*key, now)
            }
            _ => {
                known.purges.add(purge.clone(), soft, now);
                if std::mem::replace(&mut known.unwritten, true) {
                    return;
                }
                Job::Purges(now)
            }
        };
        // Under the lock, so that a put that comes later is written later.
        let _closed = self.queue.send(job);
    }

    /// Returns when everything put before has been given to the store and the store has flushed it; false when the writer is gone.
    pub async fn flush(&self) -> bool {
        let (done, told) = oneshot::channel();
        self.queue.send(Job::Flush(done)).is_ok() && told.await.is_ok()
    }

    /// Removes everything of a tenant from the store, so that neither its answers nor its name are in it when this returns; how many values
    /// that were. Its entries must have been purged before, so that none is under way to here.
    ///
    /// # Errors
    /// The store could not be gone through. The purge holds all the same.
    pub async fn erase(&self, tenant: &str, now: Time) -> Result<u64, StoreFault> {
        let tenant: Arc<str> = tenant.into();
        // What was put before is in the store then, and what waits for the writer meanwhile is not held up.
        if !self.flush().await {
            return Err(StoreFault::Unavailable);
        }
        // The purge goes last: what it is about is not served while some of it may still stand.
        let mut erased = erase(&self.inner, &tenant, |key| key != PURGES_KEY).await?;
        let (done, told) = oneshot::channel();
        self.queue.send(Job::Unname(Arc::clone(&tenant), now, done)).map_err(|_| StoreFault::Unavailable)?;
        told.await.unwrap_or(Err(StoreFault::Unavailable))?;
        if !self.is_shared() {
            // A directory has the earlier lists still, in what was overwritten.
            erased += erase(&self.inner, &tenant, |key| key == PURGES_KEY).await?;
        }
        Ok(erased)
    }

    /// How often each outcome came.
    pub fn outcomes(&self) -> OutcomeCounts {
        self.inner.counts.read()
    }

    /// Bytes of entries that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.inner.queued.load(Ordering::Relaxed)
    }

    async fn look(&self, subject: &Arc<Subject>, request: &HeaderMap, now: Time) -> Result<Looked, GetOutcome> {
        let certain = self.know_purges(now).await?;
        // Before the store is asked: a deletion that is not to be seen here any more has had its effect there.
        if self.inner.known.lock().leaving.contains_key(&subject.key) {
            return Err(GetOutcome::Outdated);
        }
        let selector = match self.read(subject.key, subject, now).await? {
            Found::Entry(entry) if entry.selected.is_none() => return self.inner.usable(entry, now, certain),
            Found::Entry(_) => return Err(GetOutcome::OtherKey),
            Found::Selector(selector) => selector,
        };
        let key = self.inner.options.keyer.selected(subject.key, &selector.names, request);
        match self.read(selector.place(key), subject, now).await? {
            Found::Entry(entry) if entry.stored_key() == key => self.inner.usable(entry, now, certain),
            _ => Err(GetOutcome::OtherKey),
        }
    }

    /// Whether others' purges are known up to a second ago. Where the list of a shared store cannot be read any more (its part of a Cluster
    /// is away), the last one holds, but not for answers with tags, which are there to be purged.
    async fn know_purges(&self, now: Time) -> Result<bool, StoreFault> {
        if !self.inner.must_read_purges(now, PURGES_TRUSTED) {
            return Ok(true);
        }
        match self.inner.read_purges(now).await {
            Ok(lacking) => {
                if lacking {
                    let _closed = self.queue.send(Job::Purges(now));
                }
                Ok(true)
            }
            Err(fault) if self.inner.known.lock().read.is_none() => Err(fault),
            Err(_) => Ok(false),
        }
    }

    async fn read(&self, key: KeyHash, subject: &Arc<Subject>, now: Time) -> Result<Found, GetOutcome> {
        let value = self.inner.store.get(key, now).await?.ok_or(GetOutcome::Absent)?;
        let found = envelope::unwrap(&value, key, subject, self.inner.sealer.as_ref());
        if matches!(found, Err(GetOutcome::Damaged)) {
            // It will not get better. Foreign values stay: another release or another key may still read them.
            let _closed = self.queue.send(Job::Drop(key));
        }
        found
    }
}

impl Inner {
    fn usable(&self, entry: Box<Entry>, now: Time, certain: bool) -> Result<Looked, GetOutcome> {
        if !certain && !entry.tags.is_empty() {
            return Err(GetOutcome::Unavailable);
        }
        if self.expiry(entry.fetched_at, entry.longest()) <= now {
            return Err(GetOutcome::Outdated);
        }
        let heard = self.hearing.get().map_or(Ok(Since::Untouched), |hearing| hearing.judge_stored(&entry, now))?;
        match (heard, self.known.lock().purges.since(&*entry, entry.fetched_at, self.skew())) {
            (Since::Hard, _) | (_, Since::Hard) => Err(GetOutcome::Outdated),
            (heard, known) => Ok(Looked { entry, soft_purged: heard == Since::Soft || known == Since::Soft }),
        }
    }

    pub(super) fn must_read_purges(&self, now: Time, trusted: Span) -> bool {
        match self.known.lock().read {
            None => true,
            Some(read) => self.store.is_shared() && now.since(read) >= trusted,
        }
    }

    /// Reads the store's list of purges into ours; whether it lacks something that ours has. A list that cannot be read counts against everything
    /// that was fetched before now.
    pub(super) async fn read_purges(&self, now: Time) -> Result<bool, StoreFault> {
        let value = match self.store.get(PURGES_KEY, now).await {
            Err(StoreFault::Damaged | StoreFault::TooLarge) => Some(Bytes::new()),
            value => value?,
        };
        let stored = value.map_or_else(
            || Ok(Purges::default()),
            |value| envelope::unwrap_purges(&value, self.sealer.as_ref()).map_err(|_| Purges::unknown_until(now)),
        );
        let unreadable = stored.is_err();
        let (Ok(stored) | Err(stored)) = stored;
        let mut known = self.known.lock();
        known.read = Some(now);
        Ok(known.purges.merge(stored) || unreadable)
    }

    /// Writes our list of purges, with what the store's has beside it.
    async fn write_purges(&self, now: Time) -> Result<(), StoreFault> {
        self.known.lock().unwritten = false;
        self.read_purges(now).await?;
        let value = envelope::wrap_purges(&self.known.lock().purges, self.sealer.as_ref()).map_err(|_| StoreFault::Failed)?;
        self.store.put(Put { key: PURGES_KEY, value, expires: now + PURGES_KEPT, now }).await
    }

    fn skew(&self) -> Span {
        if self.store.is_shared() { SKEW } else { Span::ZERO }
    }

    fn expiry(&self, fetched_at: Time, longest: Span) -> Time {
        fetched_at + longest.saturating_add(self.options.keep)
    }

    async fn write(&self, entry: &Cached, mut asked: Asked, now: Time) -> PutOutcome {
        let outcome = match self.try_write(entry, &mut asked, now).await {
            Ok(()) => {
                entry.written();
                PutOutcome::Stored
            }
            Err(outcome) => outcome,
        };
        let how = match outcome {
            PutOutcome::Stored => Ending::Done,
            PutOutcome::TooLarge => Ending::Unkept,
            _ => Ending::Released,
        };
        FillLease::end_in(&mut asked.lease, how);
        outcome
    }

    async fn try_write(&self, entry: &Cached, asked: &mut Asked, now: Time) -> Result<(), PutOutcome> {
        if entry.body_len() > self.store.max_value_bytes().min(self.options.max_value_bytes) {
            return Err(PutOutcome::TooLarge); // before the work of encoding it
        }
        if self.is_purged(entry, asked.begun, now).await? {
            return Err(PutOutcome::Purged);
        }
        let (sealer, expires) = (self.sealer.as_ref(), self.expiry(entry.fetched_at(), entry.longest()));
        let subject = Arc::new(entry.subject());
        let mut place = subject.key;
        if let Some(selected) = entry.selected() {
            // It stands elsewhere than its lease. Nobody else gets that while it is written: a renewed one lasts for longer than a write may take.
            Self::renewed(asked.lease.as_ref()).await?;
            let selector = self.selector(&subject, &selected.names, now).await?;
            let value = envelope::wrap_selector(&subject, &selector, sealer).map_err(|_| PutOutcome::Failed)?;
            self.keep(place, value, expires, now).await?;
            // The next variant must find it, or it would make another generation.
            self.store.flush().await?;
            place = selector.place(selected.key);
        }
        let value = envelope::wrap_entry(&entry.to_entry(&entry.stats(), entry.mark()), place, sealer).map_err(|_| PutOutcome::Failed)?;
        match asked.lease.take_if(|lease| lease.key() == place) {
            Some(lease) => self.keep_leased(Put { key: place, value, expires, now }, lease).await,
            None => self.keep(place, value, expires, now).await,
        }
    }

    /// The selector that stands under a key, or a new one.
    async fn selector(&self, subject: &Arc<Subject>, names: &Arc<[HeaderName]>, now: Time) -> Result<Selector, PutOutcome> {
        let value = self.store.get(subject.key, now).await?;
        let found = value.and_then(|value| envelope::unwrap(&value, subject.key, subject, self.sealer.as_ref()).ok());
        if let Some(Found::Selector(selector)) = found.filter(|f| matches!(f, Found::Selector(s) if s.names == *names)) {
            return Ok(selector);
        }
        let mut generation = [0; 8];
        SystemRandom::new().fill(&mut generation).map_err(|_| PutOutcome::Failed)?;
        Ok(Selector { names: Arc::clone(names), generation: u64::from_le_bytes(generation) })
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
                Job::Put(entry, asked, now) => {
                    let outcome = self.inner.write(&entry, asked, now).await;
                    self.inner.queued.fetch_sub(entry.size(), Ordering::AcqRel);
                    self.inner.counts.put(outcome);
                }
                Job::Purges(now) => remember(&self.inner, now).await,
                Job::Purge(key, now) => delete(&self.inner, key, now).await,
                Job::Drop(key) => forget(self.inner.store.as_ref(), key).await,
                Job::Unname(tenant, now, done) => {
                    let _nobody_waits = done.send(unname(&self.inner, &tenant, now).await);
                }
                Job::Flush(done) => {
                    let _faulted: Result<(), StoreFault> = self.inner.store.flush().await;
                    let _nobody_waits = done.send(());
                }
            }
        }
    }
}

/// Deletes a purged key; where that fails, the purge goes into the list.
async fn delete(inner: &Inner, key: KeyHash, now: Time) {
    let deleted = inner.store.delete(key).await;
    let mut known = inner.known.lock();
    if deleted.is_err() {
        known.purges.add(Purge::Key(key), false, now);
    }
    known.deletions -= 1;
    if let hash_map::Entry::Occupied(mut leaving) = known.leaving.entry(key) {
        *leaving.get_mut() -= 1;
        if *leaving.get() == 0 {
            leaving.remove();
        }
    }
}

/// A purge that cannot be written holds in this process; the next one, or the next look at the store's list, writes it.
async fn remember(inner: &Inner, now: Time) {
    if let Err(fault) = inner.write_purges(now).await {
        tracing::warn!(store = inner.store.kind(), fault = fault.as_str(), "a purge was not written to L2: it holds in this process");
    }
}

/// Writes the list of purges without a tenant's name; only then does this process forget the purge.
async fn unname(inner: &Inner, tenant: &str, now: Time) -> Result<(), StoreFault> {
    inner.read_purges(now).await?;
    let mut list = inner.known.lock().purges.clone();
    list.drop_tenant(tenant);
    let value = envelope::wrap_purges(&list, inner.sealer.as_ref()).map_err(|_| StoreFault::Failed)?;
    inner.store.put(Put { key: PURGES_KEY, value, expires: now + PURGES_KEPT, now }).await?;
    inner.store.flush().await?;
    inner.known.lock().purges.drop_tenant(tenant);
    Ok(())
}

/// Removes what names a tenant from the store, under the keys that are meant; how many values that were.
async fn erase(inner: &Arc<Inner>, tenant: &Arc<str>, meant: fn(KeyHash) -> bool) -> Result<u64, StoreFault> {
    let (own, of) = (Arc::clone(inner), Arc::clone(tenant));
    let whose = move |key, value: &Bytes| meant(key) && envelope::names_tenant(value, key, &of, own.sealer.as_ref());
    let erased = inner.store.erase(Arc::new(whose)).await?;
    inner.store.flush().await?;
    Ok(erased)
}

/// A key that cannot be forgotten is met again, and then counted again.
async fn forget(store: &dyn Store, key: KeyHash) {
    if let Err(fault) = store.delete(key).await {
        tracing::debug!(store = store.kind(), fault = fault.as_str(), "a value was not deleted");
    }
}
