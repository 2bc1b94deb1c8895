//! The tier over a store that fails on command; values that are encrypted.

use std::time::Duration;

use proptest::prelude::*;

use super::memory::MemoryStore;
use super::*;
use crate::Cache;
use crate::purge::Purge;

fn failing() -> (Arc<MemoryStore>, Tier) {
    let store = Arc::new(MemoryStore::default());
    let options = TierOptions { deadline: Span::from_millis(5), ..options() };
    (Arc::clone(&store), tier(store, None, options))
}

#[tokio::test(start_paused = true)]
async fn each_fault_is_a_miss_with_its_own_count() {
    let (store, tier) = failing();
    for fault in StoreFault::ALL {
        store.fail(Some(*fault));
        let outcome = look(&tier, &subject(1)).await.unwrap_err();
        assert_eq!(outcome.as_str(), fault.as_str());
        assert_eq!(tier.outcomes().get(outcome), 1);
        tier.put(cached(fetched(1, "x")), now());
        assert!(tier.flush().await);
    }
    let counts = tier.outcomes();
    let puts = PutOutcome::ALL.iter().map(|o| counts.put(*o)).collect::<Vec<_>>();
    assert_eq!(puts, [0, 1, 1, 0, 0, 1, 1, 2], "stored, dropped, too large, purged, fenced, late, unavailable, failed");
}

#[tokio::test(start_paused = true)]
async fn a_look_never_takes_longer_than_the_deadline() {
    let (store, tier) = failing();
    tier.put(cached(varying(1, "x", &HeaderMap::new())), now());
    assert!(tier.flush().await);
    assert!(look(&tier, &subject(1)).await.is_ok());
    // Two questions of 3 ms each are more than 5 ms together.
    store.delay(Duration::from_millis(3));
    let start = tokio::time::Instant::now();
    assert_eq!(look(&tier, &subject(1)).await, Err(GetOutcome::Late));
    assert!(start.elapsed() <= Duration::from_millis(6));
    assert_eq!(tier.outcomes().get(GetOutcome::Late), 1);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_in_bytes() {
    let (store, tier) = failing();
    store.delay(Duration::from_secs(1));
    let entry = cached(fetched(1, &"x".repeat(1 << 20)));
    let bound = options().queue_bytes;
    for _ in 0..20 {
        tier.put(Arc::clone(&entry), now());
        assert!(tier.queued_bytes() <= bound);
    }
    let fit = (bound / entry.size()) as u64;
    assert_eq!(tier.outcomes().put(PutOutcome::Dropped), 20 - fit);
    assert!(tier.flush().await);
    assert_eq!((tier.queued_bytes(), tier.outcomes().put(PutOutcome::TooLarge)), (0, fit), "the memory store takes less than 1 MiB");
}

#[tokio::test]
async fn damaged_values_are_deleted_and_foreign_ones_left_to_those_who_can_read_them() {
    let (store, tier) = failing();
    let key = subject(1).key;
    for (damage, left) in [(0, false), (20, false), (usize::MAX, true)] {
        let mut bytes = envelope::wrap_entry(&fetched(1, "x"), subject(1).key, None).unwrap().to_vec();
        let at = damage.min(bytes.len() - 1);
        bytes[at] ^= 1;
        store.put(put(key.0, bytes)).await.unwrap();
        let _miss = look(&tier, &subject(1)).await.unwrap_err();
        assert!(tier.flush().await);
        assert_eq!(store.raw(key).is_some(), left || damage == 0, "{damage}");
        store.delete(key).await.unwrap();
    }
}

/// Two processes on one store: each hears of the other's purges within a second, and trusts no tagged answer when it cannot.
#[tokio::test]
async fn purges_reach_others_who_share_the_store() {
    let store = Arc::new(MemoryStore::default());
    let one = tier(Arc::clone(&store) as Arc<dyn Store>, None, options());
    let two = tier(Arc::clone(&store) as Arc<dyn Store>, None, options());
    let start = now();
    let at = |seconds| start + Span::from_secs(seconds);
    let entry = |n, tags: &[&str]| cached(Entry { tags: tags.iter().map(|t| (*t).into()).collect(), ..fetched(n, "x") });
    one.put(entry(1, &["red"]), start);
    one.put(entry(2, &[]), start);
    assert!(one.flush().await);
    let look = |tier: &Tier, n, now| {
        let (tier, subject) = (tier.clone(), subject(n));
        async move { tier.get(&subject, &HeaderMap::new(), now).await.map(drop) }
    };
    assert_eq!(look(&two, 1, start).await, Ok(()));
    one.purge(&Purge::Tag("red".into()), false, at(2));
    assert_eq!(look(&one, 1, at(2)).await, Err(GetOutcome::Outdated), "at once for who purged");
    assert!(one.flush().await);
    assert_eq!(look(&two, 1, at(3)).await, Err(GetOutcome::Outdated));
    assert_eq!(look(&two, 2, at(3)).await, Ok(()));
    // The list is gone: who knows more writes it again.
    store.delete(envelope::PURGES_KEY).await.unwrap();
    assert_eq!(look(&two, 1, at(5)).await, Err(GetOutcome::Outdated));
    assert!(two.flush().await);
    let three = tier(Arc::clone(&store) as Arc<dyn Store>, None, options());
    assert_eq!(look(&three, 1, at(5)).await, Err(GetOutcome::Outdated));
    // The list is damaged: nothing fetched before is trusted.
    store.put(put(envelope::PURGES_KEY.0, "damaged")).await.unwrap();
    let four = tier(Arc::clone(&store) as Arc<dyn Store>, None, options());
    assert_eq!(look(&four, 2, at(5)).await, Err(GetOutcome::Outdated));
}

#[tokio::test]
async fn who_cannot_hear_of_purges_trusts_no_tagged_answer() {
    let store = Arc::new(MemoryStore::default());
    let [writer, tier] = [(); 2].map(|()| tier(Arc::clone(&store) as Arc<dyn Store>, None, options()));
    let (tagged, plain) = (fetched(1, "x"), Entry { tags: Vec::new(), ..fetched(2, "y") });
    writer.put(cached(tagged), now());
    writer.put(cached(plain), now());
    assert!(writer.flush().await);
    let look = |n, later| {
        let (tier, subject) = (tier.clone(), subject(n));
        async move { tier.get(&subject, &HeaderMap::new(), now() + Span::from_secs(later)).await.map(drop) }
    };
    store.hide(Some(envelope::PURGES_KEY));
    assert_eq!(look(2, 0).await, Err(GetOutcome::Unavailable), "never heard of any");
    store.hide(None);
    assert_eq!((look(1, 0).await, look(2, 0).await), (Ok(()), Ok(())));
    store.hide(Some(envelope::PURGES_KEY));
    assert_eq!((look(1, 2).await, look(2, 2).await), (Err(GetOutcome::Unavailable), Ok(())));
}

fn sealer(secret: u8) -> Sealer {
    Sealer::new(&[secret; 32]).unwrap()
}

#[tokio::test]
async fn encrypted_values_open_with_their_own_key_only() {
    let store = Arc::new(MemoryStore::default());
    let mine = tier(Arc::clone(&store) as Arc<dyn Store>, Some(sealer(1)), options());
    let secret_body = "a very particular body";
    mine.put(cached(fetched(1, secret_body)), now());
    mine.put(cached(varying(2, secret_body, &HeaderMap::new())), now());
    assert!(mine.flush().await);
    for n in [1, 2] {
        assert_eq!(look(&mine, &subject(n)).await.unwrap().body, secret_body);
        let raw = store.raw(subject(n).key).unwrap();
        for shown in [secret_body.as_bytes(), b"acme", b"accept-language"] {
            assert!(!raw.windows(shown.len()).any(|w| w == shown), "the value shows what it holds");
        }
    }
    for other in [Some(sealer(2)), None] {
        let other = tier(Arc::clone(&store) as Arc<dyn Store>, other, options());
        assert_eq!(look(&other, &subject(1)).await, Err(GetOutcome::OtherSecret));
        assert_eq!(other.outcomes().get(GetOutcome::OtherSecret), 1);
    }
    assert_eq!(look(&mine, &subject(1)).await.unwrap().body, secret_body, "nobody deleted it");
    // A plain value is no answer for who encrypts.
    let plain = tier(Arc::clone(&store) as Arc<dyn Store>, None, options());
    plain.put(cached(fetched(3, "planted")), now());
    assert!(plain.flush().await);
    assert_eq!(look(&mine, &subject(3)).await, Err(GetOutcome::OtherSecret));
    // Nor is an encrypted one that stands elsewhere.
    store.put(Put { key: subject(4).key, ..put(0, store.raw(subject(1).key).unwrap()) }).await.unwrap();
    assert_eq!(look(&mine, &subject(4)).await, Err(GetOutcome::Damaged));
}

#[test]
fn a_short_secret_is_refused() {
    assert_eq!(Sealer::new(&[1; 31]).unwrap_err(), SealError::ShortSecret);
    assert!(!format!("{:?}", sealer(1)).contains("key"));
}

proptest! {
    #[test]
    fn a_changed_encrypted_value_never_opens(at: prop::sample::Index, bit in 0u8..8, cut: bool) {
        let sealer = sealer(1);
        let mut bytes = envelope::wrap_entry(&fetched(1, "x"), subject(1).key, Some(&sealer)).unwrap().to_vec();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        let found = envelope::unwrap(&bytes.into(), subject(1).key, &subject(1), Some(&sealer));
        prop_assert!(found.is_err());
    }

    #[test]
    fn whatever_bytes_come_nothing_breaks(content: Vec<u8>, kind in 0u8..3, sealed in 0u8..3) {
        let mut bytes = content;
        bytes.extend_from_slice(&[kind, sealed, 0, 1]);
        bytes.extend_from_slice(b"FRL2");
        for sealer in [None, Some(&sealer(1))] {
            prop_assert!(envelope::unwrap(&bytes.clone().into(), subject(1).key, &subject(1), sealer).is_err());
        }
    }
}

/// Two processes on one store: a copy in memory is compared once a minute, and what the other did to it takes effect then.
#[tokio::test]
async fn copies_in_memory_are_checked_once_a_minute() {
    let store = Arc::new(MemoryStore::default());
    let process = || {
        let tier = tier(Arc::clone(&store) as Arc<dyn Store>, None, TierOptions { keep: Span::from_secs(3_600), ..options() });
        Cache::with_l2(crate::tests::config(), Arc::new(crate::NoEvents), Some(tier))
    };
    let (one, two) = (process(), process());
    let (start, none) = (now(), HeaderMap::new());
    let at = |seconds| start + Span::from_secs(seconds);
    let put = |cache: &Cache, n: u64, body: &'static str, at: farthing_types::Time| {
        let (subject, join) = (subject(n), crate::tests::head());
        let joined = cache.join(crate::Join { subject: &subject, headers: &none, seen: cache.peek(subject.key, &none).as_ref(), now: at });
        let crate::Joined::Lead(ticket) = joined else { panic!("{joined:?}") };
        ticket.share(join, at).finish(None).store(Entry { fetched_at: at, ..fetched(n, body) }, at).unwrap().entry
    };
    let (first, second, third) = (put(&one, 1, "old", start), put(&one, 2, "stays", start), put(&one, 3, "goes", start));
    assert!(one.l2().unwrap().flush().await);
    assert!(!one.is_due(&first, at(59)));
    put(&two, 1, "new", at(10));
    two.purge(&Purge::Key(subject(3).key), false, at(10));
    assert!(two.l2().unwrap().flush().await);
    assert!(one.is_due(&first, at(60)) && !one.is_due(&first, at(60)), "one of them is to check");
    match one.recheck(&first, &none, at(60)).await {
        crate::Rechecked::Newer(entry) => assert_eq!(entry.body(), "new"),
        other => panic!("{other:?}"),
    }
    assert_eq!(one.peek(subject(1).key, &none).unwrap().body(), "new");
    assert!(matches!(one.recheck(&second, &none, at(60)).await, crate::Rechecked::Same));
    assert!(matches!(one.recheck(&third, &none, at(60)).await, crate::Rechecked::Purged));
    assert!(one.peek(subject(3).key, &none).is_none());
    // L2 away says nothing.
    store.fail(Some(StoreFault::Unavailable));
    assert!(matches!(one.recheck(&second, &none, at(120)).await, crate::Rechecked::Same));
    assert!(one.peek(subject(2).key, &none).is_some());
}

/// A fleet that purges much does not remember for long by what to judge answers in L2. A copy in memory has gone through every purge, and stays.
#[tokio::test]
async fn copies_in_memory_outlast_what_a_fleet_remembers_of_purges() {
    let store = Arc::new(MemoryStore::default());
    let hearing = Arc::new(crate::Hearing::new(true));
    hearing.begin_anew(10);
    hearing.heard(now() + Span::from_secs(60));
    let tier = tier(Arc::clone(&store) as Arc<dyn Store>, None, TierOptions { keep: Span::from_secs(3_600), ..options() });
    let one = Cache::in_fleet(crate::tests::config(), Arc::new(crate::NoEvents), Some(tier.clone()), Some(Arc::clone(&hearing)));
    let (subject, none) = (subject(1), HeaderMap::new());
    let ticket = crate::tests::lead(crate::tests::join_with(&one, &subject, &none, now()));
    let stored = ticket.share(crate::tests::head(), now()).finish(None).store(fetched(1, "x"), now()).unwrap().entry;
    assert!(tier.flush().await && stored.is_in_l2());
    assert!(look(&tier, &subject).await.is_ok());
    for number in 11..11 + 5_000 {
        hearing.note(number, &Purge::Tag(format!("tag {number}").into()), false);
        hearing.advance(number);
    }
    assert_eq!(look(&tier, &subject).await, Err(GetOutcome::Forgotten));
    assert!(matches!(one.recheck(&stored, &none, now() + Span::from_secs(60)).await, crate::Rechecked::Same));
    assert!(one.peek(subject.key, &none).is_some());
}

/// An entry of a tenant who is to be forgotten; every fourth varies.
fn of_canary(n: u64) -> Entry {
    let request = HeaderMap::new();
    let entry = if n.is_multiple_of(4) { varying(n, "canary-body", &request) } else { fetched(n, "canary-body") };
    Entry { subject: Arc::new(Subject { tenant: "canary-7f3a9".into(), ..(*entry.subject).clone() }), ..entry }
}

/// Forgets a tenant in a store that holds entries of two: what was looked for afterwards, of it and of the other.
async fn forgotten(store: Arc<dyn Store>, sealer: Option<Sealer>) -> (Vec<GetOutcome>, usize) {
    let tier = tier(store, sealer, options());
    for n in 0..40 {
        tier.put(cached(of_canary(n)), now());
        tier.put(cached(fetched(100 + n, &"x".repeat(20_000))), now());
    }
    assert!(tier.flush().await);
    let (purge, mine) = (Purge::Tenant("canary-7f3a9".into()), |n| of_canary(n).subject);
    tier.purge(&purge, false, now());
    tier.purge(&Purge::Tag("red".into()), true, now());
    let erased = tier.erase("canary-7f3a9", now()).await.unwrap();
    assert!(erased >= 40, "{erased}");
    let (mut gone, mut there) = (Vec::new(), 0);
    for n in 0..40 {
        gone.push(look(&tier, &mine(n)).await.unwrap_err());
        there += usize::from(look(&tier, &subject(100 + n)).await.is_ok());
    }
    assert_eq!(tier.erase("canary-7f3a9", now()).await, Ok(0));
    (gone, there)
}

#[tokio::test]
async fn of_a_tenant_that_is_erased_nothing_is_left_and_of_others_everything() {
    for sealed in [false, true] {
        let sealer = || sealed.then(|| Sealer::new(b"thirty-two characters are enough").unwrap());
        let (gone, there) = forgotten(Arc::new(MemoryStore::default()), sealer()).await;
        assert_eq!((gone, there), (vec![GetOutcome::Absent; 40], 40));
        let dir = tempfile::tempdir().unwrap();
        let options = || DiskOptions { segment_bytes: 128 << 10, ..DiskOptions::new(8 << 20) };
        let store = Arc::new(DiskStore::open(dir.path(), options(), now()).unwrap());
        store.put(put(5, "to be deleted")).await.unwrap();
        store.flush().await.unwrap();
        store.delete(KeyHash(5)).await.unwrap();
        let (gone, there) = forgotten(store.clone(), sealer()).await;
        assert_eq!((gone, there), (vec![GetOutcome::Absent; 40], 40));
        store.close().await.unwrap();
        let holds = |text: &str| {
            let files = std::fs::read_dir(dir.path()).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
            files.into_iter().any(|bytes| bytes.windows(text.len()).any(|at| at == text.as_bytes()))
        };
        assert!(!holds("canary") && (sealed || holds("xxxxxxxxxxxx")), "not even in what was overwritten");
        drop(store);
        // Nothing comes back with a restart, and nothing else is lost by it.
        let store = DiskStore::open(dir.path(), options(), now()).unwrap();
        assert_eq!(store.get(KeyHash(5), now()).await, Ok(None));
        assert!(store.stats().entries >= 40);
    }
}

#[tokio::test]
async fn a_tenant_s_purge_holds_until_all_that_it_is_about_is_erased() {
    let store = Arc::new(MemoryStore::default());
    let tier = tier(store.clone(), None, options());
    tier.put(cached(of_canary(1)), now());
    assert!(tier.flush().await);
    let mine = of_canary(1).subject;
    assert!(look(&tier, &mine).await.is_ok());
    tier.purge(&Purge::Tenant("canary-7f3a9".into()), false, now());
    store.close_to_erasing(Some(StoreFault::Failed));
    assert_eq!(tier.erase("canary-7f3a9", now()).await, Err(StoreFault::Failed));
    assert_eq!(look(&tier, &mine).await.unwrap_err(), GetOutcome::Outdated, "it is still there");
    store.close_to_erasing(None);
    assert_eq!(tier.erase("canary-7f3a9", now()).await, Ok(1));
    assert_eq!(look(&tier, &mine).await.unwrap_err(), GetOutcome::Absent);
    let list = store.raw(envelope::PURGES_KEY).unwrap();
    assert!(!envelope::names_tenant(&list, envelope::PURGES_KEY, "canary-7f3a9", None));
}
