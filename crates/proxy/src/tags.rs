//! Purge tags: `Surrogate-Key` (separated by white space) and `Cache-Tag` (by commas). They are for us, and go no further.

use std::collections::HashSet;
use std::sync::Arc;

use farthing_freshness::Mode;
use farthing_types::UncachedReason;
use http::{HeaderMap, HeaderName};

use crate::route::RouteState;

const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// Tags of one answer, and bytes of one and of all of them.
const MOST: usize = 256;
const LONGEST: usize = 1024;
const MOST_BYTES: usize = 16 << 10;

/// The tags that a head names, each once. Upper and lower case are two tags.
///
/// # Errors
/// More, longer or other tags than can be kept: a purge by one that was left out would miss the answer.
pub fn read(headers: &HeaderMap) -> Result<Vec<Arc<str>>, UncachedReason> {
    if !are_named(headers) {
        return Ok(Vec::new());
    }
    let (mut tags, mut seen, mut bytes) = (Vec::new(), HashSet::new(), 0);
    for (name, by_commas) in [(SURROGATE_KEY, false), (CACHE_TAG, true)] {
        for value in headers.get_all(name) {
            let text = std::str::from_utf8(value.as_bytes()).map_err(|_| UncachedReason::Tags)?;
            let between = |c: char| if by_commas { c == ',' } else { c.is_ascii_whitespace() };
            for tag in text.split(between).map(str::trim).filter(|tag| !tag.is_empty()) {
                if !seen.insert(tag) {
                    continue;
                }
                bytes += tag.len();
                if tags.len() == MOST || tag.len() > LONGEST || bytes > MOST_BYTES {
                    return Err(UncachedReason::Tags);
                }
                tags.push(tag.into());
            }
        }
    }
    Ok(tags)
}

/// Whether a head says anything about tags.
pub fn are_named(headers: &HeaderMap) -> bool {
    headers.contains_key(SURROGATE_KEY) || headers.contains_key(CACHE_TAG)
}

/// Takes them out of what a client gets; a route that only observes changes nothing.
pub fn strip(headers: &mut HeaderMap, route: &RouteState) {
    if route.rules.mode != Mode::Observe {
        headers.remove(SURROGATE_KEY);
        headers.remove(CACHE_TAG);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &[u8])]) -> Result<Vec<String>, UncachedReason> {
        let headers: HeaderMap =
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), http::HeaderValue::from_bytes(value).unwrap())).collect();
        read(&headers).map(|tags| tags.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_field_has_its_own_separator() {
        assert_eq!(of(&[]).unwrap(), [""; 0]);
        assert_eq!(of(&[("surrogate-key", b" a  b,c\td ")]).unwrap(), ["a", "b,c", "d"]);
        assert_eq!(of(&[("cache-tag", b"a b , c,, A,a b")]).unwrap(), ["a b", "c", "A"]);
        assert_eq!(of(&[("cache-tag", b"x"), ("surrogate-key", b"x y"), ("surrogate-key", b"z")]).unwrap(), ["x", "y", "z"]);
        assert_eq!(of(&[("cache-tag", "größe".as_bytes())]).unwrap(), ["größe"]);
    }

    #[test]
    fn beyond_the_bounds_nothing_is_left_out_silently() {
        let many = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(of(&[("surrogate-key", many(MOST).as_bytes())]).unwrap().len(), MOST);
        let long = "x".repeat(LONGEST);
        assert_eq!(of(&[("surrogate-key", long.as_bytes())]).unwrap().len(), 1);
        let heavy: Vec<String> = (10..27).map(|n| format!("{n}{}", "x".repeat(LONGEST - 2))).collect();
        for (field, value) in [
            ("surrogate-key", many(MOST + 1)),
            ("cache-tag", many(MOST + 1).replace(' ', ",")),
            ("cache-tag", format!("{long}x")),
            ("surrogate-key", heavy.join(" ")),
        ] {
            assert_eq!(of(&[(field, value.as_bytes())]), Err(UncachedReason::Tags), "{field}");
        }
        assert_eq!(of(&[("cache-tag", b"a,\xff")]), Err(UncachedReason::Tags), "no text");
    }
}
