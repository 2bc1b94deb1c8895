//! Adapters: what a provider of another shape is asked, and how its answers come back into the shape of the route. Declared, never programmed:
//! a path template, names that change, constants, JSON pointers. Pure: no I/O, no clock.
//!
//! Numbers and texts are handed on byte by byte. What cannot be mapped is never delivered: it is the provider's failure.

mod answer;
mod request;
#[cfg(test)]
mod tests;
mod tree;

use std::sync::Arc;

use farthing_types::reasons;
use http::{HeaderName, HeaderValue, StatusCode};

pub use answer::Mapped;
pub(crate) use answer::mend;
pub use request::Adapted;

/// How one provider is spoken to by one route. The default changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Adapter {
    /// What it is asked.
    pub request: RequestMap,
    /// How its answers are read.
    pub answer: AnswerMap,
}

/// What a provider is asked.
#[derive(Clone, Debug, Default)]
pub struct RequestMap {
    /// The paths of the route that it can answer, such as `/current/{city}`: each segment is a text or a field. `None`: all.
    pub path: Option<Arc<str>>,
    /// The path that it is asked for instead, with fields of `path` or of the query; `None`: the same.
    pub to: Option<Arc<str>>,
    /// Query parameters with another name: ours, and the provider's.
    pub rename_query: Vec<(Arc<str>, Arc<str>)>,
    /// Query parameters with this value, whatever the client sent.
    pub set_query: Vec<(Arc<str>, Arc<str>)>,
    /// Query parameters that are left out.
    pub drop_query: Vec<Arc<str>>,
    /// Values of the JSON body that stand elsewhere: pointers, ours and the provider's.
    pub rename_body: Vec<(Arc<str>, Arc<str>)>,
    /// Values of the JSON body, as JSON text, by pointer.
    pub set_body: Vec<(Arc<str>, Arc<str>)>,
    /// Headers with this value, whatever the client sent.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
}

/// How a provider's answers are read.
#[derive(Clone, Debug, Default)]
pub struct AnswerMap {
    /// Values of an answer: pointers, the route's and the provider's. `*` stands for each element of an array, as often in both. Without any the
    /// answer passes as it is.
    pub fields: Vec<(Arc<str>, Arc<str>)>,
    /// Values that each mapped answer has, as JSON text, by pointer.
    pub constants: Vec<(Arc<str>, Arc<str>)>,
    /// The same as `fields` for errors.
    pub errors: Vec<(Arc<str>, Arc<str>)>,
    /// What makes an answer that says that it is good an error.
    pub error_if: Vec<ErrorIf>,
    /// What an answer in the route's shape must have; `null` is nothing.
    pub required: Vec<Arc<str>>,
    /// The least share of `required` that it is delivered with, 0 to 1.
    pub complete: f64,
    /// Most bytes of an answer that is mapped: it is held whole.
    pub max_bytes: usize,
}

/// An error that calls itself a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorIf {
    /// Where to look in the provider's answer.
    pub pointer: Arc<str>,
    /// The texts, numbers and flags that mean an error; empty: anything but `null`, `false` and nothing.
    pub is: Vec<Arc<str>>,
    /// The status that the client gets.
    pub status: StatusCode,
}

impl AnswerMap {
    /// Whether answers have to be read at all.
    pub fn reads(&self) -> bool {
        !(self.fields.is_empty() && self.errors.is_empty() && self.error_if.is_empty() && self.required.is_empty())
    }
}

reasons! {
    /// Why a provider cannot be asked for something.
    Unfit {
        /// Its adapter has no place for the path.
        Path = "path",
        /// A field of its path has no value in the request.
        Field = "field",
        /// The body is not held, or is no JSON, or has no place for what goes into it.
        Body = "body",
        /// What comes out is no target.
        Target = "target",
    }
}

reasons! {
    /// Why an answer cannot be delivered.
    Unmapped {
        /// It is no JSON, or is in a content coding.
        NotJson = "not-json",
        /// It lacks required fields.
        Incomplete = "incomplete",
        /// Two fields have one place, or an error has nothing of what errors are mapped from.
        Shape = "shape",
        /// It is larger than the adapter holds, or did not end.
        Unread = "unread",
        /// It confirms a copy that the provider was not asked about.
        NotModified = "not-modified",
    }
}
