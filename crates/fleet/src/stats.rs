//! Why an operation was not done, and counters.

use std::sync::atomic::{AtomicU64, Ordering};

use farthing_types::reasons;

reasons! {
    /// Why an operation was not done, or may not have been.
    Fault {
        /// No answer within the deadline; a write may have happened.
        Late = "late",
        /// Not connected, or the breaker is open: nothing was sent.
        Unavailable = "unavailable",
        /// As many operations are under way as the handle allows: nothing was sent.
        Busy = "busy",
        /// The connection broke; a write may have happened.
        Broken = "broken",
        /// The server said no: memory full, no permission, wrong type.
        Refused = "refused",
        /// The server is a replica, which takes no writes: it is not, or no more, whom the address is meant to lead to.
        Replica = "replica",
        /// The keys of a script are not all in one slot, or there are none: nothing was sent.
        Crossing = "crossing",
    }
}

impl std::error::Error for Fault {}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    done: AtomicU64,
    faults: [AtomicU64; Fault::ALL.len()],
    connected: AtomicU64,
    opened: AtomicU64,
}

impl Counters {
    pub(crate) fn outcome<T>(&self, result: &Result<T, Fault>) {
        let counter = match result {
            Ok(_) => Some(&self.done),
            Err(fault) => self.faults.get(*fault as usize),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
    pub(crate) fn connected(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn read(&self) -> HandleStats {
        let load = |c: &AtomicU64| c.load(Ordering::Relaxed);
        HandleStats {
            done: load(&self.done),
            faults: self.faults.each_ref().map(load),
            connected: load(&self.connected),
            opened: load(&self.opened),
            open_breakers: 0,
            in_flight: 0,
        }
    }
}

/// Counters and state of a handle now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandleStats {
    /// Operations that were done.
    pub done: u64,
    faults: [u64; Fault::ALL.len()],
    /// Times that a connection (to a Cluster: to its nodes) was made.
    pub connected: u64,
    /// Times that a breaker opened.
    pub opened: u64,
    /// Breakers that are open.
    pub open_breakers: usize,
    /// Operations under way.
    pub in_flight: usize,
}

impl HandleStats {
    /// Operations that ended with this fault.
    pub fn fault(&self, fault: Fault) -> u64 {
        self.faults.get(fault as usize).copied().unwrap_or_default()
    }
}
