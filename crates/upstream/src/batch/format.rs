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

    /// How it takes requests apart that carry a list themselves; `None` where they cannot be told.
    fn lists(&self) -> Option<&dyn ListFormat> {
        None
    }
}

/// How a request that carries a list is taken apart, and how its answer is put together.
pub trait ListFormat: Send + Sync {
    /// The requests for one item each that the list is made of, in its order. `None` where the request carries no list, or one that could be
    /// read in more than one way.
    fn items(&self, method: &Method, request: &Item) -> Option<Vec<Item>>;

    /// The request for some of its `items` alone; `None` when there can be none.
    fn only(&self, request: &Item, items: &[&Item]) -> Option<Item>;

    /// Whether an item answered with this status is left out of the list's answer, instead of being its end.
    fn leaves_out(&self, _status: StatusCode) -> bool {
        false
    }

    /// The answer to the whole list, of the answers to its items in their order, each with a status of success.
    ///
    /// # Errors
    /// What in them cannot stand in one answer.
    fn assemble(&self, answers: &[Bytes]) -> Result<Bytes, Broken>;
}

/// What of a request is about what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    /// Its path and query.
    pub target: Uri,
    /// Its body; empty when it has none.
    pub body: Bytes,
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
