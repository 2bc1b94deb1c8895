//! What a client says to Farthing itself, in fields of ours.

use std::sync::Arc;

use farthing_freshness::semantics::CacheControl;
use farthing_types::{Priority, Span};
use http::{HeaderMap, HeaderName};

use crate::route::RouteState;
use crate::settle;

const CACHE: HeaderName = HeaderName::from_static("x-farthing-cache");
const DEBUG: HeaderName = HeaderName::from_static("x-farthing-debug");
const DEADLINE: HeaderName = HeaderName::from_static("x-farthing-deadline-ms");
const PRIORITY: HeaderName = HeaderName::from_static("x-farthing-priority");

/// What a client says to Farthing itself.
pub struct Wishes {
    /// What is asked of the cache.
    pub control: CacheControl,
    /// How long it may take.
    pub deadline: Span,
    /// How much it matters.
    pub priority: Priority,
    /// Free tags.
    pub tags: Option<Arc<str>>,
    /// The client wants to see more.
    pub debug: bool,
}

impl Wishes {
    /// Reads `own`, the fields that are ours.
    pub fn read(own: &HeaderMap, route: &RouteState) -> Self {
        Self {
            control: control(own),
            deadline: deadline(own, route.route.deadline),
            priority: priority(own, route.route.priority),
            tags: settle::tags(own),
            debug: own.get(DEBUG).is_some_and(|v| v.as_bytes() == b"1"),
        }
    }
}

fn control(headers: &HeaderMap) -> CacheControl {
    match headers.get(CACHE).map(http::HeaderValue::as_bytes) {
        Some(b"off") => CacheControl::Off,
        Some(b"read-only") => CacheControl::ReadOnly,
        Some(b"refresh" | b"write-only") => CacheControl::Refresh,
        _ => CacheControl::On,
    }
}

/// The route's deadline, or a shorter one that the client names.
fn deadline(headers: &HeaderMap, longest: Span) -> Span {
    let named = headers.get(DEADLINE).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    named.map_or(longest, |ms| Span::from_millis(ms).clamp(Span::from_millis(1), longest))
}

/// How much the request says that it matters; the route's word where it says nothing that is known.
fn priority(headers: &HeaderMap, of_route: Priority) -> Priority {
    headers.get(PRIORITY).and_then(|v| v.to_str().ok()).and_then(Priority::parse).unwrap_or(of_route)
}
