//! Looking up: what the cache has for a request.

use std::sync::Arc;

use farthing_cache::Cached;
use farthing_freshness::entry::ChosenTtl;
use farthing_freshness::semantics::{Judged, acceptable, may_stand_in, verdict};
use farthing_freshness::{RequestFacts, Verdict};
use farthing_types::{By, Span, Time, UncachedReason};
use http::Method;

use crate::plans::How;
use crate::request::{CacheControl, Planned};
use crate::route::RouteState;
use crate::settle::Account;
use crate::state::State;

/// What the cache has for a request.
pub enum Found {
    /// An entry to answer with.
    Usable(Usable),
    /// A call is needed; `stale` may stand in for it when it fails.
    Call { previous: Option<Arc<Cached>>, stale: Option<Span>, reason: UncachedReason },
    /// The cache has no part in it.
    Bypass(UncachedReason),
}

/// An entry that may answer a request.
pub struct Usable {
    pub entry: Arc<Cached>,
    pub age: Span,
    /// Freshness left, or how long past it the entry is.
    pub left: Result<Span, Span>,
}

impl Usable {
    /// An entry past its freshness that stands in for a failed call.
    pub fn expired(entry: Arc<Cached>, age: Span, variant: &str) -> Self {
        let ttl = entry.variant(variant).map(|v| v.ttl).or(entry.reuse().explicit).unwrap_or_default();
        Self { left: Err(age.saturating_sub(ttl)), entry, age }
    }
}

/// Asks the cache.
pub fn look_up(state: &State, planned: &mut Planned) -> Found {
    if let Err(reason) = planned.cache {
        if reason.is_keyed() {
            note_unlooked(state, planned, How::without(reason));
        }
        if planned.dedupe.is_err() || planned.account.method == Method::HEAD {
            return Found::Bypass(reason);
        }
        return Found::Call { previous: None, stale: None, reason };
    }
    let (route, at) = (&planned.account.route, planned.account.at);
    let silent = route.is_silent(at);
    let (entry, noted) =
        state.cache.lookup_noting(planned.account.key, &planned.headers, |key, stats| route.note_request((key, stats), (at, How::Kept)));
    planned.account.noted = Some(noted);
    let Some(entry) = entry else { return missing(planned, None, UncachedReason::Cold) };
    if !acceptable(&entry, &planned.headers) {
        return missing(planned, None, UncachedReason::Vary);
    }
    if planned.control == CacheControl::Refresh {
        return missing(planned, Some(entry), UncachedReason::RequestDirective);
    }
    let judged = Judged::new(&entry, planned.variant_name(), entry.soft_purged());
    let verdict = judged_now(route, &planned.facts, (&entry, &judged), (at, silent));
    // The entry was looked for under the same lock.
    let verdict = if noted.doubted { verdict.held_back(&judged, &route.rules, UncachedReason::Doubted) } else { verdict };
    found(planned, entry, verdict)
}

/// Notes a request that the cache was not asked for; a lookup notes by itself.
fn note_unlooked(state: &State, planned: &mut Planned, how: How) {
    let Account { key, at, route, .. } = &planned.account;
    planned.account.noted = Some(state.cache.update_key_stats(*key, |stats| route.note_request((*key, stats), (*at, how))));
}

fn missing(planned: &Planned, previous: Option<Arc<Cached>>, reason: UncachedReason) -> Found {
    // HEAD is answered from GET's entry but does not fill it.
    if planned.account.method == Method::HEAD { Found::Bypass(reason) } else { Found::Call { previous, stale: None, reason } }
}

/// By the route's rules; by stricter ones while its source of events is down, or nothing is heard of the fleet. Then only a call that fails may be answered
/// with what is older. `silent`: nothing had been heard of it before the entry was looked for.
pub fn judged_now(
    route: &RouteState,
    facts: &RequestFacts,
    (entry, judged): (&Cached, &Judged<'_>),
    (at, silent): (Time, bool),
) -> Verdict {
    let verdict = judged_heard(route, facts, judged, at);
    if route.hearing.as_ref().is_some_and(|hearing| hearing.doubts(entry, (at, silent))) {
        return verdict.held_back(judged, &route.rules, UncachedReason::FleetUnheard);
    }
    verdict
}

fn judged_heard(route: &RouteState, facts: &RequestFacts, judged: &Judged<'_>, at: Time) -> Verdict {
    // Where audits find too many stale answers, what was chosen counts for less, whenever it was chosen.
    match (route.switches.scale(), judged.chosen) {
        (Some(scale), Some(chosen)) if !matches!(chosen.by, By::Override(_)) => {
            let chosen = trusted(route, chosen);
            let cut = ChosenTtl { ttl: chosen.ttl.mul_f64(scale), stale: chosen.stale.mul_f64(scale), ..chosen };
            judged_uncut(route, facts, &Judged { chosen: Some(cut), ..*judged }, at)
        }
        (None, Some(chosen)) if route.switches.distrusted().is_some() => {
            judged_uncut(route, facts, &Judged { chosen: Some(trusted(route, chosen)), ..*judged }, at)
        }
        _ => judged_uncut(route, facts, judged, at),
    }
}

/// What a champion has chosen that was sent back since counts for no more than the base TTL: nobody knows better yet.
fn trusted<'a>(route: &RouteState, chosen: ChosenTtl<'a>) -> ChosenTtl<'a> {
    let by = |version: u32| matches!(chosen.by, By::Model(by) | By::Table(by) if *by == version);
    let base = route.route.base_ttl;
    if chosen.ttl > base && route.switches.distrusted().is_some_and(by) {
        ChosenTtl { ttl: base, stale: chosen.stale.min(base), ..chosen }
    } else {
        chosen
    }
}

fn judged_uncut(route: &RouteState, facts: &RequestFacts, judged: &Judged<'_>, at: Time) -> Verdict {
    let usual = verdict(judged, facts, &route.rules, at);
    let Some(cautious) = route.cautious() else { return usual };
    match (usual, verdict(judged, facts, &cautious, at)) {
        (_, strict @ Verdict::Fresh { .. }) => strict,
        (usual, _) => usual.held_back(judged, &route.rules, UncachedReason::EventsDown),
    }
}

/// Judges an entry that has just come for a request.
pub fn judge(planned: &Planned, entry: Arc<Cached>) -> Found {
    let silent = planned.account.route.is_silent(planned.account.at);
    judge_as_of(planned, entry, silent)
}

/// As [`judge`], of an entry that was looked for after it was asked whether the fleet is silent.
pub fn judge_as_of(planned: &Planned, entry: Arc<Cached>, silent: bool) -> Found {
    let judged = Judged::new(&entry, planned.variant_name(), entry.soft_purged());
    let verdict = judged_now(&planned.account.route, &planned.facts, (&entry, &judged), (planned.account.at, silent));
    found(planned, entry, verdict)
}

fn found(planned: &Planned, entry: Arc<Cached>, verdict: Verdict) -> Found {
    match verdict {
        Verdict::Fresh { age, left } => Found::Usable(Usable { entry, age, left: Ok(left) }),
        Verdict::StaleWhileRevalidate { age, past } => Found::Usable(Usable { entry, age, left: Err(past) }),
        _ if planned.account.method == Method::HEAD => Found::Bypass(UncachedReason::Expired),
        Verdict::StaleIfError { age, reason } => {
            let stale = Some(age).filter(|_| may_stand_in(entry.status()));
            Found::Call { previous: Some(entry), stale, reason }
        }
        Verdict::Revalidate { reason } => Found::Call { previous: Some(entry), stale: None, reason },
    }
}
