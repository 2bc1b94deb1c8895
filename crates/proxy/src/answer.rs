//! The answer to the client: what Farthing adds to a head.

use std::fmt::{self, Write as _};

use farthing_freshness::semantics::cache_status::{CACHE_STATUS, CacheStatus};
use farthing_types::{Money, RequestId, Span};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::request::Planned;

/// Id of the request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-farthing-request-id");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const COST: HeaderName = HeaderName::from_static("x-farthing-cost-usd");
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

/// Adds id, Cache-Status, Server-Timing and money to a head.
pub fn annotate(headers: &mut HeaderMap, id: RequestId, notes: &Notes<'_>) {
    let mut text = Text(String::with_capacity(128));
    // Appended: caches behind us may have said something already (RFC 9211 section 2).
    headers.append(CACHE_STATUS, text.value(format_args!("{}", notes.status)));
    headers.insert(REQUEST_ID, text.value(format_args!("{id}")));
    let ours = Millis(notes.overhead);
    let timing = match notes.upstream.map(Millis) {
        Some(upstream) => text.value(format_args!("farthing;dur={ours}, upstream;dur={upstream}")),
        None => text.value(format_args!("farthing;dur={ours}")),
    };
    headers.append(SERVER_TIMING, timing);
    for (name, money) in [(COST, notes.cost), (SAVED, notes.saved)] {
        let Some(money) = money else { continue };
        let value = if money == Money::ZERO { HeaderValue::from_static("0") } else { text.value(format_args!("{money}")) };
        headers.insert(name, value);
    }
}

/// A buffer in which one value after the other is written.
struct Text(String);

impl Text {
    /// Our own values are words and numbers, so none of them is ever refused.
    fn value(&mut self, text: std::fmt::Arguments<'_>) -> HeaderValue {
        self.0.clear();
        let _ = self.0.write_fmt(text);
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("farthing"))
    }
}

/// Milliseconds to the microsecond.
struct Millis(Span);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = (self.0.as_nanos() + 500) / 1_000;
        write!(f, "{}.{:03}", micros / 1_000, micros % 1_000)
    }
}

/// The larger surface of `x-farthing-debug: 1`.
pub fn debug(headers: &mut HeaderMap, planned: &Planned) {
    if !planned.debug {
        return;
    }
    insert(headers, HeaderName::from_static("x-farthing-route"), &planned.account.route.route.name);
    insert(headers, HeaderName::from_static("x-farthing-provider"), &planned.account.route.provider.name);
    insert(headers, HeaderName::from_static("x-farthing-tenant"), &planned.account.identity.tenant);
    insert(headers, HeaderName::from_static("x-farthing-key"), &planned.account.key.to_string());
    if let Some(variant) = &planned.account.variant {
        insert(headers, HeaderName::from_static("x-farthing-experiment"), variant.experiment.name());
        insert(headers, HeaderName::from_static("x-farthing-variant"), variant.name());
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}
