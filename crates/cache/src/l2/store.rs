//! What a tier asks of the place where it keeps values.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use farthing_fleet::lease::{Holding, LeaseOp, LeaseSaid};
use farthing_types::{KeyHash, Span, Time};

use super::StoreFault;

/// What a store's methods return.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreFault>> + Send + 'a>>;

/// Tells which values are meant.
pub type Whose = Arc<dyn Fn(KeyHash, &Bytes) -> bool + Send + Sync>;

/// A value to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Its key.
    pub key: KeyHash,
    /// The value, as it shall come back.
    pub value: Bytes,
    /// When it is of no use any more; the store may let it go from then on and does not return it.
    pub expires: Time,
    /// Now.
    pub now: Time,
}

/// Bytes under key digests, outside of the process's memory.
///
/// # Contract
/// - `get` returns the value last put under the key, whole and unchanged, or nothing. A store may forget anything at any time (bounds,
///   failures, a restart); it may also return an older value where a newer put was refused or lost. It never returns bytes
///   that it knows to be damaged: that is [`StoreFault::Damaged`]. What damage it cannot see, the reader's checksum does.
/// - `put` is accepted or refused; an accepted value is readable when a later `flush` has returned. A value beyond
///   [`Store::max_value_bytes`] is refused with [`StoreFault::TooLarge`].
/// - `delete` is done when it returns: no later `get` returns a value put before, nor does one after a restart. Who holds the lease beside the key
///   has lost it.
/// - Puts, deletes and flushes of one caller take effect in the order in which they were called.
/// - Nothing blocks the thread that polls. No method waits for longer than the store's own bounds say, whatever the peer does; the caller
///   adds its deadline, and may drop any future without harm.
pub trait Store: Send + Sync + fmt::Debug {
    /// The kind, for messages and metrics.
    fn kind(&self) -> &'static str;

    /// The largest value it takes, bytes.
    fn max_value_bytes(&self) -> usize;

    /// Whether other processes write to it, too.
    fn is_shared(&self) -> bool;

    /// The value of a key that has not expired at `now`.
    fn get(&self, key: KeyHash, now: Time) -> StoreFuture<'_, Option<Bytes>>;

    /// Keeps a value until it expires.
    fn put(&self, put: Put) -> StoreFuture<'_, ()>;

    /// Forgets a key.
    fn delete(&self, key: KeyHash) -> StoreFuture<'_, ()>;

    /// Does an operation on the lease that stands beside a key, within a deadline. A store that is not shared has none.
    fn lease(&self, _key: KeyHash, _op: LeaseOp, _deadline: Span) -> StoreFuture<'_, LeaseSaid> {
        Box::pin(std::future::ready(Err(StoreFault::Unavailable)))
    }

    /// Keeps a value and ends the lease beside its key as done, which is told for a time, at once; or does neither where that is not the
    /// holder's any more.
    fn put_leased(&self, _put: Put, _by: (Holding, Span)) -> StoreFuture<'_, LeaseSaid> {
        Box::pin(std::future::ready(Err(StoreFault::Unavailable)))
    }

    /// Removes every value put before that is meant, whichever its key and whether or not it could be read still, so that its bytes
    /// are nowhere in the store when this returns; how many that were. Takes as long as it takes to read everything.
    fn erase(&self, whose: Whose) -> StoreFuture<'_, u64>;

    /// Returns when everything accepted before is readable, and as durable as the store makes it.
    fn flush(&self) -> StoreFuture<'_, ()>;
}
