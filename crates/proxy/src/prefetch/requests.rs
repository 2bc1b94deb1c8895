//! How a key was asked for, so that it can be asked for again: path and query, never a header, a body or a credential. The headers of a call
//! ahead are those of the request that caused it, for as long as that takes.

use farthing_freshness::index::{Index, Weighed};
use farthing_freshness::key::is_of_one_sending;
use farthing_freshness::semantics::conditional;
use farthing_types::{KeyHash, Time};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, PRAGMA};
use http::{HeaderMap, HeaderName, Uri};

use crate::route::RouteState;

/// Bytes that all of them together take.
const BYTES: usize = 8 << 20;
/// What a request says about itself alone, beside its conditions.
const OWN: [HeaderName; 5] = [CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, PRAGMA];

/// How a key was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// The key.
    pub key: KeyHash,
    /// The route's place.
    pub route: u16,
    /// Hash of whose copies the request may see.
    pub owner: u64,
    /// Path and query as clients ask for them.
    pub path: Box<str>,
}

/// What the map holds: how a thing is asked for, and the thing.
struct Kept(u64, Known);

impl Weighed for Kept {
    fn key(&self) -> KeyHash {
        name(self.0)
    }
    fn bytes(&self) -> usize {
        self.1.path.len()
    }
    fn worth(&self, _now: Time) -> f64 {
        1.0
    }
}

/// Requests by what they are for, bounded in bytes.
pub struct Requests {
    known: Index<Kept>,
    /// Those that had to make room.
    pub evicted: u64,
}

impl Default for Requests {
    fn default() -> Self {
        Self { known: Index::new(BYTES), evicted: 0 }
    }
}

impl Requests {
    /// How a thing was asked for.
    pub fn get(&mut self, thing: u64) -> Option<&Known> {
        self.known.get(name(thing)).map(|kept| &kept.1)
    }

    /// Forgets all of them.
    pub fn forget(&mut self) {
        self.known = Index::new(BYTES);
    }

    /// Remembers how a thing is asked for, unless that is known.
    pub fn remember(&mut self, thing: u64, now: Time, known: impl FnOnce() -> Option<Known>) {
        if self.known.get(name(thing)).is_none()
            && let Some(known) = known()
        {
            self.evicted += self.known.insert(Kept(thing, known), now).evicted.len() as u64;
        }
    }
}

fn name(thing: u64) -> KeyHash {
    KeyHash(u128::from(thing) << 64)
}

/// The path for which clients ask; `None` where it holds what is not to be remembered: credentials, and parameters that are no part of the key.
pub fn path(route: &RouteState, target: &Uri) -> Option<Box<str>> {
    let query = target.query().unwrap_or_default();
    let left_out = [&route.credentials, &*route.key_spec.credentials].into_iter().any(|names| names.pairs(query).next().is_some());
    if left_out {
        return None;
    }
    let below = target.path_and_query()?.as_str();
    Some(format!("{}{below}", route.route.strip_prefix.trim_end_matches('/')).into())
}

/// The headers with which a request's client may be taken to ask for something else: without what it says about this request alone, and
/// without ours. Of what it accepts, where the other route is for another kind of answer nothing is known: the same.
pub fn headers_for_another(headers: &HeaderMap) -> HeaderMap {
    let kept = |name: &HeaderName| !OWN.contains(name) && !is_of_one_sending(name) && !name.as_str().starts_with("x-farthing-");
    let mut left: HeaderMap = headers.iter().filter(|(name, _)| kept(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    conditional::strip_conditions(&mut left);
    left
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, IF_NONE_MATCH, RANGE};

    use super::*;

    #[test]
    fn what_a_request_says_about_itself_alone_is_left_out() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (IF_NONE_MATCH, "\"a\""),
            (RANGE, "bytes=0-1"),
            (CACHE_CONTROL, "no-cache"),
            (HeaderName::from_static("traceparent"), "00-1"),
            (HeaderName::from_static("baggage"), "a=b"),
            (HeaderName::from_static("idempotency-key"), "1"),
            (HeaderName::from_static("x-request-id"), "1"),
            (HeaderName::from_static("x-b3-traceid"), "1"),
            (HeaderName::from_static("x-farthing-tags"), "a=b"),
            (ACCEPT, "text/html"),
            (ACCEPT_ENCODING, "gzip"),
            (ACCEPT_LANGUAGE, "de"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let left = headers_for_another(&headers);
        assert_eq!(left.len(), 3);
        assert!([ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE].iter().all(|name| left.contains_key(name)));
    }

    #[test]
    fn they_are_bounded_and_what_made_room_is_counted() {
        let mut requests = Requests::default();
        let known = || Some(Known { key: KeyHash(1), route: 0, owner: 0, path: "/x".repeat(2_000).into() });
        for thing in 1..6_000 {
            requests.remember(thing, Time::from_millis(1), known);
        }
        assert!(requests.known.bytes() <= BYTES && requests.evicted > 1_000);
    }
}
