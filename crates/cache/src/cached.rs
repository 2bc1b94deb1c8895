//! A stored entry with what changes about it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use farthing_freshness::Entry;
use farthing_freshness::entry::{JustNow, KeyStats, Lately, Packed};
use farthing_freshness::index::{Weighed, worth};
use farthing_types::{Coding, KeyHash, Time};
use parking_lot::Mutex;

use crate::forms::{FormRoom, Forms};
use crate::shapes::Shapes;

/// An entry in memory: the immutable answer (it derefs to [`Packed`]) with counters and the key's live statistics. With the counters of its `Arc` it fills
/// one size of the allocator's.
#[derive(Debug)]
pub struct Cached {
    packed: Packed,
    live: Mutex<KeyStats>,
    hits: AtomicU64,
    stale_hits: AtomicU64,
    last_hit: AtomicI64,
    /// When it was last known to be what L2 has, or came from the provider.
    pub(crate) checked: Lately,
    /// When a background refresh was last begun. What takes this entry's place begins anew, so only one that failed is waited for.
    pub refreshed: JustNow,
    /// When a call for it last failed, and it stood in.
    pub failed: JustNow,
    forms: Forms,
    soft_purged: AtomicBool,
    promoted: bool,
    /// Whether L2 has it, as far as is known here.
    in_l2: AtomicBool,
}

/// Bytes of the counters of an `Arc`.
const COUNTERS: usize = 2 * size_of::<usize>();
const _: () = assert!(size_of::<Cached>() + COUNTERS <= 224, "the next size that allocators have is 256");

impl Cached {
    /// An answer that has just come. `mark`: the number up to which the fleet's purges had been carried out here when its call began.
    pub(crate) fn marked(entry: &Entry, mark: u64, shapes: &Shapes) -> Self {
        Self {
            packed: Packed::of(entry, shapes.common(entry), mark),
            checked: Lately::at(entry.fetched_at),
            live: Mutex::new(entry.stats),
            hits: AtomicU64::new(0),
            stale_hits: AtomicU64::new(0),
            last_hit: AtomicI64::new(0),
            soft_purged: AtomicBool::new(false),
            promoted: false,
            in_l2: AtomicBool::new(false),
            refreshed: JustNow::default(),
            failed: JustNow::default(),
            forms: Forms::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn new(entry: &Entry) -> Self {
        Self::marked(entry, 0, &Shapes::default())
    }

    /// An entry that L2 has at `now`.
    pub(crate) fn promoted(entry: &Entry, now: Time, shapes: &Shapes) -> Self {
        Self { promoted: true, in_l2: AtomicBool::new(true), checked: Lately::at(now), ..Self::marked(entry, 0, shapes) }
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
    /// Bytes it is accounted with: its allocations, in sizes that allocators have.
    pub fn size(&self) -> usize {
        occupied(size_of::<Self>() + COUNTERS) + self.packed.allocations().into_iter().map(occupied).sum::<usize>()
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
    type Target = Packed;
    fn deref(&self) -> &Packed {
        &self.packed
    }
}

/// What an allocation of so many bytes occupies: allocators have four sizes between two powers of two (mimalloc and jemalloc alike), up to where they give
/// out whole pages.
fn occupied(bytes: usize) -> usize {
    const FINEST: usize = 16;
    const COARSEST: usize = 64 << 10;
    let step = bytes.max(1).next_power_of_two() / 8;
    bytes.next_multiple_of(step.clamp(FINEST, COARSEST))
}

/// Prior request rate of a key about which little is known, 1/s: once a day.
const PRIOR_RATE: f64 = 1.0 / 86_400.0;

impl Weighed for Cached {
    fn key(&self) -> KeyHash {
        self.stored_key()
    }
    fn bytes(&self) -> usize {
        self.size()
    }
    fn worth(&self, now: Time) -> f64 {
        let left = (self.fetched_at() + self.longest()).since(now);
        worth(self.price(), self.live.lock().rate(now, PRIOR_RATE), left, self.size())
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
