//! What the edge counts.

use std::sync::atomic::{AtomicU64, Ordering};

use farthing_types::Span;

use super::Refusal;

macro_rules! closings {
    ($name:ident; $($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// Why a connection or tunnel ended: a closed list with stable strings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }
        impl $name {
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
    Closed;
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

closings! {
    TunnelEnd;
    /// The provider closed it.
    Done = "done",
    /// The client left, or did not take what came.
    Client = "client",
    /// The provider's side broke.
    Broken = "broken",
    /// Nothing passed for too long.
    Idle = "idle",
    /// It lasted as long as one may.
    Longest = "longest",
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
    stalled: AtomicU64,
    tunnels: AtomicU64,
    tunnels_closed: [AtomicU64; TunnelEnd::ALL.len()],
    tunnel_bytes: [AtomicU64; 2],
    tunnel_ms: AtomicU64,
    /// Interim answers: passed on, left out.
    early: [AtomicU64; 2],
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
            stalled: AtomicU64::new(0),
            tunnels: AtomicU64::new(0),
            tunnels_closed: std::array::from_fn(|_| AtomicU64::new(0)),
            tunnel_bytes: Default::default(),
            tunnel_ms: AtomicU64::new(0),
            early: Default::default(),
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

    /// Streams of HTTP/2 that were ended because their clients took nothing of the answer for too long.
    pub fn stalled(&self) -> u64 {
        self.stalled.load(Ordering::Relaxed)
    }
    pub(super) fn count_stalled(&self) {
        self.stalled.fetch_add(1, Ordering::Relaxed);
    }

    /// Tunnels that were opened.
    pub fn tunnels(&self) -> u64 {
        self.tunnels.load(Ordering::Relaxed)
    }
    /// Tunnels that ended for one reason.
    pub fn tunnels_closed(&self, end: TunnelEnd) -> u64 {
        self.tunnels_closed[end as usize].load(Ordering::Relaxed)
    }
    /// Bytes through tunnels: from clients, to them.
    pub fn tunnel_bytes(&self) -> [u64; 2] {
        [0, 1].map(|way: usize| self.tunnel_bytes[way].load(Ordering::Relaxed))
    }
    /// How long tunnels that have ended lasted, together.
    pub fn tunnel_time(&self) -> Span {
        Span::from_millis(self.tunnel_ms.load(Ordering::Relaxed))
    }

    /// Interim answers: those that were passed on, and those that came too late or found no room.
    pub fn early(&self) -> [u64; 2] {
        [0, 1].map(|which: usize| self.early[which].load(Ordering::Relaxed))
    }
    pub(super) fn count_early(&self, taken: bool) {
        self.early[usize::from(!taken)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_tunnel_opened(&self) {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn count_tunnel_closed(&self, end: TunnelEnd, lasted: Span) {
        self.tunnels_closed[end as usize].fetch_add(1, Ordering::Relaxed);
        self.tunnel_ms.fetch_add(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    pub(super) fn count_tunnel_bytes(&self, up: usize, down: usize) {
        self.tunnel_bytes[0].fetch_add(up as u64, Ordering::Relaxed);
        self.tunnel_bytes[1].fetch_add(down as u64, Ordering::Relaxed);
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
