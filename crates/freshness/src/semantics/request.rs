//! What a request says about caching.

use farthing_types::{Span, UncachedReason};
use http::header::{AUTHORIZATION, COOKIE, IF_MATCH, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, Method};

use super::{Directives, Mode, Rules};

/// The part of a request that decides about reuse; read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// The method.
    pub method: Method,
    /// `no-cache` (or `Pragma: no-cache`): a stored answer must be validated first.
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`: 504 instead of a call.
    pub only_if_cached: bool,
    /// `max-age`: shortens the TTL.
    pub max_age: Option<Span>,
    /// `max-stale`: the client accepts this much staleness ([`Span::MAX`]: any).
    pub max_stale: Option<Span>,
    /// `min-fresh`.
    pub min_fresh: Option<Span>,
    /// `stale-if-error` of the client.
    pub stale_if_error: Option<Span>,
    /// Whether there is an `Authorization`.
    pub authorization: bool,
    /// Whether there is a `Cookie`.
    pub cookie: bool,
    /// `If-Match` or `If-Unmodified-Since`: preconditions that only the origin can judge.
    pub precondition: bool,
}

impl RequestFacts {
    /// Reads a request head.
    pub fn read(method: &Method, headers: &HeaderMap) -> Self {
        let directives = Directives::read_request(headers);
        Self {
            method: method.clone(),
            no_cache: directives.no_cache,
            no_store: directives.no_store,
            only_if_cached: directives.only_if_cached,
            max_age: directives.max_age,
            max_stale: directives.max_stale,
            min_fresh: directives.min_fresh,
            stale_if_error: directives.stale_if_error,
            authorization: headers.contains_key(AUTHORIZATION),
            cookie: headers.contains_key(COOKIE),
            precondition: headers.contains_key(IF_MATCH) || headers.contains_key(IF_UNMODIFIED_SINCE),
        }
    }
}

impl RequestFacts {
    /// Whether it is to be told that nothing is stored: it allows no call, and its own `no-store` is what keeps it from being answered from a copy.
    pub fn wants_nothing(&self, kept_out: UncachedReason) -> bool {
        self.only_if_cached && self.no_store && kept_out == UncachedReason::RequestDirective
    }
}

/// Whether the cache (lookup, joining and storing) may be used at all for a request; the reason when it may not.
///
/// # Errors
/// The one reason why the request must pass by the cache.
pub fn may_lookup(request: &RequestFacts, rules: &Rules) -> Result<(), UncachedReason> {
    if rules.mode == Mode::Observe {
        return Err(UncachedReason::Observe);
    }
    if !rules.any_method && request.method != Method::GET && request.method != Method::HEAD {
        return Err(UncachedReason::Method);
    }
    if request.precondition {
        return Err(UncachedReason::PassThrough);
    }
    if request.no_store && rules.obeys() {
        return Err(UncachedReason::RequestDirective);
    }
    if request.cookie && rules.obeys() {
        return Err(UncachedReason::RequestCookie);
    }
    Ok(())
}
