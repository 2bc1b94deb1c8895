//! A stored entry with what changes about it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use farthing_freshness::Entry;
use farthing_freshness::entry::{KeyStats, Lately};
use farthing_freshness::index::{Weighed, worth};
use farthing_types::{Coding, KeyHash, Time};
use parking_lot::Mutex;

use crate::forms::{FormRoom, Forms};

/// An entry in memory: the immutable answer (it derefs to [`Entry`]) with counters and the key's live statistics.
#[derive(Debug)]
pub struct Cached {
    entry: Entry,
    bytes: usize,
    live: Mutex<KeyStats>,
    hits: AtomicU64,
    stale_hits: AtomicU64,
    last_hit: AtomicI64,
    soft_purged: AtomicBool,
    promoted: bool,
    /// The number up to which the fleet's purges had been carried out here when its call began.
    mark: u64,
    /// Whether L2 has it, as far as is known here.
    in_l2: AtomicBool,
    /// When it was last known to be what L2 has, or came from the provider.
    pub(crate) checked: Lately,
    /// When a background refresh was last begun. What takes this entry's place begins anew, so only one that failed is waited for.
    pub refreshed: Lately,
    /// When a call for it last failed, and it stood in.
    pub failed: Lately,
    forms: Forms,
}

impl Cached {
    pub(crate) fn new(entry: Entry) -> Self {
        Self {
            checked: Lately::at(entry.fetched_at),
            bytes: entry.bytes() + size_of::<Self>() - size_of::<Entry>(),
            live: Mutex::new(entry.stats),
            entry,
            hits: AtomicU64::new(0),
            stale_hits: AtomicU64::new(0),
            last_hit: AtomicI64::new(0),
            soft_purged: AtomicBool::new(false),
            promoted: false,
            mark: 0,
            in_l2: AtomicBool::new(false),
            refreshed: Lately::default(),
            failed: Lately::default(),
            forms: Forms::default(),
        }
    }

    /// An entry that L2 has at `now`.
    pub(crate) fn promoted(entry: Entry, now: Time) -> Self {
        Self { promoted: true, in_l2: AtomicBool::new(true), checked: Lately::at(now), ..Self::new(entry) }
    }

    /// An answer that has just come, with its mark.
    pub(crate) fn marked(entry: Entry, mark: u64) -> Self {
        Self { mark, ..Self::new(entry) }
    }
    pub(crate) const fn mark(&self) -> u64 {
        self.mark
    }
    /// Whether it came from L2, so that another instance's clock may have written its times.
    pub const fn is_promoted(&self) -> bool {
        self.promoted
    }

    /// L2 has taken it.
    pub(crate) fn written(&self) {
        self.in_l2.store(true, Ordering::Release);
    }
    pub(crate) fn is_in_l2(&self) -> bool {
        self.in_l2.load(Ordering::Acquire)
    }

    /// Where the next answer comes from: `l2` for the first one after a promotion, else `l1`. To be asked before [`Cached::on_hit`].
    pub fn tier(&self) -> &'static str {
        if self.promoted && self.hits() == 0 { "l2" } else { "l1" }
    }

    /// Counts an answer served from this entry: call it once per answer, `stale` when it was past its TTL.
    pub fn on_hit(&self, now: Time, stale: bool) {
        self.hits.fetch_add(1, Ordering::Relaxed);
        if stale {
            self.stale_hits.fetch_add(1, Ordering::Relaxed);
        }
        self.last_hit.fetch_max(now.nanos(), Ordering::Relaxed);
    }

    /// Answers served from it.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
    /// Of these, answers served past its TTL.
    pub fn stale_hits(&self) -> u64 {
        self.stale_hits.load(Ordering::Relaxed)
    }
    /// When it last answered; `None` before the first time.
    pub fn last_hit(&self) -> Option<Time> {
        Some(self.last_hit.load(Ordering::Relaxed)).filter(|t| *t != 0).map(Time::from_nanos)
    }
    /// Whether a soft purge made it stale; goes into [`farthing_freshness::semantics::Judged`].
    pub fn soft_purged(&self) -> bool {
        self.soft_purged.load(Ordering::Acquire)
    }
    /// The key's statistics now, requests since the fill included.
    pub fn stats(&self) -> KeyStats {
        *self.live.lock()
    }
    /// Bytes it is accounted with.
    pub const fn size(&self) -> usize {
        self.bytes
    }

    /// Its body in a content coding, where that was made before.
    pub fn form(&self, coding: Coding) -> Option<&Bytes> {
        self.forms.get(coding)
    }
    /// Keeps its body in a content coding as long as itself, where there is room.
    pub fn keep_form(&self, coding: Coding, body: Bytes, room: &Arc<FormRoom>) {
        self.forms.keep(coding, body, room);
    }

    pub(crate) fn update_stats<R>(&self, change: impl FnOnce(&mut KeyStats) -> R) -> R {
        change(&mut self.live.lock())
    }
    pub(crate) fn purge_soft(&self) {
        self.soft_purged.store(true, Ordering::Release);
    }
}

impl Deref for Cached {
    type Target = Entry;
    fn deref(&self) -> &Entry {
        &self.entry
    }
}

/// Prior request rate of a key about which little is known, 1/s: once a day.
const PRIOR_RATE: f64 = 1.0 / 86_400.0;

impl Weighed for Cached {
    fn key(&self) -> KeyHash {
        self.stored_key()
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
    fn worth(&self, now: Time) -> f64 {
        let left = (self.fetched_at + self.longest()).since(now);
        worth(self.price, self.live.lock().rate(now, PRIOR_RATE), left, self.bytes)
    }
}

/// Why an entry's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// A newer answer took its place.
    Replaced,
    /// It had to make room.
    Evicted,
    /// It was purged.
    Purged,
    /// It was past every TTL and was swept out.
    Expired,
    /// The process is ending.
    Shutdown,
}

impl EndReason {
    /// The stable string for metric and log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Evicted => "evicted",
            Self::Purged => "purged",
            Self::Expired => "expired",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The end of an entry: what an outcome row is written from.
#[derive(Clone, Debug)]
pub struct EntryEnd {
    /// The entry with its final counters.
    pub entry: Arc<Cached>,
    /// Why.
    pub why: EndReason,
    /// The entry that took its place.
    pub successor: Option<Arc<Cached>>,
    /// When.
    pub at: Time,
}

/// Hears of entries that ended.
pub trait CacheEvents: Send + Sync {
    /// Called once per entry, outside of all locks, on the thread that ended it; must not block.
    fn ended(&self, end: EntryEnd);
}

/// Hears nothing.
#[derive(Debug, Default)]
pub struct NoEvents;
impl CacheEvents for NoEvents {
    fn ended(&self, _end: EntryEnd) {}
}
