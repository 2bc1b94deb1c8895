//! What entries are accounted with is what they take: a bound in bytes that counts something else bounds nothing. One test, because it looks at the memory of
//! the whole process; with the system's allocator, because the program's own pads in a debug build.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

use std::sync::Arc;

use bytes::Bytes;
use farthing_cache::{Cache, CacheConfig, Join, Joined, NoEvents, SharedHead};
use farthing_freshness::entry::KeyStats;
use farthing_freshness::{Entry, Facts, Keyer, Subject, VariantTtl};
use farthing_types::{By, CallId, KeyHash, Money, Span, Time};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

const NOW: Time = Time::from_millis(1_700_000_000_000);

/// Resident memory of this process; `None` where the system does not tell.
fn resident() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split(' ').nth(1)?.parse::<usize>().ok()? * 4_096)
}

fn key(n: u64) -> KeyHash {
    KeyHash((u128::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn fill(cache: &Cache, n: u64, (body, tags): (usize, usize)) {
    let subject = Arc::new(Subject { key: key(n), tenant: "acme".into(), route: "geo".into(), path: format!("/v1/items/{n}").into() });
    let Joined::Lead(ticket) = cache.join(Join { subject: &subject, headers: &HeaderMap::new(), seen: None, now: NOW }) else {
        panic!("{n} is there already")
    };
    let headers: HeaderMap = [("content-type", "application/json"), ("x-own", "0123456789abcdef0123456789abcdef"), ("etag", "\"0123\"")]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    let entry = Entry {
        subject: Arc::clone(&subject),
        selected: None,
        status: StatusCode::OK,
        headers: headers.into(),
        body: Bytes::from(vec![b'x'; body]),
        trailers: None,
        fetched_at: NOW,
        facts: Facts { etag: Some(HeaderValue::from_static("\"0123\"")), date: NOW, ..Facts::default() },
        variants: vec![VariantTtl { variant: "".into(), ttl: Span::from_millis(86_400_123), stale: Span::ZERO, by: By::Model(1) }],
        stats: KeyStats::default(),
        price: Some(Money::from_nanos(1_000_000)),
        call: CallId(n),
        decision: None,
        tags: (0..tags).map(|tag| format!("tag-{tag}-of-{n}").into()).collect(),
        epoch: 0,
        canonical_hash: n,
    };
    let filled = ticket.share(SharedHead::new(StatusCode::OK, HeaderMap::new(), CallId(n)), NOW).finish(None);
    filled.store(entry, NOW).unwrap();
    // As a client has it: from then on the block has a counter.
    drop(cache.lookup(key(n), &HeaderMap::new(), NOW).unwrap().body());
}

#[test]
fn entries_are_accounted_with_what_they_take() {
    if resident().is_none() {
        return;
    }
    // Small ones, where bookkeeping is most, middle ones with tags, and large ones of a size that all allocators have.
    for (number, (kind, objects)) in [((40, 0), 60_000), ((1_100, 3), 30_000), ((57_000, 1), 1_000)].into_iter().enumerate() {
        let config = CacheConfig { l1_bytes: 4 << 30, stats_bytes: 1 << 20, ..CacheConfig::new(Keyer::new([3; 16])) };
        let cache = Cache::new(config, Arc::new(NoEvents));
        let first = number as u64 * 1_000_000;
        // Tables of fixed size are there from now on, and what the kind before has left free is in use again.
        let warm = objects / 4;
        (first..first + warm).for_each(|n| fill(&cache, n, kind));
        let (before, counted) = (resident().unwrap(), cache.stats().bytes);
        (first + warm..first + objects).for_each(|n| fill(&cache, n, kind));
        let (took, accounted) = (resident().unwrap() - before, cache.stats().bytes - counted);
        let ratio = accounted as f64 / took as f64;
        assert!((0.93..1.12).contains(&ratio), "{kind:?}: accounted {accounted} of {took}, {ratio:.3}");
        // Not freed, so that what comes next gets memory of its own.
        std::mem::forget(cache);
    }
}
