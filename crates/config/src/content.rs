//! Rules of a route about what requests and answers hold.

use std::sync::Arc;

use http::HeaderName;

/// Where a personal field stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersonalField {
    /// A query parameter.
    Query(Arc<str>),
    /// A header of the request.
    Header(HeaderName),
    /// A JSON pointer into the request's body.
    Request(Arc<str>),
    /// A JSON pointer into the answer's body.
    Answer(Arc<str>),
}

/// What an answer's body must say for the answer to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheableIf {
    /// JSON pointer; `*` stands for every element.
    pub pointer: Arc<str>,
    /// Values that pass; empty: all but those of `not`.
    pub is: Vec<Arc<str>>,
    /// Values that do not pass.
    pub not: Vec<Arc<str>>,
}
