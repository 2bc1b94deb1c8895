//! Purges find by index what a walk through everything finds.

use proptest::prelude::*;

use super::*;
use crate::cache::Node;

#[derive(Clone, Debug)]
enum Step {
    /// A key, bits of its tags, its variant (0: it does not vary), whether it comes from L2, its size.
    Store(u64, u8, u8, bool, usize),
    Purge(usize, bool),
    Several(Vec<(usize, bool)>),
    Sweep,
}

const TAGS: [&str; 3] = ["red", "blue", "green"];

/// Every kind, about what is there and what is not.
fn purges() -> Vec<Purge> {
    let tag = |tag: &str| Some(Arc::from(tag));
    let path = |n: u64| Some(subject(n).path.clone());
    let within = |tenant: Option<&str>, path, tag| Purge::Within { route: "geo".into(), tenant: tenant.map(Into::into), path, tag };
    let mut out: Vec<Purge> = (0..8).map(|n| Purge::Key(subject(n).key)).collect();
    out.extend(TAGS.iter().map(|tag| Purge::Tag((*tag).into())));
    out.extend((0..4).map(|n| Purge::Path { route: "geo".into(), tenant: "acme".into(), path: subject(n).path.clone() }));
    out.extend([
        Purge::Path { route: "geo".into(), tenant: "other".into(), path: subject(1).path.clone() },
        within(None, path(2), None),
        within(Some("acme"), None, tag("blue")),
        within(Some("other"), None, tag("blue")),
        within(None, path(3), tag("red")),
        within(Some("acme"), None, None),
        Purge::Prefix { route: None, path: "/v1/items/1".into() },
        Purge::Tenant("acme".into()),
        Purge::All,
    ]);
    out
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..purges().len();
    prop_oneof![
        20 => (0u64..20, 0u8..8, 0u8..4, any::<bool>(), 0usize..900_000).prop_map(|(n, tags, v, l2, size)| Step::Store(n, tags, v, l2, size)),
        4 => (which.clone(), any::<bool>()).prop_map(|(at, soft)| Step::Purge(at, soft)),
        1 => proptest::collection::vec((which, any::<bool>()), 1..6).prop_map(Step::Several),
        1 => Just(Step::Sweep),
    ]
}

/// All entries, as a walk through everything meets them.
fn all(cache: &Cache) -> Vec<Arc<Cached>> {
    let of = |shard: &Mutex<crate::cache::Shard>| {
        let shard = shard.lock();
        shard
            .index
            .iter()
            .filter_map(|(_, node)| if let Node::Entry(entry) = node { Some(Arc::clone(entry)) } else { None })
            .collect::<Vec<_>>()
    };
    cache.0.shards.iter().flat_map(of).collect()
}

fn hit(cache: &Cache, purge: &Purge) -> Vec<Arc<Cached>> {
    all(cache).into_iter().filter(|entry| purge.matches(entry.named())).collect()
}

fn store(cache: &Cache, body: &Bytes, (n, tags, variant, promoted, size): (u64, u8, u8, bool, usize)) {
    let names: Arc<[HeaderName]> = [http::header::ACCEPT_LANGUAGE].into();
    let key = KeyHash(subject(n).key.0.rotate_left(7 * u32::from(variant)));
    let entry = Entry {
        selected: (variant > 0).then_some(farthing_freshness::Selected { names, key }),
        tags: TAGS.iter().enumerate().filter(|(bit, _)| tags & 1 << bit != 0).map(|(_, tag)| (*tag).into()).collect(),
        epoch: cache.epoch(),
        ..entry(&subject(n), body.slice(..size))
    };
    let cached = if promoted { Cached::promoted(&entry, NOW, &cache.0.shapes) } else { Cached::new(&entry) };
    cache.0.keep((cached, entry.epoch), NOW).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn what_a_purge_finds_is_what_a_walk_finds(steps in proptest::collection::vec(step(), 1..80)) {
        let (purges, body) = (purges(), Bytes::from(vec![0; 900_000]));
        // Four shards, each with room for a few.
        let cache = cache(CacheConfig { l1_bytes: 16 << 20, max_vary: 2, ..config() });
        for step in steps {
            match step {
                Step::Store(n, tags, variant, promoted, size) => store(&cache, &body, (n, tags, variant, promoted, size)),
                Step::Purge(at, soft) => {
                    let expected = hit(&cache, &purges[at]);
                    prop_assert_eq!(cache.purge(&purges[at], soft, NOW).entries, expected.len(), "{:?}", &purges[at]);
                    prop_assert_eq!(hit(&cache, &purges[at]).len(), if soft { expected.len() } else { 0 });
                    prop_assert!(!soft || expected.iter().all(|entry| entry.soft_purged()));
                }
                Step::Several(several) => {
                    let several: Vec<(Purge, bool)> = several.into_iter().map(|(at, soft)| (purges[at].clone(), soft)).collect();
                    let before = all(&cache);
                    let expected: Vec<_> = before.iter().filter(|entry| several.iter().any(|(purge, _)| purge.matches(entry.named()))).collect();
                    prop_assert_eq!(cache.purge_heard(&several, NOW).entries, expected.len());
                    for entry in expected {
                        let hard = several.iter().any(|(purge, soft)| !soft && purge.matches(entry.named()));
                        prop_assert_eq!(cache.holds(entry), !hard);
                        prop_assert!(hard || entry.soft_purged());
                    }
                }
                Step::Sweep => drop(cache.sweep(Span::ZERO, NOW)),
            }
            for purge in &purges {
                prop_assert_eq!(cache.purge_dry_run(purge), hit(&cache, purge).len(), "{:?}", purge);
            }
            prop_assert!(cache.stats().bytes <= 16 << 20);
        }
        cache.purge(&Purge::All, false, NOW);
        prop_assert_eq!(all(&cache).len(), 0);
    }
}

/// More than one step of each kind of walk.
#[tokio::test]
async fn large_purges_find_everything() {
    let (cache, count) = (cache(config()), 3_000);
    let fill_all = async || {
        for n in 0..count {
            fill(&cache, &subject(n), b"x").await;
        }
    };
    for purge in [Purge::Tag("red".into()), Purge::Tenant("acme".into()), Purge::All] {
        fill_all().await;
        assert_eq!(cache.purge(&purge, true, NOW).entries, count as usize);
        assert!(all(&cache).iter().all(|entry| entry.soft_purged()));
        assert_eq!(cache.purge(&purge, false, NOW).entries, count as usize);
        assert_eq!(cache.stats().entries, 0);
    }
    fill_all().await;
    assert_eq!(cache.shutdown(NOW), count as usize);
}
