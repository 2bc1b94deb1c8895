//! Metrics of clients: who was not let in, and whether the keys of issuers can be read.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Family;
use crate::clients::Clients;

/// Families about clients. Those of sets of keys are there where sets are read.
pub fn families(clients: &Clients) -> Vec<Family<'_>> {
    let mut refused = Family::counter("identity_refused", "Requests of clients that were not let in, by reason");
    for (reason, count) in clients.counts.read() {
        refused.add(vec![("reason", reason)], count as f64);
    }
    let mut families = vec![refused];
    if !clients.tokens.is_empty() {
        families.push(
            Family::counter("token_checks", "Tokens whose signature was checked; those that were known cost none")
                .with(vec![], clients.tokens.checked.load(Ordering::Relaxed) as f64),
        );
    }
    if clients.tokens.watched().next().is_some() {
        families.extend(sets(clients));
    }
    families
}

fn sets(clients: &Clients) -> [Family<'_>; 4] {
    let mut up = Family::gauge("jwks_up", "1 unless the issuer's keys could not be read");
    let mut readings = Family::counter("jwks_readings", "Times that the issuer's keys were read");
    let mut failures = Family::counter("jwks_failures", "Times that they could not be read");
    let mut last_known = Family::counter("jwks_last_known", "Tokens checked by the last known keys, because they could not be read");
    for (name, watched) in clients.tokens.watched() {
        let of = || vec![("issuer", &**name)];
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        up.add(of(), f64::from(u8::from(!watched.is_troubled())));
        readings.add(of(), read(&watched.readings));
        failures.add(of(), read(&watched.failures));
        last_known.add(of(), read(&watched.by_last_known));
    }
    [up, readings, failures, last_known]
}
