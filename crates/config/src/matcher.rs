//! Which requests a route takes: by host, method and path; and how the one that takes a request is found among many.

use std::fmt;
use std::sync::Arc;

use http::Method;

/// A whole path with names in place of segments: `/v1/users/{id}/orders`, `/files/{*rest}`.
///
/// A path is compared as it was sent, byte by byte: percent-encoding is not undone, and a slash at its end makes another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    text: Arc<str>,
    parts: Box<[Part]>,
}

/// What stands between two slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// This text.
    Fixed(Arc<str>),
    /// Any text but none.
    Any,
    /// All that is left, slashes with it, but not nothing.
    Rest,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathTemplateError {
    /// It is no path.
    #[error("a template starts with '/' and has no query, '*' outside of {{*name}}, or spaces")]
    NoPath,
    /// A name that is none, or braces about a part of a segment.
    #[error("\"{0}\" is no segment: write {{name}} for one, {{*name}} for all that is left, or plain text")]
    Segment(String),
    /// Something follows the rest.
    #[error("\"{0}\" takes all that is left, so it must be the last")]
    NotLast(String),
}

impl PathTemplate {
    /// Reads `text`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, PathTemplateError> {
        let path = text.strip_prefix('/').filter(|_| text.is_ascii() && !text.contains(['?', '#', ' ']));
        let parts: Vec<Part> = path.ok_or(PathTemplateError::NoPath)?.split('/').map(part).collect::<Result<_, _>>()?;
        if let Some(at) = parts.iter().position(|part| *part == Part::Rest).filter(|at| at + 1 < parts.len()) {
            let segment = text.split('/').nth(at + 1).unwrap_or_default();
            return Err(PathTemplateError::NotLast(segment.to_owned()));
        }
        Ok(Self { text: text.into(), parts: parts.into() })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this is the whole of `path`, names filled in.
    pub fn takes(&self, path: &str) -> bool {
        let Some(mut left) = path.strip_prefix('/').map(Some) else { return false };
        for part in &self.parts {
            let Some(now) = left else { return false };
            if *part == Part::Rest {
                return !now.is_empty();
            }
            let (segment, after) = cut(now);
            if !part.is(segment) {
                return false;
            }
            left = after;
        }
        left.is_none()
    }

    /// The path before the first name, up to a segment border: `/v1/users` of `/v1/users/{id}`.
    pub fn start(&self) -> &str {
        let fixed = self.text.find('{').map_or(&*self.text, |at| &self.text[..at]);
        match fixed.trim_end_matches('/') {
            "" => "/",
            start => start,
        }
    }

    /// Whether both take the same paths.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.parts == other.parts
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How much of a path it leaves open: the more, the later it is asked.
    pub(crate) fn openness(&self) -> (bool, usize) {
        (self.parts.last() == Some(&Part::Rest), self.parts.iter().filter(|part| **part == Part::Any).count())
    }
}

impl Part {
    pub(crate) fn is(&self, segment: &str) -> bool {
        match self {
            Self::Fixed(text) => **text == *segment,
            Self::Any | Self::Rest => !segment.is_empty(),
        }
    }
}

fn part(segment: &str) -> Result<Part, PathTemplateError> {
    let wrong = || PathTemplateError::Segment(segment.to_owned());
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
        Some(inner) => match inner.strip_prefix('*') {
            Some(rest) if is_name(rest) => Ok(Part::Rest),
            None if is_name(inner) => Ok(Part::Any),
            _ => Err(wrong()),
        },
        None if segment.contains(['{', '}', '*']) => Err(wrong()),
        None => Ok(Part::Fixed(segment.into())),
    }
}

/// The first segment, and what follows its slash where there is one.
pub(crate) fn cut(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    }
}

/// Which requests a route takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matcher {
    /// Hosts in lower case without port; empty means any.
    pub hosts: Vec<Arc<str>>,
    /// The path starts with this, at a segment border; `/` takes all. With a template it is what stands before the first name.
    pub path_prefix: Arc<str>,
    /// The whole path, where a start alone does not tell.
    pub path: Option<PathTemplate>,
    /// Methods; empty means any.
    pub methods: Vec<Method>,
}

impl Matcher {
    /// Whether a request for `host` (lower case, without port) and `path` is taken.
    pub fn takes(&self, host: &str, path: &str, method: &Method) -> bool {
        self.takes_host(host) && self.takes_method(method) && self.takes_path(path)
    }

    fn takes_host(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|h| &**h == host)
    }

    pub(crate) fn takes_method(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    fn takes_path(&self, path: &str) -> bool {
        match &self.path {
            Some(template) => template.takes(path),
            None => has_prefix(path, &self.path_prefix),
        }
    }

    /// Whether no order of the two would let both be reached.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let meet = |x: bool, y: bool, any: bool| (x && y) || any;
        let hosts = meet(self.hosts.is_empty(), other.hosts.is_empty(), self.hosts.iter().any(|host| other.hosts.contains(host)));
        let methods =
            meet(self.methods.is_empty(), other.methods.is_empty(), self.methods.iter().any(|method| other.methods.contains(method)));
        let paths = match (&self.path, &other.path) {
            (Some(a), Some(b)) => a.same(b),
            (None, None) => self.path_prefix.trim_end_matches('/') == other.path_prefix.trim_end_matches('/'),
            _ => false,
        };
        hosts && methods && paths
    }

    /// Its place in the order of routes: hosts before none, the longer start first, whole paths before starts and the less open before
    /// the more open ones, methods before any.
    pub(crate) fn rank(&self) -> impl Ord {
        let whole = self.path.as_ref().map(PathTemplate::openness);
        (self.hosts.is_empty(), usize::MAX - self.path_prefix.len(), whole.is_none(), whole, self.methods.is_empty())
    }
}

/// The path as it is configured.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path.as_ref().map_or(&*self.path_prefix, PathTemplate::as_str))
    }
}

/// Whether `path` is `prefix` or lies below it.
pub(crate) fn has_prefix(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest.starts_with('?'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_at_segments() {
        let matcher = |prefix: &str| Matcher { path_prefix: prefix.into(), ..Matcher::default() };
        for (prefix, path, takes) in [
            ("/", "/", true),
            ("/", "/a", true),
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a/", "/a", true),
            ("/a", "/ab", false),
            ("/a", "/", false),
        ] {
            assert_eq!(matcher(prefix).takes("h", path, &Method::GET), takes, "{prefix} {path}");
        }
    }

    #[test]
    fn hosts_and_methods_narrow() {
        let matcher = Matcher { hosts: vec!["api.test".into()], path_prefix: "/".into(), methods: vec![Method::GET], path: None };
        assert!(matcher.takes("api.test", "/", &Method::GET));
        assert!(!matcher.takes("api.test", "/", &Method::POST));
        assert!(!matcher.takes("other.test", "/", &Method::GET));
    }

    #[test]
    fn templates_take_whole_paths() {
        for (template, path, takes) in [
            ("/users/{id}", "/users/7", true),
            ("/users/{id}", "/users/", false),
            ("/users/{id}", "/users/7/", false),
            ("/users/{id}", "/users/7/orders", false),
            ("/users/{id}/orders", "/users/7/orders", true),
            ("/users/{id}/orders", "/users//orders", false),
            ("/files/{*rest}", "/files/a", true),
            ("/files/{*rest}", "/files/a/b/", true),
            ("/files/{*rest}", "/files/", false),
            ("/files/{*rest}", "/files", false),
            ("/", "/", true),
            ("/", "/a", false),
            ("/a/", "/a/", true),
            ("/a/", "/a", false),
            ("/{any}", "*", false),
        ] {
            assert_eq!(PathTemplate::new(template).unwrap().takes(path), takes, "{template} {path}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in ["", "users", "/a?b", "/a b", "/a*", "/{}", "/{*}", "/{a", "/a}", "/x{a}", "/{a}{b}", "/{a b}", "/{*rest}/a", "/ä"] {
            assert!(PathTemplate::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_start_of_a_template_ends_before_its_first_name() {
        for (template, start) in [("/v1/users/{id}", "/v1/users"), ("/{a}/b", "/"), ("/v1/all", "/v1/all"), ("/", "/")] {
            assert_eq!(PathTemplate::new(template).unwrap().start(), start);
        }
    }
}
