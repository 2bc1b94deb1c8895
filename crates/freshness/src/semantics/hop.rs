//! Hop-by-hop fields: they belong to one connection and are neither forwarded nor stored.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Hop-by-hop fields of RFC 9110 section 7.6.1 and their unregistered cousins.
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
];

/// Removes hop-by-hop fields and those that `Connection` names; of `TE` that trailers are taken stays. `Content-Length` goes with
/// `Transfer-Encoding`, which overrides it (RFC 9112 section 6.3).
pub fn remove(headers: &mut HeaderMap) {
    // Most heads have none: one look at the names costs less than a search for each.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    // It says that trailers can be passed on, which they are: servers of gRPC ask for it.
    let members = headers.get_all(TE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let trailers = members.into_iter().any(|member| member.trim_ascii().eq_ignore_ascii_case(b"trailers"));
    for name in named(headers) {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes the fields that `Connection` names, and nothing else: for a request before anything looks at it. They end here, so neither a key nor
/// `Vary` may see in them what the origin does not. What says how the message is cut and where it goes stays, and so does what `keeps` holds to be
/// meant for us.
pub fn remove_named(headers: &mut HeaderMap, keeps: impl Fn(&HeaderName) -> bool) {
    for name in named(headers) {
        if name != HOST && name != CONTENT_LENGTH && !HOP_BY_HOP.contains(&name) && !keeps(&name) {
            headers.remove(name);
        }
    }
}

/// The fields that `Connection` names.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    // What most say is no field that anybody has.
    let telling = |member: &&[u8]| ![&b"keep-alive"[..], b"close", b""].iter().any(|usual| member.eq_ignore_ascii_case(usual));
    let members = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    members.map(<[u8]>::trim_ascii).filter(telling).filter_map(|member| HeaderName::from_bytes(member).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_what_connection_names() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_static("close, X-Mine ,bad name"));
        headers.append(CONNECTION, HeaderValue::from_static("x-yours"));
        for name in ["x-mine", "x-yours", "te", "keep-alive", "etag"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        remove(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["etag"]);
        headers.append(TE, HeaderValue::from_static("gzip;q=0.5, Trailers"));
        remove(&mut headers);
        assert_eq!(headers.get(TE).unwrap(), "trailers");
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        remove(&mut headers);
        assert!(headers.contains_key(CONTENT_LENGTH));
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        remove(&mut headers);
        assert!(!headers.contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn removes_only_what_connection_names() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_static("Keep-Alive, ACCEPT-Language, x-ours, host,content-length"));
        headers.append(CONNECTION, HeaderValue::from_static("te, upgrade"));
        for name in ["host", "content-length", "te", "upgrade", "keep-alive", "accept-language", "x-ours", "accept"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        remove_named(&mut headers, |name| name == "x-ours");
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "connection", "content-length", "host", "keep-alive", "te", "upgrade", "x-ours"]);
    }
}
