//! What the guard, the service and the bodies of one connection tell each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::Context;

use futures_util::future::BoxFuture;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::early::Interims;
use super::tunnel::Waiting;
use super::{Closed, EdgeStats, RawHead, Refusal};

/// A refusal in one atomic byte; 0 is none.
#[derive(Debug, Default)]
pub(super) struct RefusalCell(AtomicU8);

impl RefusalCell {
    pub(super) fn set(&self, refusal: Refusal) {
        let code = u8::try_from(refusal.index() + 1).unwrap_or(u8::MAX);
        let _ = self.0.compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire);
    }
    pub(super) fn get(&self) -> Option<Refusal> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            code => Refusal::ALL.get(usize::from(code) - 1).copied(),
        }
    }
}

/// Shared by the parts of one connection.
#[derive(Debug)]
pub(super) struct ConnState {
    pub(super) stats: Arc<EdgeStats>,
    /// A message that was refused before any of it passed; in its place hyper was given a stand-in.
    refused: RefusalCell,
    /// How many messages came before the refused one.
    refused_after: AtomicU64,
    /// A fault within the current request's body.
    pub(super) body_fault: RefusalCell,
    /// Why the guard ended the connection; 0 when it did not.
    ending: AtomicU8,
    /// Requests that reached the service.
    started: AtomicU64,
    /// Requests whose answer is not yet written.
    busy: AtomicUsize,
    /// The guard, when it waits for the connection to fall idle.
    quiet: AtomicWaker,
    /// The name of the next request's head, where its handler wants it.
    wanted: Mutex<Option<RawHead>>,
    /// From here on the connection carries no HTTP any more.
    upgraded: AtomicBool,
    /// What it carries then.
    pub(super) tunnel: Waiting,
    /// Interim answers for the guard to write.
    pub(super) early: Interims,
}

impl ConnState {
    pub(super) fn new(stats: Arc<EdgeStats>) -> Self {
        Self {
            stats,
            refused: RefusalCell::default(),
            refused_after: AtomicU64::new(0),
            body_fault: RefusalCell::default(),
            ending: AtomicU8::new(0),
            started: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            quiet: AtomicWaker::new(),
            wanted: Mutex::new(None),
            upgraded: AtomicBool::new(false),
            tunnel: Waiting::default(),
            early: Interims::default(),
        }
    }

    /// The guard refuses the message after the first `heads` ones.
    pub(super) fn refuse(&self, refusal: Refusal, heads: u64) {
        self.stats.count_refused(refusal);
        self.refused_after.store(heads, Ordering::Release);
        self.refused.set(refusal);
    }

    /// The guard found a fault in the body of a request that hyper already has.
    pub(super) fn break_body(&self, refusal: Refusal) {
        self.stats.count_refused(refusal);
        self.body_fault.set(refusal);
    }

    /// The guard ends the connection.
    pub(super) fn ending(&self, why: Closed) {
        self.ending.store(why as u8 + 1, Ordering::Release);
    }

    /// Why the connection ended, by what is known here; `error` says whether HTTP ended in one.
    pub(super) fn closed(&self, error: bool) -> Closed {
        let told = usize::from(self.ending.load(Ordering::Acquire)).checked_sub(1).and_then(|index| Closed::ALL.get(index));
        match told {
            Some(closed) => *closed,
            None if self.is_refused() => Closed::Refused,
            None if error => Closed::Error,
            None => Closed::Done,
        }
    }

    /// Whether the guard refused anything on this connection.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.get().is_some() || self.body_fault.get().is_some()
    }

    /// A request reached the service. HTTP/1 requests do so in the order of their heads, so the stand-in is known by its number.
    pub(super) fn start(self: &Arc<Self>) -> (Busy, u64, Option<Refusal>) {
        let number = self.started.fetch_add(1, Ordering::AcqRel);
        self.busy.fetch_add(1, Ordering::AcqRel);
        let refused = self.refused.get().filter(|_| self.refused_after.load(Ordering::Acquire) == number);
        (Busy(Arc::clone(self)), number, refused)
    }

    pub(super) fn started(&self) -> u64 {
        self.started.load(Ordering::Acquire)
    }

    /// Whether all of the first `heads` requests were started and are answered.
    pub(super) fn is_done(&self, heads: u64) -> bool {
        self.started() == heads && !self.is_busy()
    }

    /// The next request to start has this head.
    pub(super) fn name_next(&self, head: RawHead) {
        *self.wanted.lock() = Some(head);
    }
    pub(super) fn take_name(&self) -> Option<RawHead> {
        self.wanted.lock().take()
    }

    /// An answer 101 is about to go out: what comes after the request is no HTTP.
    pub(super) fn upgrade(&self, tunnel: BoxFuture<'static, ()>) {
        self.tunnel.put(tunnel);
        self.upgraded.store(true, Ordering::Release);
    }
    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Acquire)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }

    /// Whether requests are under way; if so, `cx` is woken when the last one ends.
    pub(super) fn poll_busy(&self, cx: &Context<'_>) -> bool {
        if !self.is_busy() {
            return false;
        }
        self.quiet.register(cx.waker());
        self.is_busy()
    }
}

/// A request under way, until its answer is written or given up.
#[derive(Debug)]
pub(super) struct Busy(Arc<ConnState>);

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.quiet.wake();
        }
    }
}
