//! From a log or a trace to training rows: the statistics of keys and routes are built up in time order by the code that the
//! proxy runs, and each fetch becomes a row with the age at which its copy was first seen changed.

use std::collections::HashMap;

use farthing_contract::features::{HeadFacts, KeyStats, RouteStats, TTL_FEATURES, TtlInput, ttl_features};
use farthing_types::{Span, Time};

use crate::read::{Fetch, Log, Read};
use crate::rows::{Fate, Rows};

/// Gaps up to this are "at once": what changes at once is not a document that changes but an answer that differs by call.
const AT_ONCE: Span = Span::from_secs(10);
/// Refetches at once that are needed to judge a route.
const JUDGED: u32 = 5;
/// Share of changes at once from which a route counts as nondeterministic.
const NONDETERMINISTIC: f64 = 0.9;

/// Rows of a log, and what was left out.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The rows, by time.
    pub rows: Rows,
    /// Routes whose answers differ from call to call: nothing can be learned from them, and nothing cached.
    pub nondeterministic: Vec<String>,
    /// Fetches that no later fetch of their key followed.
    pub last_fetches: usize,
}

impl History {
    /// The rows of a log.
    pub fn of(log: &Log) -> Self {
        let mut walk = Walk::new(log.routes.len());
        let mut reads = log.reads.iter().peekable();
        for fetch in &log.fetches {
            while let Some(read) = reads.next_if(|read| read.at_ns <= fetch.at_ns) {
                walk.read(read);
            }
            walk.fetch(fetch, !log.reads.is_empty());
        }
        walk.finish(&log.routes)
    }
}

/// A fetch on its way to becoming a row.
struct Pending {
    features: [f32; TTL_FEATURES],
    at_ns: i64,
    hash: u64,
    route: u32,
}

/// Refetches at once on a route, and how many found a change.
#[derive(Clone, Copy, Default)]
struct AtOnce {
    seen: u32,
    changed: u32,
}

struct Walk {
    keys: HashMap<u64, (KeyStats, Vec<u32>)>,
    routes: Vec<RouteStats>,
    at_once: Vec<AtOnce>,
    pending: Vec<Pending>,
}

impl Walk {
    fn new(routes: usize) -> Self {
        let routes = routes.max(1);
        Self {
            keys: HashMap::new(),
            routes: vec![RouteStats::default(); routes],
            at_once: vec![AtOnce::default(); routes],
            pending: Vec::new(),
        }
    }

    fn read(&mut self, read: &Read) {
        let Some(route) = self.routes.get_mut(read.route as usize) else { return };
        let known = self.keys.contains_key(&read.key);
        let (key, _) = self.keys.entry(read.key).or_default();
        for n in 0..read.weight.min(10_000) {
            route.on_request(Time::from_nanos(read.at_ns), !known && n == 0);
            key.on_request(Time::from_nanos(read.at_ns));
        }
    }

    /// `reads_logged`: whether requests have rows of their own; else each fetch stands for a request.
    fn fetch(&mut self, fetch: &Fetch, reads_logged: bool) {
        if !reads_logged {
            self.read(&Read { at_ns: fetch.at_ns, key: fetch.key, route: fetch.route, weight: 1 });
        }
        let Some(route) = self.routes.get_mut(fetch.route as usize) else { return };
        let (key, places) = self.keys.entry(fetch.key).or_default();
        let now = Time::from_nanos(fetch.at_ns);
        if let Some(seen) = route.on_fetch(key, now, fetch.hash)
            && seen.gap <= AT_ONCE
            && let Some(at_once) = self.at_once.get_mut(fetch.route as usize)
        {
            at_once.seen += 1;
            at_once.changed += u32::from(seen.changed);
        }
        let logged = fetch.features.as_deref().and_then(|f| <[f32; TTL_FEATURES]>::try_from(f).ok());
        let features = logged.unwrap_or_else(|| ttl_features(&TtlInput { key, route, head: head(fetch), now }));
        places.push(self.pending.len() as u32);
        self.pending.push(Pending { features, at_ns: fetch.at_ns, hash: fetch.hash, route: fetch.route });
    }

    fn finish(self, routes: &[String]) -> History {
        let differs = |s: &AtOnce| s.seen >= JUDGED && f64::from(s.changed) >= NONDETERMINISTIC * f64::from(s.seen);
        let excluded: Vec<bool> = self.at_once.iter().map(differs).collect();
        let mut fates: Vec<Option<Fate>> = vec![None; self.pending.len()];
        for (_, places) in self.keys.values() {
            settle(places, &self.pending, &mut fates);
        }
        let mut history = History { rows: Rows { routes: routes.to_vec(), ..Rows::new(TTL_FEATURES) }, ..History::default() };
        for (pending, fate) in self.pending.iter().zip(fates) {
            match fate {
                _ if excluded.get(pending.route as usize).copied().unwrap_or(false) => {}
                Some(fate) => history.rows.push(&pending.features, fate, pending.at_ns, pending.route),
                None => history.last_fetches += 1,
            }
        }
        history.nondeterministic = routes.iter().zip(&excluded).filter(|(_, e)| **e).map(|(r, _)| r.clone()).collect();
        history
    }
}

/// Fates of one key's fetches: the first later fetch with another body bounds the change.
fn settle(places: &[u32], pending: &[Pending], fates: &mut [Option<Fate>]) {
    // Last fetch with the present body, and the first with the next one.
    let mut same: Option<i64> = None;
    let mut other: Option<i64> = None;
    for (n, place) in places.iter().enumerate().rev() {
        let here = &pending[*place as usize];
        let next = places.get(n + 1).map(|p| &pending[*p as usize]);
        match next {
            Some(next) if next.hash != here.hash => (same, other) = (Some(here.at_ns), Some(next.at_ns)),
            Some(_) => {}
            None => (same, other) = (Some(here.at_ns), None),
        }
        let age = |at: i64| ((at - here.at_ns).max(0) as f64 / 1e9) as f32;
        let fate = Fate { unchanged_s: same.map_or(0.0, age), changed_s: other.map_or(f32::INFINITY, age) };
        // A change "within nothing" has no likelihood; nothing seen has none either.
        let tells = if fate.changed() { fate.changed_s > fate.unchanged_s } else { fate.unchanged_s > 0.0 };
        fates[*place as usize] = tells.then_some(fate);
    }
}

fn head(fetch: &Fetch) -> HeadFacts {
    HeadFacts {
        body_bytes: fetch.bytes,
        last_modified: fetch.last_modified_ns.map(Time::from_nanos),
        origin_ttl: fetch.origin_ttl_s.and_then(|s| u64::try_from(s).ok()).map(Span::from_secs),
        // The log holds whether validators were compared; a `Last-Modified` explains that without an ETag.
        has_etag: fetch.validators && fetch.last_modified_ns.is_none(),
        query_parameters: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn fetch(at_s: i64, key: u64, route: u32, hash: u64) -> Fetch {
        Fetch {
            at_ns: at_s * S,
            key,
            route,
            hash,
            bytes: 100,
            last_modified_ns: None,
            origin_ttl_s: None,
            validators: false,
            cost_nanousd: None,
            features: None,
        }
    }

    fn log(fetches: Vec<Fetch>) -> Log {
        Log { routes: vec!["a".into(), "b".into()], fetches, ..Log::default() }
    }

    #[test]
    fn each_fetch_gets_the_bounds_of_its_first_change() {
        let history = History::of(&log(vec![fetch(1_000, 1, 0, 7), fetch(1_030, 1, 0, 7), fetch(1_100, 1, 0, 8), fetch(1_150, 1, 0, 8)]));
        let fates = &history.rows.fates;
        assert_eq!(fates[0], Fate { unchanged_s: 30.0, changed_s: 100.0 });
        assert_eq!(fates[1], Fate { unchanged_s: 0.0, changed_s: 70.0 });
        assert_eq!(fates[2], Fate { unchanged_s: 50.0, changed_s: f32::INFINITY });
        assert_eq!((fates.len(), history.last_fetches), (3, 1));
    }

    #[test]
    fn answers_that_differ_from_call_to_call_are_left_out() {
        let mut fetches: Vec<Fetch> = (0..20).map(|i| fetch(1_000 + i, 1, 0, i as u64)).collect();
        fetches.extend((0..20).map(|i| fetch(2_000 + i, 2, 1, 5)));
        let history = History::of(&log(fetches));
        assert_eq!(history.nondeterministic, ["a"]);
        assert!(history.rows.route.iter().all(|r| *r == 1) && history.rows.len() == 19);
    }

    #[test]
    fn logged_features_are_taken_as_they_are() {
        let mut fetches = vec![fetch(1_000, 1, 0, 7), fetch(1_100, 1, 0, 7)];
        fetches[0].features = Some(vec![0.25; TTL_FEATURES]);
        let history = History::of(&log(fetches.clone()));
        assert_eq!(history.rows.row(0), [0.25; TTL_FEATURES]);
        fetches[0].features = Some(vec![0.25; 3]);
        assert_ne!(History::of(&log(fetches)).rows.row(0), [0.25; TTL_FEATURES], "a row of another length is computed anew");
    }

    #[test]
    fn two_fetches_at_the_same_time_do_no_harm() {
        let history = History::of(&log(vec![fetch(5, 1, 0, 7), fetch(5, 1, 0, 8), fetch(5, 1, 9, 8)]));
        assert!(history.rows.is_empty());
    }
}
