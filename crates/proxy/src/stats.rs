//! Live statistics of keys and routes, and what becomes known when an entry ends.

use std::sync::{Arc, OnceLock, Weak};

use farthing_cache::{CacheEvents, EndReason, EntryEnd};
use farthing_contract::features::{KeyStats, RouteStats};
use farthing_types::{KeyHash, Time};

use crate::experiments::expected_stale;
use crate::route::RouteState;
use crate::settle::{Ended, Observed};
use crate::state::State;

/// What a fetch taught.
pub struct Learned {
    /// Statistics of the key, this fetch included.
    pub key: KeyStats,
    /// Statistics of the route.
    pub route: RouteStats,
    /// The difference to the fetch before.
    pub observed: Option<Observed>,
}

impl State {
    /// Notes a request in the statistics of its route.
    pub fn note_request(&self, route: &RouteState, new_key: bool, now: Time) {
        route.stats.lock().on_request(now, new_key);
    }

    /// Notes a fetched body in the statistics of its key and route.
    pub fn note_fetch(&self, route: &RouteState, key: KeyHash, canonical: u64, now: Time) -> Learned {
        let (key_stats, previous, seen) = self.cache.update_key_stats(key, |stats| {
            let previous = stats.hash();
            let seen = route.stats.lock().on_fetch(stats, now, canonical);
            (*stats, previous, seen)
        });
        let observed = seen.zip(previous).map(|(seen, previous)| Observed { previous, gap: seen.gap, changed: seen.changed });
        Learned { key: key_stats, route: route.stats.lock().clone(), observed }
    }
}

impl State {
    /// Notes a fetched body that nobody will be answered with again: its age at the next fetch says nothing about our choices.
    pub fn note_unkept(&self, route: &RouteState, key: KeyHash, canonical: u64, now: Time) -> Option<Observed> {
        let learned = self.note_fetch(route, key, canonical, now);
        self.cache.update_key_stats(key, KeyStats::exempt_from_steering);
        learned.observed
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
    let Some(route) = state.routes.iter().find(|r| r.route.name == entry.subject.route) else { return };
    let stale = match entry.last_hit().filter(|_| changed) {
        Some(last) => {
            let hazard = entry.stats.hazard(route.stats.lock().hazard());
            expected_stale(entry.hits(), last.since(entry.fetched_at), end.at.since(entry.fetched_at), hazard)
        }
        None => 0.0,
    };
    state.totals.verdicts(&route.route.name, entry.hits(), stale.round() as u64);
    if let Some(last) = entry.last_hit().filter(|_| stale > 0.0) {
        state.record_stale(route, entry.subject.key, last, stale);
    }
}
