//! Training rows of a log: the statistics of keys and routes are built up in time order by the code that the proxy runs, and each
//! fetch becomes a row with the age at which its copy was first seen changed.

use std::collections::HashMap;

use farthing_contract::features::{HeadFacts, KeyStats, RouteStats, TTL_FEATURES, TTL_OUTPUTS, TtlInput, ttl_features};
use farthing_replay::exposures;
use farthing_types::{Span, Time};

use crate::learn::MIN_ROWS;
use crate::read::{Fetch, Log, Read};
use crate::rows::{Fate, Row, Rows};

/// Gaps up to this are "at once": what changes at once is not a document that changes but an answer that differs by call.
const AT_ONCE_NS: i64 = 10_000_000_000;
/// Refetches at once that are needed to judge a route.
const JUDGED: u32 = 5;
/// Share of changes at once from which a route counts as nondeterministic.
const NONDETERMINISTIC: f64 = 0.9;

/// Rows of a log, and what was left out.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The rows, by time.
    pub rows: Rows,
    /// Which of them teach: the route's statistics had settled ([`RouteStats::is_settled`]). A learner would take the error of the first
    /// guess for theirs.
    pub teaches: Vec<bool>,
    /// Routes whose answers differ from call to call: nothing can be learned from them, and nothing cached.
    pub nondeterministic: Vec<String>,
    /// Fetches of other routes that no later fetch of their key followed.
    pub last_fetches: usize,
}

impl History {
    /// The rows that teach; all where hardly any does, as on routes that never change.
    pub fn teaching(&self) -> Rows {
        let teaching = self.rows.filter(|i| self.teaches.get(i).copied().unwrap_or(false));
        if teaching.len() < MIN_ROWS { self.rows.clone() } else { teaching }
    }

    /// The rows of a log.
    pub fn of(log: &Log) -> Self {
        let excluded = nondeterministic(log);
        let fates = fates(&log.fetches);
        let mut walk = Walk { keys: HashMap::new(), routes: vec![RouteStats::default(); log.routes.len()] };
        let mut rows = Rows { routes: log.routes.clone(), ..Rows::new(TTL_FEATURES, TTL_OUTPUTS) };
        let (mut teaches, mut last_fetches) = (Vec::new(), 0);
        let mut reads = log.reads.iter().peekable();
        for (fetch, fate) in log.fetches.iter().zip(fates) {
            while let Some(read) = reads.next_if(|read| read.at_ns <= fetch.at_ns) {
                walk.read(read);
            }
            if log.reads.is_empty() {
                walk.read(&Read { at_ns: fetch.at_ns, key: fetch.key, route: fetch.route, weight: 1 });
            }
            let out = excluded.get(fetch.route as usize).copied().unwrap_or(true);
            walk.fetch(fetch, fate.filter(|_| !out), &mut rows);
            let settled = walk.routes.get(fetch.route as usize).is_some_and(RouteStats::is_settled);
            teaches.resize(rows.len(), settled);
            last_fetches += usize::from(fate.is_none() && !out);
        }
        let nondeterministic = log.routes.iter().zip(&excluded).filter(|(_, out)| **out).map(|(route, _)| route.clone()).collect();
        Self { rows, teaches, nondeterministic, last_fetches }
    }
}

/// For each route, whether nearly all refetches at once found another answer.
fn nondeterministic(log: &Log) -> Vec<bool> {
    let mut counts = vec![(0u32, 0u32); log.routes.len()];
    let mut last: HashMap<u64, (i64, u64)> = HashMap::new();
    for fetch in &log.fetches {
        let before = last.insert(fetch.key, (fetch.at_ns, fetch.hash));
        if let (Some((at_ns, hash)), Some(count)) = (before, counts.get_mut(fetch.route as usize))
            && fetch.at_ns - at_ns <= AT_ONCE_NS
        {
            count.0 += 1;
            count.1 += u32::from(hash != fetch.hash);
        }
    }
    counts.into_iter().map(|(seen, changed)| seen >= JUDGED && f64::from(changed) >= NONDETERMINISTIC * f64::from(seen)).collect()
}

/// What is known of a key's later fetches while walking back in time.
#[derive(Clone, Copy)]
struct Later {
    next_hash: u64,
    next_ns: i64,
    /// Last fetch with the next fetch's body, and the first with the one after.
    same_ns: i64,
    other_ns: Option<i64>,
}

/// Fates of the fetches: the first later fetch of the key with another body bounds the change.
fn fates(fetches: &[Fetch]) -> Vec<Option<Fate>> {
    let mut later: HashMap<u64, Later> = HashMap::new();
    let mut fates = vec![None; fetches.len()];
    for (fate, fetch) in fates.iter_mut().zip(fetches).rev() {
        let (same_ns, other_ns) = match later.get(&fetch.key) {
            Some(next) if next.next_hash != fetch.hash => (fetch.at_ns, Some(next.next_ns)),
            Some(next) => (next.same_ns, next.other_ns),
            None => (fetch.at_ns, None),
        };
        let age = |at: i64| ((at - fetch.at_ns).max(0) as f64 / 1e9) as f32;
        *fate = Some(Fate { unchanged_s: age(same_ns), changed_s: other_ns.map_or(f32::INFINITY, age) }).filter(Fate::tells);
        later.insert(fetch.key, Later { next_hash: fetch.hash, next_ns: fetch.at_ns, same_ns, other_ns });
    }
    fates
}

/// Statistics as the proxy keeps them.
struct Walk {
    keys: HashMap<u64, KeyStats>,
    routes: Vec<RouteStats>,
}

impl Walk {
    fn read(&mut self, read: &Read) {
        let Some(route) = self.routes.get_mut(read.route as usize) else { return };
        let key = self.keys.entry(read.key).or_default();
        let now = Time::from_nanos(read.at_ns);
        for _ in 0..read.weight.min(10_000) {
            route.on_request_of(key, now);
        }
    }

    fn fetch(&mut self, fetch: &Fetch, fate: Option<Fate>, rows: &mut Rows) {
        let Some(route) = self.routes.get_mut(fetch.route as usize) else { return };
        let key = self.keys.entry(fetch.key).or_default();
        let now = Time::from_nanos(fetch.at_ns);
        route.on_fetch(key, now, fetch.hash);
        let Some(fate) = fate else { return };
        let input = TtlInput { key, route, head: head(fetch), now };
        let logged = fetch.features.as_deref().and_then(|f| <[f32; TTL_FEATURES]>::try_from(f).ok());
        let features = logged.unwrap_or_else(|| ttl_features(&input));
        let (survived, within) = exposures(&input, f64::from(fate.unchanged_s), fate.seen_s());
        if survived.iter().chain(&within).any(|e| *e > 0.0) {
            rows.push(&Row {
                features: &features,
                survived: &survived,
                within: &within,
                at_ns: fetch.at_ns,
                route: fetch.route,
                key: fetch.key,
                weight: 1.0,
            });
        }
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
        Fetch { at_ns: at_s * S, key, route, hash, bytes: 100, ..Fetch::default() }
    }

    fn log(fetches: Vec<Fetch>) -> Log {
        Log { routes: vec!["a".into(), "b".into()], fetches, ..Log::default() }
    }

    #[test]
    fn each_fetch_gets_the_bounds_of_its_first_change() {
        let fetches =
            vec![fetch(1_000, 1, 0, 7), fetch(1_010, 2, 0, 1), fetch(1_030, 1, 0, 7), fetch(1_100, 1, 0, 8), fetch(1_150, 1, 0, 8)];
        let fate = |unchanged_s, changed_s| Some(Fate { unchanged_s, changed_s });
        assert_eq!(fates(&fetches), [fate(30.0, 100.0), None, fate(0.0, 70.0), fate(50.0, f32::INFINITY), None]);
        let history = History::of(&log(fetches));
        assert_eq!((history.rows.len(), history.rows.changes(), history.last_fetches), (3, 2, 2));
    }

    #[test]
    fn rows_teach_once_the_route_is_known() {
        // Every second fetch finds a change. A little is forgotten meanwhile, so the eleventh makes ten.
        let fetches = (0..60).map(|i| fetch(1_000 + 600 * i, 1, 0, i as u64 / 2)).collect();
        let history = History::of(&log(fetches));
        let first = history.teaches.iter().position(|t| *t);
        assert_eq!((first, history.rows.len()), (Some(22), history.teaches.len()));
        assert_eq!(history.teaching().len(), history.rows.len() - 22);
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
        assert_eq!(History::of(&log(fetches.clone())).rows.row(0), [0.25; TTL_FEATURES]);
        fetches[0].features = Some(vec![0.25; 3]);
        assert_ne!(History::of(&log(fetches)).rows.row(0), [0.25; TTL_FEATURES], "a row of another length is computed anew");
    }

    #[test]
    fn two_fetches_at_the_same_time_and_unknown_routes_do_no_harm() {
        let history = History::of(&log(vec![fetch(5, 1, 0, 7), fetch(5, 1, 0, 8), fetch(6, 1, 9, 8)]));
        assert!(history.rows.len() <= 1 && history.nondeterministic.is_empty());
    }
}
