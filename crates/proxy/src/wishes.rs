//! What a client says to Farthing itself, in fields of ours.

use std::sync::{Arc, LazyLock};

use farthing_config::Route;
use farthing_freshness::semantics::CacheControl;
use farthing_types::{Priority, Span};
use http::{HeaderMap, HeaderName};

use crate::clients::Grant;
use crate::route::RouteState;

const CACHE: HeaderName = HeaderName::from_static("x-farthing-cache");
const DEBUG: HeaderName = HeaderName::from_static("x-farthing-debug");
const DEADLINE: HeaderName = HeaderName::from_static("x-farthing-deadline-ms");
const PRIORITY: HeaderName = HeaderName::from_static("x-farthing-priority");
const TAGS: HeaderName = HeaderName::from_static("x-farthing-tags");
/// Bytes of `x-farthing-tags` that are logged; more are left out whole, because half a tag is a wrong one.
pub const MAX_TAGS: usize = 512;

/// `headers` where there is one of ours among them, else none: one look at the names costs less than a search for each of ours.
pub fn own_fields(headers: &HeaderMap) -> &HeaderMap {
    static NONE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
    if headers.keys().any(|name| name.as_str().starts_with("x-farthing-")) { headers } else { &NONE }
}

/// What a client says to Farthing itself.
#[derive(Clone)]
pub struct Wishes {
    /// What is asked of the cache.
    pub control: CacheControl,
    /// How long it may take.
    pub deadline: Span,
    /// The client has said so itself.
    pub patient: bool,
    /// How much it matters.
    pub priority: Priority,
    /// Within what time it is promised to be answered.
    pub sla: Option<Span>,
    /// Free tags.
    pub tags: Option<Arc<str>>,
    /// The client wants to see more.
    pub debug: bool,
}

impl Wishes {
    /// Reads `own`, the fields that are ours, of a client that was granted what it may do.
    pub fn read(own: &HeaderMap, route: &RouteState, grant: Option<&Grant>) -> Self {
        let route = &route.route;
        let asked = asked_for(own).map(|asked| asked.clamp(Span::from_millis(1), route.deadline));
        let promised = grant.map_or(route.sla, |grant| grant.sla(route.sla));
        Self {
            control: control(own),
            deadline: asked.unwrap_or(route.deadline),
            patient: asked.is_some(),
            // Whoever says how long it waits is promised no more.
            sla: asked.into_iter().chain(promised).min(),
            priority: priority(own, route, grant),
            tags: tags(tags_of(own), grant),
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

/// How long the client says that it waits.
fn asked_for(headers: &HeaderMap) -> Option<Span> {
    let named = headers.get(DEADLINE).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    named.map(Span::from_millis)
}

/// How much the request says that it matters, as far as it may; else what is said of its client, or of the route.
fn priority(headers: &HeaderMap, route: &Route, grant: Option<&Grant>) -> Priority {
    let said = headers.get(PRIORITY).and_then(|v| v.to_str().ok()).and_then(Priority::named);
    let of_route = (route.priority, route.max_priority);
    match grant {
        Some(grant) => grant.priority(said, of_route),
        None => Grant::default().priority(said, of_route),
    }
}

/// The client's tags, and after them those of the request, as far as they fit.
fn tags(own: Option<Arc<str>>, grant: Option<&Grant>) -> Option<Arc<str>> {
    match (grant.and_then(|grant| grant.tags.clone()), own) {
        (Some(of_client), Some(own)) if of_client.len() + own.len() < MAX_TAGS => Some(format!("{of_client},{own}").into()),
        (of_client, own) => of_client.or(own),
    }
}

/// The request's tags, as far as they fit.
fn tags_of(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(TAGS)?.to_str().ok()?;
    (!text.is_empty() && text.len() <= MAX_TAGS).then(|| text.into())
}
