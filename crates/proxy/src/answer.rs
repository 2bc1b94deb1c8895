//! The answer to the client: what Farthing adds to a head.

use std::fmt::Write as _;

use farthing_freshness::semantics::cache_status::{CACHE_STATUS, CacheStatus};
use farthing_types::{By, Money, Outcome, RequestId, Span, UncachedReason};
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
    // Appended: caches behind us may have said something already (RFC 9211 section 2).
    headers.append(CACHE_STATUS, notes.status.value());
    insert(headers, REQUEST_ID, &id.to_string());
    let mut timing = format!("farthing;dur={:.3}", notes.overhead.as_secs_f64() * 1e3);
    if let Some(upstream) = notes.upstream {
        let _ = write!(timing, ", upstream;dur={:.3}", upstream.as_secs_f64() * 1e3);
    }
    if let Ok(value) = HeaderValue::from_str(&timing) {
        headers.append(SERVER_TIMING, value);
    }
    if let Some(cost) = notes.cost {
        insert(headers, COST, &cost.to_string());
    }
    if let Some(saved) = notes.saved {
        insert(headers, SAVED, &saved.to_string());
    }
}

/// The larger surface of `x-farthing-debug: 1`.
pub fn debug(headers: &mut HeaderMap, planned: &Planned) {
    if planned.headers.get("x-farthing-debug").is_none_or(|v| v.as_bytes() != b"1") {
        return;
    }
    insert(headers, HeaderName::from_static("x-farthing-route"), &planned.route.route.name);
    insert(headers, HeaderName::from_static("x-farthing-provider"), &planned.route.provider.name);
    insert(headers, HeaderName::from_static("x-farthing-tenant"), &planned.identity.tenant);
    insert(headers, HeaderName::from_static("x-farthing-key"), &planned.subject.key.to_string());
    if let Some(variant) = &planned.assigned {
        insert(headers, HeaderName::from_static("x-farthing-experiment"), variant.experiment.name());
        insert(headers, HeaderName::from_static("x-farthing-variant"), variant.name());
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// The `detail` of Cache-Status: tier and decider of a hit, or the reason of anything else.
pub fn detail(outcome: Outcome, reason: Option<UncachedReason>, by: Option<&By>) -> String {
    match (outcome, reason, by) {
        (Outcome::Hit | Outcome::Stale, _, Some(by)) => format!("l1 {by}"),
        (Outcome::Hit | Outcome::Stale, _, None) => "l1 origin".to_owned(),
        (_, Some(reason), Some(by)) => format!("{reason} {by}"),
        (_, Some(reason), None) => reason.as_str().to_owned(),
        (outcome, None, _) => outcome.as_str().to_owned(),
    }
}
