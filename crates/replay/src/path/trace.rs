//! Reads and changes as a log tells them.

use farthing_types::Money;

use super::provider::Provider;
use super::rows::Log;
use crate::event::{Event, EventKind, Trace, TraceRoute};

/// The log's requests as reads, and the changes that lie between fetches which differ, each at its drawn moment. A route whose answers
/// differ from call to call is marked so instead. Prices are those of the routes' last full answers.
pub fn trace_of(log: &Log, seed: u64) -> Trace {
    let provider = Provider::new(log, seed);
    let mut prices = vec![Money::ZERO; log.routes.len()];
    for call in &log.called {
        if let (Some(price), Some(slot)) = (call.price, prices.get_mut(usize::from(call.route))) {
            *slot = price;
        }
    }
    let facts = |(index, (name, price)): (usize, (&std::sync::Arc<str>, Money))| TraceRoute {
        name: name.to_string(),
        price,
        nondeterministic: provider.nondeterministic(u16::try_from(index).unwrap_or(u16::MAX)),
    };
    let routes: Vec<TraceRoute> = log.routes.iter().zip(prices).enumerate().map(facts).collect();
    let mut events: Vec<Event> = Vec::with_capacity(log.asked.len());
    for row in &log.asked {
        let read = Event { at: row.at, key: row.key, route: row.route, kind: EventKind::Read, bytes: 0 };
        events.extend(std::iter::repeat_n(read, row.weight as usize));
    }
    for (key, route, at, bytes) in provider.changes() {
        events.push(Event { at, key, route, kind: EventKind::Change, bytes });
    }
    events.sort_by_key(|e| (e.at, e.kind == EventKind::Read, e.key));
    Trace { routes, events }
}
