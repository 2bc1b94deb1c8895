//! Calls for one client alone: nothing is shared or stored.

use std::sync::Arc;

use farthing_freshness::semantics::cache_status::{CacheStatus, Fwd};
use farthing_types::{Body, CallId, KeyHash, Outcome, Purpose, UncachedReason};
use http::{Method, Response, StatusCode};

use crate::answer::Notes;
use crate::flight::Flight;
use crate::lookup::is_keyed;
use crate::reply::{failed, flat_price, respond, settled};
use crate::request::Planned;
use crate::run;
use crate::state::State;
use crate::stream::Pending;
use crate::ticketed::{Wanted, order};

/// Passes a request on; `reason` says why the cache has no part in it.
pub async fn bypass(state: &Arc<State>, planned: &mut Planned, reason: UncachedReason) -> Response<Body> {
    let keyed = is_keyed(reason);
    let body = planned.take_body();
    let purpose = if planned.account.holdout { Purpose::Holdout } else { Purpose::User };
    let mut order = order(planned, purpose, reason.as_str());
    order.target = body.as_full().and_then(|bytes| farthing_ledger::RequestFacts::read(&bytes).target);
    let flight = Flight::new(CallId(state.ids.next()), state.clock.now(), planned.account.route.clone(), order);
    let head = (planned.account.method.clone(), planned.outbound.target.clone(), planned.forwarded());
    let since = state.real_now();
    let passed = run::pass(state, &flight, head, body, (planned.deadline, keyed)).await;
    let waited = state.real_now().since(since);
    let (status, headers, body) = match passed {
        Ok(answer) => answer,
        Err(failure) => {
            let wanted = Wanted { previous: None, stale: None, reason };
            return failed(state, planned, wanted, &failure);
        }
    };
    planned.account.invalidates = invalidate(state, planned, status);
    let overhead = state.real_now().since(planned.account.started).saturating_sub(waited);
    let settled = settled(Outcome::Bypass, Some(reason), (status, overhead), Some(flight.id));
    let notes = Notes {
        status: CacheStatus { detail: Some(reason.as_str()), ..CacheStatus::forward(Fwd::of(reason)) },
        overhead,
        upstream: Some(waited),
        cost: flat_price(state, planned, status),
        saved: None,
    };
    let pending = Pending { state: state.clone(), account: planned.account.clone(), settled, flight };
    respond(planned, (status, headers, body), &notes, pending)
}

/// A successful unsafe request drops the entry of its target (RFC 9111 section 4.4): its key.
fn invalidate(state: &State, planned: &Planned, status: StatusCode) -> Option<KeyHash> {
    let safe = planned.account.method.is_safe() || (planned.account.route.route.idempotent && planned.account.route.route.key_body);
    if safe || !(status.is_success() || status.is_redirection()) {
        return None;
    }
    let target = &planned.outbound.target;
    let parts = farthing_freshness::KeyParts {
        tenant: planned.owner(),
        route: &planned.account.route.route.name,
        method: &Method::GET,
        authority: planned.account.route.authority(),
        target,
        headers: &planned.forwarded(),
        body: &[],
    };
    let key = state.keyer.primary(&planned.account.route.key_spec, &parts);
    state.cache.purge(&farthing_cache::Purge::Key(key), false, state.clock.now());
    Some(key)
}
