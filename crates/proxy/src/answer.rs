//! The answer to the client: what Farthing adds to a head.

use farthing_freshness::semantics::cache_status::{CACHE_STATUS, CacheStatus};
use farthing_types::{Money, RequestId, Routed, Span};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::request::Planned;

/// Id of the request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-farthing-request-id");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const COST: HeaderName = HeaderName::from_static("x-farthing-cost-usd");
const PROVIDER: HeaderName = HeaderName::from_static("x-farthing-provider");
const SAVED: HeaderName = HeaderName::from_static("x-farthing-saved-usd");

/// What is told about an answer in its head.
#[derive(Clone, Debug, Default)]
pub struct Notes<'a> {
    /// The cache's part.
    pub status: CacheStatus<'a>,
    /// Time spent in Farthing.
    pub overhead: Span,
    /// Time spent waiting for the provider.
    pub upstream: Option<Span>,
    /// Cost, when it is known at the head.
    pub cost: Option<Money>,
    /// Saving, when it is known at the head.
    pub saved: Option<Money>,
}

/// Tells a client that wants to see more which of a route's providers was asked, and why.
pub fn routed(headers: &mut HeaderMap, planned: &Planned, routed: Option<&Routed>) {
    if let Some(routed) = routed.filter(|_| planned.debug) {
        insert(headers, PROVIDER, &routed.provider);
        insert(headers, HeaderName::from_static("x-farthing-routed-by"), routed.by);
    }
}

/// Tells a client that wants to see more how long its call has waited under limits.
pub fn limit_wait(headers: &mut HeaderMap, planned: &Planned, waited: Span) {
    if planned.debug && !waited.is_zero() {
        let mut text = String::new();
        millis(&mut text, waited);
        insert(headers, HeaderName::from_static("x-farthing-limit-wait-ms"), &text);
    }
}

/// How a field enters a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Beside what others have said: caches behind us may have (RFC 9211 section 2).
    Beside,
    /// In the place of what stands there.
    Instead,
}

/// The fields that replace what the origin calls the same.
pub static REPLACED: [HeaderName; 3] = [REQUEST_ID, COST, SAVED];

impl Notes<'_> {
    /// What is added to a head: id, Cache-Status, Server-Timing and money.
    pub fn fields(&self, id: RequestId, mut put: impl FnMut(HeaderName, Place, &str)) {
        let mut text = String::with_capacity(128);
        self.status.push(&mut text);
        put(CACHE_STATUS, Place::Beside, &text);
        text.clear();
        hexadecimal(&mut text, id);
        put(REQUEST_ID, Place::Instead, &text);
        text.clear();
        text.push_str("farthing;dur=");
        millis(&mut text, self.overhead);
        if let Some(upstream) = self.upstream {
            text.push_str(", upstream;dur=");
            millis(&mut text, upstream);
        }
        put(SERVER_TIMING, Place::Beside, &text);
        for (name, money) in [(COST, self.cost), (SAVED, self.saved)] {
            let Some(money) = money else { continue };
            text.clear();
            money.push(&mut text);
            put(name, Place::Instead, &text);
        }
    }
}

/// Adds [`Notes::fields`] to a head.
pub fn annotate(headers: &mut HeaderMap, id: RequestId, notes: &Notes<'_>) {
    notes.fields(id, |name, place, text| {
        // Our own values are words and numbers, so none of them is ever refused.
        let value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("farthing"));
        match place {
            Place::Beside => drop(headers.append(name, value)),
            Place::Instead => drop(headers.insert(name, value)),
        }
    });
}

/// As an id is printed.
fn hexadecimal(out: &mut String, id: RequestId) {
    out.extend((0..16).rev().map(|digit| char::from(b"0123456789abcdef"[(id.0 >> (4 * digit) & 0xf) as usize])));
}

/// Milliseconds to the microsecond.
fn millis(out: &mut String, span: Span) {
    let micros = (span.as_nanos() + 500) / 1_000;
    out.push_str(itoa::Buffer::new().format(micros / 1_000));
    out.push('.');
    // With a leading one its digits keep their zeros.
    out.push_str(&itoa::Buffer::new().format(1_000 + micros % 1_000)[1..]);
}

/// The larger surface of `x-farthing-debug: 1`.
pub fn debug(headers: &mut HeaderMap, planned: &Planned) {
    if !planned.debug {
        return;
    }
    insert(headers, HeaderName::from_static("x-farthing-route"), &planned.account.route.route.name);
    // Of several the one that was asked is told, see `routed`.
    if planned.account.route.routing.is_none() {
        insert(headers, PROVIDER, &planned.account.route.provider.name);
    }
    insert(headers, HeaderName::from_static("x-farthing-tenant"), &planned.account.identity.tenant);
    insert(headers, HeaderName::from_static("x-farthing-key"), &planned.account.key.to_string());
    insert(headers, HeaderName::from_static("x-farthing-priority"), planned.priority.as_str());
    if let Some(waits) = planned.waits.why {
        insert(headers, HeaderName::from_static("x-farthing-defer"), waits.as_str());
    }
    if let Some(made) = planned.account.route.planning.made() {
        insert(headers, HeaderName::from_static("x-farthing-plan"), &made.told());
    }
    if let Some(trace) = planned.account.trace {
        insert(headers, HeaderName::from_static("x-farthing-trace-id"), &trace.trace_id());
    }
    if let Some(variant) = &planned.account.variant {
        insert(headers, HeaderName::from_static("x-farthing-experiment"), variant.experiment().name());
        insert(headers, HeaderName::from_static("x-farthing-variant"), variant.name());
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_their_types_print_them() {
        for (id, span, text) in [
            (0, Span::ZERO, "0.000"),
            (0xf00d, Span::from_nanos(1_499), "0.001"),
            (u64::MAX, Span::from_nanos(1_999_999_600), "2000.000"),
            (1 << 60, Span::from_millis(7), "7.000"),
        ] {
            let (mut hex, mut dur) = (String::new(), String::new());
            hexadecimal(&mut hex, RequestId(id));
            millis(&mut dur, span);
            assert_eq!((hex, dur.as_str()), (RequestId(id).to_string(), text));
        }
    }
}
