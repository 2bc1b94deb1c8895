//! Headers in the key.

use std::borrow::Cow;
use std::hash::Hasher;
use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, VARY};
use http::{HeaderMap, HeaderName};
use siphasher::sip128::SipHasher13;

use super::field;

/// Version of [`NOT_IN_KEY`]; hashed into every key of profile `api`.
pub const NOT_IN_KEY_VERSION: u8 = 3;

/// Headers that profile `api` leaves out of the key, each with the reason; a name ending in `*` is a prefix.
/// Everything else enters: a forgotten header costs a call, a wrongly dropped one a wrong answer.
pub const NOT_IN_KEY: &[(&str, &str)] = &[
    ("accept-encoding", "coding of the transfer, not the answer; checked against the entry's Content-Encoding at lookup"),
    ("age", "says nothing about a request"),
    ("api-key", "credential: the tenant stands for it"),
    ("authorization", "credential: the tenant stands for it"),
    ("b3", "tracing"),
    ("baggage", "tracing"),
    ("cache-control", "directive to the cache, obeyed there"),
    ("connection", "hop-by-hop"),
    ("content-length", "follows from the body"),
    ("date", "time of sending"),
    ("expect", "hop-by-hop in effect: answered by the edge"),
    ("forwarded", "path of the request through proxies"),
    ("host", "enters as the authority"),
    ("idempotency-key", "names one sending of a request, not its content"),
    ("if-match", "precondition; requests with it are never answered from the cache"),
    ("if-modified-since", "precondition, answered from the entry"),
    ("if-none-match", "precondition, answered from the entry"),
    ("if-range", "precondition, answered from the entry"),
    ("if-unmodified-since", "precondition; requests with it are never answered from the cache"),
    ("keep-alive", "hop-by-hop"),
    ("newrelic", "tracing"),
    ("pragma", "directive to the cache, obeyed there"),
    ("priority", "order of delivery, not content"),
    ("proxy-authenticate", "hop-by-hop"),
    ("proxy-authorization", "credential for a proxy"),
    ("proxy-connection", "hop-by-hop"),
    ("range", "answered from the complete entry"),
    ("sentry-trace", "tracing"),
    ("te", "hop-by-hop"),
    ("traceparent", "tracing"),
    ("tracestate", "tracing"),
    ("trailer", "framing"),
    ("transfer-encoding", "framing"),
    ("uber-trace-id", "tracing"),
    ("upgrade", "hop-by-hop"),
    ("user-agent", "names the client's software; an API's answer does not depend on it"),
    ("via", "path of the request through proxies"),
    ("x-amzn-trace-id", "tracing"),
    ("x-api-key", "credential: the tenant stands for it"),
    ("x-b3-*", "tracing"),
    ("x-cloud-trace-context", "tracing"),
    ("x-correlation-id", "names one sending of a request"),
    ("x-datadog-*", "tracing"),
    ("x-farthing-*", "ours; never forwarded"),
    ("x-forwarded-for", "path of the request through proxies; what else begins so may be in the answer: the user, the name of the host"),
    ("x-forwarded-server", "path of the request through proxies"),
    ("x-goog-api-key", "credential: the tenant stands for it"),
    ("x-real-ip", "path of the request through proxies"),
    ("x-request-id", "names one sending of a request"),
    ("x-stainless-*", "telemetry of generated SDKs, retry counts among it"),
];

/// Of [`NOT_IN_KEY`] those that name one sending of a request, or the trace that it is part of: no other request may bear them.
pub const OF_ONE_SENDING: &[&str] = &[
    "b3",
    "baggage",
    "date",
    "idempotency-key",
    "newrelic",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "uber-trace-id",
    "x-amzn-trace-id",
    "x-b3-*",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-datadog-*",
    "x-request-id",
    "x-stainless-*",
];

/// Whether a header of this name is about one sending of a request.
pub fn is_of_one_sending(name: &HeaderName) -> bool {
    let name = name.as_str();
    OF_ONE_SENDING.iter().any(|entry| entry.strip_suffix('*').map_or(*entry == name, |prefix| name.starts_with(prefix)))
}

/// Whether profile `api` puts a header of this name into the key.
pub fn in_api_key(name: &HeaderName) -> bool {
    let name = name.as_str();
    if NOT_IN_KEY.binary_search_by(|(entry, _)| (*entry).cmp(name)).is_ok() {
        return false;
    }
    // All prefixes begin so; most names do not.
    !name.starts_with("x-") || !NOT_IN_KEY.iter().any(|(entry, _)| entry.strip_suffix('*').is_some_and(|prefix| name.starts_with(prefix)))
}

/// What an answer's `Vary` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// The answer does not depend on request fields.
    No,
    /// `*`: it depends on what nobody can see; never reusable.
    Star,
    /// It depends on these fields: lower case, sorted, no duplicates.
    Names(Arc<[HeaderName]>),
}

/// Reads `Vary`. A member that is not a field name counts as `*`: what we cannot read we cannot obey.
pub fn vary(response: &HeaderMap) -> Vary {
    let mut names: Vec<HeaderName> = Vec::new();
    for value in response.get_all(VARY) {
        let Ok(text) = value.to_str() else { return Vary::Star };
        for member in text.split(',').map(str::trim).filter(|m| !m.is_empty()) {
            match HeaderName::from_bytes(member.as_bytes()) {
                Ok(name) if member != "*" => names.push(name),
                _ => return Vary::Star,
            }
        }
    }
    if names.is_empty() {
        return Vary::No;
    }
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    Vary::Names(names.into())
}

pub(super) fn hash_all(hash: &mut SipHasher13, headers: &HeaderMap) {
    hash.write(&[b'a', NOT_IN_KEY_VERSION]);
    let mut names: Vec<&HeaderName> = headers.keys().filter(|name| in_api_key(name)).collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    hash.write_u64(names.len() as u64);
    for name in names {
        one(hash, name, headers);
    }
}

pub(super) fn hash_selected(hash: &mut SipHasher13, names: &[HeaderName], request: &HeaderMap) {
    hash.write_u64(names.len() as u64);
    for name in names {
        field(hash, name.as_str().as_bytes());
        if name == ACCEPT_ENCODING {
            field(hash, codings(request).as_bytes());
        } else {
            // Absent is not the same as empty.
            hash.write_u8(u8::from(request.contains_key(name)));
            field(hash, &combined(name, request));
        }
    }
}

/// A selecting field in the normal form of RFC 9111 section 4.1: its lines combined to one list, without white space at commas, language
/// tags in lower case. Order stays: to some origins it tells what is preferred.
fn combined<'a>(name: &HeaderName, request: &'a HeaderMap) -> Cow<'a, [u8]> {
    let mut lines = request.get_all(name).iter();
    if let (Some(only), None) = (lines.next(), lines.next())
        && name != ACCEPT_LANGUAGE
        && !only.as_bytes().contains(&b',')
    {
        // Most are no lists, and need no room of their own.
        return Cow::Borrowed(only.as_bytes().trim_ascii());
    }
    let mut out = Vec::new();
    for (line, value) in request.get_all(name).iter().enumerate() {
        if line > 0 {
            out.push(b',');
        }
        trimmed_list(value.as_bytes(), &mut out);
    }
    if name == ACCEPT_LANGUAGE {
        out.make_ascii_lowercase();
    }
    Cow::Owned(out)
}

/// Appends a list without white space around its commas; inside of quotes nothing changes.
fn trimmed_list(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let (mut quoted, mut escaped, mut after_comma) = (false, false, true);
    for byte in text {
        if !quoted && matches!(byte, b' ' | b'\t') && after_comma {
            continue;
        }
        if !quoted && *byte == b',' {
            trim_end(out, start);
        }
        after_comma = !quoted && *byte == b',';
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        out.push(*byte);
    }
    trim_end(out, start);
}

fn trim_end(out: &mut Vec<u8>, start: usize) {
    while out.len() > start && out.last().is_some_and(|b| matches!(b, b' ' | b'\t')) {
        out.pop();
    }
}

fn one(hash: &mut SipHasher13, name: &HeaderName, headers: &HeaderMap) {
    field(hash, name.as_str().as_bytes());
    let values = headers.get_all(name);
    hash.write_u64(values.iter().count() as u64);
    for value in values {
        field(hash, value.as_bytes().trim_ascii());
    }
}

/// `Accept-Encoding` in a normal form: the members in lower case without white space, sorted. Clients differ in order and
/// spacing only, and origins do not look at those.
fn codings(request: &HeaderMap) -> String {
    let mut members: Vec<String> = Vec::new();
    for value in request.get_all(ACCEPT_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        members.extend(text.split(',').map(|m| m.split_whitespace().collect()).filter(|m: &String| !m.is_empty()));
    }
    members.sort();
    members.dedup();
    members.join(",")
}
