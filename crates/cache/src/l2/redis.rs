//! L2 in Redis or a Redis Cluster, shared by all instances with the same salt.
//!
//! A value stands under `farthing:l2:1:` and the key digest in hexadecimal; 1 is the version of this layout, so that a release with another one
//! neither reads nor overwrites these; the lease of its fill stands under `farthing:fill:{farthing:l2:1:..}`. Before the value stands one byte, which tells an empty value from none. Redis
//! expires values itself, in its own time. No more of a value is read than a value may have.

use bytes::Bytes;
use farthing_fleet::lease::{Holding, LeaseKey, LeaseOp, LeaseSaid};
use farthing_fleet::{Fault, Handle};
use farthing_types::{KeyHash, Span, Time};

use super::{Put, Store, StoreFault, StoreFuture, Whose};

const PREFIX: &str = "farthing:l2:1:";
const PRESENT: u8 = b'+';

/// The store. It has no files and no tasks of its own: all that is the handle's.
#[derive(Debug)]
pub struct RedisStore {
    handle: Handle,
    max_value_bytes: usize,
}

impl RedisStore {
    /// A store through a handle. Larger values cost every other operation on the same connection its deadline, so the bound is small.
    pub const fn new(handle: Handle, max_value_bytes: usize) -> Self {
        Self { handle, max_value_bytes }
    }

    /// The handle.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    async fn read(&self, key: KeyHash) -> Result<Option<Bytes>, StoreFault> {
        let most = 1 + self.max_value_bytes;
        // One byte more than allowed shows that there is more.
        let mut value = self.handle.get(&name(key), most + 1).await?;
        match value.first() {
            None => Ok(None),
            Some(_) if value.len() > most => Err(StoreFault::TooLarge),
            Some(&PRESENT) => Ok(Some(value.split_off(1))),
            // Somebody else's.
            Some(_) => Err(StoreFault::Damaged),
        }
    }

    async fn write(&self, put: Put) -> Result<(), StoreFault> {
        if put.value.len() > self.max_value_bytes {
            return Err(StoreFault::TooLarge);
        }
        let lifetime = put.expires.since(put.now);
        if lifetime.is_zero() {
            return Ok(self.handle.delete(&name(put.key)).await?);
        }
        Ok(self.handle.set(&name(put.key), &present(&put.value), lifetime).await?)
    }

    async fn write_leased(&self, put: Put, by: (Holding, Span)) -> Result<LeaseSaid, StoreFault> {
        if put.value.len() > self.max_value_bytes {
            return Err(StoreFault::TooLarge);
        }
        let (name, value) = (name(put.key), present(&put.value));
        let written = (&*name, &*value, put.expires.since(put.now));
        Ok(LeaseKey(&lease(put.key)).write(&self.handle, by, written).await?)
    }

    /// Takes the lease away, too: whoever is about to write under it must not bring back what is deleted.
    async fn forget(&self, key: KeyHash) -> Result<(), StoreFault> {
        match self.handle.delete_all(&[&name(key), &lease(key)]).await {
            // A user who may not touch leases has none: its purges are no reason to leave the value where it is.
            Err(Fault::Refused) => Ok(self.handle.delete(&name(key)).await?),
            deleted => Ok(deleted?),
        }
    }

    /// Goes through all values of this layout; of a single server only.
    async fn erase_all(&self, whose: Whose) -> Result<u64, StoreFault> {
        let (mut erased, mut from) = (0, 0);
        loop {
            let (next, names) = self.handle.scan(PREFIX.as_bytes(), from).await?;
            erased += self.erase_page(&names, &whose).await?;
            if next == 0 {
                return Ok(erased);
            }
            from = next;
        }
    }

    async fn erase_page(&self, names: &[Vec<u8>], whose: &Whose) -> Result<u64, StoreFault> {
        let mut erased = 0;
        for name in names {
            let key = name.get(PREFIX.len()..).and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse().ok());
            let Some(key) = key else { continue };
            let meant = match self.read(key).await {
                Ok(Some(value)) => whose(key, &value),
                Ok(None) => false,
                // What cannot be read may be anything.
                Err(StoreFault::Damaged | StoreFault::TooLarge) => true,
                Err(fault) => return Err(fault),
            };
            if meant {
                self.handle.delete(name).await?;
                erased += 1;
            }
        }
        Ok(erased)
    }
}

fn present(value: &[u8]) -> Vec<u8> {
    [&[PRESENT], value].concat()
}

/// In the slot of the value: what stands in braces is its name. It begins as all our keys do, which an ACL may ask for.
fn lease(key: KeyHash) -> Vec<u8> {
    format!("farthing:fill:{{{PREFIX}{key}}}").into_bytes()
}

fn name(key: KeyHash) -> Vec<u8> {
    format!("{PREFIX}{key}").into_bytes()
}

impl From<Fault> for StoreFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Late => Self::Late,
            Fault::Unavailable => Self::Unavailable,
            Fault::Busy => Self::Busy,
            Fault::Broken | Fault::Refused | Fault::Replica | Fault::Crossing => Self::Failed,
        }
    }
}

impl Store for RedisStore {
    fn kind(&self) -> &'static str {
        "redis"
    }
    fn max_value_bytes(&self) -> usize {
        self.max_value_bytes
    }
    fn is_shared(&self) -> bool {
        true
    }
    fn get(&self, key: KeyHash, _now: Time) -> StoreFuture<'_, Option<Bytes>> {
        Box::pin(self.read(key))
    }
    fn put(&self, put: Put) -> StoreFuture<'_, ()> {
        Box::pin(self.write(put))
    }
    fn delete(&self, key: KeyHash) -> StoreFuture<'_, ()> {
        Box::pin(self.forget(key))
    }
    fn lease(&self, key: KeyHash, op: LeaseOp, deadline: Span) -> StoreFuture<'_, LeaseSaid> {
        Box::pin(async move { Ok(LeaseKey(&lease(key)).run(&self.handle, op, deadline).await?) })
    }
    fn put_leased(&self, put: Put, by: (Holding, Span)) -> StoreFuture<'_, LeaseSaid> {
        Box::pin(self.write_leased(put, by))
    }
    fn erase(&self, whose: Whose) -> StoreFuture<'_, u64> {
        Box::pin(self.erase_all(whose))
    }
    fn flush(&self) -> StoreFuture<'_, ()> {
        // A put has been answered when it returns.
        Box::pin(std::future::ready(Ok(())))
    }
}
