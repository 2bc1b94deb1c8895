//! Live statistics of keys and routes, and what becomes known when an entry ends.

use std::sync::{Arc, OnceLock, Weak};

use farthing_cache::{CacheEvents, EndReason, EntryEnd};
use farthing_contract::features::{Doubt, KeyStats, RouteStats};
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
        Noted { seq: self.entered, key, known, place: 0, doubted: false }
    }
    /// Notes a fetched body. Whoever hands over `stats` holds their lock.
    fn fetched(&mut self, (key, stats): (KeyHash, &mut KeyStats), hash: u64, at: Time) -> (Option<Observed>, Noted) {
        let (known, previous) = (stats.is_known(), stats.hash());
        let seen = self.stats.on_fetch(stats, at, hash);
        let observed = seen.zip(previous).map(|(seen, previous)| Observed { previous, gap: seen.gap, changed: seen.changed });
        (observed, self.enter(key, known))
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
    /// Of a request: whether the key's copy is doubted now.
    pub doubted: bool,
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
        let (known, before) = (stats.is_known(), *stats);
        let mut live = self.stats.lock();
        let doubted = live.stats.on_request_of(stats, now);
        let place = live.seen.note(now, key, &before, how);
        Noted { place, doubted, ..live.enter(key, known) }
    }

    /// Whether a request at `now` would find the copy of these statistics doubted.
    pub fn would_doubt(&self, stats: &KeyStats, now: Time) -> bool {
        stats.doubt().is_possible() && self.stats.lock().stats.would_doubt(stats, now)
    }
}

impl State {
    /// Notes a fetched body in the statistics of its key and route.
    pub fn note_fetch(&self, route: &RouteState, key: KeyHash, hash: u64, at: Time) -> Learned {
        self.cache.update_key_stats(key, |stats| {
            let mut live = route.stats.lock();
            let (observed, noted) = live.fetched((key, stats), hash, at);
            Learned { key: *stats, route: live.stats.clone(), observed, entered: Entered { noted, at, hash, steers: true } }
        })
    }

    /// As [`State::note_fetch`] and [`State::exempt`] at once, for an answer that nobody will be answered with again: its age at the next fetch says
    /// nothing about our choices.
    pub fn note_unkept(&self, route: &RouteState, key: KeyHash, hash: u64, at: Time) -> (Option<Observed>, Entered) {
        self.cache.update_key_stats(key, |stats| {
            let (observed, noted) = route.stats.lock().fetched((key, stats), hash, at);
            stats.exempt_from_steering();
            (observed, Entered { noted, at, hash, steers: false })
        })
    }

    /// When the copy just fetched is doubted, unless another fetch came in between.
    pub fn set_doubt(&self, key: KeyHash, doubt: Doubt, learned: &mut Learned) {
        let of = learned.key;
        learned.key.set_doubt(doubt);
        self.cache.update_key_stats(key, |stats| {
            if stats.same_fetch(&of) {
                stats.set_doubt(doubt);
            }
        });
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
            (EndReason::Replaced, Some(next)) => Some(next.canonical_hash() != entry.canonical_hash()),
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
    let Some(route) = state.route_named(&entry.shape().route) else { return };
    let stale = match entry.last_hit().filter(|_| changed) {
        Some(last) => {
            let hazard = entry.hazard(route.stats.lock().stats.hazard());
            expected_stale(entry.hits(), last.since(entry.fetched_at()), end.at.since(entry.fetched_at()), hazard)
        }
        None => 0.0,
    };
    state.matured(&route, end, (changed, stale));
    state.totals.verdicts(&route.route.name, entry.hits(), stale.round() as u64);
    if let Some(last) = entry.last_hit().filter(|_| stale > 0.0) {
        state.record_stale(&route, &entry.subject(), (last, stale));
    }
}
