//! What an answer that passes by the cache says about entries in it: writes drop them, and so does a HEAD that tells of a change.

use farthing_cache::Purge;
use farthing_freshness::semantics::Received;
use farthing_freshness::semantics::conditional::head_tells_change;
use farthing_freshness::semantics::invalidation::{Site, also_changed, invalidates};
use farthing_freshness::{KeyParts, Profile};
use farthing_types::KeyHash;
use http::{Method, Uri};

use crate::request::Planned;
use crate::state::State;

/// Notes an answer in the cache; returns the key of the request's target when its entry was dropped.
pub fn note(state: &State, planned: &Planned, received: &Received<'_>) -> Option<KeyHash> {
    let method = &planned.account.method;
    if method == Method::HEAD {
        return head(state, planned, received);
    }
    let route = &planned.account.route.route;
    let safe = method.is_safe() || (route.idempotent && route.key_body);
    if safe || !invalidates(received.status) {
        return None;
    }
    let target = &planned.outbound.target;
    let site = Site { base: &planned.account.route.provider.base_url, target };
    let key = drop_target(state, planned, target);
    for other in also_changed(site, received.status, received.headers) {
        drop_target(state, planned, &other);
    }
    Some(key)
}

/// Drops what a GET of `target` would be answered from (RFC 9111 section 4.4).
fn drop_target(state: &State, planned: &Planned, target: &Uri) -> KeyHash {
    let route = &planned.account.route;
    let forwarded = planned.forwarded();
    let parts = KeyParts {
        tenant: planned.owner(),
        route: &route.route.name,
        method: &Method::GET,
        authority: route.authority(),
        target,
        headers: &forwarded,
        body: &[],
    };
    let key = state.keyer.primary(&route.key_spec, &parts);
    let purge = match route.key_spec.profile {
        Profile::Http => Purge::Key(key),
        // Such a key has the reader's headers in it, which the writer need not send.
        Profile::Api => Purge::Path { route: route.route.name.clone(), tenant: planned.owner().into(), path: target.path().into() },
    };
    state.cache.purge(&purge, false, state.clock.now());
    key
}

/// A HEAD answer about another representation than the stored one drops it (RFC 9111 section 4.3.5). One about the same leaves it as it
/// is: an entry is renewed by calls that bring or confirm a body, which alone the log can repeat.
fn head(state: &State, planned: &Planned, received: &Received<'_>) -> Option<KeyHash> {
    planned.cache.ok()?;
    let key = planned.account.key;
    let entry = state.cache.peek(key, &planned.headers)?;
    if !head_tells_change(&entry, received) {
        return None;
    }
    state.cache.purge(&Purge::Key(key), false, received.received_at);
    Some(key)
}
