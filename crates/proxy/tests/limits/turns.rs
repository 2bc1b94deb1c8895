//! Who waits for room where several want the same: a turn is nobody's obstacle, not even its own.

use bytes::Bytes;
use farthing_cache::l2::{Put, Store as L2Store, StoreFuture, Whose};
use farthing_config::{L2Config, L2Store as L2Kind};
use farthing_types::KeyHash;

use super::*;

/// A second tier that takes a moment to say that it has nothing.
#[derive(Debug)]
struct Empty;

impl L2Store for Empty {
    fn kind(&self) -> &'static str {
        "empty"
    }
    fn max_value_bytes(&self) -> usize {
        1 << 20
    }
    fn is_shared(&self) -> bool {
        false
    }
    fn get(&self, _key: KeyHash, _now: Time) -> StoreFuture<'_, Option<Bytes>> {
        Box::pin(async {
            tokio::time::sleep(Span::from_millis(1)).await;
            Ok(None)
        })
    }
    fn put(&self, _put: Put) -> StoreFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn delete(&self, _key: KeyHash) -> StoreFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn erase(&self, _whose: Whose) -> StoreFuture<'_, u64> {
        Box::pin(std::future::ready(Ok(0)))
    }
    fn flush(&self) -> StoreFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_one_that_has_no_room_waits_for_room_too() {
    let waits = LimitSpec { on_limit: [OnLimit::Wait; 3], ..limit(LimitScope::Tenant, 1, 1) };
    let mut of = config(vec![waits]);
    let store = L2Kind::Disk { dir: "unused".into(), max_bytes: 0 };
    of.l2 = Some(L2Config { store, deadline: Span::from_secs(60), max_value: 1 << 20, queue_bytes: 1 << 20, encrypt: None });
    let world = world_over(of, Some(Arc::new(Empty)), Span::from_millis(10), OK);
    world.get("/other", &[MEDIUM]).await;
    let got = join_all((0..8).map(|_| world.get("/a", &[MEDIUM]))).await;
    assert!(got.iter().all(|got| got.status == StatusCode::OK), "{:?}", got.iter().map(|got| got.status).collect::<Vec<_>>());
    assert_eq!(world.provided.arrivals().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_has_its_turn_does_not_wait_for_another_when_the_answer_is_not_shared() {
    let script: Script = |_| (StatusCode::OK, &[("cache-control", "no-store")], "answer");
    let one = LimitSpec { requests: None, concurrency: Some(1), on_limit: [OnLimit::Wait; 3], ..limit(LimitScope::Tenant, 1, 1) };
    let mut of = config(vec![one]);
    Arc::make_mut(&mut of.routes[0]).mode = Mode::Respect;
    let (world, began) = (world(of, Span::from_millis(10), script), Instant::now());
    let got = join_all(["/other", "/a", "/a"].map(|path| world.get(path, &[MEDIUM]))).await;
    assert!(got.iter().all(|got| got.status == StatusCode::OK));
    assert!(began.elapsed() < Span::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_waits_longer_than_its_leader_has_a_turn_all_the_same() {
    let one = LimitSpec { requests: None, concurrency: Some(1), on_limit: [OnLimit::Wait; 3], ..limit(LimitScope::Provider, 1, 1) };
    let world = world(config(vec![one]), Span::from_secs(1), OK);
    // So it is known how long an answer takes.
    world.get("/before", &[MEDIUM]).await;
    let began = Instant::now();
    let hurried = [MEDIUM, ("x-farthing-deadline-ms", "400")];
    let (_, leader, follower, hurried, other) = tokio::join!(
        world.get("/holds", &[MEDIUM]),
        world.get("/a", &hurried),
        async {
            let got = world.get("/a", &[MEDIUM]).await;
            (got.status, began.elapsed())
        },
        world.get("/a", &hurried),
        world.get("/a", &[MEDIUM])
    );
    assert_eq!((leader.status, hurried.status), (StatusCode::TOO_MANY_REQUESTS, StatusCode::TOO_MANY_REQUESTS));
    assert_eq!((follower, other.status), ((StatusCode::OK, Span::from_secs(2)), StatusCode::OK));
    assert_eq!(world.provided.arrivals().len(), 3, "one call for all that want the same");
}
