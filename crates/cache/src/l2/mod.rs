//! L2: a tier outside of the process's memory, which survives a restart or is shared by instances.
//!
//! A [`Store`] keeps bytes under key digests and knows nothing about answers: [`DiskStore`] keeps them in a directory,
//! [`RedisStore`] in Redis or a Redis Cluster, through the one handle of `fleet`. The [`Tier`] above it makes entries of these bytes and back, asks for them within a deadline, and counts what
//! became of each question by a closed reason. Whatever cannot be read is a miss: L2 only ever saves calls, it never fails one.

mod asked;
mod disk;
mod envelope;
mod leases;
mod outcome;
mod purges;
mod redis;
mod seal;
mod store;
#[cfg(test)]
mod tests;
mod tier;

pub(crate) use envelope::{put, take, text};

pub use asked::Asked;
pub use disk::{DiskError, DiskOptions, DiskStats, DiskStore};
pub use leases::{AskedFor, FillLease, TERMS as FILL_TERMS};
pub use outcome::{GetOutcome, OutcomeCounts, PutOutcome, StoreFault};
pub use redis::RedisStore;
pub use seal::{SealError, Sealer};
pub use store::{Put, Store, StoreFuture, Whose};
pub use tier::{Looked, Tier, TierOptions, Writer};
