//! A store in memory: the simplest one that keeps the contract, and one that can be told to fail.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use farthing_fleet::lease::{Ending, Holding, LeaseOp, LeaseSaid, Record, step};
use farthing_types::{KeyHash, Time};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::*;

const BOUND: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct MemoryStore {
    values: Mutex<HashMap<KeyHash, (Bytes, Time)>>,
    /// What every question ends with, when set.
    fault: Mutex<Option<StoreFault>>,
    /// A key that cannot be reached.
    hidden: Mutex<Option<KeyHash>>,
    /// What erasing ends with, when set; everything else works.
    closed: Mutex<Option<StoreFault>>,
    /// How long each question takes.
    delay: Mutex<Duration>,
    /// Fill leases, on the clock of the test's runtime.
    leases: Mutex<HashMap<KeyHash, Record>>,
    began: OnceLock<Instant>,
}

impl MemoryStore {
    pub(super) fn fail(&self, fault: Option<StoreFault>) {
        *self.fault.lock() = fault;
    }
    pub(super) fn close_to_erasing(&self, fault: Option<StoreFault>) {
        *self.closed.lock() = fault;
    }
    pub(super) fn hide(&self, key: Option<KeyHash>) {
        *self.hidden.lock() = key;
    }
    pub(super) fn delay(&self, delay: Duration) {
        *self.delay.lock() = delay;
    }
    pub(super) fn raw(&self, key: KeyHash) -> Option<Bytes> {
        self.values.lock().get(&key).map(|(value, _)| value.clone())
    }

    /// What somebody else does about a lease.
    pub(super) fn lease_now(&self, key: KeyHash, op: LeaseOp) -> LeaseSaid {
        // Past zero, and later than every clock of a holder.
        let now = 1_000_000 + self.began.get_or_init(Instant::now).elapsed().as_micros() as u64;
        let mut leases = self.leases.lock();
        let (record, said) = step(leases.get(&key).copied(), op, now);
        record.map(|record| leases.insert(key, record));
        said
    }

    async fn pass(&self) -> Result<(), StoreFault> {
        let delay = *self.delay.lock();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.fault.lock().map_or(Ok(()), Err)
    }
}

impl Store for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }
    fn max_value_bytes(&self) -> usize {
        BOUND
    }
    fn is_shared(&self) -> bool {
        true
    }
    fn get(&self, key: KeyHash, now: Time) -> StoreFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            self.pass().await?;
            if *self.hidden.lock() == Some(key) {
                return Err(StoreFault::Unavailable);
            }
            Ok(self.values.lock().get(&key).filter(|(_, expires)| *expires > now).map(|(value, _)| value.clone()))
        })
    }
    fn put(&self, put: Put) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.pass().await?;
            if put.value.len() > BOUND {
                return Err(StoreFault::TooLarge);
            }
            self.values.lock().insert(put.key, (put.value, put.expires));
            Ok(())
        })
    }
    fn delete(&self, key: KeyHash) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.pass().await?;
            self.values.lock().remove(&key);
            self.leases.lock().remove(&key);
            Ok(())
        })
    }
    fn lease(&self, key: KeyHash, op: LeaseOp, _deadline: Span) -> StoreFuture<'_, LeaseSaid> {
        Box::pin(async move {
            self.pass().await?;
            Ok(self.lease_now(key, op))
        })
    }
    fn put_leased(&self, put: Put, (holding, told): (Holding, Span)) -> StoreFuture<'_, LeaseSaid> {
        Box::pin(async move {
            self.pass().await?;
            if put.value.len() > BOUND {
                return Err(StoreFault::TooLarge);
            }
            let said = self.lease_now(put.key, LeaseOp::End(holding, Ending::Done, told));
            if said != LeaseSaid::Lost {
                self.values.lock().insert(put.key, (put.value, put.expires));
            }
            Ok(said)
        })
    }
    fn erase(&self, whose: Whose) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            self.pass().await?;
            self.closed.lock().map_or(Ok(()), Err)?;
            let mut values = self.values.lock();
            let before = values.len();
            values.retain(|key, (value, _)| !whose(*key, value));
            Ok((before - values.len()) as u64)
        })
    }
    fn flush(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.pass())
    }
}
