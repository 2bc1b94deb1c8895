//! Live statistics of keys and routes, and what becomes known when an entry ends.

use std::sync::{Arc, OnceLock, Weak};

use farthing_cache::{CacheEvents, EndReason, EntryEnd};
use farthing_contract::features::{KeyStats, RouteStats};
use farthing_types::{KeyHash, Time};

use crate::experiments::expected_stale;
use crate::plans::{How, Seen};
use crate::route::RouteState;
use crate::settle::{Ended, Observed};
use crate::state::State;

/// Statistics of a route, and how much has entered them in this run.
pub struct Numbered {
    /// The statistics.
    pub stats: RouteStats,
    /// Requests that are still to enter those of the strategy decision.
    pub seen: Seen,
    /// Requests and answers that have entered.
    entered: i64,
}

impl Numbered {
    /// Statistics that nothing has entered in this run.
    pub fn new(stats: RouteStats) -> Self {
        Self { stats, seen: Seen::default(), entered: 0 }
    }
    /// Begins with what the run before knew.
    pub fn start_from(&mut self, stats: RouteStats, stale_budget: f64) {
        self.stats = stats;
        self.stats.set_stale_budget(stale_budget);
    }
    /// How many requests and answers have entered in this run.
    pub const fn entered(&self) -> i64 {
        self.entered
    }
    fn enter(&mut self, key: KeyHash, known: bool) -> Noted {
        self.entered += 1;
        Noted { seq: self.entered, key, known, place: 0 }
    }
}

/// How a request or an answer entered the live statistics: with this the log can repeat what they saw, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Place among all that entered the route's statistics in this run, from 1.
    pub seq: i64,
    /// Key under which the statistics are kept.
    pub key: KeyHash,
    /// Whether anything was known of the key before.
    pub known: bool,
    /// Of a request: its place among those that are seen ([`Seen`]).
    pub place: u64,
}

/// What a fetch taught.
pub struct Learned {
    /// Statistics of the key, this fetch included.
    pub key: KeyStats,
    /// Statistics of the route, of the same moment.
    pub route: RouteStats,
    /// The difference to the fetch before.
    pub observed: Option<Observed>,
    /// How it entered.
    pub entered: Entered,
}

/// A fetched answer as it entered the live statistics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entered {
    /// Where.
    pub noted: Noted,
    /// Under which time.
    pub at: Time,
    /// With which canonical digest.
    pub hash: u64,
    /// Whether the copy's staleness steers the route.
    pub steers: bool,
}

impl RouteState {
    /// Notes a request in the statistics of the route and of the key. Whoever hands over `stats` holds their lock, so both see
    /// their events in one order.
    pub fn note_request(&self, (key, stats): (KeyHash, &mut KeyStats), (now, how): (Time, How)) -> Noted {
        let (known, new, before) = (stats.is_known(), stats.fetches() == 0, *stats);
        stats.on_request(now);
        let mut live = self.stats.lock();
        live.stats.on_request(now, new);
        let place = live.seen.note(now, key, &before, how);
        Noted { place, ..live.enter(key, known) }
    }
}

impl State {
    /// Notes a fetched body in the statistics of its key and route.
    pub fn note_fetch(&self, route: &RouteState, key: KeyHash, hash: u64, at: Time) -> Learned {
        self.cache.update_key_stats(key, |stats| {
            let (known, previous) = (stats.is_known(), stats.hash());
            let mut live = route.stats.lock();
            let seen = live.stats.on_fetch(stats, at, hash);
            let observed = seen.zip(previous).map(|(seen, previous)| Observed { previous, gap: seen.gap, changed: seen.changed });
            let entered = Entered { noted: live.enter(key, known), at, hash, steers: true };
            Learned { key: *stats, route: live.stats.clone(), observed, entered }
        })
    }

    /// Exempts the copy just fetched from steering, unless another fetch came in between.
    pub fn exempt(&self, key: KeyHash, learned: &mut Learned) {
        let of = learned.key;
        let done = self.cache.update_key_stats(key, |stats| {
            let same = stats.same_fetch(&of);
            if same {
                stats.exempt_from_steering();
            }
            same
        });
        if done {
            learned.key.exempt_from_steering();
            learned.entered.steers = false;
        }
    }

    /// Notes a fetched body that nobody will be answered with again: its age at the next fetch says nothing about our choices.
    pub fn note_unkept(&self, route: &RouteState, key: KeyHash, hash: u64, at: Time) -> (Option<Observed>, Entered) {
        let mut learned = self.note_fetch(route, key, hash, at);
        self.exempt(key, &mut learned);
        (learned.observed, learned.entered)
    }
}

/// Hears of entries that ended and settles them.
#[derive(Default)]
pub struct Events {
    state: OnceLock<Weak<State>>,
}

impl Events {
    /// Connects the cache's events with the state that holds the cache.
    pub fn connect(&self, state: &Arc<State>) {
        let _ = self.state.set(Arc::downgrade(state));
    }
}

impl CacheEvents for Events {
    fn ended(&self, end: EntryEnd) {
        let Some(state) = self.state.get().and_then(Weak::upgrade) else { return };
        let entry = &end.entry;
        let changed = match (end.why, &end.successor) {
            (EndReason::Replaced, Some(next)) => Some(next.canonical_hash != entry.canonical_hash),
            _ => None,
        };
        state.settle_entry(&Ended {
            entry,
            at: end.at,
            by: end.why.as_str(),
            hits: entry.hits(),
            served_expired: entry.stale_hits(),
            last_hit: entry.last_hit(),
            changed,
        });
        if let Some(changed) = changed {
            verdict(&state, &end, changed);
        }
    }
}

/// Counts the answers whose staleness the next fetch has shown. When the answer had changed at an unknown moment, the stale ones
/// are an expectation.
fn verdict(state: &State, end: &EntryEnd, changed: bool) {
    let entry = &end.entry;
    let Some(route) = state.route_named(&entry.subject.route) else { return };
    let stale = match entry.last_hit().filter(|_| changed) {
        Some(last) => {
            let hazard = entry.stats.hazard(route.stats.lock().stats.hazard());
            expected_stale(entry.hits(), last.since(entry.fetched_at), end.at.since(entry.fetched_at), hazard)
        }
        None => 0.0,
    };
    state.matured(&route, end, (changed, stale));
    state.totals.verdicts(&route.route.name, entry.hits(), stale.round() as u64);
    if let Some(last) = entry.last_hit().filter(|_| stale > 0.0) {
        state.record_stale(&route, &entry.subject, (last, stale));
    }
}
