//! What a batch looks like to a provider: one file for each format, all behind one trait, all pure.

use std::sync::Arc;

use bytes::Bytes;
use farthing_policy::batch::{Alone, Load};
use farthing_types::Call;
use http::{HeaderMap, Method, StatusCode, Uri};

/// A way of putting several calls into one and of taking its answer apart.
pub trait BatchFormat: Send + Sync {
    /// What a call puts into a batch.
    ///
    /// # Errors
    /// Why it cannot be proved that it can be put into one.
    fn part(&self, call: &Call, body: &Bytes) -> Result<Part, Alone>;

    /// The one request of these parts, which are of one group; `first` is the call of the first. `None` when there can be none.
    fn join(&self, first: &Call, parts: &[&Part]) -> Option<Joined>;

    /// Takes the answer with a status of success apart: a piece for each part, in their order.
    ///
    /// # Errors
    /// What in the answer makes it impossible to tell for each part, without doubt, which piece is its own.
    fn split(&self, parts: &[&Part], headers: &HeaderMap, body: &Bytes) -> Result<Vec<Piece>, Broken>;
}

/// What a call puts into a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What parts of one batch must have in common, beside headers and owner.
    pub group: String,
    /// Its text in the request.
    pub text: String,
    /// Units: 1, or inputs where it has several.
    pub units: u32,
    /// What it bears of the batch's price, in proportion.
    pub weight: u32,
    /// It is proved to change nothing, whatever its method.
    pub repeatable: bool,
}

impl Part {
    /// A part that is like any other.
    pub fn equal(group: String, text: String) -> Self {
        Self { group, text, units: 1, weight: 1, repeatable: false }
    }

    /// What it adds to a batch.
    pub fn load(&self) -> Load {
        Load { units: self.units, bytes: self.text.len() as u64 }
    }
}

/// The one request of a batch.
#[derive(Debug)]
pub struct Joined {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub target: Uri,
    /// Its body, JSON; `None` when it has none.
    pub body: Option<Bytes>,
}

/// What a batch's answer has for one call.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Nothing was there for the call: the status is a conclusion.
    pub concluded: bool,
}

/// Why an answer cannot be taken apart; holds nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub Arc<str>);

impl Broken {
    /// For this reason.
    pub fn new(reason: impl Into<Arc<str>>) -> Self {
        Self(reason.into())
    }
}

/// The text of an answer.
pub(super) fn text(body: &Bytes) -> Result<&str, Broken> {
    std::str::from_utf8(body).map_err(|_| Broken::new("the answer is not UTF-8"))
}

/// A piece of `body`, without copying it.
pub(super) fn slice(body: &Bytes, part: &str) -> Bytes {
    body.slice_ref(part.as_bytes())
}
