//! Conditional requests and ranges: answered from complete entries, never forwarded for a keyed call.

use std::ops::Range;

use bytes::Bytes;
use farthing_types::{Span, Time};
use http::header::{
    AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::date::parse_date;
use super::store::{is_read, without_unstored};
use super::{Bans, Facts, Received, Rules};
use crate::entry::Packed;

/// What a client gets from a complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All of it.
    Full,
    /// 304.
    NotModified,
    /// 206 with these bytes.
    Partial(Range<u64>),
    /// 416: the range lies outside.
    Unsatisfiable,
}

/// An answer ready to be written.
#[derive(Clone, Debug)]
pub struct Served {
    /// The status.
    pub status: StatusCode,
    /// End-to-end headers with `Age`.
    pub headers: HeaderMap,
    /// The body; empty for HEAD.
    pub body: Bytes,
}

/// Fields that an answer from an entry may get on its way out, ours at the edge included: room for them is made once.
const ADDED: usize = 8;

/// Decides how to answer a request from a complete answer of `length` bytes. Preconditions before ranges
/// (RFC 9110 section 13.2.2). Several ranges, other units and malformed ones give the whole.
pub fn answer(status: StatusCode, headers: &HeaderMap, length: u64, method: &Method, request: &HeaderMap) -> Answer {
    if not_modified(status, headers, method, request) {
        return Answer::NotModified;
    }
    if status != StatusCode::OK || method != Method::GET {
        return Answer::Full;
    }
    let Some(range) = request.get(RANGE).filter(|_| request.get_all(RANGE).iter().count() == 1) else { return Answer::Full };
    if !range_applies(headers, request) {
        return Answer::Full;
    }
    match parse_range(range, length) {
        Some(Some(range)) => Answer::Partial(range),
        Some(None) => Answer::Unsatisfiable,
        None => Answer::Full,
    }
}

/// Whether a GET or HEAD is answered 304 from a head: `If-None-Match` by weak comparison, else `If-Modified-Since`.
/// Usable as soon as a shared head is there, before the body.
pub fn not_modified(status: StatusCode, headers: &HeaderMap, method: &Method, request: &HeaderMap) -> bool {
    if status != StatusCode::OK || !is_read(method) {
        return false;
    }
    if request.contains_key(IF_NONE_MATCH) {
        let own = headers.get(ETAG).map(|v| opaque(v.as_bytes()));
        return request.get_all(IF_NONE_MATCH).iter().any(|value| {
            let members = etags(value.as_bytes());
            members.iter().any(|m| *m == b"*" || (own.is_some() && own == Some(opaque(m))))
        });
    }
    let Some(since) = request.get(IF_MODIFIED_SINCE).and_then(parse_date) else { return false };
    let modified = headers.get(LAST_MODIFIED).or_else(|| headers.get(DATE)).and_then(parse_date);
    modified.is_some_and(|modified| modified <= since)
}

/// The answer to a request from an entry, `age` old.
pub fn serve(entry: &Packed, method: &Method, request: &HeaderMap, age: Span) -> Served {
    let length = entry.body_len() as u64;
    let mut headers = entry.headers().to_map(ADDED);
    headers.insert(AGE, number(age.as_secs()));
    let kind = answer(entry.status(), &headers, length, method, request);
    render(kind, entry.status(), headers, entry.body(), method)
}

/// Applies an [`Answer`] to a complete answer.
pub fn render(kind: Answer, status: StatusCode, mut headers: HeaderMap, body: Bytes, method: &Method) -> Served {
    let length = body.len() as u64;
    let (status, body) = match kind {
        Answer::Full => {
            let bodiless = matches!(status.as_u16(), 100..=199 | 204 | 304);
            // An entry that HEAD itself brought keeps the origin's length.
            let own_head = method == Method::HEAD && body.is_empty();
            if !bodiless && !own_head {
                insert_length(&mut headers, length);
            }
            (status, body)
        }
        Answer::NotModified => {
            for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_RANGE] {
                headers.remove(name);
            }
            (StatusCode::NOT_MODIFIED, Bytes::new())
        }
        Answer::Partial(range) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
            content_range(&mut headers, &format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1)));
            let bounds = usize::try_from(range.start).unwrap_or(usize::MAX)..usize::try_from(range.end).unwrap_or(usize::MAX);
            let part = if bounds.end <= body.len() && bounds.start <= bounds.end { body.slice(bounds) } else { Bytes::new() };
            (StatusCode::PARTIAL_CONTENT, part)
        }
        Answer::Unsatisfiable => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0u64));
            headers.remove(CONTENT_TYPE);
            content_range(&mut headers, &format!("bytes */{length}"));
            (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new())
        }
    };
    Served { status, headers, body: if method == Method::HEAD { Bytes::new() } else { body } }
}

/// Sets the length, unless it stands there already.
fn insert_length(headers: &mut HeaderMap, length: u64) {
    let value = number(length);
    if !headers.get_all(CONTENT_LENGTH).iter().eq([&value]) {
        headers.insert(CONTENT_LENGTH, value);
    }
}

/// A number as a value, without the room for the longest one that the conversion of the library makes.
fn number(n: u64) -> HeaderValue {
    HeaderValue::from_str(itoa::Buffer::new().format(n)).unwrap_or_else(|_| HeaderValue::from(n))
}

/// The header fields that make a call for an entry conditional; empty when it has no validator.
pub fn validators(entry: &Packed) -> HeaderMap {
    let mut out = HeaderMap::new();
    if entry.status() != StatusCode::OK {
        return out;
    }
    if let Some(etag) = entry.etag() {
        out.insert(IF_NONE_MATCH, etag);
    }
    if let Some(modified) = entry.headers().value(&LAST_MODIFIED).filter(|_| entry.last_modified().is_some()) {
        out.insert(IF_MODIFIED_SINCE, modified);
    }
    out
}

/// Removes the client's conditional and Range fields from the headers of a keyed call: the answer must be whole.
pub fn strip_conditions(headers: &mut HeaderMap) {
    for name in [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE] {
        headers.remove(name);
    }
}

/// An entry's head after a 304.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// Its headers.
    pub headers: HeaderMap,
    /// What they say about freshness.
    pub facts: Facts,
    /// What they say against keeping them, and handing them to others than who asked: see [`super::may_renew`].
    pub bans: Bans,
}

/// The headers and facts of an entry after a 304 (RFC 9111 sections 3.2 and 4.3.4): fields of the 304 replace the stored
/// ones, except those that describe the stored body. `None` when the 304 carries a strong validator that is not the
/// entry's: it speaks of another answer, and the call must be repeated without conditions.
pub fn merge_304(entry: &Packed, received: &Received<'_>, rules: &Rules) -> Option<Renewed> {
    let told = received.headers.get(ETAG);
    if let (Some(told), Some(own)) = (told, entry.etag())
        && opaque(told.as_bytes()) != opaque(own.as_bytes())
    {
        return None;
    }
    let mut headers = entry.headers().to_whole_map(received.headers.len());
    for name in received.headers.keys().filter(|name| !describes_body(name)) {
        headers.remove(name);
        for value in received.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers.remove(AGE);
    let mut aged = headers.clone();
    if let Some(age) = received.headers.get(AGE) {
        aged.insert(AGE, age.clone());
    }
    if !received.headers.contains_key(DATE) {
        // The stored Date would make the validated answer look old.
        aged.remove(DATE);
    }
    let fresh = Received { status: entry.status(), headers: &aged, ..*received };
    let (facts, bans) = (Facts::read(&fresh, rules), Bans::read(&fresh, rules));
    Some(Renewed { headers: without_unstored(headers, rules), facts, bans })
}

/// Whether a HEAD answer tells that the representation is another one than the entry's, which a GET would be answered from: by a
/// validator that differs, or by the length (RFC 9111 section 4.3.5).
pub fn head_tells_change(entry: &Packed, received: &Received<'_>) -> bool {
    if received.status != StatusCode::OK || entry.status() != StatusCode::OK {
        return false;
    }
    let differs = |name: HeaderName| received.headers.get(&name).is_some_and(|told| entry.headers().get(&name) != Some(told.as_bytes()));
    let length = received.headers.get(CONTENT_LENGTH).is_some_and(|told| told.as_bytes() != number(entry.body_len() as u64).as_bytes());
    differs(ETAG) || differs(LAST_MODIFIED) || length
}

/// Fields that a 304 must not change: they say how the stored body is cut, coded or checked, and would be wrong of it (RFC 9111 section
/// 3.2). `Content-Type` is not among them: it says what the body means.
fn describes_body(name: &HeaderName) -> bool {
    const OF_THE_BODY: [&str; 7] =
        ["content-length", "content-encoding", "content-range", "content-md5", "content-digest", "transfer-encoding", "trailer"];
    OF_THE_BODY.contains(&name.as_str())
}

/// `If-Range`: a strong ETag that is equal, or the exact Last-Modified date.
fn range_applies(headers: &HeaderMap, request: &HeaderMap) -> bool {
    let Some(condition) = request.get(IF_RANGE) else { return true };
    let text = condition.as_bytes();
    if text.starts_with(b"\"") {
        return headers.get(ETAG).is_some_and(|own| own.as_bytes() == text);
    }
    if text.starts_with(b"W/") {
        return false;
    }
    let date = |value: Option<&HeaderValue>| value.and_then(parse_date);
    let (stated, own): (Option<Time>, Option<Time>) = (date(Some(condition)), date(headers.get(LAST_MODIFIED)));
    stated.is_some() && stated == own
}

/// `None`: not a single byte range, to be ignored. `Some(None)`: outside of the answer.
fn parse_range(value: &HeaderValue, length: u64) -> Option<Option<Range<u64>>> {
    let text = value.to_str().ok()?.trim();
    let (unit, spec) = text.split_once('=')?;
    let (first, last) = spec.trim().split_once('-')?;
    let number = |t: &str| (!t.is_empty() && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse().unwrap_or(u64::MAX));
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    if first.is_empty() {
        let suffix = number(last)?;
        let start = length.saturating_sub(suffix);
        return Some((suffix > 0 && length > 0).then_some(start..length));
    }
    let first = number(first)?;
    let end = if last.is_empty() { u64::MAX } else { number(last)?.saturating_add(1) };
    if end <= first {
        return None;
    }
    Some((first < length).then_some(first..end.min(length)))
}

/// The opaque part of an entity tag: weak comparison ignores `W/`.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The members of an entity-tag list; a comma may stand inside of a tag.
fn etags(list: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (i, byte) in list.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                out.extend(list.get(start..i));
                start = i + 1;
            }
            _ => {}
        }
    }
    out.extend(list.get(start..));
    out.into_iter().map(<[u8]>::trim_ascii).filter(|m| !m.is_empty()).collect()
}

fn content_range(headers: &mut HeaderMap, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(CONTENT_RANGE, value);
    }
}
