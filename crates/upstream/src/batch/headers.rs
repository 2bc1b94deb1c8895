//! Which headers calls must have in common to be made together, and what becomes of them.

use bytes::BufMut;
use farthing_policy::batch::Alone;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, AGE, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderName, HeaderValue};

/// Fields that are about one call alone: a call that has one is made alone.
const OWN: &[&str] = &[
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "range",
    "expect",
    "content-encoding",
    "idempotency-key",
    "content-md5",
    "digest",
    "content-digest",
    "signature",
    "signature-input",
];

/// Fields that say nothing about what is asked for; a batch call goes out without them, or with its own.
const LEFT_OUT: &[&str] = &["content-length", "content-type", "accept-encoding", "traceparent", "tracestate", "x-request-id"];

/// The same, of traces: each call has its own.
const TRACING: &[&str] =
    &["b3", "baggage", "newrelic", "sentry-trace", "uber-trace-id", "x-amzn-trace-id", "x-cloud-trace-context", "x-correlation-id"];

fn is_left_out(name: &HeaderName) -> bool {
    let name = name.as_str();
    LEFT_OUT.contains(&name) || TRACING.contains(&name) || name.starts_with("x-b3-") || name.starts_with("x-datadog-")
}

/// Fields of a batch's answer that are not true of its pieces. A cookie would be handed to several clients.
const OF_THE_WHOLE: &[&str] = &[
    "content-length",
    "content-encoding",
    "content-range",
    "accept-ranges",
    "etag",
    "last-modified",
    "set-cookie",
    "trailer",
    "content-md5",
    "digest",
    "content-digest",
    "repr-digest",
    "signature",
    "signature-input",
];

/// Writes what calls must have in common into `group`.
///
/// # Errors
/// The call has a field that is about it alone.
pub fn group(headers: &HeaderMap, group: &mut Vec<u8>) -> Result<(), Alone> {
    if OWN.iter().any(|name| headers.contains_key(*name)) {
        return Err(Alone::Header);
    }
    let mut fields: Vec<(&HeaderName, &HeaderValue)> = headers.iter().filter(|(name, _)| !is_left_out(name)).collect();
    // Of one name the order has a meaning, and stays.
    fields.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in fields {
        put(group, name.as_str().as_bytes());
        put(group, value.as_bytes());
    }
    Ok(())
}

/// Appends a text with its length before it, so that no two sequences of texts look alike.
pub fn put(group: &mut Vec<u8>, text: &[u8]) {
    group.put_u64(text.len() as u64);
    group.extend_from_slice(text);
}

/// Headers of a batch call, from those of its first member. Its answer must come as it is, because it is taken apart.
pub fn of_call(first: &HeaderMap, with_body: bool) -> HeaderMap {
    let mut headers = first.clone();
    for name in first.keys().filter(|name| is_left_out(name)) {
        headers.remove(name);
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if with_body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers
}

/// What of an answer's headers is true of each of its pieces.
pub fn of_pieces(answer: &HeaderMap) -> HeaderMap {
    let mut headers = answer.clone();
    for name in OF_THE_WHOLE {
        headers.remove(*name);
    }
    headers
}

/// What of an envelope's headers is told to each client although the pieces have headers of their own: limits, and when it was answered.
pub fn of_envelope(answer: &HeaderMap) -> HeaderMap {
    let told = |name: &HeaderName| *name == DATE || *name == AGE || name.as_str().contains("ratelimit");
    let mut headers = HeaderMap::new();
    for (name, value) in answer.iter().filter(|(name, _)| told(name)) {
        headers.append(name.clone(), value.clone());
    }
    headers
}

/// Whether an answer comes as it is.
pub fn is_plain(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether the content is JSON, as far as the field says.
pub fn is_json(headers: &HeaderMap) -> bool {
    is_plain_json(headers) || media(headers).to_ascii_lowercase().ends_with("+json")
}

/// Whether the content is JSON and nothing more special: an envelope has no place to say what.
pub fn is_plain_json(headers: &HeaderMap) -> bool {
    media(headers).eq_ignore_ascii_case("application/json")
}

/// What the content is, without parameters.
fn media(headers: &HeaderMap) -> &str {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn of(fields: &[(&'static str, &'static str)]) -> Result<Vec<u8>, Alone> {
        let mut text = Vec::new();
        group(&headers(fields), &mut text).map(|()| text)
    }

    #[test]
    fn whatever_reaches_the_provider_tells_calls_apart() {
        let plain = of(&[("authorization", "Bearer a"), ("accept", "x")]);
        assert_eq!(plain, of(&[("accept", "x"), ("traceparent", "00-1-1-01"), ("authorization", "Bearer a"), ("content-length", "3")]));
        for other in [
            &[("authorization", "Bearer b"), ("accept", "x")][..],
            &[("authorization", "Bearer a")],
            &[("accept", "xauthorizationBearer a")],
        ] {
            assert_ne!(plain, of(other), "{other:?}");
        }
        assert_ne!(of(&[("a", "1"), ("a", "2")]), of(&[("a", "2"), ("a", "1")]));
    }

    #[test]
    fn what_names_one_sending_keeps_no_calls_apart() {
        for name in ["x-b3-traceid", "x-datadog-parent-id", "x-amzn-trace-id", "x-correlation-id", "baggage"] {
            assert_eq!(of(&[(name, "1")]), of(&[(name, "2")]), "{name}");
            assert!(of_call(&headers(&[(name, "1")]), false).get(name).is_none());
        }
    }

    #[test]
    fn conditions_ranges_and_keys_go_alone() {
        for name in ["if-none-match", "range", "idempotency-key", "content-encoding", "signature"] {
            assert_eq!(of(&[(name, "1")]), Err(Alone::Header), "{name}");
        }
    }

    #[test]
    fn no_cookie_and_no_validator_of_the_whole_reaches_a_client() {
        let answer = headers(&[("set-cookie", "a=1"), ("etag", "\"1\""), ("cache-control", "max-age=9"), ("x-ratelimit-left", "3")]);
        let left = |headers: HeaderMap| headers.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(left(of_pieces(&answer)), ["cache-control", "x-ratelimit-left"]);
        assert_eq!(left(of_envelope(&answer)), ["x-ratelimit-left"]);
    }
}
