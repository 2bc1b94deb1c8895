//! L1 above an L2: written behind, promoted inside the single flight, purged together.

#![allow(clippy::disallowed_methods, reason = "what is spawned ends with the runtime of its test")]

use std::time::Duration;

use super::*;
use crate::l2::{DiskOptions, DiskStore, GetOutcome, PutOutcome, Store, Tier, TierOptions};

/// A store on disk as a process after a restart finds it.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn start(&self) -> (Cache, Arc<DiskStore>) {
        let store = Arc::new(DiskStore::open(self.0.path(), DiskOptions::new(8 << 20), NOW).unwrap());
        let options = TierOptions {
            keyer: config().keyer,
            deadline: Span::from_secs(5),
            queue_bytes: 1 << 20,
            max_value_bytes: 1 << 20,
            keep: Span::from_secs(3_600),
        };
        let (tier, writer) = Tier::new(Arc::clone(&store) as Arc<dyn Store>, None, options);
        tokio::spawn(writer.run());
        (Cache::with_l2(config(), Arc::new(NoEvents), Some(tier)), store)
    }

    /// Ends a process and starts the next one.
    async fn restart(&self, (cache, store): (Cache, Arc<DiskStore>)) -> (Cache, Arc<DiskStore>) {
        assert!(cache.l2().unwrap().flush().await);
        drop(cache);
        store.close().await.unwrap();
        // The writer's task lets go of its store when the queue has closed.
        while Arc::strong_count(&store) > 1 {
            tokio::task::yield_now().await;
        }
        drop(store);
        self.start()
    }
}

fn lead(cache: &Cache, n: u64, request: &HeaderMap) -> Ticket {
    match cache.join(Join { subject: &subject(n), headers: request, seen: None, now: NOW }) {
        Joined::Lead(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

async fn fill(cache: &Cache, n: u64, request: &HeaderMap, vary: Option<&'static str>, body: &'static str) {
    let mut answer = head();
    answer.headers.extend(vary.map(|v| (http::header::VARY, HeaderValue::from_static(v))));
    let headers = answer.headers.clone().into();
    let mut filling = lead(cache, n, request).share(answer, NOW);
    filling.push(Bytes::from_static(body.as_bytes())).await;
    let filled = filling.finish(None);
    filled.store(Entry { headers, ..entry(&subject(n), body) }, NOW).unwrap();
}

#[tokio::test]
async fn a_restart_finds_answers_again_and_promotes_them_once() {
    let machine = Machine::new();
    let process = machine.start();
    let none = HeaderMap::new();
    fill(&process.0, 1, &none, None, "hello").await;
    let german = headers(&[("accept-language", "de")]);
    fill(&process.0, 2, &german, Some("accept-language"), "hallo").await;
    let (cache, _store) = machine.restart(process).await;
    assert!(cache.peek(subject(1).key, &none).is_none());
    let found = lead(&cache, 1, &none).from_l2(NOW).await.unwrap();
    assert_eq!((&found.body()[..], found.tier(), found.fetched_at()), (&b"hello"[..], "l2", NOW));
    found.on_hit(NOW, false);
    assert_eq!(cache.peek(subject(1).key, &none).unwrap().tier(), "l1");
    // Nothing is written back that came from there.
    assert!(cache.l2().unwrap().flush().await);
    assert_eq!(cache.l2().unwrap().outcomes().put(PutOutcome::Stored), 0);
    assert_eq!(lead(&cache, 2, &german).from_l2(NOW).await.unwrap().body(), "hallo");
    assert_eq!(cache.peek(subject(2).key, &german).unwrap().body(), "hallo");
    assert!(lead(&cache, 2, &none).from_l2(NOW).await.is_err(), "another language");
    assert!(lead(&cache, 3, &none).from_l2(NOW).await.is_err());
    let outcomes = cache.l2().unwrap().outcomes();
    assert_eq!((outcomes.get(GetOutcome::Hit), outcomes.get(GetOutcome::Absent)), (2, 2));
}

#[tokio::test]
async fn everyone_who_waits_looks_again_when_l2_had_it() {
    let machine = Machine::new();
    let process = machine.start();
    let none = HeaderMap::new();
    fill(&process.0, 1, &none, None, "hello").await;
    let (cache, _store) = machine.restart(process).await;
    let ticket = lead(&cache, 1, &none);
    let mut waiting: Vec<Slot> = (0..50)
        .map(|_| match cache.join(Join { subject: &subject(1), headers: &none, seen: None, now: NOW }) {
            Joined::Follow(slot) => slot,
            other => panic!("{other:?}"),
        })
        .collect();
    let entry = ticket.from_l2(NOW).await.unwrap();
    for slot in &mut waiting {
        assert!(matches!(slot.wait(&none).await, Followed::Again));
        match cache.join(Join { subject: &subject(1), headers: &none, seen: None, now: NOW }) {
            Joined::Stored(found) => assert!(Arc::ptr_eq(&found, &entry)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test]
async fn what_was_purged_never_comes_back_from_l2() {
    let machine = Machine::new();
    let mut process = machine.start();
    let none = HeaderMap::new();
    for (n, purge) in [
        (1, Purge::Key(subject(1).key)),
        (2, Purge::Tag("red".into())),
        (3, Purge::Prefix { route: Some("geo".into()), path: "/v1/items/3".into() }),
        (4, Purge::Tenant("acme".into())),
        (5, Purge::All),
    ] {
        fill(&process.0, n, &none, None, "old").await;
        process.0.purge(&purge, false, NOW);
        assert!(lead(&process.0, n, &none).from_l2(NOW).await.is_err(), "{purge:?}");
        process = machine.restart(process).await;
        let miss = lead(&process.0, n, &none).from_l2(NOW).await;
        assert!(miss.is_err(), "{purge:?} after a restart");
        let outcomes = process.0.l2().unwrap().outcomes();
        assert_eq!(outcomes.get(GetOutcome::Outdated) + outcomes.get(GetOutcome::Absent), 1);
    }
    // A new answer is not what was purged.
    let later = NOW + Span::from_secs(5);
    let ticket = lead(&process.0, 1, &none);
    let filling = ticket.share(head(), later);
    filling.finish(None).store(Entry { fetched_at: later, ..entry(&subject(1), "new") }, later).unwrap();
    let (cache, _store) = machine.restart(process).await;
    assert_eq!(lead(&cache, 1, &none).from_l2(later).await.unwrap().body(), "new");
}

#[tokio::test]
async fn a_purged_keys_variants_do_not_come_back_with_the_next_one() {
    let machine = Machine::new();
    let process = machine.start();
    let (german, french) = (headers(&[("accept-language", "de")]), headers(&[("accept-language", "fr")]));
    fill(&process.0, 1, &german, Some("accept-language"), "alt").await;
    process.0.purge(&Purge::Key(subject(1).key), false, NOW);
    fill(&process.0, 1, &french, Some("accept-language"), "nouveau").await;
    let (cache, _store) = machine.restart(process).await;
    assert_eq!(lead(&cache, 1, &french).from_l2(NOW).await.unwrap().body(), "nouveau");
    assert!(lead(&cache, 1, &german).from_l2(NOW).await.is_err(), "it was purged");
}

/// Every write of a client's purges a key: that must not make everything else old.
#[tokio::test]
async fn many_purged_keys_leave_the_others_alone() {
    let machine = Machine::new();
    let process = machine.start();
    let none = HeaderMap::new();
    fill(&process.0, 1, &none, None, "hello").await;
    for n in 10..5_000 {
        process.0.purge(&Purge::Key(subject(n).key), false, NOW);
    }
    let (cache, _store) = machine.restart(process).await;
    assert_eq!(lead(&cache, 1, &none).from_l2(NOW).await.unwrap().body(), "hello");
}

#[tokio::test]
async fn a_soft_purge_is_remembered_as_such() {
    let machine = Machine::new();
    let process = machine.start();
    let none = HeaderMap::new();
    fill(&process.0, 1, &none, None, "hello").await;
    process.0.purge(&Purge::Tag("red".into()), true, NOW);
    let (cache, _store) = machine.restart(process).await;
    assert!(lead(&cache, 1, &none).from_l2(NOW).await.unwrap().soft_purged());
}

/// Its time is that of its arrival, which is after the purge: L2 would take it for younger.
#[tokio::test]
async fn what_was_under_way_during_a_soft_purge_does_not_come_back_fresh() {
    let machine = Machine::new();
    let process = machine.start();
    let none = HeaderMap::new();
    let ticket = lead(&process.0, 1, &none);
    process.0.purge(&Purge::Tag("red".into()), true, NOW);
    let later = NOW + Span::from_secs(5);
    let filled = ticket.share(head(), later).finish(None);
    filled.store(Entry { fetched_at: later, ..entry(&subject(1), "old") }, later).unwrap();
    let (cache, _store) = machine.restart(process).await;
    assert!(lead(&cache, 1, &none).from_l2(later).await.is_err());
}

#[tokio::test]
async fn a_purge_while_l2_is_asked_wins() {
    let machine = Machine::new();
    let process = machine.start();
    let none = HeaderMap::new();
    fill(&process.0, 1, &none, None, "hello").await;
    let (cache, _store) = machine.restart(process).await;
    let ticket = lead(&cache, 1, &none);
    let asking = tokio::spawn(ticket.from_l2(NOW));
    cache.purge(&Purge::All, false, NOW);
    let answer = tokio::time::timeout(Duration::from_secs(10), asking).await.unwrap().unwrap();
    assert!(answer.is_err());
    assert!(cache.peek(subject(1).key, &none).is_none());
}
