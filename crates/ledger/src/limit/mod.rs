//! Limits: token buckets over requests and tokens, and calls at a time; by tenant, team, service, key, route or provider.
//!
//! A call asks all its counters at once: it takes of all, or of none and waits before the first that has no room. Tokens are reserved at the most that
//! the call can use and settled when it is known what it did. Over any window of any length, what calls that do not pass over a limit have used is at most
//! `rate x window + burst`; while somebody waits, nothing of the rate is left unused.
//!
//! [`Book`] decides, and does nothing else: the time is told to it. Instances that share limits have shares of them; see [`fleet`].

mod amend;
mod book;
pub mod bucket;
mod counter;
pub mod fleet;
mod line;
mod queue;
mod saved;
mod stats;
#[cfg(test)]
mod tests;
mod views;

use std::sync::Arc;

use farthing_types::{LimitWhy, Priority, Span, Time};

pub use book::Book;
pub use counter::{Cost, Standing};
pub use line::{AGING, WaiterId};
pub use queue::{MAX_BYTES, MAX_WAITING};
pub use saved::SavedCounter;
pub use stats::{CounterView, LimitView, Stats, WAITS};
pub use views::Quota;

/// Who makes a call, as far as limits tell them apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    /// Who pays.
    pub tenant: &'a str,
    /// Team of the key.
    pub team: Option<&'a str>,
    /// Service of the key.
    pub service: Option<&'a str>,
    /// Public id of the Farthing key.
    pub key: Option<&'a str>,
    /// The route.
    pub route: &'a str,
    /// The provider.
    pub provider: &'a str,
}

/// Which limits are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Those that count each call once.
    Call,
    /// Those of the provider, which count each attempt.
    Attempt,
}

/// What becomes of a call for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// What the limit says for its priority.
    Usual,
    /// It is told, and asks again in another mood.
    AtOnce,
    /// It waits: somebody has ordered it, and nobody is in a hurry.
    Waits,
}

/// A call that asks for its turn.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who makes it.
    pub who: Who<'a>,
    /// Which limits are asked.
    pub stage: Stage,
    /// How much it matters.
    pub priority: Priority,
    /// What becomes of it without room.
    pub mood: Mood,
    /// What it uses.
    pub cost: Cost,
    /// Bytes that are held while it waits.
    pub bytes: usize,
    /// When it must have had its turn.
    pub deadline: Time,
    /// Now.
    pub now: Time,
}

/// What a call is told.
#[derive(Debug)]
pub enum Verdict {
    /// It may be made.
    Passed(Pass),
    /// It waits.
    Queued(WaiterId),
    /// It cannot go at once; not counted.
    Blocked(Refusal),
    /// It is refused.
    Refused(Refusal),
}

/// What a call has taken of its counters; to be handed back by [`Book::end`] and [`Book::settle`], or [`Book::undo`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "its counters count it until it is handed back"]
pub struct Pass {
    counters: Vec<u32>,
    cost: Cost,
}

impl Pass {
    /// Whether no limit counts the call.
    pub fn is_free(&self) -> bool {
        self.counters.is_empty()
    }
}

/// A call that a limit has refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The limit.
    pub limit: Arc<str>,
    /// Whose counter; empty where all share one.
    pub unit: Arc<str>,
    /// Why.
    pub why: LimitWhy,
    /// When there would be room, as far as that is known.
    pub retry_after: Span,
}

impl Refusal {
    /// Of a call whose place nobody knows any more.
    pub fn gone() -> Self {
        Self { limit: "".into(), unit: "".into(), why: LimitWhy::Displaced, retry_after: Span::ZERO }
    }
}

/// A waiter whose wait is over.
#[derive(Debug)]
pub struct Woken {
    /// Who.
    pub id: WaiterId,
    /// What it is told.
    pub result: Result<Pass, Refusal>,
    /// How long it has waited.
    pub waited: Span,
}
