//! From logs and public traces to the events of the replay, and back.

use std::collections::HashMap;

use farthing_replay::{Event, EventKind, Trace, TraceRoute};
use farthing_types::{Draw, DrawKind, Money, Time};

use crate::read::{self, Fetch, Log, Read};

/// Price of a call where nothing is known about prices.
const USUAL: Money = Money::from_nanos(1_000_000);

/// Dense numbers for keys.
#[derive(Default)]
struct Numbers(HashMap<u64, u32>);

impl Numbers {
    fn of(&mut self, key: u64) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(key).or_insert(next)
    }

    fn known(&self, key: u64) -> Option<u32> {
        self.0.get(&key).copied()
    }
}

/// The events of a public trace; every call costs the same.
pub fn of_trace(trace: &read::Trace) -> Trace {
    let mut numbers = Numbers::default();
    let route = |name: &String| TraceRoute { name: name.clone(), price: USUAL, nondeterministic: false };
    let event = |row: &read::TraceRow| Event {
        at: Time::from_millis(row.at_ms),
        key: numbers.of(row.key),
        route: row.endpoint as u16,
        kind: if row.is_write { EventKind::Change } else { EventKind::Read },
        bytes: row.bytes,
    };
    Trace { routes: trace.endpoints.iter().map(route).collect(), events: trace.rows.iter().map(event).collect() }
}

/// The events that a log tells of: its reads (its fetches, where requests were not logged), and a change somewhere between two
/// fetches that differ, at a place that depends on the log alone. Routes in `without` are left out, and reads of keys without any fetch:
/// nobody knows when their answers change, and here they would count as answers that never do.
pub fn of_log(log: &Log, without: &[String]) -> Trace {
    let kept: Vec<bool> = log.routes.iter().map(|route| !without.contains(route)).collect();
    let kept = |route: u32| kept.get(route as usize).copied().unwrap_or(false);
    let mut events = Vec::with_capacity(2 * log.fetches.len().max(log.reads.len()));
    let mut numbers = Numbers::default();
    let mut last: HashMap<u64, (i64, u64)> = HashMap::new();
    let draw = Draw::new(0);
    for (n, fetch) in log.fetches.iter().enumerate().filter(|(_, fetch)| kept(fetch.route)) {
        let (key, route) = (numbers.of(fetch.key), fetch.route as u16);
        let bytes = u32::try_from(fetch.bytes).unwrap_or(u32::MAX);
        let before = last.insert(fetch.key, (fetch.at_ns, fetch.hash));
        if before.is_none_or(|(_, hash)| hash != fetch.hash) {
            let place = draw.uniform(DrawKind::Sample, "train.change", n as u128, 0);
            let at = Time::from_nanos(between(before.map(|(since, _)| since), fetch.at_ns, place));
            events.push(Event { at, key, route, kind: EventKind::Change, bytes });
        }
        if log.reads.is_empty() {
            events.push(Event { at: Time::from_nanos(fetch.at_ns), key, route, kind: EventKind::Read, bytes: 0 });
        }
    }
    for read in log.reads.iter().filter(|read| kept(read.route)) {
        let Some(key) = numbers.known(read.key) else { continue };
        let event = Event { at: Time::from_nanos(read.at_ns), key, route: read.route as u16, kind: EventKind::Read, bytes: 0 };
        events.extend(std::iter::repeat_n(event, read.weight.min(1_000) as usize));
    }
    events.sort_by_key(|e| (e.at, e.kind == EventKind::Read, e.key));
    Trace { routes: routes(log), events }
}

/// When an answer changed that a fetch at `at_ns` found changed: nobody saw it, so somewhere, at `place` of 0 to 1, since the fetch before,
/// and at least a little after that, which did not see it. Without one it is as old as the fetch.
pub(crate) fn between(since_ns: Option<i64>, at_ns: i64, place: f64) -> i64 {
    let Some(since) = since_ns else { return at_ns };
    let back = (at_ns - since) as f64 * place;
    (at_ns - back as i64).clamp(since + 1, at_ns.max(since + 1))
}

/// Routes with the mean price of their calls; unpriced ones with the mean over all, or [`USUAL`] when none is priced.
fn routes(log: &Log) -> Vec<TraceRoute> {
    let mut sums = vec![(0i64, 0i64); log.routes.len()];
    for fetch in &log.fetches {
        if let (Some(sum), Some(cost)) = (sums.get_mut(fetch.route as usize), fetch.cost_nanousd) {
            *sum = (sum.0.saturating_add(cost), sum.1 + 1);
        }
    }
    let mean = |(paid, calls): (i64, i64)| (calls > 0 && paid > 0).then(|| Money::from_nanos((paid / calls).max(1)));
    let usual = mean(sums.iter().fold((0, 0), |(p, c), (paid, calls)| (p.saturating_add(*paid), c + calls))).unwrap_or(USUAL);
    let route = |(name, sum): (&String, &(i64, i64))| TraceRoute {
        name: name.clone(),
        price: mean(*sum).unwrap_or(usual),
        nondeterministic: false,
    };
    log.routes.iter().zip(&sums).map(route).collect()
}

/// What a proxy that passes everything through would have logged of the first `count` events.
pub fn pass_through(trace: &Trace, count: usize) -> Log {
    let mut log = Log { routes: trace.routes.iter().map(|r| r.name.clone()).collect(), ..Log::default() };
    let mut content = vec![(0u64, 0u32); trace.keys()];
    for (n, event) in trace.events.iter().take(count).enumerate() {
        let (version, bytes) = &mut content[event.key as usize];
        if event.kind == EventKind::Change {
            (*version, *bytes) = (*version + 1, event.bytes);
            continue;
        }
        let facts = &trace.routes[usize::from(event.route)];
        let (at_ns, key, route) = (event.at.nanos(), u64::from(event.key), u32::from(event.route));
        // A nondeterministic route never gives the same body twice.
        let hash = if facts.nondeterministic { n as u64 | (1 << 63) } else { *version };
        log.reads.push(Read { at_ns, key, route, weight: 1 });
        let cost_nanousd = Some(facts.price.nanos());
        log.fetches.push(Fetch { at_ns, key, route, hash, bytes: u64::from(*bytes), cost_nanousd, ..Fetch::default() });
    }
    log
}
