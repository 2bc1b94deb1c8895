//! What can go wrong with a sink.

use farthing_types::reasons;

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
