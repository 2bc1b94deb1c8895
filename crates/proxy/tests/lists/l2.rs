//! Items of which a tier outside of memory has a copy, such as another instance wrote.

use std::sync::Arc;

use farthing_cache::l2::Store;
use farthing_config::{L2Config, L2Store};
use farthing_types::Span;

use crate::kept::Kept;
use crate::world::World;

#[tokio::test(start_paused = true)]
async fn what_l2_has_is_not_bought_again() {
    let kept: Arc<dyn Store> = Arc::new(Kept::taking(Span::from_millis(2)));
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
