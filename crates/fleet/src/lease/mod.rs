//! Leases: that one of several instances does something, for a time, and that what it does afterwards is noticed.
//!
//! A lease is a record under a key of Redis. [`Ask`] makes the asker its holder until a time of the *server's* clock, unless another one
//! is; the holder renews it, and says how it ended. Each grant has a [`Token`] that is greater than all before it: whoever takes effects of
//! holders refuses those with a smaller one than it has seen, as [`LeaseKey::write`] does. So a holder that was paused for longer than its lease does no
//! harm when it goes on. A holder whose effect is refused gives its lease back: a replica that took over may have brought back one that was over, and
//! its holder would renew it for ever.
//!
//! No clock of an instance is compared with another's. A holder counts from before it has asked ([`Hold`]), so it stops before the server lets
//! another one have the lease, and it stops [`Terms::margin`] earlier than that: the longest pause between its look at the
//! clock and what it does then that needs no fence.
//!
//! What holds when Redis loses its data (emptied, or a replica took over that lacked the newest writes): two may hold a lease at once, the
//! earlier one for what is left of its own time at most. Tokens go on growing, because a new one is at least the server's time in
//! microseconds, and at least what the asker has seen of any lease; only where a server takes over whose clock is behind, and no asker has seen a
//! later token, one may be given that is not greater. The effects of that one are refused, so that nothing old is taken; until the clock has caught up,
//! nothing new is.
//!
//! [`step`] is what the script does in Redis, and what tests do without one.

mod book;
mod hold;
mod script;
#[cfg(test)]
mod simulation;

pub use book::{Ask, Claim, Ending, Holding, LeaseOp, LeaseSaid, Record, Token, step};
pub use hold::{Hold, Next, Terms};
pub use script::LeaseKey;
