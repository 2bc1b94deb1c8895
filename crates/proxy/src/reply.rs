//! Answers: from an entry, from a call, or of our own; each settled once.

use std::sync::Arc;

use farthing_freshness::semantics::cache_status::CacheStatus;
use farthing_freshness::semantics::conditional;
use farthing_ledger::{Paid, Served};
use farthing_types::{Body, By, CallId, Failure, Money, Outcome, Span, UncachedReason};
use http::{HeaderMap, Response, StatusCode};

use crate::answer::{self, Notes};
use crate::asking::is_event_stream;
use crate::edge::Tunnel;
use crate::flight::Flight;
use crate::lookup::Usable;
use crate::problem::Problem;
use crate::request::Planned;
use crate::settle::{Account, Settled};
use crate::state::State;
use crate::stream::{Accounted, Pending, content_length, settle_whole};
use crate::texts::text_of;
use crate::ticketed::Wanted;

/// Answers of calls that are no longer than this count as gone out when they begin to: the connection takes them at once.
const SHORT: usize = 64 << 10;

/// The answer from an entry; `failed` names what it stands in for.
pub fn from_entry(state: &State, planned: &Planned, usable: &Usable, failed: Option<UncachedReason>) -> Response<Body> {
    let served = conditional::serve(&usable.entry, &planned.account.method, &planned.headers, usable.age);
    let sent = (served.status, served.body.len() as u64);
    let mut settled = settled_from(state, (&planned.account, planned.variant_name()), usable, sent);
    settled.error = failed.map(UncachedReason::as_str);
    let mut response = Response::new(Body::full(served.body));
    *response.status_mut() = served.status;
    *response.headers_mut() = served.headers;
    // What another instance has called for was waited for, too.
    let elsewhere = Some(planned.account.elsewhere).filter(|waited| !waited.is_zero());
    let notes = Notes { upstream: elsewhere, ..notes_from(&settled, usable) };
    answer::annotate(response.headers_mut(), planned.account.id, &notes);
    state.settle_request(&planned.account, &settled);
    response
}

/// Counts an answer from an entry that is sent with this status and so many bytes, and says how it is settled.
pub fn settled_from(state: &State, (account, variant): (&Account, &str), usable: &Usable, sent: (StatusCode, u64)) -> Settled {
    let entry = &usable.entry;
    let stale = usable.left.is_err();
    let tier = entry.tier();
    entry.on_hit(account.at, stale);
    let chosen = entry.variant(variant).map(|v| (v.ttl, text_of(v.by)));
    let took = state.real_now().since(account.started);
    Settled {
        outcome: if stale { Outcome::Stale } else { Outcome::Hit },
        tier: Some(tier),
        served: match tier {
            _ if stale => Served::Stale,
            _ if account.route.ahead.is_ok() && state.prefetch.books().used(entry.call(), entry.price()) => Served::Ahead,
            "l2" => Served::HitL2,
            _ => Served::Hit,
        },
        uncached: None,
        status: sent.0.as_u16(),
        bytes_out: Some(sent.1),
        latency: Some(took),
        took: Some(took),
        waited: Span::ZERO,
        age: Some(usable.age),
        call: None,
        follows: None,
        provider: None,
        decision: entry.decision(),
        paid: Paid { full: entry.price(), attempts: None },
        overhead: account.ours(took),
        error: None,
        ttl: chosen.or_else(|| entry.reuse().explicit.map(|ttl| (ttl, text_of(&By::Rule("origin"))))),
    }
}

/// What the head of such an answer tells.
pub fn notes_from<'a>(settled: &'a Settled, usable: &Usable) -> Notes<'a> {
    let by = settled.ttl.as_ref().map_or("origin", |(_, by)| by);
    let base = match usable.left {
        Ok(left) => CacheStatus::hit(left),
        Err(past) => CacheStatus::stale(past),
    };
    Notes {
        status: CacheStatus { detail: settled.tier, by: Some(by), ..base },
        overhead: settled.overhead,
        upstream: None,
        cost: settled.paid.full.map(|_| Money::ZERO),
        saved: settled.paid.full,
    }
}

/// A settlement with nothing known but outcome, reason, head and call.
pub fn settled(outcome: Outcome, uncached: Option<UncachedReason>, head: (StatusCode, Span), call: Option<CallId>) -> Settled {
    Settled {
        outcome,
        tier: None,
        served: outcome.into(),
        uncached,
        status: head.0.as_u16(),
        bytes_out: None,
        latency: None,
        took: None,
        waited: Span::ZERO,
        age: None,
        ttl: None,
        call,
        follows: None,
        provider: None,
        decision: None,
        paid: Paid::default(),
        overhead: head.1,
        error: None,
    }
}

/// The answer of a call: annotated, and settled when its body ends; at once where it is here as a whole, and short, as answers from entries are.
pub fn respond(
    planned: &Planned,
    head: (StatusCode, HeaderMap, Body),
    notes: &Notes<'_>,
    (state, mut settled, flight): (&Arc<State>, Settled, Arc<Flight>),
) -> Response<Body> {
    let (status, mut headers, body) = head;
    answer::limit_wait(&mut headers, planned, flight.waited());
    answer::routed(&mut headers, planned, flight.routed().as_ref());
    settled.waited = notes.upstream.unwrap_or_default();
    // A stream of events lasts as long as its subject does, a tunnel as its ends like: what is promised is that it begins.
    if is_event_stream(&headers) || status == StatusCode::SWITCHING_PROTOCOLS {
        settled.took = Some(settled.overhead + settled.waited + planned.account.queued);
    }
    let short = body.as_full().map(|whole| whole.len()).filter(|bytes| *bytes <= SHORT);
    let body = match short.and_then(|bytes| Some((bytes, flight.ended()?))) {
        Some((bytes, done)) => {
            settle_whole(state, &planned.account, settled, (&flight, &done, bytes as u64));
            body
        }
        None => {
            let pending = Pending { state: state.clone(), account: planned.account.clone(), settled, flight };
            Body::stream(Accounted::new(body, content_length(&headers), pending))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    answer::annotate(response.headers_mut(), planned.account.id, notes);
    planned.account.route.limits.tell(&planned.account, response.headers_mut());
    if let Some(upgrade) = planned.account.route.route.upgrade.as_ref().filter(|_| status == StatusCode::SWITCHING_PROTOCOLS) {
        response.extensions_mut().insert(Tunnel { idle: upgrade.idle, longest: upgrade.longest });
    }
    response
}

/// The price of an answer that is known at its head: a flat price per call, of an answer that is billed whatever follows.
pub fn flat_price(state: &State, planned: &Planned, status: StatusCode) -> Option<Money> {
    let route = &planned.account.route;
    let flat = state.pricing.flat(&route.route.name, &route.provider.name, planned.account.at);
    flat.filter(|_| status.is_success())
}

/// The answer to a failed call: a stale entry where one may stand in, else a problem.
pub fn failed(state: &Arc<State>, planned: &Planned, wanted: Wanted, failure: &Failure) -> Response<Body> {
    if let (Some(entry), Some(age)) = (wanted.previous.filter(|entry| state.cache.holds(entry)), wanted.stale) {
        entry.failed.note(state.clock.now());
        let usable = Usable::expired(entry, age, planned.variant_name());
        return from_entry(state, planned, &usable, Some(UncachedReason::UpstreamFailed));
    }
    let told = if failure.limited.is_some() {
        (Outcome::Refused, UncachedReason::OverLimit)
    } else {
        (Outcome::Failed, UncachedReason::UpstreamFailed)
    };
    own_answer(state, planned, &Problem::from(failure), told)
}

/// An answer of our own.
pub fn own_answer(state: &State, planned: &Planned, problem: &Problem, told: (Outcome, UncachedReason)) -> Response<Body> {
    let overhead = settle_own(state, &planned.account, (problem.kind, problem.status), told);
    own_head(planned, problem, overhead)
}

/// An answer of our own to a request that is settled.
pub fn own_head(planned: &Planned, problem: &Problem, overhead: Span) -> Response<Body> {
    let mut response = problem.response(planned.account.route.dialect);
    let notes = Notes { status: CacheStatus { detail: Some(problem.kind), ..CacheStatus::default() }, overhead, ..Notes::default() };
    answer::annotate(response.headers_mut(), planned.account.id, &notes);
    planned.account.route.limits.tell(&planned.account, response.headers_mut());
    response
}

/// Settles a request that gets nothing of the provider's: what went wrong and the status it is told. Answers how long of it was ours.
pub fn settle_own(
    state: &State,
    account: &Account,
    (kind, status): (&'static str, StatusCode),
    (outcome, reason): (Outcome, UncachedReason),
) -> Span {
    let took = state.real_now().since(account.started);
    let overhead = account.ours(took);
    let mut settled = settled(outcome, Some(reason), (status, overhead), None);
    (settled.error, settled.took) = (Some(kind), Some(took));
    settled.paid = Paid { full: Some(Money::ZERO), attempts: Some(Money::ZERO) };
    state.settle_request(account, &settled);
    overhead
}
