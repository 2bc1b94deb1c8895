//! What can go wrong with a sink.

use std::error::Error as StdError;
use std::fmt::Display;

use farthing_types::{Span, reasons};

reasons! {
    /// Why something was not done in a sink.
    FaultReason {
        /// Nobody answers there, or the connection broke off.
        Unreachable = "unreachable",
        /// It did not answer within the deadline.
        Timeout = "timeout",
        /// It is there and cannot work now: starting up, ending, without room.
        Unavailable = "unavailable",
        /// It does not let us: credentials, rights, certificates, or tables that are not as we made them.
        Refused = "refused",
        /// It does not take the rows of a file.
        Rejected = "rejected",
        /// A file of the log cannot be read.
        Unreadable = "unreadable",
    }
}

impl FaultReason {
    /// Whether it is about one file only, so that the others can be shipped.
    pub const fn is_of_file(self) -> bool {
        matches!(self, Self::Rejected | Self::Unreadable)
    }
}

/// Something that was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Fault {
    /// Why.
    pub reason: FaultReason,
    /// What was said. Without credentials.
    pub detail: String,
}

impl Fault {
    /// A fault with what was said.
    pub fn new(reason: FaultReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// A file of ours that cannot be read.
pub(crate) fn unreadable(error: impl Display) -> Fault {
    Fault::new(FaultReason::Unreadable, error.to_string())
}

/// Work on files of ours, off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(unreadable)
}

/// One request or a few that belong together, within a deadline.
pub(crate) async fn within<T>(deadline: Span, work: impl Future<Output = T>) -> Result<T, Fault> {
    let late = |_| Fault::new(FaultReason::Timeout, format!("no answer within {deadline:?}"));
    tokio::time::timeout(deadline, work).await.map_err(late)
}

/// What of a kind is among the causes of an error. Those of I/O errors are inside of them.
pub(crate) fn found<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| found::<T>(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error with its causes.
pub(crate) fn with_sources(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}

/// Longest text of a fault: servers answer with documents and traces.
const LONGEST: usize = 400;

/// What a server said, on one line and not too long.
pub(crate) fn shortened(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}
