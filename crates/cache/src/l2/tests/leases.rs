//! Fill leases over a store that several tiers share, on a clock that the test moves.

use farthing_fleet::lease::{Ask, Claim, Ending, LeaseOp, LeaseSaid, Token};
use tokio_util::task::TaskTracker;

use super::memory::MemoryStore;
use super::*;
use crate::purge::Purge;

/// An instance: a tier over the store that all share.
fn instance(store: &Arc<MemoryStore>, incarnation: u64) -> Tier {
    let tier = tier(Arc::clone(store) as Arc<dyn Store>, None, options());
    tier.lease_fills((incarnation, Span::from_secs(1)), TaskTracker::new());
    tier
}

async fn granted(tier: &Tier, n: u64) -> FillLease {
    match tier.ask_lease(subject(n).key, Token(0)).await {
        AskedFor::Granted(lease) => lease,
        other => panic!("{other:?}"),
    }
}

async fn said(tier: &Tier, n: u64) -> AskedFor {
    tier.ask_lease(subject(n).key, Token(0)).await
}

/// Lets the keepers of leases do what is due.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn later(span: Duration) {
    tokio::time::advance(span).await;
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn one_leads_for_as_long_as_it_lives_and_the_next_one_after_it() {
    let store = Arc::new(MemoryStore::default());
    let (one, two) = (instance(&store, 1), instance(&store, 2));
    let lease = granted(&one, 1).await;
    // Far longer than a lease lasts: it is renewed.
    for _ in 0..50 {
        later(FILL_TERMS.lasts / 5).await;
        assert!(lease.may_act());
        assert!(matches!(said(&two, 1).await, AskedFor::Taken(left) if left <= FILL_TERMS.lasts));
    }
    assert!(matches!(said(&two, 2).await, AskedFor::Granted(_)), "another key is another lease");
    drop(lease);
    settle().await;
    let lease = granted(&two, 1).await;
    lease.end(Ending::Failed);
    settle().await;
    assert!(matches!(said(&one, 1).await, AskedFor::Ended(_, Ending::Failed)));
    later(Duration::from_secs(2)).await;
    assert!(matches!(said(&one, 1).await, AskedFor::Granted(_)), "that was told for a while");
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_process_held_is_free_when_its_time_is_over() {
    let store = Arc::new(MemoryStore::default());
    let tier = instance(&store, 1);
    let dead = Ask { claim: Claim(9), lasts: FILL_TERMS.lasts, floor: Token(0), past: Token(0) };
    let LeaseSaid::Yours(token) = store.lease_now(subject(1).key, LeaseOp::Ask(dead)) else { panic!() };
    assert!(matches!(said(&tier, 1).await, AskedFor::Taken(_)));
    later(FILL_TERMS.lasts + Duration::from_millis(1)).await;
    let lease = granted(&tier, 1).await;
    assert!(lease.holding().token > token);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_written_under_its_lease_or_not_at_all() {
    let store = Arc::new(MemoryStore::default());
    let (one, two) = (instance(&store, 1), instance(&store, 2));
    let write = |tier: &Tier, lease: FillLease, entry: Entry| {
        tier.put_asked(cached(entry), Asked { begun: now(), mark: 0, lease: Some(lease) }, now());
        let tier = tier.clone();
        async move { assert!(tier.flush().await) }
    };
    let lease = granted(&one, 1).await;
    write(&one, lease, fetched(1, "first")).await;
    assert_eq!(look(&two, &subject(1)).await.unwrap().body, "first");
    // Whoever asks is told that it is there, until it says that it knows.
    let AskedFor::Ended(token, Ending::Done) = said(&two, 1).await else { panic!() };
    assert!(matches!(two.ask_lease(subject(1).key, token).await, AskedFor::Granted(_)));
    // One that stands still meanwhile, and has lost it when it goes on.
    let lost = granted(&one, 2).await;
    let (holding, key) = (lost.holding(), subject(2).key);
    assert_ne!(store.lease_now(key, LeaseOp::End(holding, Ending::Released, Duration::ZERO)), LeaseSaid::Lost);
    write(&two, granted(&two, 2).await, fetched(2, "newer")).await;
    write(&one, lost, fetched(2, "of a paused holder")).await;
    assert_eq!(one.outcomes().put(PutOutcome::Fenced), 1);
    assert_eq!(look(&two, &subject(2)).await.unwrap().body, "newer");
    // An answer that varies stands elsewhere than its lease: it is renewed first, and told when it is there.
    let lease = granted(&one, 3).await;
    write(&one, lease, varying(3, "x", &HeaderMap::new())).await;
    settle().await;
    assert!(matches!(said(&two, 3).await, AskedFor::Ended(_, Ending::Done)));
    assert!(look(&two, &subject(3)).await.is_ok());
    let lost = granted(&one, 4).await;
    store.lease_now(subject(4).key, LeaseOp::End(lost.holding(), Ending::Released, Duration::ZERO));
    write(&one, lost, varying(4, "x", &HeaderMap::new())).await;
    assert_eq!((one.outcomes().put(PutOutcome::Fenced), one.outcomes().put(PutOutcome::Stored)), (2, 2));
    assert!(look(&two, &subject(4)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_another_instance_purges_under_way_is_not_written() {
    let store = Arc::new(MemoryStore::default());
    let (one, two) = (instance(&store, 1), instance(&store, 2));
    // Both have read the list of purges by now.
    assert!(look(&one, &subject(1)).await.is_err() && look(&two, &subject(1)).await.is_err());
    let lease = granted(&one, 1).await;
    two.purge(&Purge::Key(subject(1).key), false, now());
    assert!(two.flush().await);
    one.put_asked(cached(fetched(1, "old")), Asked { begun: now(), mark: 0, lease: Some(lease) }, now());
    assert!(one.flush().await);
    assert_eq!(one.outcomes().put(PutOutcome::Fenced), 1, "with the value goes the lease");
    // By its tag, long before the slow answer came.
    let (begun, purged, came) = (now(), now() + Duration::from_secs(1), now() + Duration::from_secs(60));
    let mut slow = Entry { fetched_at: came, ..fetched(2, "old") };
    slow.tags = vec!["red".into()];
    let lease = granted(&one, 2).await;
    two.purge(&Purge::Tag("red".into()), false, purged);
    assert!(two.flush().await);
    one.put_asked(cached(slow.clone()), Asked { begun, mark: 0, lease: Some(lease) }, came);
    assert!(one.flush().await);
    assert_eq!(one.outcomes().put(PutOutcome::Purged), 1);
    settle().await;
    // And who asks may have the lease at once. What is asked for after the purge is kept.
    let lease = granted(&two, 2).await;
    two.put_asked(cached(slow), Asked { mark: 0, begun: purged + Duration::from_secs(2), lease: Some(lease) }, came);
    assert!(two.flush().await);
    assert_eq!(two.outcomes().put(PutOutcome::Stored), 1);
}

#[tokio::test(start_paused = true)]
async fn an_asking_that_is_given_up_gives_back_what_it_may_have_got() {
    let store = Arc::new(MemoryStore::default());
    let (one, two) = (instance(&store, 1), instance(&store, 2));
    store.delay(Duration::from_millis(50));
    let asking = tokio::time::timeout(Duration::from_millis(20), one.ask_lease(subject(1).key, Token(0))).await;
    assert!(asking.is_err());
    tokio::time::sleep(Duration::from_millis(300)).await;
    store.delay(Duration::ZERO);
    assert!(matches!(said(&two, 1).await, AskedFor::Granted(_)));
    store.fail(Some(StoreFault::Late));
    assert!(matches!(said(&one, 2).await, AskedFor::Away));
    store.fail(None);
    settle().await;
    assert!(matches!(said(&two, 2).await, AskedFor::Granted(_)));
    let alone = tier(Arc::clone(&store) as Arc<dyn Store>, None, options());
    assert!(matches!(said(&alone, 3).await, AskedFor::Away), "a tier without leases");
}
