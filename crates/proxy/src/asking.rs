//! What is asked of a provider on a client's behalf, and what becomes of it when the client leaves.

use bytes::Bytes;
use farthing_config::{Dialect, Mode, OnDisconnect};
use farthing_ledger::RequestFacts;
use farthing_ledger::usage::{Billing, asks_after, inject};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Uri};

use crate::problem;
use crate::request::{CacheControl, Outbound, Planned};
use crate::route::RouteState;

/// Fields that vouch for the bytes of a body.
const VOUCHING: [HeaderName; 4] = [
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("signature"),
];

/// Asks for usage in a stream where the client did not; `true` when the event that tells it is ours, and is to be taken out.
///
/// The answer must come uncompressed then: an event cannot be taken out of compressed bytes. The key is not touched, it was computed
/// from what the client sent.
pub fn with_usage(route: &RouteState, target: &Uri, facts: &RequestFacts, (headers, body): (&mut HeaderMap, Bytes)) -> (Bytes, bool) {
    let speaks = route.provider.dialect == Dialect::OpenAi && route.route.mode != Mode::Observe;
    let wanted = route.route.include_usage.unwrap_or(speaks) && target.path().ends_with("/completions");
    let open = facts.stream && facts.include_usage != Some(true) && !headers.contains_key(CONTENT_ENCODING);
    if !wanted || !open || is_vouched_for(headers) {
        return (body, false);
    }
    match inject::with_usage(&body) {
        Some(asking) => {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            (asking.into(), true)
        }
        None => (body, false),
    }
}

/// Whether fields vouch for the very bytes of a body.
pub fn is_vouched_for(headers: &HeaderMap) -> bool {
    VOUCHING.iter().any(|name| headers.contains_key(name))
}

/// Whether a call is made as the client has put it: it is one to compare with, its client has said so, or everything passes by.
pub fn is_left_alone(planned: &Planned) -> bool {
    let account = &planned.account;
    account.holdout || planned.control == CacheControl::Off || account.route.switches.is_bypassed(account.at)
}

/// Whether an answer with these headers is a stream of events.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|v| v.trim_start().starts_with("text/event-stream"))
}

/// Whether an event can be taken out of an answer with these headers.
pub fn can_strip(headers: &HeaderMap) -> bool {
    let events = is_event_stream(headers);
    let plain = headers.get_all(CONTENT_ENCODING).iter().all(|v| v.as_bytes().eq_ignore_ascii_case(b"identity"));
    events && plain
}

/// Whether the provider bills by the token, so that a stream's bill grows as it comes.
fn by_token(route: &RouteState) -> bool {
    matches!(route.provider.dialect, Dialect::OpenAi | Dialect::Anthropic | Dialect::Gemini)
}

/// How the tokens of a request's call are billed, in the words that it speaks. A tunnel is what is said in it.
pub fn billing(planned: &Planned) -> Billing {
    let Outbound { target, dialect, .. } = &planned.outbound;
    let speaks = matches!(dialect, problem::Dialect::OpenAi | problem::Dialect::Anthropic | problem::Dialect::Gemini);
    if !speaks || planned.tunnel {
        return Billing::Now;
    }
    if asks_after(&planned.account.method, target.path()) {
        return Billing::Never;
    }
    if planned.outbound.facts().is_some_and(|facts| facts.background) { Billing::Later } else { Billing::Now }
}

/// Whether a request's body is held although no key needs it: what it asks for says what it may cost, and usage may have to be asked for.
pub fn needs_body(route: &RouteState) -> bool {
    by_token(route) || route.defer.is_some()
}

/// Whether a call under a ticket goes on to its end when every client has left: its answer will be stored, and is paid for unless its bill
/// still grows.
pub fn fill_finishes(route: &RouteState, facts: &RequestFacts) -> bool {
    match route.route.on_disconnect {
        Some(choice) => choice == OnDisconnect::Finish,
        None => !(by_token(route) && facts.stream),
    }
}

/// Whether a call for one client alone goes on to its end when that client leaves: nobody will have the answer, but where usage stands in it
/// the bill can only be known from its end.
pub fn pass_finishes(route: &RouteState, facts: &RequestFacts) -> bool {
    match route.route.on_disconnect {
        Some(choice) => choice == OnDisconnect::Finish,
        None => by_token(route) && !facts.stream,
    }
}
