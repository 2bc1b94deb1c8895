//! Which stored answers a write makes invalid (RFC 9111 section 4.4).

use std::borrow::Cow;

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, HeaderName, StatusCode, Uri};

/// The origin of a route as its references see it.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Scheme, authority and path prefix of the upstream.
    pub base: &'a Uri,
    /// Path and query of the request, below the prefix.
    pub target: &'a Uri,
}

/// The targets, besides its own, of which a write's answer says that they changed: `Location` and `Content-Location`, where they are of
/// the same origin and below the upstream's prefix. Path and query as requests of the route have them. Answers that are errors
/// invalidate nothing.
pub fn also_changed(site: Site<'_>, status: StatusCode, headers: &HeaderMap) -> Vec<Uri> {
    if !invalidates(status) {
        return Vec::new();
    }
    let named = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).and_then(|text| resolve(site, text.trim()));
    let mut out: Vec<Uri> = [LOCATION, CONTENT_LOCATION].into_iter().filter_map(named).filter(|uri| uri != site.target).collect();
    out.dedup();
    out
}

/// Whether an answer to an unsafe request is a non-error one.
pub fn invalidates(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

/// A reference (RFC 3986 section 4.2) resolved against the request's target; `None` for another origin and for what is none.
fn resolve(site: Site<'_>, reference: &str) -> Option<Uri> {
    let prefix = site.base.path().trim_end_matches('/');
    let reference = reference.split('#').next().unwrap_or_default();
    let (path, query) = match &*local(site, reference)? {
        "" => (format!("{prefix}{}", site.target.path()), site.target.query().map(str::to_owned)),
        rest => {
            let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
            (join(prefix, site.target.path(), path), query.map(str::to_owned))
        }
    };
    let path = without_dots(&path);
    let path = path.strip_prefix(prefix).filter(|rest| rest.starts_with('/'))?;
    let text = query.as_deref().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    text.parse().ok()
}

/// The part of a reference behind scheme and authority, when these are the site's own or absent.
fn local<'a>(site: Site<'_>, reference: &'a str) -> Option<Cow<'a, str>> {
    let rest = match reference.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
            if !scheme.eq_ignore_ascii_case(site.base.scheme_str()?) {
                return None;
            }
            rest
        }
        _ => match reference.strip_prefix("//") {
            Some(rest) => rest,
            // A scheme without an authority (`mailto:`) names nothing here.
            None => return (!has_scheme(reference)).then_some(Cow::Borrowed(reference)),
        },
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let same = authority_of(site.base).is_some_and(|own| own == with_port(authority, site.base.scheme_str()));
    // An authority alone names the root, not the request's own path.
    same.then(|| if path.starts_with('/') { Cow::Borrowed(path) } else { Cow::Owned(format!("/{path}")) })
}

fn has_scheme(reference: &str) -> bool {
    let end = reference.find([':', '/', '?']).unwrap_or(reference.len());
    reference.as_bytes().get(end) == Some(&b':')
}

/// The origin that a URI belongs to (RFC 9110 section 4.3.2): scheme, host and port, in one spelling.
pub fn origin_of(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http").to_ascii_lowercase();
    format!("{scheme}://{}", authority_of(uri).unwrap_or_default())
}

fn authority_of(uri: &Uri) -> Option<String> {
    Some(with_port(uri.authority()?.as_str(), uri.scheme_str()))
}

/// An authority in lower case with its port spelled out.
fn with_port(authority: &str, scheme: Option<&str>) -> String {
    let authority = authority.to_ascii_lowercase();
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    match scheme {
        _ if has_port => authority,
        Some("https") => format!("{}:443", authority.trim_end_matches(':')),
        _ => format!("{}:80", authority.trim_end_matches(':')),
    }
}

fn join(prefix: &str, own: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    if path.is_empty() {
        return format!("{prefix}{own}");
    }
    let folder = own.rfind('/').map_or("/", |end| own.get(..=end).unwrap_or("/"));
    format!("{prefix}{folder}{path}")
}

/// A path without `.` and `..` segments (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    out.pop();
                }
                if last {
                    out.push("");
                }
            }
            _ => out.push(segment),
        }
    }
    format!("/{}", out.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::oracle::map;

    fn changed(base: &str, location: &str) -> Vec<String> {
        let (base, target) = (base.parse().unwrap(), "/a/b?q=1".parse().unwrap());
        let headers = map(&[("location", location)]);
        let found = also_changed(Site { base: &base, target: &target }, StatusCode::CREATED, &headers);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn references_of_the_same_origin_are_resolved() {
        let cases = [
            ("/x", "/x"),
            ("/x?y=1#part", "/x?y=1"),
            ("c", "/a/c"),
            ("../c/./d/..", "/c/"),
            ("?q=2", "/a/b?q=2"),
            ("http://api.test/x", "/x"),
            ("HTTP://API.test:80/x", "/x"),
            ("//api.test/x/../y", "/y"),
            ("http://api.test", "/"),
            ("http://api.test?z", "/?z"),
        ];
        for (location, expected) in cases {
            assert_eq!(changed("http://api.test/", location), [expected], "{location}");
        }
        assert_eq!(changed("https://api.test:8443/v1/", "https://api.test:8443/v1/x"), ["/x"]);
        assert_eq!(changed("http://api.test/v1", "c"), ["/a/c"]);
    }

    #[test]
    fn an_origin_has_one_spelling() {
        let of = |uri: &str| origin_of(&uri.parse().unwrap());
        assert_eq!(of("https://API.test/v1"), "https://api.test:443");
        assert_eq!(of("https://api.test:443"), "https://api.test:443");
        assert_eq!(of("HTTP://api.test/"), "http://api.test:80");
        assert_ne!(of("http://api.test:8080"), of("http://api.test"));
    }

    #[test]
    fn other_origins_and_the_target_itself_are_not_meant() {
        for other in
            ["http://other.test/x", "https://api.test/x", "//other.test/x", "http://api.test:81/x", "mailto:a@b", "/a/b?q=1", "", "#x"]
        {
            assert_eq!(changed("http://api.test", other), [""; 0], "{other}");
        }
        assert_eq!(changed("http://api.test/v1", "/v2/x"), [""; 0], "outside of the upstream's prefix");
        assert_eq!(changed("http://api.test/v1", "/v10/x"), [""; 0]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_named_stays_below_the_prefix(location in "[a./?:#%-]{0,12}", prefix in "(/v1)?") {
            for uri in changed(&format!("http://api.test{prefix}"), &location) {
                proptest::prop_assert!(uri.starts_with('/') && !uri.split('?').next().unwrap().split('/').any(|s| s == ".."), "{uri}");
            }
        }
    }

    #[test]
    fn errors_invalidate_nothing_and_both_fields_count() {
        let (base, target) = ("http://api.test".parse().unwrap(), "/a".parse().unwrap());
        let headers = map(&[("location", "/x"), ("content-location", "/y")]);
        let found = |status| also_changed(Site { base: &base, target: &target }, status, &headers).len();
        assert_eq!((found(StatusCode::OK), found(StatusCode::SEE_OTHER), found(StatusCode::NOT_FOUND)), (2, 2, 0));
        assert_eq!(found(StatusCode::INTERNAL_SERVER_ERROR), 0);
    }
}
