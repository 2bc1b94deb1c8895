use farthing_types::UncachedReason;

use super::*;

fn watched(config: CacheConfig) -> (Cache, Arc<Ends>) {
    let ends = Arc::new(Ends::default());
    (Cache::new(config, Arc::clone(&ends) as Arc<dyn CacheEvents>), ends)
}

#[tokio::test]
async fn every_entry_ends_once_with_its_hits() {
    let (cache, ends) = watched(config());
    let subject = subject(1);
    let first = fill(&cache, &subject, b"one").await;
    cache.lookup(subject.key, &HeaderMap::new(), NOW).unwrap().on_hit(NOW, false);
    first.on_hit(NOW + Span::from_secs(1), true);
    let seen = Some(&first);
    let Joined::Lead(ticket) = cache.join(Join { subject: &subject, headers: &HeaderMap::new(), seen, now: NOW }) else {
        panic!("an entry that was seen and refused is not offered again")
    };
    let stored = ticket.share(head(), NOW).finish(None).store(entry(&subject, "two"), NOW).unwrap();
    assert!(Arc::ptr_eq(stored.replaced.as_ref().unwrap(), &first));
    let ended = ends.take();
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].why, ended[0].entry.hits(), ended[0].entry.stale_hits()), (EndReason::Replaced, 2, 1));
    assert_eq!(ended[0].entry.last_hit(), Some(NOW + Span::from_secs(1)));
    assert_eq!(ended[0].successor.as_ref().unwrap().body(), "two");
    assert_eq!(cache.shutdown(NOW), 1);
    assert_eq!(ends.reasons(), [EndReason::Shutdown]);
    assert_eq!(cache.stats().entries, 0);
}

#[tokio::test]
async fn what_is_purged_is_gone_and_told() {
    let (cache, ends) = watched(config());
    for n in 0..20 {
        fill(&cache, &subject(n), b"x").await;
    }
    assert_eq!(cache.purge_dry_run(&Purge::Tag("red".into())), 20);
    assert_eq!(cache.purge(&Purge::Key(subject(3).key), false, NOW).entries, 1);
    assert!(cache.peek(subject(3).key, &HeaderMap::new()).is_none());
    let prefix = Purge::Prefix { route: Some("geo".into()), path: "/v1/items/1".into() };
    assert_eq!(cache.purge(&prefix, false, NOW).entries, 11, "1 and 10 to 19");
    assert_eq!(cache.purge(&Purge::Prefix { route: Some("other".into()), path: "".into() }, false, NOW).entries, 0);
    assert_eq!(cache.purge(&Purge::Tag("blue".into()), false, NOW).entries, 0);
    assert_eq!(cache.purge(&Purge::Tenant("acme".into()), false, NOW).entries, 8);
    assert_eq!(cache.purge(&Purge::All, false, NOW).entries, 0);
    let reasons = ends.reasons();
    assert_eq!(reasons.len(), 20);
    assert!(reasons.iter().all(|r| *r == EndReason::Purged));
}

/// However many are carried out in one go: as if each had been by itself.
#[tokio::test]
async fn several_purges_at_once_are_as_one_after_the_other() {
    let purges = [
        (Purge::Key(subject(3).key), false),
        (Purge::Prefix { route: None, path: "/v1/items/1".into() }, true),
        (Purge::Path { route: "geo".into(), tenant: "acme".into(), path: "/v1/items/12".into() }, false),
        (Purge::Key(subject(4).key), true),
        (Purge::Tag("blue".into()), false),
        (Purge::Key(subject(5).key), false),
    ];
    let (together, apart) = (Cache::new(config(), Arc::new(crate::NoEvents)), Cache::new(config(), Arc::new(crate::NoEvents)));
    for n in 0..20 {
        fill(&together, &subject(n), b"x").await;
        fill(&apart, &subject(n), b"x").await;
    }
    let sum = purges.iter().map(|(purge, soft)| apart.purge(purge, *soft, NOW).entries).sum::<usize>();
    let done = together.purge_heard(&purges, NOW);
    // One was made stale before it was taken out.
    assert_eq!((done.entries, sum, done.epoch), (14, 15, purges.len() as u64));
    let stands = |cache: &Cache, n| cache.peek(subject(n).key, &HeaderMap::new()).map(|entry| entry.soft_purged());
    for n in 0..20 {
        assert_eq!(stands(&together, n), stands(&apart, n), "{n}");
        // What a purge of its own was about has changed; what a larger one was about is lost.
        for cache in [&together, &apart] {
            assert_eq!(cache.has_lost(subject(n).key, NOW), ![3, 4, 5, 12].contains(&n), "{n}");
        }
    }
    assert_eq!(together.epoch(), apart.epoch());
}

#[tokio::test]
async fn a_soft_purge_makes_stale() {
    let (cache, ends) = watched(config());
    let entry = fill(&cache, &subject(1), b"x").await;
    assert_eq!(cache.purge(&Purge::All, true, NOW).entries, 1);
    assert!(entry.soft_purged() && cache.peek(subject(1).key, &HeaderMap::new()).is_some());
    assert!(ends.take().is_empty());
}

#[tokio::test]
async fn an_answer_under_way_does_not_bring_back_what_was_purged() {
    let purges = [
        Purge::Key(subject(1).key),
        Purge::Tag("red".into()),
        Purge::Tenant("acme".into()),
        Purge::Prefix { route: None, path: "/v1/".into() },
        Purge::All,
    ];
    for purge in purges {
        for after_head in [false, true] {
            let cache = cache(config());
            let subject = subject(1);
            let ticket = lead(join(&cache, &subject));
            let mut early = follow(join(&cache, &subject));
            let mut tagged = head();
            tagged.tags = Some(vec!["red".into()]);
            let mut filling = None;
            let mut ticket = Some(ticket);
            if after_head {
                filling = ticket.take().map(|t| t.share(tagged, NOW));
                assert_eq!(cache.purge(&purge, false, NOW).flights, 1, "{purge:?}");
            } else {
                assert_eq!(cache.purge(&purge, false, NOW).flights, 1, "{purge:?}");
                filling = ticket.take().map(|t| t.share(tagged, NOW)).or(filling);
            }
            // Who asks after the purge gets an answer from after the purge.
            let second = lead(join(&cache, &subject));
            let filled = filling.unwrap().finish(None);
            assert_eq!(filled.store(entry(&subject, "old"), NOW).unwrap_err(), UncachedReason::Invalidated, "{purge:?}");
            share_of(&mut early).await;
            assert!(matches!(join(&cache, &subject), Joined::Follow(_)), "the new flight is untouched by the old one's end");
            second.share(head(), NOW).finish(None).store(entry(&subject, "new"), NOW).unwrap();
            assert_eq!(cache.peek(subject.key, &HeaderMap::new()).unwrap().body(), "new");
            assert_eq!(cache.stats().invalidated, 1);
        }
    }
}

#[tokio::test]
async fn a_purge_of_something_else_leaves_a_flight_alone() {
    let cache = cache(config());
    let ticket = lead(join(&cache, &subject(1)));
    let mut tagged = head();
    tagged.tags = Some(vec!["red".into()]);
    let filling = ticket.share(tagged, NOW);
    for purge in [Purge::Key(subject(2).key), Purge::Tag("blue".into()), Purge::Tenant("other".into())] {
        assert_eq!(cache.purge(&purge, false, NOW).flights, 0);
    }
    follow(join(&cache, &subject(1)));
    filling.finish(None).store(entry(&subject(1), "x"), NOW).unwrap();
}

#[tokio::test]
async fn a_soft_purge_during_the_call_stores_stale() {
    let cache = cache(config());
    let ticket = lead(join(&cache, &subject(1)));
    cache.purge(&Purge::All, true, NOW);
    let stored = ticket.share(head(), NOW).finish(None).store(entry(&subject(1), "x"), NOW).unwrap();
    assert!(stored.entry.soft_purged());
}

#[tokio::test]
async fn what_was_purged_or_replaced_is_not_held() {
    let cache = cache(config());
    let entry = fill(&cache, &subject(1), b"x").await;
    assert!(cache.holds(&entry));
    cache.purge(&Purge::All, true, NOW);
    assert!(cache.holds(&entry), "stale, and there");
    cache.purge(&Purge::Tag("red".into()), false, NOW);
    assert!(!cache.holds(&entry));
    let newer = fill(&cache, &subject(1), b"y").await;
    assert!(cache.holds(&newer) && !cache.holds(&entry));
}

#[tokio::test]
async fn what_is_given_within_a_route_has_to_fit_together() {
    let cache = cache(config());
    for n in [1, 2] {
        fill(&cache, &subject(n), b"x").await;
    }
    let within = |route: &str, tenant: Option<&str>, path: Option<&str>, tag: Option<&str>| {
        let word = |text: Option<&str>| text.map(Into::into);
        cache.purge_dry_run(&Purge::Within { route: route.into(), tenant: word(tenant), path: word(path), tag: word(tag) })
    };
    assert_eq!(within("geo", None, None, None), 2);
    assert_eq!(within("geo", Some("acme"), Some("/v1/items/1"), Some("red")), 1);
    for (route, tenant, path, tag) in [
        ("other", None, None, None),
        ("geo", Some("x"), None, None),
        ("geo", None, Some("/v1/items"), None),
        ("geo", None, None, Some("blue")),
    ] {
        assert_eq!(within(route, tenant, path, tag), 0);
    }
}

#[tokio::test]
async fn an_answer_older_than_the_purge_log_is_not_stored() {
    let cache = cache(config());
    let ticket = lead(join(&cache, &subject(1)));
    for n in 0..5000 {
        cache.purge(&Purge::Key(subject(n + 10).key), false, NOW);
    }
    let filled = ticket.share(head(), NOW).finish(None);
    assert_eq!(filled.store(entry(&subject(1), "x"), NOW).unwrap_err(), UncachedReason::Invalidated);
}

#[tokio::test]
async fn purging_forgets_that_a_key_was_uncacheable() {
    let (cache, subject) = (cache(config()), subject(1));
    drop(lead(join(&cache, &subject)).alone(UncachedReason::Status, head(), NOW));
    assert!(matches!(join(&cache, &subject), Joined::Alone(_)));
    cache.purge(&Purge::Key(subject.key), false, NOW);
    drop(lead(join(&cache, &subject)));
}

#[tokio::test]
async fn statistics_follow_a_key_in_and_out_of_its_entry() {
    let cache = cache(config());
    let subject = subject(1);
    let at = |s| NOW + Span::from_secs(s);
    for s in 0..3 {
        assert!(cache.lookup(subject.key, &HeaderMap::new(), at(s)).is_none());
    }
    let ticket = lead(join(&cache, &subject));
    let stats = cache.update_key_stats(ticket.key(), |s| {
        s.on_fetch(at(3), 99, 1e-4);
        *s
    });
    // A request comes between the fetch and the entry: the entry takes it over.
    cache.lookup(subject.key, &HeaderMap::new(), at(3));
    let filled = ticket.share(head(), NOW).finish(None);
    filled.store(Entry { stats, ..entry(&subject, "x") }, at(3)).unwrap();
    cache.lookup(subject.key, &HeaderMap::new(), at(4)).unwrap();
    cache.update_key_stats(subject.key, |s| s.on_request(at(5)));
    let live = cache.key_stats(subject.key).unwrap();
    assert_eq!((live.fetches(), live.hash()), (1, Some(99)));
    let mut expected = KeyStats::default();
    (0..3).for_each(|s| expected.on_request(at(s)));
    expected.on_fetch(at(3), 99, 1e-4);
    (3..6).for_each(|s| expected.on_request(at(s)));
    assert_eq!(live, expected);
    cache.purge(&Purge::All, false, at(6));
    assert_eq!(cache.key_stats(subject.key), Some(expected), "the table remembers");
}

#[tokio::test]
async fn sweeping_ends_what_nobody_may_serve() {
    let (cache, ends) = watched(config());
    fill(&cache, &subject(1), b"x").await;
    assert_eq!(cache.sweep(Span::from_secs(10), NOW + Span::from_secs(70)), 0);
    assert_eq!(cache.sweep(Span::from_secs(10), NOW + Span::from_secs(71)), 1);
    assert_eq!(ends.reasons(), [EndReason::Expired]);
}

#[tokio::test]
async fn vary_variants_are_bounded() {
    let (cache, ends) = watched(CacheConfig { max_vary: 3, ..config() });
    let subject = subject(1);
    let languages = ["a", "b", "c", "d", "e"].map(|l| headers(&[("accept-language", l)]));
    for language in &languages {
        let varying = SharedHead::new(StatusCode::OK, headers(&[("vary", "accept-language")]), CallId(1));
        let ticket = lead(join_with(&cache, &subject, language, NOW));
        ticket.share(varying, NOW).finish(None).store(entry(&subject, "x"), NOW).unwrap();
    }
    let held: Vec<bool> = languages.iter().map(|l| cache.peek(subject.key, l).is_some()).collect();
    assert_eq!(held, [false, false, true, true, true]);
    assert_eq!(ends.reasons(), [EndReason::Evicted; 2]);
}

#[tokio::test]
async fn a_failure_does_not_take_the_place_of_all_variants() {
    let cache = cache(config());
    let subject = subject(1);
    let languages = ["a", "b", "c"].map(|l| headers(&[("accept-language", l)]));
    for language in &languages[..2] {
        let varying = SharedHead::new(StatusCode::OK, headers(&[("vary", "accept-language")]), CallId(1));
        let ticket = lead(join_with(&cache, &subject, language, NOW));
        ticket.share(varying, NOW).finish(None).store(entry(&subject, "x"), NOW).unwrap();
    }
    // A provider that fails does not say by what it would have chosen.
    let failure = Entry { status: StatusCode::SERVICE_UNAVAILABLE, ..entry(&subject, "down") };
    let failed = SharedHead::new(failure.status, headers(&[("cache-control", "max-age=5")]), CallId(2));
    let ticket = lead(join_with(&cache, &subject, &languages[2], NOW));
    let stored = ticket.share(failed, NOW).finish(None).store(failure, NOW);
    assert_eq!(stored.map(|_| ()), Err(UncachedReason::Status));
    let held = languages.each_ref().map(|l| cache.peek(subject.key, l).map(|entry| entry.status()));
    assert_eq!(held, [Some(StatusCode::OK), Some(StatusCode::OK), None]);
}

#[test]
fn the_statistics_table_keeps_its_bounds_and_the_recent_keys() {
    let table = StatsTable::new(1 << 20);
    assert!(table.capacity() * 64 <= 1 << 20);
    let keys: Vec<_> = (0..50_000).map(|n| subject(n).key).collect();
    for (i, key) in keys.iter().enumerate() {
        table.update(*key, |s| s.on_request(NOW + Span::from_secs(i as u64)));
        table.update(keys[0], |s| s.on_request(NOW));
    }
    assert!(table.get(keys[0]).is_some(), "a key in use stays");
    let recent = keys.iter().rev().take(1000).filter(|k| table.get(**k).is_some()).count();
    assert!(recent >= 990, "{recent}");
    let held = keys.iter().filter(|k| table.get(**k).is_some()).count();
    assert!(held <= table.capacity() && held > table.capacity() / 2, "{held} of {}", table.capacity());
}

/// Real threads: a change is written at the origin and its key, tag or path purged; from then on nobody gets an older value, whatever
/// was under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_gets_a_value_older_than_the_last_purge() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let (cache, subject) = (cache(config()), subject(1));
    let (origin, purged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (cache, subject, origin, purged) = (cache.clone(), Arc::clone(&subject), Arc::clone(&origin), Arc::clone(&purged));
        tasks.spawn(async move {
            for i in 0..400 {
                // Every fourth turn changes the value; the others ask for it, and may be in the middle of a fill meanwhile.
                if i % 4 == task % 4 {
                    let version = origin.fetch_add(1, Ordering::SeqCst) + 1;
                    let path = Purge::Path { route: "geo".into(), tenant: "acme".into(), path: subject.path.clone() };
                    cache.purge([&Purge::Key(subject.key), &Purge::Tag("red".into()), &path][i / 4 % 3], false, NOW);
                    purged.fetch_max(version, Ordering::SeqCst);
                    continue;
                }
                let least = purged.load(Ordering::SeqCst);
                let value = value_of(&cache, &subject, &origin).await;
                assert!(value >= least, "{value} after the purge of {least}");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!(cache.stats().invalidated > 0, "some answers were under way");
    assert_eq!((cache.stats().flights, cache.stats().in_flight_bytes), (0, 0));
}

async fn value_of(cache: &Cache, subject: &Arc<Subject>, origin: &std::sync::atomic::AtomicU64) -> u64 {
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse().unwrap();
    if let Some(found) = cache.lookup(subject.key, &HeaderMap::new(), NOW) {
        return number(&found.body());
    }
    match join(cache, subject) {
        Joined::Stored(found) => number(&found.body()),
        Joined::Follow(mut slot) => number(&read(share_of(&mut slot).await).await.unwrap()),
        Joined::Lead(ticket) => {
            let body = origin.load(std::sync::atomic::Ordering::SeqCst).to_string();
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            let mut filling = ticket.share(SharedHead { tags: Some(vec!["red".into()]), ..head() }, NOW);
            filling.push(body.clone().into()).await;
            tokio::task::yield_now().await;
            drop(filling.finish(None).store(entry(subject, body.clone()), NOW));
            number(body.as_bytes())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_copy_is_lost_unless_it_made_room_or_its_own_answer_was_purged() {
    let (cache, none) = (cache(config()), HeaderMap::new());
    for n in 0..6 {
        fill(&cache, &subject(n), b"x").await;
    }
    let lost = |n: u64| cache.has_lost(subject(n).key, NOW + Span::from_secs(59));
    let path = |n: u64| Purge::Path { route: "geo".into(), tenant: "acme".into(), path: format!("/v1/items/{n}").into() };
    cache.purge(&Purge::Key(subject(0).key), false, NOW);
    cache.purge(&path(1), false, NOW);
    cache.purge(&path(2), true, NOW);
    assert!(!lost(0) && !lost(1) && !lost(2), "what has changed is fetched anew");
    cache.purge(&Purge::All, false, NOW);
    assert!(cache.peek(subject(3).key, &none).is_none());
    assert!(lost(3) && lost(5) && !lost(6));
    assert!(!cache.has_lost(subject(3).key, NOW + Span::from_secs(61)), "it would have expired");
}

#[tokio::test]
async fn what_makes_room_is_not_lost() {
    let cache = cache(CacheConfig { l1_bytes: 20_000, ..config() });
    for n in 0..100 {
        fill(&cache, &subject(n), b"x").await;
    }
    assert!(cache.stats().evicted > 50);
    let gone = |n: &u64| cache.peek(subject(*n).key, &HeaderMap::new()).is_none();
    assert_eq!((0..100).filter(gone).filter(|n| cache.has_lost(subject(*n).key, NOW)).count(), 0);
    assert_eq!(cache.shutdown(NOW), cache.stats().stored as usize - cache.stats().evicted as usize);
    assert!((0..100).any(|n| cache.has_lost(subject(n).key, NOW)), "a restart loses what was there");
}
