//! Calls for one client alone: nothing is shared or stored.

use std::sync::Arc;

use farthing_freshness::semantics::Received;
use farthing_freshness::semantics::cache_status::{CacheStatus, Fwd};
use farthing_types::{Body, CallId, Outcome, Purpose, UncachedReason};
use http::header::UPGRADE;
use http::{HeaderValue, Response};

use crate::admission::{self, Admission};
use crate::answer::Notes;
use crate::asking;
use crate::budgets::Held;
use crate::defer;
use crate::flight::Flight;
use crate::prompts;
use crate::reply::{failed, respond, settled};
use crate::request::Planned;
use crate::run::{self, Outgoing};
use crate::state::State;
use crate::ticketed::{Wanted, order, weighed};
use crate::trace;
use crate::writes;

/// Passes a request on; `reason` says why the cache has no part in it.
pub async fn bypass(state: &Arc<State>, planned: &mut Planned, reason: UncachedReason) -> Response<Body> {
    let admission = Admission::of(state, planned, false);
    let until = tokio::time::Instant::now() + planned.deadline;
    let held = match admission::queued(state, &mut planned.account, &admission, until).await {
        Ok(held) => held,
        Err(blocked) => return admission::answer(state, planned, Wanted { previous: None, stale: None, reason }, &blocked),
    };
    pass_on(state, planned, reason, held).await
}

/// Passes a request on for which money is set aside.
pub async fn pass_on(state: &Arc<State>, planned: &mut Planned, reason: UncachedReason, held: Held) -> Response<Body> {
    let keyed = reason.is_keyed();
    planned.note_led();
    let mut headers = planned.forwarded(state);
    let purpose = if planned.account.holdout { Purpose::Holdout } else { Purpose::User };
    let mut order = order(planned, purpose, reason.as_str());
    order.weighed = weighed(state, planned);
    order.deferred = planned.waits.deferred.take();
    order.early = planned.early.take();
    order.caused = state.traces.as_ref().map(|traces| traces.caused(&planned.account, purpose));
    let mut body = planned.take_body();
    // What streams up is not read, and ends with its client.
    order.finishes = false;
    if let Some((facts, bytes)) = planned.outbound.facts().zip(body.as_full()) {
        let route = &planned.account.route;
        order.request_bytes = Some(bytes.len() as u64);
        // A call for many is not broken off for one.
        order.finishes = order.batch.is_some() || asking::pass_finishes(route, facts);
        let (bytes, strips_usage) = asking::with_usage(route, &planned.outbound.target, facts, (&mut headers, bytes));
        let bytes = prompts::mark(state, planned, (&headers, bytes), &mut order);
        (body, order.strips_usage, order.target) = (Body::full(bytes), strips_usage, facts.target.clone());
    }
    let flight = Flight::new(CallId(state.ids.next()), state.clock.now(), planned.account.route.clone(), order, held);
    trace::send(&mut planned.account, &mut headers, flight.id, state.traces.as_deref());
    if planned.tunnel {
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    let head = (planned.account.method.clone(), planned.outbound.target.clone(), headers);
    let (at, since) = (flight.at, state.real_now());
    // A call for many goes on: its client alone is told that its own time is over.
    let patience = flight.batch.is_some().then_some(planned.deadline);
    let going = Outgoing { head, body, deadline: planned.deadline, patience, keyed, through: planned.through.take() };
    let passed = run::pass(state, &flight, going).await;
    let waited = state.real_now().since(since);
    let (status, headers, body) = match passed {
        Ok(answer) => answer,
        Err(failure) => {
            planned.account.failed += waited;
            let wanted = Wanted { previous: None, stale: None, reason };
            return failed(state, planned, wanted, &failure);
        }
    };
    let received = Received { status, headers: &headers, requested_at: at, received_at: state.clock.now() };
    planned.account.invalidates = writes::note(state, planned, &received);
    let ruled = if planned.account.invalidates.is_some() { writes::ruled(planned) } else { Vec::new() };
    let grouped = writes::grouped(state, planned, &received);
    writes::obey(state, ruled, grouped).await;
    let overhead = planned.account.ours(state.real_now().since(planned.account.started).saturating_sub(waited));
    let settled = settled(Outcome::Bypass, Some(reason), (status, overhead), Some(flight.id));
    let money = state.pricing.at_head(&flight);
    let notes = Notes {
        status: CacheStatus { detail: Some(defer::detail(&flight).unwrap_or(reason.as_str())), ..CacheStatus::forward(Fwd::of(reason)) },
        overhead,
        upstream: Some(waited),
        cost: money.map(|money| money.cost),
        saved: money.map(|money| money.base - money.cost),
    };
    respond(planned, (status, headers, body), &notes, (state, settled, flight))
}
