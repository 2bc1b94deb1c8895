//! Limits that several instances share: each has *shares* of them, by which it fills its own buckets; nobody asks anybody for a call.
//!
//! An instance holds a *standing* share of all limits: of each rate, of each burst, and of calls at a time. It has it from the place that all ask
//! ([`Server`] is its model, [`script`] what Redis runs), which grants no more than there is; nobody but the holder lowers it, and it tells so after it did. It
//! goes on with it when that place is away, for as long as it said before that it would ([`Message::alone`]); so long what is held by one that is gone is kept
//! from the others. Counters need no entry there for that: whoever comes first, on whatever instance, meets a bucket.
//!
//! Where calls come to some instances more than to others, *rates* move for a short time: who needs less than its standing share of a counter lends the
//! rest, and says until when, by the place's time; who needs more gets of that, and until no later. The borrower counts its time from the moment that it
//! asked, and ends a margin earlier; the lender counts from the answer that told it the time. So what moves is never used twice, whatever becomes of messages
//! and processes; when all of it is forgotten, everyone has its standing share again. Bursts do not move: a bucket that changes hands could be filled twice.
//!
//! With shares `x_i` of the rate and `y_i` of the burst that sum to no more than the whole at each moment, and buckets that are cut when `y_i` falls and not
//! filled when it grows, calls of all instances over any time are at most `sum of levels at its begin + integral of the rates <= burst + rate x time`.
//!
//! When the place has lost its data or another one took over, a *generation* ends: what instances hold stays as it is, and nothing more is given until all
//! have told of whom anybody knows, or have had a minute for it; what those hold who have not is kept for them.

mod agree;
mod fair;
mod member;
pub mod script;
mod server;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod wire;

use farthing_types::{LimitSpec, Span};

pub use crate::place::Here;
pub use agree::SharesView;
pub(super) use agree::Side;
pub use member::{ANSWER, Asked, Kept, Member, MemberState, Terms};
pub use server::Server;
pub use wire::{Known, Line, LineTold, MemberView, Message, Reply, Told};

/// How long a share of a rate moves for.
pub const TERM: Span = Span::from_secs(2);
/// So much earlier a borrower ends: it may be stopped between looking at its clock and sending what it let through.
pub const MARGIN: Span = Span::from_millis(250);
/// A member that has told nothing for so long counts as away.
pub const LEASE: Span = Span::from_secs(5);
/// So long after a loss nothing is given: members have to show up, and what moved before has to end.
pub const SETTLE: Span = Span::from_secs(3);
/// So long after a loss those who have not told of themselves are waited for; then they count with what is known of them, and as much as everyone at least.
pub const PATIENCE: Span = Span::from_secs(60);
/// One that ended in order keeps its share for so long: most begin anew.
pub const CLOSED: Span = Span::from_secs(60);
/// Longer than it says a member's share is kept for it.
pub const KEPT: Span = Span::from_secs(5);
/// So long after the begin of its first generation a fleet is new: nobody has used anything.
pub const FRESH: Span = Span::from_secs(20);
/// Members at a time, those that are gone included.
pub const MAX_MEMBERS: usize = 256;
/// Counters of which one message tells.
pub const MAX_LINES: usize = 128;
/// Counters of which a member hears in one answer that somebody lacks some.
pub const MAX_WANTED: usize = 128;
/// Counters whose rate moves here at a time; others keep their standing share.
pub const MAX_MOVED: usize = 1_024;

/// How instances know a counter of each other: not by its rate, which may be another one while a configuration is changed.
pub(super) fn mark(spec: &LimitSpec, unit: &str) -> u128 {
    let mut hasher = blake3::Hasher::new_derive_key("farthing limits 1: a counter that instances share");
    for part in [&*spec.name, &format!("{:?} {}", spec.scope, spec.shared), unit] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut first = [0; 16];
    hasher.finalize_xof().fill(&mut first);
    u128::from_le_bytes(first)
}
