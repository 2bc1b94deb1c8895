//! The turn of one call or attempt: counted until it is known what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farthing_ledger::limit::Pass;
use farthing_types::{Reserved, Span};
use farthing_upstream::Slot;

use super::desk::Desk;

/// The turn of one call. Dropped before the call is settled, it is given back.
#[must_use = "its limits count it until it is settled"]
pub struct Turn {
    taken: Arc<Taken>,
    /// How long it was waited for.
    pub waited: Span,
}

/// What limits count.
struct Taken {
    desk: Arc<Desk>,
    pass: Pass,
    ended: AtomicBool,
    settled: AtomicBool,
}

impl Taken {
    fn end(&self) {
        if !self.ended.swap(true, Ordering::AcqRel) {
            self.desk.tell(|book, _| book.end(&self.pass));
        }
    }

    fn settle(&self, used: Option<u64>) {
        if !self.settled.swap(true, Ordering::AcqRel) {
            self.desk.tell(|book, now| book.settle(&self.pass, used, now));
        }
    }

    /// Nothing has come of it.
    fn undo(&self) {
        // Whoever ends a call settles it after that.
        if !self.settled.swap(true, Ordering::AcqRel) && !self.ended.swap(true, Ordering::AcqRel) {
            self.desk.tell(|book, now| book.undo(&self.pass, now));
        }
    }
}

impl Turn {
    /// For what was let through after a wait.
    pub fn new(desk: &Arc<Desk>, pass: Pass, waited: Span) -> Self {
        let done = || AtomicBool::new(false);
        Self { taken: Arc::new(Taken { desk: desk.clone(), pass, ended: done(), settled: done() }), waited }
    }

    /// The call has ended; `sent`: something of it reached the provider. It has used so many tokens, where that is known.
    pub fn settle(self, sent: bool, tokens: Option<u64>) {
        if sent {
            self.taken.end();
            self.taken.settle(tokens);
        }
    }

    /// Its place, and what it has reserved, which are given back apart.
    pub fn split(self) -> farthing_upstream::Turn {
        let (slot, reserved) = (Held(self.taken.clone()), Tokens(self.taken.clone()));
        farthing_upstream::Turn { slot: Box::new(slot), reserved: Box::new(reserved) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Others hold it where it was split.
        if let Some(taken) = Arc::get_mut(&mut self.taken) {
            taken.undo();
        }
    }
}

struct Held(Arc<Taken>);

impl Slot for Held {
    fn unsent(self: Box<Self>) {
        self.0.undo();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct Tokens(Arc<Taken>);

impl Reserved for Tokens {
    fn used(self: Box<Self>, tokens: u64) {
        self.0.settle(Some(tokens));
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.0.settle(None);
    }
}
