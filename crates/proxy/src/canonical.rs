//! The canonical body: what must differ for an answer to count as changed.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use farthing_freshness::content::Pointer;
use farthing_ledger::usage::plain;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::Value;

/// Bodies beyond this are compared byte by byte: parsing them would cost more than it tells.
pub const MAX_JSON: usize = 256 * 1024;
/// Up to this size a digest costs no more than handing it to another thread.
pub const AT_ONCE: usize = 1024;

/// The two digests of a body, first 64 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Of the bytes.
    pub exact: u64,
    /// Of the canonical form: JSON with sorted members, without the volatile fields; the bytes where it is not JSON.
    pub canonical: u64,
}

/// Digests a body. `volatile` are JSON pointers (RFC 6901) whose values say nothing about change; a `*` segment stands for every
/// member of an object or element of an array.
pub fn digests(headers: &HeaderMap, body: &Bytes, volatile: &[Arc<str>]) -> Digests {
    let exact = first_64(&blake3::hash(body));
    // Origins compress equal answers alike: undoing it tells more only where something is to be left out.
    let as_it_came = volatile.is_empty() && headers.contains_key(CONTENT_ENCODING);
    let canonical = (!as_it_came).then(|| json(headers, body)).flatten().map_or(exact, |mut value| {
        for pointer in volatile {
            drop_pointer(&mut value, pointer);
        }
        let mut hasher = blake3::Hasher::new();
        // serde_json's map is ordered by key, so equal values have equal text.
        match serde_json::to_writer(&mut hasher, &value) {
            Ok(()) => first_64(&hasher.finalize()),
            Err(_) => exact,
        }
    });
    Digests { exact, canonical }
}

/// Takes what a pointer points at out of a value.
pub fn drop_pointer(value: &mut Value, pointer: &str) {
    drop_at(value, Pointer::new(pointer).segments());
}

/// Whether the head says that the body is JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence == "application/json" || essence.ends_with("+json")
}

/// The body as JSON, where it is said to be that, and short enough to be read; compressed or not.
pub fn json(headers: &HeaderMap, body: &Bytes) -> Option<Value> {
    serde_json::from_slice(&text(headers, body)?).ok()
}

/// The text of a body that is said to be JSON, as it was before it was compressed.
pub fn text<'a>(headers: &HeaderMap, body: &'a Bytes) -> Option<Cow<'a, [u8]>> {
    if !is_json(headers) {
        return None;
    }
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    let encoding = encodings.next().map_or(Some(""), |value| value.to_str().ok())?.trim().to_ascii_lowercase();
    if encodings.next().is_some() {
        return None;
    }
    plain(&encoding, body, MAX_JSON)
}

fn first_64(hash: &blake3::Hash) -> u64 {
    let (head, _) = hash.as_bytes().split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    u64::from_be_bytes(*head)
}

fn drop_at(value: &mut Value, path: &[Arc<str>]) {
    let Some((first, rest)) = path.split_first() else { return };
    match value {
        Value::Object(map) if &**first == "*" => {
            if rest.is_empty() {
                map.clear();
            }
            map.values_mut().for_each(|v| drop_at(v, rest));
        }
        Value::Object(map) if rest.is_empty() => {
            map.remove(&**first);
        }
        Value::Object(map) => {
            if let Some(inner) = map.get_mut(&**first) {
                drop_at(inner, rest);
            }
        }
        Value::Array(items) if &**first == "*" => items.iter_mut().for_each(|v| drop_or_null(v, rest)),
        Value::Array(items) => {
            if let Some(item) = first.parse::<usize>().ok().and_then(|i| items.get_mut(i)) {
                drop_or_null(item, rest);
            }
        }
        _ => {}
    }
}

/// An element keeps its place in the array: only its value goes.
fn drop_or_null(value: &mut Value, rest: &[Arc<str>]) {
    if rest.is_empty() {
        *value = Value::Null;
    } else {
        drop_at(value, rest);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(content_type: &'static str, body: &str, volatile: &[&str]) -> Digests {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        let volatile: Vec<_> = volatile.iter().map(|p| (*p).into()).collect();
        digests(&headers, &Bytes::copy_from_slice(body.as_bytes()), &volatile)
    }

    #[test]
    fn order_and_white_space_do_not_count() {
        let (a, b) = (of("application/json", r#"{"a":1,"b":2}"#, &[]), of("application/json; charset=utf-8", r#"{ "b": 2, "a": 1 }"#, &[]));
        assert_eq!(a.canonical, b.canonical);
        assert_ne!(a.exact, b.exact);
        assert_ne!(of("text/plain", "{}", &[]).canonical, of("text/plain", "{ }", &[]).canonical);
    }

    #[test]
    fn volatile_fields_do_not_count() {
        let run = |body| of("application/json", body, &["/id", "/items/*/at", "/list/1"]).canonical;
        assert_eq!(run(r#"{"id":1,"items":[{"at":1,"v":5}],"list":[1,2]}"#), run(r#"{"id":9,"items":[{"at":7,"v":5}],"list":[1,3]}"#));
        assert_ne!(run(r#"{"id":1,"items":[{"at":1,"v":5}]}"#), run(r#"{"id":1,"items":[{"at":1,"v":6}]}"#));
    }

    #[test]
    fn a_compressed_body_is_read_within_bounds() {
        let gzip = |body: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut encoder, body).unwrap();
            Bytes::from(encoder.finish().unwrap())
        };
        let headers = |encoding: &'static str| {
            let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
            HeaderMap::from_iter([json, (CONTENT_ENCODING, HeaderValue::from_static(encoding))])
        };
        let (one, other) = (gzip(br#"{"a":1,"id":1}"#), gzip(br#"{"id":2,"a":1}"#));
        assert_eq!(json(&headers(" GZIP"), &one), Some(serde_json::json!({"a": 1, "id": 1})));
        for (encoding, body) in
            [("br", &one), ("gzip, gzip", &one), ("unknown", &one), ("gzip", &one.slice(..20)), ("gzip", &gzip(&[b' '; MAX_JSON + 1]))]
        {
            assert_eq!(json(&headers(encoding), body), None, "{encoding}");
        }
        let canonical = |body, volatile: &[Arc<str>]| digests(&headers("gzip"), body, volatile).canonical;
        assert_eq!(canonical(&one, &["/id".into()]), canonical(&other, &["/id".into()]));
        assert_ne!(canonical(&one, &[]), canonical(&other, &[]));
    }

    #[test]
    fn what_is_not_json_counts_as_bytes() {
        let broken = of("application/json", "{", &["/a"]);
        assert_eq!(broken.canonical, broken.exact);
    }
}
