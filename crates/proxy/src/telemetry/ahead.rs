//! Figures of fetching ahead.

use std::collections::BTreeMap;

use farthing_policy::prefetch::PermitState;
use farthing_types::RouteName;

use super::Family;
use crate::prefetch::RouteBooks;
use crate::warm_clock::WarmBooks;

/// Families of the routes that fetch ahead; of the others there is nothing to tell.
pub fn families(routes: &[RouteBooks], [unseen, evicted, unwatched]: [u64; 3]) -> Vec<Family<'_>> {
    let mut live = Family::gauge("prefetch_live", "1 while the route's record permits to fetch ahead");
    let mut candidates = Family::counter("prefetch_candidates", "Things without a fresh copy that might have been asked for next");
    let mut calls = Family::counter("prefetch_calls", "Calls made ahead, by what became of them");
    let mut refused = Family::counter("prefetch_refused", "Likely things that were not fetched, by reason");
    let mut spent = Family::counter("prefetch_spent", "What calls made ahead cost").usd();
    let mut saved = Family::counter("prefetch_saved", "What those that were used would have cost their clients").usd();
    let mut unpriced = Family::counter("prefetch_unpriced", "Calls made ahead whose cost is unknown");
    for books in routes.iter().filter(|books| books.permit.is_ok()) {
        let of = || vec![("route", &*books.route)];
        live.add(of(), f64::from(u8::from(books.permit == Ok(PermitState::Live))));
        candidates.add(of(), books.candidates as f64);
        for (outcome, count) in [("started", books.started), ("used", books.used), ("wasted", books.wasted), ("failed", books.failed)] {
            calls.add(vec![("route", &*books.route), ("outcome", outcome)], count as f64);
        }
        for (why, count) in &books.refused {
            refused.add(vec![("route", &*books.route), ("reason", why.as_str())], *count as f64);
        }
        spent.add(of(), books.spent.as_usd_f64());
        saved.add(of(), books.saved.as_usd_f64());
        unpriced.add(of(), books.unpriced as f64);
    }
    let lost = Family::counter("prefetch_lost", "What could not be learned from, by what found no room")
        .with(vec![("what", "request")], unseen as f64)
        .with(vec![("what", "target")], evicted as f64)
        .with(vec![("what", "outcome")], unwatched as f64);
    vec![live, candidates, calls, refused, spent, saved, unpriced, lost]
}

/// What warming by the clock has done; nothing where none was.
pub fn warmed(books: &BTreeMap<RouteName, WarmBooks>) -> Vec<Family<'_>> {
    if books.is_empty() {
        return Vec::new();
    }
    let mut keys = Family::counter("warmed_by_clock", "Keys that were looked at for warming by the clock, by what became of them");
    let mut spent = Family::counter("warmed_by_clock_spent", "What warming by the clock has cost").usd();
    let mut left_out =
        Family::counter("warmed_by_clock_left_out", "Times that nothing was warmed, for the provider was in trouble, or it was forbidden");
    for (route, of) in books {
        for (outcome, count) in &of.outcomes {
            keys.add(vec![("route", &**route), ("outcome", outcome)], *count as f64);
        }
        spent.add(vec![("route", &**route)], of.spent.as_usd_f64());
        left_out.add(vec![("route", &**route)], of.left_out as f64);
    }
    vec![keys, spent, left_out]
}
