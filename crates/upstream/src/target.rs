//! The request target as bytes: joined, and edited by whole query parameters, never decoded and encoded again.

use std::fmt::Write as _;

use http::uri::{Authority, InvalidUri, InvalidUriParts, Parts, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};

/// The checked base of an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    scheme: Scheme,
    authority: Authority,
    /// Path prefix without a trailing slash; empty for the root.
    prefix: String,
    /// The authority as a `Host` field: without user information, and without the port where it is the scheme's own.
    host: HeaderValue,
}

impl Base {
    /// The parts of `base`, or `None` when it cannot be one.
    pub(crate) fn new(base: &Uri) -> Option<Self> {
        let scheme = base.scheme().filter(|s| **s == Scheme::HTTP || **s == Scheme::HTTPS)?.clone();
        let authority = base.authority().filter(|a| !a.host().is_empty() && !a.as_str().contains('@'))?.clone();
        if base.query().is_some() {
            return None;
        }
        let usual = if scheme == Scheme::HTTPS { 443 } else { 80 };
        let host = match authority.port_u16().filter(|port| *port != usual) {
            Some(port) => HeaderValue::try_from(format!("{}:{port}", authority.host())),
            None => HeaderValue::from_str(authority.host()),
        };
        Some(Self { scheme, authority, prefix: base.path().trim_end_matches('/').to_owned(), host: host.ok()? })
    }

    /// The authority as a `Host` field.
    pub(crate) const fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Whether it is reached without TLS, so that nothing is negotiated.
    pub(crate) fn is_plain(&self) -> bool {
        self.scheme == Scheme::HTTP
    }

    /// `path_and_query` as it stands in a request whose connection says the rest.
    pub(crate) fn origin_form(&self, path_and_query: String) -> Result<Uri, InvalidUri> {
        PathAndQuery::from_maybe_shared(bytes::Bytes::from(path_and_query)).map(Uri::from)
    }

    /// Base path and target path-and-query in one text, byte by byte.
    pub(crate) fn join(&self, target: &Uri) -> String {
        let tail = target.path_and_query().map_or("/", PathAndQuery::as_str);
        let slash = if tail.starts_with('/') || (tail == "*" && self.prefix.is_empty()) { "" } else { "/" };
        let mut text = String::with_capacity(self.prefix.len() + tail.len() + 1);
        text.push_str(&self.prefix);
        text.push_str(slash);
        text.push_str(tail);
        text
    }

    /// The URI to fetch `path_and_query` at.
    pub(crate) fn uri(&self, path_and_query: String) -> Result<Uri, InvalidUriParts> {
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        // A text that is no path makes `from_parts` fail, with its error.
        parts.path_and_query = PathAndQuery::from_maybe_shared(bytes::Bytes::from(path_and_query)).ok();
        Uri::from_parts(parts)
    }
}

/// `path_and_query` without the query parameters of these names (compared as written and after decoding `%XX` and `+`); all other bytes stay.
/// `None` when there is nothing to take.
pub fn without_parameters(path_and_query: &str, names: &[&str]) -> Option<String> {
    let (path, query) = path_and_query.split_once('?')?;
    let strip = |pair: &str| names.iter().any(|name| is_named(pair, name));
    if !query.split('&').any(strip) {
        return None;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !strip(pair)).collect();
    Some(if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) })
}

pub(crate) fn is_named(pair: &str, name: &str) -> bool {
    let written = pair.split_once('=').map_or(pair, |(name, _)| name);
    written == name || (written.contains(['%', '+']) && decoded(written) == name.as_bytes())
}

pub(crate) fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex =
            bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok()).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (byte, hex) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    out
}

/// `path_and_query` with one more parameter at its end, its value percent-encoded where needed.
pub(crate) fn with_parameter(mut path_and_query: String, name: &str, value: &str) -> String {
    path_and_query.push(if path_and_query.contains('?') { '&' } else { '?' });
    path_and_query.push_str(name);
    path_and_query.push('=');
    path_and_query.push_str(&encoded(value.as_bytes()));
    path_and_query
}

/// Percent-encoded, but for what means nothing anywhere in a target.
pub(crate) fn encoded(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(base: &str, target: &str) -> String {
        let base = Base::new(&base.parse().unwrap()).unwrap();
        base.uri(base.join(&target.parse().unwrap())).unwrap().to_string()
    }

    #[test]
    fn joins_byte_by_byte() {
        assert_eq!(joined("http://h", "/"), "http://h/");
        assert_eq!(joined("http://h/", "/a//b/../c%2F%2f?x=%7E&y=a+b&&"), "http://h/a//b/../c%2F%2f?x=%7E&y=a+b&&");
        assert_eq!(joined("https://h:8443/v1/", "/chat?"), "https://h:8443/v1/chat?");
        assert_eq!(joined("https://h/v1", "/"), "https://h/v1/");
        assert_eq!(joined("https://h/v1", "/?q"), "https://h/v1/?q");
    }

    #[test]
    fn refuses_what_is_no_base() {
        for base in ["/only/path", "ftp://h/", "http://h/?q=1", "h:80", "http://me:pw@h/"] {
            assert!(Base::new(&base.parse().unwrap()).is_none(), "{base}");
        }
    }

    #[test]
    fn takes_whole_parameters_and_leaves_the_rest() {
        let take = |text| without_parameters(text, &["key", "app id"]);
        assert_eq!(take("/a?key=1&b=2").as_deref(), Some("/a?b=2"));
        assert_eq!(take("/a?b=%2b&key&c=").as_deref(), Some("/a?b=%2b&c="));
        assert_eq!(take("/a?%6Bey=1").as_deref(), Some("/a"));
        assert_eq!(take("/a?app+id=1&x").as_deref(), Some("/a?x"));
        assert_eq!(take("/a?keys=1&monkey=2&b=key"), None);
        assert_eq!(take("/key=1"), None);
        assert_eq!(take("/a?%zz=1&%6=2&key=k").as_deref(), Some("/a?%zz=1&%6=2"));
    }

    #[test]
    fn a_text_that_is_no_path_is_an_error() {
        let base = Base::new(&"http://h".parse().unwrap()).unwrap();
        assert!(base.uri("/a b".to_owned()).is_err());
    }
}
