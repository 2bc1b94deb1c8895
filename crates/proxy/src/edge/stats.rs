//! What the edge counts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Refusal;

macro_rules! closings {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// Why a connection ended: a closed list with stable strings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Closed { $($(#[$doc])* $variant,)+ }
        impl Closed {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// The stable string.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

closings! {
    /// The client or HTTP's own rules ended it.
    Done = "done",
    /// No request came for too long.
    Idle = "idle",
    /// A request was refused in a way that ends the connection.
    Refused = "refused",
    /// The client did not take the answer for too long.
    WriteStall = "write-stall",
    /// The transport or the protocol broke.
    Error = "error",
    /// It was cut off when draining took too long.
    Cut = "cut",
}

/// Counters of the edge since its start.
#[derive(Debug)]
pub struct EdgeStats {
    accepted: AtomicU64,
    active: AtomicU64,
    requests: AtomicU64,
    accept_errors: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    closed: [AtomicU64; Closed::ALL.len()],
}

impl Default for EdgeStats {
    fn default() -> Self {
        Self {
            accepted: AtomicU64::new(0),
            active: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
            closed: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl EdgeStats {
    /// Connections accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
    /// Connections open now.
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }
    /// Requests handed to the handler.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
    /// Failures to accept, such as too many open files.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }
    /// Refusals for one reason.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal.index()].load(Ordering::Relaxed)
    }
    /// Connections that ended for one reason.
    pub fn closed(&self, closed: Closed) -> u64 {
        self.closed[closed as usize].load(Ordering::Relaxed)
    }

    pub(super) fn count_accept_error(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn count_refused(&self, refusal: Refusal) {
        self.refused[refusal.index()].fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn count_opened(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.active.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn count_closed(&self, closed: Closed) {
        self.closed[closed as usize].fetch_add(1, Ordering::Relaxed);
        self.active.fetch_sub(1, Ordering::Relaxed);
    }
}
