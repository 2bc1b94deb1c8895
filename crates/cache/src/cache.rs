//! L1: shards of an index, the flights above it, purging.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farthing_freshness::entry::KeyStats;
use farthing_freshness::index::{Index, Walk, Weighed};
use farthing_freshness::semantics::acceptable;
use farthing_types::{Failure, FailureKind, KeyHash, Span, Time};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use parking_lot::{Mutex, MutexGuard};

use crate::cached::{CacheEvents, Cached, EndReason, EntryEnd};
use crate::config::{CacheConfig, CacheStats};
use crate::copies::Copies;
use crate::flight::{Flight, Found, Ticket};
use crate::hearing::Hearing;
use crate::join::{Join, Joined, Slot};
use crate::l2::Tier;
use crate::purge::{PurgeLog, groups_of};
use crate::shapes::Shapes;
use crate::stream::Budget;
use crate::table::StatsTable;

mod flights;
mod purging;
mod store;

use flights::Flights;

/// Shards at most; a shard has at least [`MIN_SHARD`] bytes, because an entry must fit into one.
const MAX_SHARDS: usize = 16;
const MIN_SHARD: usize = 4 << 20;
/// Markers of uncacheable keys that a shard remembers.
const MARKERS: usize = 1024;

/// Entries that are looked at under one hold of a shard's lock.
const STEP: usize = 64;
/// Turns that the next one is waited for: about a microsecond.
const PAUSE: usize = 32;

/// What [`crate::Filled::store`] did.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The entry, now in the cache.
    pub entry: Arc<Cached>,
    /// The entry whose place it took.
    pub replaced: Option<Arc<Cached>>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    found: AtomicU64,
    missing: AtomicU64,
    stored: AtomicU64,
    evicted: AtomicU64,
    purged: AtomicU64,
    invalidated: AtomicU64,
    handovers: AtomicU64,
    cut: AtomicU64,
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn handover(&self) {
        add(&self.handovers, 1);
    }
    pub(crate) fn cut(&self, readers: usize) {
        add(&self.cut, readers);
    }
}

/// What stands under a key.
pub(crate) enum Node {
    Entry(Arc<Cached>),
    Varies(Box<Variants>),
}

/// Answers for a key were selected by fields of the request; they stand under second-level keys.
pub(crate) struct Variants {
    primary: KeyHash,
    names: Arc<[HeaderName]>,
    keys: VecDeque<KeyHash>,
}

impl Weighed for Node {
    fn key(&self) -> KeyHash {
        match self {
            Self::Entry(entry) => entry.stored_key(),
            Self::Varies(variants) => variants.primary,
        }
    }
    fn bytes(&self) -> usize {
        match self {
            Self::Entry(entry) => entry.size(),
            Self::Varies(variants) => {
                64 + size_of::<Variants>() + variants.names.len() * 48 + variants.keys.capacity() * size_of::<KeyHash>()
            }
        }
    }
    fn worth(&self, now: Time) -> f64 {
        match self {
            Self::Entry(entry) => entry.worth(now),
            // Without it its variants cannot be found.
            Self::Varies(..) => f64::INFINITY,
        }
    }
    fn groups(&self, each: &mut dyn FnMut(u32)) {
        if let Self::Entry(entry) = self {
            groups_of(entry, each);
        }
    }
}

pub(crate) struct Shard {
    pub(crate) index: Index<Node>,
    flights: Flights,
    markers: VecDeque<KeyHash>,
}

pub(crate) struct Inner {
    pub(crate) config: CacheConfig,
    pub(crate) budget: Arc<Budget>,
    pub(crate) counters: Counters,
    pub(crate) l2: Option<Tier>,
    pub(crate) hearing: Option<Arc<Hearing>>,
    pub(crate) shards: Box<[Mutex<Shard>]>,
    purges: PurgeLog,
    pub(crate) shapes: Shapes,
    pub(crate) table: StatsTable,
    pub(crate) copies: Copies,
    events: Arc<dyn CacheEvents>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

/// The cache: entries in memory, flights, purging. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache(pub(crate) Arc<Inner>);

impl Cache {
    /// An empty cache without an L2. `events` hears of every entry that ends.
    pub fn new(config: CacheConfig, events: Arc<dyn CacheEvents>) -> Self {
        Self::with_l2(config, events, None)
    }

    /// An empty cache, above an L2 if there is one: what is stored is written to it behind, what is purged is purged there, and
    /// [`Ticket::from_l2`] reads from it.
    pub fn with_l2(config: CacheConfig, events: Arc<dyn CacheEvents>, l2: Option<Tier>) -> Self {
        Self::in_fleet(config, events, l2, None)
    }

    /// As [`Cache::with_l2`], in a fleet: answers are marked with what `hearing` has heard, and what L2 has is judged by it.
    pub fn in_fleet(config: CacheConfig, events: Arc<dyn CacheEvents>, l2: Option<Tier>, hearing: Option<Arc<Hearing>>) -> Self {
        if let (Some(l2), Some(hearing)) = (&l2, &hearing) {
            l2.heed(Arc::clone(hearing));
        }
        let count = (config.l1_bytes / MIN_SHARD).clamp(1, MAX_SHARDS);
        let shard = || Shard { index: Index::new(config.l1_bytes / count), flights: Flights::default(), markers: VecDeque::new() };
        Self(Arc::new(Inner {
            shards: (0..count).map(|_| Mutex::new(shard())).collect(),
            budget: Arc::new(Budget::new(config.in_flight_bytes)),
            counters: Counters::default(),
            purges: PurgeLog::default(),
            shapes: Shapes::default(),
            table: StatsTable::new(config.stats_bytes),
            copies: Copies::new(config.stats_bytes / 8),
            events,
            l2,
            hearing,
            config,
        }))
    }

    /// The entry that a request selects, fresh or not: judge it with [`farthing_freshness::semantics::verdict`], and count
    /// an answer from it with [`Cached::on_hit`]. Notes the request in the key's statistics.
    pub fn lookup(&self, primary: KeyHash, request: &HeaderMap, now: Time) -> Option<Arc<Cached>> {
        self.lookup_noting(primary, request, |_, stats| stats.on_request(now)).0
    }

    /// As [`Cache::lookup`], with `note` instead: it is handed the key whose statistics these are, and runs under the lock that
    /// orders all changes to them. So what it does is in the same order for the key and for whatever it locks itself.
    pub fn lookup_noting<R>(
        &self,
        primary: KeyHash,
        request: &HeaderMap,
        note: impl FnOnce(KeyHash, &mut KeyStats) -> R,
    ) -> (Option<Arc<Cached>>, R) {
        let (found, noted) = self.0.find_noting(primary, request, note);
        add(if found.is_some() { &self.0.counters.found } else { &self.0.counters.missing }, 1);
        (found, noted)
    }

    /// As [`Cache::lookup_noting`], but only of an entry that `judge` accepts; else nothing is noted or counted. `judge` runs under the
    /// lock of the entry's shard.
    pub fn lookup_if<T, R>(
        &self,
        primary: KeyHash,
        request: &HeaderMap,
        judge: impl FnOnce(&Arc<Cached>) -> Option<T>,
        note: impl FnOnce(KeyHash, &mut KeyStats) -> R,
    ) -> Option<(T, R)> {
        let found = self.0.find_if(primary, request, judge, note);
        add(&self.0.counters.found, usize::from(found.is_some()));
        found
    }

    /// As [`Cache::lookup`] without noting anything: for HEAD's look at GET's entry, prefetch and inspection.
    pub fn peek(&self, primary: KeyHash, request: &HeaderMap) -> Option<Arc<Cached>> {
        self.0.find(primary, request)
    }

    /// Joins the flight that fills a key, or starts one.
    pub fn join(&self, join: Join<'_>) -> Joined {
        let key = self.0.flight_key(join.subject.key, join.headers);
        let mut shard = self.0.shard(key).lock();
        if let Some(Node::Entry(found)) = shard.index.peek(key)
            && join.seen.is_none_or(|seen| !Arc::ptr_eq(seen, found))
            && acceptable(found, join.headers)
        {
            return Joined::Stored(Arc::clone(found));
        }
        let joinable = |flight: &&Arc<Flight>| !self.0.doubts(flight, join.now);
        if let Some(flight) = shard.flights.get(key).filter(joinable).map(Arc::clone) {
            let slot = |id, rx| Slot::waiting(Arc::clone(&self.0), Arc::clone(&flight), id, rx);
            match flight.join((join.now, join.headers.contains_key(AUTHORIZATION)), self.0.config.max_followers) {
                Found::Slot(id, rx) => return Joined::Follow(slot(id, rx)),
                Found::Ready(delivered) => return Joined::Follow(Slot::ready(Arc::clone(&self.0), Arc::clone(&flight), delivered)),
                Found::Alone(reason) => return Joined::Alone(reason),
                Found::Crowded => return Joined::Refused(Failure::unsent(FailureKind::Refused, "too many requests wait for this answer")),
                Found::Over => {}
            }
        }
        let flight = Arc::new(Flight::new(key, Arc::clone(join.subject), self.0.began(), join.now, self.0.config.limits()));
        let replaced = shard.flights.insert(Arc::clone(&flight));
        drop(shard);
        drop(replaced);
        Joined::Lead(Ticket::new(Arc::clone(&self.0), flight, join.headers.clone()))
    }

    /// Whether an entry is still what stands under its key: neither purged nor replaced nor evicted. One that is not must not be confirmed by
    /// a call that began later, nor stand in for a failed one.
    pub fn holds(&self, entry: &Arc<Cached>) -> bool {
        let key = entry.stored_key();
        matches!(self.0.shard(key).lock().index.peek(key), Some(Node::Entry(found)) if Arc::ptr_eq(found, entry))
    }

    /// Takes out entries that are longer than `keep` past every TTL (they serve only validation then); returns their number.
    pub fn sweep(&self, keep: Span, now: Time) -> usize {
        let gone = |node: &Node| matches!(node, Node::Entry(e) if e.fetched_at() + e.longest().saturating_add(keep) < now);
        self.0.drain(|node| gone(node), EndReason::Expired, now)
    }

    /// Ends every entry, so that its outcome is written. The cache can be used afterwards, empty.
    pub fn shutdown(&self, now: Time) -> usize {
        self.0.drain(|_| true, EndReason::Shutdown, now)
    }

    /// The purge sequence number now, of purges that have gone through everything.
    pub fn epoch(&self) -> u64 {
        self.0.purges.settled()
    }

    /// Counters and sizes.
    pub fn stats(&self) -> CacheStats {
        let c = &self.0.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut out = CacheStats {
            in_flight_bytes: self.0.budget.used(),
            found: read(&c.found),
            missing: read(&c.missing),
            stored: read(&c.stored),
            evicted: read(&c.evicted),
            purged: read(&c.purged),
            invalidated: read(&c.invalidated),
            handovers: read(&c.handovers),
            cut: read(&c.cut),
            ..CacheStats::default()
        };
        for shard in &self.0.shards {
            let shard = shard.lock();
            out.entries += shard.index.len();
            out.bytes += shard.index.bytes();
            out.flights += shard.flights.len();
        }
        out
    }
}

impl Inner {
    pub(crate) fn shard(&self, key: KeyHash) -> &Mutex<Shard> {
        &self.shards[(key.0 >> 96) as usize % self.shards.len()]
    }

    /// What a flight that begins now is known to be no older than: here, and in the fleet.
    fn began(&self) -> (u64, u64) {
        let mark = self.hearing.as_ref().map_or(0, |hearing| hearing.position());
        (self.purges.settled(), mark)
    }

    fn doubts(&self, flight: &Flight, now: Time) -> bool {
        self.hearing.as_ref().is_some_and(|hearing| hearing.doubts_call(&flight.subject.route, flight.begun, now)) && !flight.is_marker()
    }

    /// The entry that a request selects.
    fn find(&self, primary: KeyHash, request: &HeaderMap) -> Option<Arc<Cached>> {
        let key = self.flight_key(primary, request);
        match self.shard(key).lock().index.peek(key) {
            Some(Node::Entry(entry)) => Some(Arc::clone(entry)),
            _ => None,
        }
    }

    /// The entry that a request selects, which counts as asked for; `note` is given the statistics of the key under which it
    /// stands or would stand.
    fn find_noting<R>(
        &self,
        primary: KeyHash,
        request: &HeaderMap,
        note: impl FnOnce(KeyHash, &mut KeyStats) -> R,
    ) -> (Option<Arc<Cached>>, R) {
        let (mut shard, key) = self.selecting(primary, request);
        match shard.index.get(key) {
            Some(Node::Entry(entry)) => (Some(Arc::clone(entry)), entry.update_stats(|stats| note(key, stats))),
            _ => (None, self.table.update(key, |stats| note(key, stats))),
        }
    }

    /// As [`Inner::find_noting`], of an entry that `judge` accepts alone.
    fn find_if<T, R>(
        &self,
        primary: KeyHash,
        request: &HeaderMap,
        judge: impl FnOnce(&Arc<Cached>) -> Option<T>,
        note: impl FnOnce(KeyHash, &mut KeyStats) -> R,
    ) -> Option<(T, R)> {
        let (mut shard, key) = self.selecting(primary, request);
        let Node::Entry(entry) = shard.index.get(key)? else { return None };
        let judged = judge(entry)?;
        Some((judged, entry.update_stats(|stats| note(key, stats))))
    }

    /// The key under which what a request selects stands or would stand, and its shard. That the answers of the primary key vary counts as
    /// asked for.
    fn selecting(&self, primary: KeyHash, request: &HeaderMap) -> (MutexGuard<'_, Shard>, KeyHash) {
        let mut shard = self.shard(primary).lock();
        let Some(Node::Varies(variants)) = shard.index.get(primary) else { return (shard, primary) };
        let names = Arc::clone(&variants.names);
        drop(shard);
        let key = self.config.keyer.selected(primary, &names, request);
        (self.shard(key).lock(), key)
    }

    fn flight_key(&self, primary: KeyHash, request: &HeaderMap) -> KeyHash {
        let names = match self.shard(primary).lock().index.peek(primary) {
            Some(Node::Varies(variants)) => Arc::clone(&variants.names),
            _ => return primary,
        };
        self.config.keyer.selected(primary, &names, request)
    }

    fn evicted(&self, entries: Vec<Arc<Cached>>, now: Time) {
        add(&self.counters.evicted, entries.len());
        // What made room here and is nowhere else was not lost. What is being written to L2 will be there.
        let below = |entry: &Cached| entry.is_in_l2() || self.l2.as_ref().is_some_and(|l2| l2.takes(entry.size()));
        entries.iter().filter(|entry| !below(entry)).for_each(|entry| self.copies.forget(entry.stored_key()));
        self.ended(entries, EndReason::Evicted, now);
    }

    /// Keeps the statistics of entries that are no longer in the index. To be called under the lock of the shard that they
    /// were in, so that nothing noted meanwhile is lost.
    pub(crate) fn keep_stats(&self, gone: &[Arc<Cached>]) {
        for entry in gone {
            let stats = entry.stats();
            self.table.update(entry.stored_key(), |s| *s = stats);
        }
    }

    /// Tells of ended entries; never called under a lock.
    pub(crate) fn ended(&self, entries: Vec<Arc<Cached>>, why: EndReason, at: Time) {
        for entry in entries {
            self.events.ended(EntryEnd { entry, why, successor: None, at });
        }
    }

    fn drain(&self, which: impl Fn(&Node) -> bool, why: EndReason, now: Time) -> usize {
        let mut count = 0;
        for shard in &self.shards {
            self.walk(
                shard,
                Walk::all(),
                |_, node| which(node),
                |shard, found| {
                    let entries: Vec<_> = found.into_iter().filter_map(|key| shard.index.remove(key)).filter_map(into_entry).collect();
                    self.keep_stats(&entries);
                    count += entries.len();
                    (entries, why, now)
                },
            );
        }
        count
    }

    /// Goes through a shard in steps, so that nobody waits long for it. `with` is handed the keys of each step for which `which` holds, under the lock, and
    /// says which entries have ended.
    fn walk(
        &self,
        shard: &Mutex<Shard>,
        mut walk: Walk,
        which: impl Fn(KeyHash, &Node) -> bool,
        mut with: impl FnMut(&mut Shard, Vec<KeyHash>) -> (Vec<Arc<Cached>>, EndReason, Time),
    ) {
        while !walk.is_over() {
            let mut held = shard.lock();
            let found = held.index.step(&mut walk, STEP, &which);
            let (ended, why, at) = with(&mut held, found);
            // Whoever waits has its turn before the next step, also who has not gone to sleep for it yet.
            MutexGuard::unlock_fair(held);
            self.ended(ended, why, at);
            if !walk.is_over() {
                (0..PAUSE).for_each(|_| std::hint::spin_loop());
            }
        }
    }

    /// Takes a flight that is over out of the map, unless another one took its place.
    pub(crate) fn forget(&self, flight: &Arc<Flight>) {
        let mut shard = self.shard(flight.key).lock();
        if shard.flights.get(flight.key).is_some_and(|f| Arc::ptr_eq(f, flight)) {
            shard.flights.remove(flight.key);
        }
    }

    /// Bounds the markers: the oldest is forgotten.
    pub(crate) fn remember_marker(&self, flight: &Arc<Flight>) {
        let mut shard = self.shard(flight.key).lock();
        shard.markers.push_back(flight.key);
        if shard.markers.len() <= MARKERS {
            return;
        }
        if let Some(oldest) = shard.markers.pop_front()
            && shard.flights.get(oldest).is_some_and(|f| f.is_marker())
        {
            shard.flights.remove(oldest);
        }
    }
}

fn into_entry(node: Node) -> Option<Arc<Cached>> {
    match node {
        Node::Entry(entry) => Some(entry),
        Node::Varies(..) => None,
    }
}
