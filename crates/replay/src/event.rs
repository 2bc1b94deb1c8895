//! The generic input of the engine: reads and changes in the order of time.

use farthing_types::{Money, Time};
use serde::{Deserialize, Serialize};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A client asks for the key.
    Read,
    /// From here on the origin answers something else.
    Change,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Time,
    /// Dense number of the key, unique over all routes.
    pub key: u32,
    /// Index into [`Trace::routes`].
    pub route: u16,
    /// What.
    pub kind: EventKind,
    /// For a change: length of the body from here on.
    pub bytes: u32,
}

/// A route of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceRoute {
    /// Name.
    pub name: String,
    /// Price of a call.
    pub price: Money,
    /// Every call gets another answer, whatever the changes.
    pub nondeterministic: bool,
}

/// Events in the order of time; at equal times changes come before reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The routes.
    pub routes: Vec<TraceRoute>,
    /// The events.
    pub events: Vec<Event>,
}

/// One row of a pass-through log: what the origin answered when a client asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassThrough {
    /// When.
    pub at: Time,
    /// The key's digest or number.
    pub key: u64,
    /// Index into the routes.
    pub route: u16,
    /// Digest of the canonical body.
    pub hash: u64,
    /// Length of the body.
    pub bytes: u32,
}

impl Trace {
    /// A trace from a log in which every request went to the origin. Only digests are needed: a change is put at the first
    /// read that saw it, so the staleness of any policy replayed on the trace is exact (its answers are compared with the
    /// ones the origin gave at those very moments).
    pub fn from_pass_through(routes: Vec<TraceRoute>, mut log: Vec<PassThrough>) -> Self {
        log.sort_by_key(|row| row.at);
        let mut keys = std::collections::HashMap::new();
        let mut events = Vec::with_capacity(log.len() * 2);
        for row in log {
            let next = u32::try_from(keys.len()).unwrap_or(u32::MAX);
            let (key, hash) = keys.entry(row.key).or_insert((next, None));
            let event = Event { at: row.at, key: *key, route: row.route, kind: EventKind::Change, bytes: row.bytes };
            if *hash != Some(row.hash) {
                events.push(event);
                *hash = Some(row.hash);
            }
            events.push(Event { kind: EventKind::Read, ..event });
        }
        Self { routes, events }
    }

    /// Number of keys: one more than the largest.
    pub fn keys(&self) -> usize {
        self.events.iter().map(|e| e.key as usize + 1).max().unwrap_or(0)
    }

    /// Index of the first event at or after `share` of the time from the first to the last event.
    pub fn split(&self, share: f64) -> usize {
        let (Some(first), Some(last)) = (self.events.first(), self.events.last()) else { return 0 };
        let cut = first.at + last.at.since(first.at).mul_f64(share.clamp(0.0, 1.0));
        self.events.partition_point(|e| e.at < cut)
    }
}
