//! Shared parts of the tests. Time stands still unless a test moves it.

mod bounds;
mod entries;
mod flights;
mod purges;
mod streams;
mod tiers;

use std::sync::Arc;

use bytes::Bytes;
use farthing_freshness::entry::KeyStats;
use farthing_freshness::{Entry, Facts, Keyer, Subject, VariantTtl};
use farthing_types::{Body, By, CallId, KeyHash, Money, Span, Time};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;

use crate::*;

pub(super) const NOW: Time = Time::from_millis(1_700_000_000_000);

#[derive(Default)]
pub(super) struct Ends(Mutex<Vec<EntryEnd>>);

impl CacheEvents for Ends {
    fn ended(&self, end: EntryEnd) {
        self.0.lock().push(end);
    }
}

impl Ends {
    pub(super) fn take(&self) -> Vec<EntryEnd> {
        std::mem::take(&mut self.0.lock())
    }
    pub(super) fn reasons(&self) -> Vec<EndReason> {
        self.take().into_iter().map(|e| e.why).collect()
    }
}

pub(super) fn config() -> CacheConfig {
    CacheConfig { stats_bytes: 1 << 20, ..CacheConfig::new(Keyer::new([3; 16])) }
}

pub(super) fn cache(config: CacheConfig) -> Cache {
    Cache::new(config, Arc::new(NoEvents))
}

pub(super) fn subject(n: u64) -> Arc<Subject> {
    // Spread like real keys, so that shards are hit evenly.
    let key = KeyHash((u128::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    Arc::new(Subject { key, tenant: "acme".into(), route: "geo".into(), path: format!("/v1/items/{n}").into() })
}

pub(super) fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
}

pub(super) fn head() -> SharedHead {
    SharedHead::new(StatusCode::OK, headers(&[("content-type", "text/plain")]), CallId(7))
}

pub(super) fn entry(subject: &Arc<Subject>, body: impl Into<Bytes>) -> Entry {
    Entry {
        subject: Arc::clone(subject),
        selected: None,
        status: StatusCode::OK,
        headers: headers(&[("content-type", "text/plain")]).into(),
        body: body.into(),
        trailers: None,
        fetched_at: NOW,
        facts: Facts::default(),
        variants: vec![VariantTtl { variant: "".into(), ttl: Span::from_secs(60), stale: Span::ZERO, by: By::Rule("static") }],
        stats: KeyStats::default(),
        price: Some(Money::from_nanos(1_000_000)),
        call: CallId(7),
        decision: None,
        tags: vec!["red".into()],
        epoch: 0,
        canonical_hash: 0,
    }
}

pub(super) fn join(cache: &Cache, subject: &Arc<Subject>) -> Joined {
    join_with(cache, subject, &HeaderMap::new(), NOW)
}

pub(super) fn join_with(cache: &Cache, subject: &Arc<Subject>, headers: &HeaderMap, now: Time) -> Joined {
    cache.join(Join { subject, headers, seen: None, now })
}

#[track_caller]
pub(super) fn lead(joined: Joined) -> Ticket {
    match joined {
        Joined::Lead(ticket) => ticket,
        other => panic!("no lead: {other:?}"),
    }
}

#[track_caller]
pub(super) fn follow(joined: Joined) -> Slot {
    match joined {
        Joined::Follow(slot) => slot,
        other => panic!("no follower: {other:?}"),
    }
}

pub(super) async fn outcome(slot: &mut Slot) -> Followed {
    slot.wait(&HeaderMap::new()).await
}

pub(super) async fn share_of(slot: &mut Slot) -> Body {
    match outcome(slot).await {
        Followed::Share(_, body) => body,
        other => panic!("not shared: {other:?}"),
    }
}

pub(super) async fn read(body: Body) -> Result<Bytes, farthing_types::BodyError> {
    body.collect().await.map(http_body_util::Collected::to_bytes)
}

/// Fills a key with `body` in one go.
pub(super) async fn fill(cache: &Cache, subject: &Arc<Subject>, body: &'static [u8]) -> Arc<Cached> {
    let mut filling = lead(join(cache, subject)).share(head(), NOW);
    filling.push(Bytes::from_static(body)).await;
    filling.finish(None).store(entry(subject, body), NOW).unwrap().entry
}
