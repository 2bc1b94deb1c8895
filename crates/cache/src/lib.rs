//! L1, L2 and waiting on tickets.
//!
//! [`Cache::lookup`] answers from memory; [`Cache::join`] makes the caller of a missing key its one filler
//! ([`Joined::Lead`]) or lets it wait for the one there is ([`Joined::Follow`]). The types carry the order of things:
//! a [`Ticket`] becomes a [`Filling`] when the head is shared, that a [`Filled`] when the body has ended, that an entry.
//! Dropping any of them, a panic included, frees everyone who waits.
//!
//! Locks: shard before flight before stream, shard before an entry's statistics or the table, purge log last; none is held across an await or while something is dropped.

mod cache;
mod cached;
mod config;
mod copies;
mod flight;
mod forms;
mod head;
mod hearing;
mod join;
pub mod l2;
mod leased;
mod promote;
mod purge;
mod shapes;
#[cfg(test)]
mod simulation;
mod statistics;
mod stream;
mod table;
#[cfg(test)]
mod tests;

pub use cache::{Cache, Stored};
pub use cached::{CacheEvents, Cached, EndReason, EntryEnd, NoEvents};
pub use config::{CacheConfig, CacheStats};
pub use copies::SavedCopy;
pub use flight::{Filled, Filling, Ticket};
pub use forms::FormRoom;
pub use head::SharedHead;
pub use hearing::{Hearing, SILENCE};
pub use join::{Followed, Join, Joined, Slot};
pub use promote::Rechecked;
pub use purge::{Purge, Purged};
pub use table::{SavedKey, StatsTable};
