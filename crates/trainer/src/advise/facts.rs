//! What a log says of each route, before anything is tried.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::field::{Nature, uncacheable};
use crate::read::Observed;

/// One route.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Facts {
    /// Its name.
    pub route: String,
    /// Requests.
    pub requests: u64,
    /// What they would have cost without Farthing, nano-dollars; none when unpriced.
    pub spend_nanousd: Option<i64>,
    /// Requests without a price.
    pub unpriced: u64,
    /// Distinct keys.
    pub keys: u64,
    /// Requests that could be answered from a cache.
    pub cacheable: u64,
    /// Of these, requests for what was asked for before.
    pub repeats: u64,
    /// Of these, requests that came while a call for the same was under way.
    pub duplicates: u64,
    /// Whether latencies are known, without which there are no duplicates to see.
    pub timed: bool,
    /// Fetches whose content could be compared with the fetch before.
    pub compared: u64,
    /// Of these, fetches that found another content.
    pub changed: u64,
    /// Changes per key and hour watched; none when nothing could be compared.
    pub changes_per_hour: Option<f64>,
    /// Repeats whose answer had another length, where contents are not known.
    pub other_length: u64,
    /// Answers with an explicit lifetime.
    pub explicit: u64,
    /// Requests that no cache can answer, by reason.
    pub not_cacheable: BTreeMap<&'static str, u64>,
    /// Requests by other methods than GET.
    pub other_methods: u64,
    /// Of these, requests for what was asked for before, as far as their bodies are known.
    pub repeats_by_other_methods: u64,
    /// Answers differ from call to call.
    pub nondeterministic: bool,
    /// It is known when answers change.
    pub known: bool,
}

#[derive(Clone, Copy)]
struct Last {
    at_ns: i64,
    /// When the call under way ends.
    until_ns: i64,
    hash: Option<u64>,
    bytes: Option<i64>,
}

/// The facts of every route.
pub fn facts(observed: &Observed, natures: &[Nature]) -> Vec<Facts> {
    let start = |(route, nature): (&crate::read::ObservedRoute, &Nature)| Facts {
        route: route.name.clone(),
        spend_nanousd: nature.price.map(|_| 0),
        nondeterministic: nature.nondeterministic,
        known: nature.known,
        ..Facts::default()
    };
    let mut facts: Vec<Facts> = observed.routes.iter().zip(natures).map(start).collect();
    let mut watched_s = vec![0.0; facts.len()];
    let mut last: HashMap<u64, Last> = HashMap::new();
    let mut others: HashSet<u64> = HashSet::new();
    for ask in &observed.asks {
        let Some(fact) = facts.get_mut(ask.route as usize) else { continue };
        let weight = u64::from(ask.weight);
        fact.requests += weight;
        match (&mut fact.spend_nanousd, ask.cost) {
            (Some(sum), Some(cost)) => *sum = sum.saturating_add(cost.saturating_mul(i64::from(ask.weight))),
            _ => fact.unpriced += weight,
        }
        if let Some(reason) = uncacheable(ask) {
            *fact.not_cacheable.entry(reason.as_str()).or_insert(0) += weight;
            if !ask.is_get {
                fact.other_methods += weight;
                fact.repeats_by_other_methods += if others.insert(ask.key) { weight - 1 } else { weight };
            }
            continue;
        }
        fact.cacheable += weight;
        fact.explicit += u64::from(ask.origin_ttl_s.is_some());
        fact.timed |= ask.latency_us.is_some();
        let until_ns = ask.at_ns + ask.latency_us.unwrap_or(0).max(0) * 1_000;
        // The length of a 304 is that of no answer.
        let bytes = ask.bytes.filter(|_| ask.status != 304);
        let Some(before) = last.get(&ask.key).copied() else {
            fact.keys += 1;
            fact.repeats += weight - 1;
            last.insert(ask.key, Last { at_ns: ask.at_ns, until_ns, hash: ask.hash, bytes });
            continue;
        };
        fact.repeats += weight;
        let under_way = ask.at_ns < before.until_ns;
        fact.duplicates += if under_way { weight } else { 0 };
        if let (Some(a), Some(b)) = (before.hash, ask.hash) {
            fact.compared += 1;
            fact.changed += u64::from(a != b);
            if let Some(watched) = watched_s.get_mut(ask.route as usize) {
                *watched += (ask.at_ns - before.at_ns) as f64 / 1e9;
            }
        } else if let (Some(a), Some(b)) = (before.bytes, bytes) {
            fact.other_length += u64::from(a != b);
        }
        let until_ns = if under_way { before.until_ns } else { until_ns };
        last.insert(ask.key, Last { at_ns: ask.at_ns, until_ns, hash: ask.hash.or(before.hash), bytes: bytes.or(before.bytes) });
    }
    for (fact, watched) in facts.iter_mut().zip(watched_s) {
        fact.changes_per_hour = (watched > 0.0).then(|| fact.changed as f64 / watched * 3_600.0);
    }
    facts
}
