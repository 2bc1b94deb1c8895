//! Items of which a tier outside of memory has a copy, such as another instance wrote.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use farthing_cache::l2::{Put, Store, StoreFuture, Whose};
use farthing_config::{L2Config, L2Store};
use farthing_types::{KeyHash, Span, Time};
use parking_lot::Mutex;

use crate::world::World;

/// A store in memory that takes its time.
#[derive(Debug, Default)]
struct Kept(Mutex<HashMap<KeyHash, Bytes>>);

impl Kept {
    fn after<T: Send + 'static>(&self, act: impl FnOnce(&mut HashMap<KeyHash, Bytes>) -> T + Send + 'static) -> StoreFuture<'_, T> {
        Box::pin(async move {
            tokio::time::sleep(Span::from_millis(2)).await;
            Ok(act(&mut self.0.lock()))
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

#[tokio::test(start_paused = true)]
async fn what_l2_has_is_not_bought_again() {
    let kept: Arc<dyn Store> = Arc::new(Kept::default());
    let instance = || {
        let store = L2Store::Disk { dir: "unused".into(), max_bytes: 0 };
        let l2 = L2Config { store, deadline: Span::from_secs(3_600), max_value: 1 << 20, queue_bytes: 1 << 20, encrypt: None };
        World::over(|config| config.l2 = Some(l2), Some(kept.clone()))
    };
    let one = instance();
    one.list(&["a", "b", "c"]).await.is_of(&["a", "b", "c"]);
    one.inside.settle().await;
    tokio::time::sleep(Span::from_secs(1)).await;
    let two = instance();
    let (list, joined) = tokio::join!(two.list(&["c", "d", "a"]), two.list(&["a", "d"]));
    list.is_of(&["c", "d", "a"]);
    joined.is_of(&["a", "d"]);
    assert_eq!((two.calls(), list.items()), (vec![vec!["d".to_owned()]], Some([2, 0, 1, 0, 0])));
    two.is_billed().await;
}
