//! What every store must do. [`suite!`] runs all of it for one kind of store: `fresh` is an expression, awaited, that gives a store and
//! what must live as long as it (a directory, a server), or `None` where the store cannot be had here.

use bytes::Bytes;
use farthing_fleet::lease::{Ask, Claim, Ending, Holding, LeaseOp, LeaseSaid, Token};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

macro_rules! suite {
    ($name:ident, $fresh:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "what `fresh` needs")]
            use super::*;
            use crate::l2::tests::conformance::cases;

            suite!(@case $fresh; values_come_back_whole, the_newest_put_wins, what_is_deleted_is_gone, what_has_expired_is_gone,
                a_value_beyond_the_bound_is_refused, many_at_once_do_not_mix, order_is_kept, entries_come_back_with_their_statistics,
                answers_that_vary_are_selected, damage_is_a_miss_and_never_a_wrong_answer, foreign_values_are_misses, a_shared_store_has_leases_beside_its_values);
        }
    };
    (@case $fresh:expr; $($case:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some((_alive, store)) = $fresh.await {
                    cases::$case(store).await;
                }
            }
        )+
    };
}
pub(in crate::l2) use suite;

suite!(memory, async { Some(((), Arc::new(crate::l2::tests::memory::MemoryStore::default()) as Arc<dyn Store>)) });

pub(in crate::l2) mod cases {
    use super::*;

    type Shared = Arc<dyn Store>;

    async fn value(store: &Shared, key: u128) -> Option<Bytes> {
        store.get(KeyHash(key), now()).await.unwrap()
    }

    pub async fn values_come_back_whole(store: Shared) {
        assert_eq!(value(&store, 1).await, None);
        let large: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let values = [Vec::new(), b"x".to_vec(), vec![0; 1000], b"\r\n$-1\r\n".to_vec(), large];
        for (key, value) in values.iter().enumerate() {
            store.put(put(key as u128, value.clone())).await.unwrap();
        }
        store.flush().await.unwrap();
        for (key, expected) in values.iter().enumerate() {
            assert!(value(&store, key as u128).await.unwrap() == *expected, "value {key}");
        }
    }

    pub async fn the_newest_put_wins(store: Shared) {
        for round in 0..3u8 {
            store.put(put(7, vec![round; 10])).await.unwrap();
            store.flush().await.unwrap();
            assert_eq!(value(&store, 7).await.unwrap(), vec![round; 10]);
        }
        store.put(put(7, vec![8])).await.unwrap();
        store.put(put(7, vec![9])).await.unwrap();
        store.flush().await.unwrap();
        assert_eq!(value(&store, 7).await.unwrap(), vec![9]);
    }

    pub async fn what_is_deleted_is_gone(store: Shared) {
        store.delete(KeyHash(3)).await.unwrap();
        store.put(put(3, "a")).await.unwrap();
        store.put(put(4, "b")).await.unwrap();
        store.flush().await.unwrap();
        store.delete(KeyHash(3)).await.unwrap();
        assert_eq!(value(&store, 3).await, None);
        assert_eq!(value(&store, 4).await.unwrap(), "b");
        store.put(put(3, "c")).await.unwrap();
        store.flush().await.unwrap();
        assert_eq!(value(&store, 3).await.unwrap(), "c");
    }

    pub async fn what_has_expired_is_gone(store: Shared) {
        let expires = |span| now() + span;
        store.put(Put { expires: expires(Span::from_millis(80)), ..put(1, "soon") }).await.unwrap();
        store.put(Put { expires: now() - Span::from_secs(1), ..put(2, "already") }).await.unwrap();
        store.put(put(3, "later")).await.unwrap();
        store.flush().await.unwrap();
        assert_eq!(value(&store, 2).await, None);
        until("the value expires", || async { value(&store, 1).await.is_none() }).await;
        assert_eq!(value(&store, 3).await.unwrap(), "later");
    }

    pub async fn a_value_beyond_the_bound_is_refused(store: Shared) {
        let bound = store.max_value_bytes();
        assert_eq!(store.put(put(1, vec![1; bound + 1])).await, Err(StoreFault::TooLarge));
        store.put(put(2, vec![2; bound])).await.unwrap();
        store.flush().await.unwrap();
        assert_eq!(value(&store, 1).await, None);
        assert_eq!(value(&store, 2).await.unwrap().len(), bound);
    }

    pub async fn many_at_once_do_not_mix(store: Shared) {
        let writers: Vec<_> = (0..16u8)
            .map(|w| {
                let store = Arc::clone(&store);
                #[expect(clippy::disallowed_methods, reason = "joined below")]
                tokio::spawn(async move {
                    for i in 0..40u8 {
                        store.put(put(u128::from(w) << 8 | u128::from(i), vec![w, i])).await.unwrap();
                    }
                    store.flush().await.unwrap();
                    for i in 0..40u8 {
                        assert_eq!(value(&store, u128::from(w) << 8 | u128::from(i)).await.unwrap(), vec![w, i]);
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    }

    pub async fn order_is_kept(store: Shared) {
        for key in 0..50u128 {
            store.put(put(key, "first")).await.unwrap();
            store.delete(KeyHash(key)).await.unwrap();
            if key % 2 == 0 {
                store.put(put(key, "second")).await.unwrap();
            }
        }
        store.flush().await.unwrap();
        for key in 0..50u128 {
            assert_eq!(value(&store, key).await, (key % 2 == 0).then(|| Bytes::from("second")), "{key}");
        }
    }

    pub async fn entries_come_back_with_their_statistics(store: Shared) {
        let tier = tier(store, None, options());
        let entry = cached(fetched(1, "hello"));
        entry.update_stats(|stats| (0..9).for_each(|_| stats.on_request(now())));
        tier.put(Arc::clone(&entry), now());
        assert!(tier.flush().await);
        let found = look(&tier, &subject(1)).await.unwrap();
        assert_eq!(found.stats, entry.stats());
        assert_eq!(*found, entry.to_entry(&entry.stats(), entry.mark()));
        assert_eq!(look(&tier, &subject(2)).await, Err(GetOutcome::Absent));
        let counts = tier.outcomes();
        assert_eq!((counts.get(GetOutcome::Hit), counts.get(GetOutcome::Absent), counts.put(PutOutcome::Stored)), (1, 1, 1));
        assert_eq!(tier.queued_bytes(), 0);
    }

    pub async fn answers_that_vary_are_selected(store: Shared) {
        let tier = tier(store, None, options());
        let (german, french) = (headers(&[("accept-language", "de")]), headers(&[("accept-language", "fr")]));
        for (language, body) in [(&german, "hallo"), (&french, "salut")] {
            tier.put(cached(varying(1, body, language)), now());
        }
        assert!(tier.flush().await);
        for (language, body) in [(&german, "hallo"), (&french, "salut")] {
            assert_eq!(tier.get(&subject(1), language, now()).await.unwrap().entry.body, body);
        }
        assert_eq!(look(&tier, &subject(1)).await, Err(GetOutcome::Absent), "no language was asked for");
    }

    /// The bytes that stand for an entry, cut, changed and swapped in every way that a generator finds.
    pub async fn damage_is_a_miss_and_never_a_wrong_answer(store: Shared) {
        let whole = envelope::wrap_entry(&fetched(1, "the one true answer"), subject(1).key, None).unwrap();
        let tier = tier(Arc::clone(&store), None, options());
        let damage = (any::<prop::sample::Index>(), 0u8..8, any::<bool>(), any::<bool>());
        let mut runner = TestRunner::deterministic();
        for _ in 0..200 {
            let (at, bit, cut, tail) = damage.new_tree(&mut runner).unwrap().current();
            let mut bytes = whole.to_vec();
            let at = at.index(bytes.len());
            match (cut, tail) {
                (true, true) => bytes.truncate(at),
                (true, false) => drop(bytes.drain(..=at)),
                (false, _) => bytes[at] ^= 1 << bit,
            }
            store.put(put(subject(1).key.0, bytes)).await.unwrap();
            store.flush().await.unwrap();
            let found = look(&tier, &subject(1)).await.unwrap_err();
            assert!(matches!(found, GetOutcome::Damaged | GetOutcome::Foreign | GetOutcome::OtherSecret), "{found:?}");
            // Damaged values are deleted behind.
            assert!(tier.flush().await);
        }
        let counts = tier.outcomes();
        let counted = [GetOutcome::Damaged, GetOutcome::Foreign, GetOutcome::OtherSecret].map(|o| counts.get(o));
        assert_eq!((counted.iter().sum::<u64>(), counts.gets()), (200, 200));
        assert!(counted[0] > 0 && counted[1] > 0, "{counted:?}");
        assert!(tier.flush().await);
        store.put(put(subject(1).key.0, whole)).await.unwrap();
        store.flush().await.unwrap();
        assert_eq!(look(&tier, &subject(1)).await.unwrap().body, "the one true answer");
    }

    /// The lease of a key, which nobody has.
    async fn leased(store: &Shared, key: u128, claim: u128) -> Holding {
        let ask = Ask { claim: Claim(claim), lasts: Span::from_secs(600), floor: Token(0), past: Token(0) };
        match store.lease(KeyHash(key), LeaseOp::Ask(ask), Span::from_secs(5)).await.unwrap() {
            LeaseSaid::Yours(token) => Holding { claim: ask.claim, token },
            said => panic!("{said:?}"),
        }
    }

    pub async fn a_shared_store_has_leases_beside_its_values(store: Shared) {
        let told = Span::from_secs(600);
        if !store.is_shared() {
            let holding = Holding { claim: Claim(1), token: Token(1) };
            assert_eq!(store.put_leased(put(1, "x"), (holding, told)).await, Err(StoreFault::Unavailable));
            return;
        }
        for key in 0..20 {
            let first = leased(&store, key, 1).await;
            assert_eq!(store.put_leased(put(key, "new"), (first, told)).await, Ok(LeaseSaid::Yours(first.token)));
            assert_eq!(value(&store, key).await.unwrap(), "new");
            let ask = Ask { claim: Claim(2), lasts: told, floor: Token(0), past: Token(0) };
            let said = store.lease(KeyHash(key), LeaseOp::Ask(ask), Span::from_secs(5)).await;
            assert_eq!(said, Ok(LeaseSaid::Ended(first.token, Ending::Done)));
            // What is deleted while it is called for does not come back.
            let ask = Ask { past: first.token, ..ask };
            let said = store.lease(KeyHash(key), LeaseOp::Ask(ask), Span::from_secs(5)).await;
            let Ok(LeaseSaid::Yours(token)) = said else { panic!("{said:?}") };
            store.delete(KeyHash(key)).await.unwrap();
            let second = Holding { claim: Claim(2), token };
            assert_eq!(store.put_leased(put(key, "old"), (second, told)).await, Ok(LeaseSaid::Lost));
            assert_eq!(value(&store, key).await, None);
            leased(&store, key, 3).await;
        }
        let large = vec![0; store.max_value_bytes() + 1];
        assert_eq!(store.put_leased(put(50, large), (leased(&store, 50, 1).await, told)).await, Err(StoreFault::TooLarge));
    }

    pub async fn foreign_values_are_misses(store: Shared) {
        let tier = tier(Arc::clone(&store), None, options());
        let mine = subject(1);
        let stored = |bytes: Bytes| {
            let store = Arc::clone(&store);
            async move {
                store.put(put(subject(1).key.0, bytes)).await.unwrap();
                store.flush().await.unwrap();
            }
        };
        stored(Bytes::from_static(b"something else")).await;
        assert_eq!(look(&tier, &mine).await, Err(GetOutcome::Foreign));
        // Another key's entry under this key, and another tenant's.
        stored(envelope::wrap_entry(&fetched(2, "not yours"), subject(1).key, None).unwrap()).await;
        assert_eq!(look(&tier, &mine).await, Err(GetOutcome::OtherKey));
        let theirs = Arc::new(Subject { tenant: "globex".into(), ..(*mine).clone() });
        let entry = Entry { subject: Arc::clone(&theirs), ..fetched(1, "not yours") };
        stored(envelope::wrap_entry(&entry, subject(1).key, None).unwrap()).await;
        assert_eq!(look(&tier, &mine).await, Err(GetOutcome::OtherKey));
        // Their selector under this key.
        let selector = envelope::Selector { names: [http::header::ACCEPT].into(), generation: 1 };
        stored(envelope::wrap_selector(&theirs, &selector, None).unwrap()).await;
        assert_eq!(look(&tier, &mine).await, Err(GetOutcome::OtherKey));
        // A version to come.
        let mut newer = envelope::wrap_entry(&fetched(1, "x"), subject(1).key, None).unwrap().to_vec();
        let at = newer.len() - 5;
        newer[at] += 1;
        stored(Bytes::from(newer)).await;
        assert_eq!(look(&tier, &mine).await, Err(GetOutcome::Foreign));
        // Past all use, though the store still has it.
        let old = Entry { fetched_at: now() - Span::from_secs(3600), ..fetched(1, "old") };
        stored(envelope::wrap_entry(&old, subject(1).key, None).unwrap()).await;
        assert_eq!(look(&tier, &mine).await, Err(GetOutcome::Outdated));
    }
}
