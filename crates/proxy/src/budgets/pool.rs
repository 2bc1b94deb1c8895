//! What was set aside for several calls that are made as one: told by each of them, settled when the last has ended.

use farthing_ledger::budget::Charge;
use farthing_types::Span;
use parking_lot::Mutex;

use super::Held;

/// See the module. Dropped with the last call, it settles.
pub struct Pool(Mutex<Inner>);

struct Inner {
    /// There until it is settled.
    held: Option<Held>,
    charge: Charge,
    sent: bool,
    tokens: Option<u64>,
}

impl Pool {
    /// Before any of the calls has ended.
    pub const fn new(held: Held) -> Self {
        let charge = Charge { spent: farthing_types::Money::ZERO, uncertain: farthing_types::Money::ZERO };
        Self(Mutex::new(Inner { held: Some(held), charge, sent: false, tokens: Some(0) }))
    }

    /// How long their turn was waited for.
    pub fn waited(&self) -> Span {
        self.0.lock().held.as_ref().map_or(Span::ZERO, Held::waited)
    }

    /// One of them has ended: whether anything of it was sent, and its tokens, where they are known.
    pub fn used(&self, sent: bool, tokens: Option<u64>) {
        let mut inner = self.0.lock();
        inner.sent |= sent;
        inner.tokens = inner.tokens.zip(tokens).map(|(sum, tokens)| sum.saturating_add(tokens));
    }

    /// The head of their answer has come after so many attempts.
    pub fn answered(&self, attempts: usize) {
        if let Some(held) = &mut self.0.lock().held {
            held.answered(attempts);
        }
    }

    /// One of them has cost so much.
    pub fn charge(&self, charge: Charge) {
        let mut inner = self.0.lock();
        inner.charge.spent += charge.spent;
        inner.charge.uncertain += charge.uncertain;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let Inner { held, charge, sent, tokens } = self.0.get_mut();
        if let Some(held) = held.take() {
            held.settle_all(*charge, (*sent, *tokens));
        }
    }
}
