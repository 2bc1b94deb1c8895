//! Fields that belong to one connection and do not travel on.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue};

/// Whether a field belongs to the connection whatever `Connection` says (RFC 9110 section 7.6.1).
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == TE
        || *name == UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Takes off hop-by-hop fields and those that `Connection` names. `TE: trailers` stays: it says that we can pass trailers on, which gRPC
/// servers insist on, and we can. `Trailer` stays as the announcement of fields that do travel. `Content-Length` goes with `Transfer-Encoding`,
/// which overrides it (RFC 9112 section 6.3): left alone it would say how the body is cut, which is another way than it was read.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most heads have none: one look at the names costs less than a search for each.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let trailers = takes_trailers(headers);
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .collect();
    for name in named {
        headers.remove(&name);
    }
    for name in [CONNECTION, TRANSFER_ENCODING, TE, UPGRADE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "http2-settings"] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Leaves one `Content-Length` of several that say the same, which readers take for one (RFC 9110 section 8.6) and writers do not; none where
/// they differ.
pub fn one_length(headers: &mut HeaderMap) {
    let mut told = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = told.next() else { return };
    if told.next().is_none() && !first.as_bytes().contains(&b',') {
        return;
    }
    let mut numbers = headers.get_all(CONTENT_LENGTH).iter().flat_map(|v| v.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    let number = numbers.next().filter(|first| numbers.all(|other| other == *first));
    match number.and_then(|number| HeaderValue::from_bytes(number).ok()) {
        Some(number) => drop(headers.insert(CONTENT_LENGTH, number)),
        None => drop(headers.remove(CONTENT_LENGTH)),
    }
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().flat_map(|v| v.as_bytes().split(|b| *b == b',')).any(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_off_what_the_connection_names() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Mine, te"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip, Trailers"),
            ("trailer", "x-sum"),
            ("x-other", "2"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["te", "trailer", "x-other"]);
        assert_eq!(headers["te"], "trailers");
    }

    #[test]
    fn of_lengths_one_is_left_and_none_beside_a_transfer_coding() {
        for (fields, left) in [
            (&[("content-length", "5")][..], Some("5")),
            (&[("content-length", "5, 5")], Some("5")),
            (&[("content-length", "5"), ("content-length", "5")], Some("5")),
            (&[("content-length", "5"), ("content-length", "6")], None),
            (&[("content-length", "5,")], None),
            (&[("content-length", "5"), ("transfer-encoding", "chunked")], None),
            (&[("content-length", "5"), ("transfer-encoding", "gzip"), ("connection", "transfer-encoding, close")], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            strip_hop_by_hop(&mut headers);
            one_length(&mut headers);
            let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().map(|value| value.to_str().unwrap()).collect();
            assert_eq!(lengths, Vec::from_iter(left), "{fields:?}");
        }
    }
}
