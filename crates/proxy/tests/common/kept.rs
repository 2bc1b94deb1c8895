//! A tier outside of memory, in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use farthing_cache::l2::{Put, Store, StoreFuture, Whose};
use farthing_types::{KeyHash, Span, Time};
use parking_lot::Mutex;

/// A store in memory that takes its time.
#[derive(Debug, Default)]
pub struct Kept {
    values: Mutex<HashMap<KeyHash, Bytes>>,
    /// How long each operation takes.
    pub takes: Mutex<Span>,
    /// How often it was read.
    pub reads: AtomicU64,
}

impl Kept {
    /// An empty one.
    pub fn taking(takes: Span) -> Self {
        Self { takes: Mutex::new(takes), ..Self::default() }
    }

    fn after<T: Send + 'static>(&self, act: impl FnOnce(&mut HashMap<KeyHash, Bytes>) -> T + Send + 'static) -> StoreFuture<'_, T> {
        let takes = *self.takes.lock();
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            Ok(act(&mut self.values.lock()))
        })
    }
}

impl Store for Kept {
    fn kind(&self) -> &'static str {
        "kept"
    }
    fn max_value_bytes(&self) -> usize {
        1 << 20
    }
    fn is_shared(&self) -> bool {
        false
    }
    fn get(&self, key: KeyHash, _now: Time) -> StoreFuture<'_, Option<Bytes>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.after(move |values| values.get(&key).cloned())
    }
    fn put(&self, put: Put) -> StoreFuture<'_, ()> {
        self.after(move |values| _ = values.insert(put.key, put.value))
    }
    fn delete(&self, key: KeyHash) -> StoreFuture<'_, ()> {
        self.after(move |values| _ = values.remove(&key))
    }
    fn erase(&self, whose: Whose) -> StoreFuture<'_, u64> {
        self.after(move |values| {
            let before = values.len();
            values.retain(|key, value| !whose(*key, value));
            (before - values.len()) as u64
        })
    }
    fn flush(&self) -> StoreFuture<'_, ()> {
        self.after(|_| ())
    }
}
