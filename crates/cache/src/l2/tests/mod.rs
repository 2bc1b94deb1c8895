//! One conformance suite for every store, and the tests of the tier above it.

mod conformance;
mod disk;
mod leases;
mod memory;
mod redis;
mod tier;

use std::sync::Arc;
use std::time::Duration;

use farthing_freshness::{Entry, Keyer, Selected, Subject};
use farthing_types::{Clock, KeyHash, RealClock, Span, Time};
use http::HeaderMap;

use super::*;
use crate::cached::Cached;
pub(super) use crate::tests::{entry, headers, subject};

/// Now, for real: a Redis server has no other time.
pub(super) fn now() -> Time {
    static CLOCK: std::sync::LazyLock<RealClock> = std::sync::LazyLock::new(RealClock::default);
    CLOCK.now()
}

pub(super) fn keyer() -> Keyer {
    Keyer::new([3; 16])
}

pub(super) fn options() -> TierOptions {
    TierOptions { keyer: keyer(), deadline: Span::from_secs(5), queue_bytes: 8 << 20, max_value_bytes: usize::MAX, keep: Span::ZERO }
}

/// An entry fetched now.
pub(super) fn fetched(n: u64, body: &str) -> Entry {
    Entry { fetched_at: Time::from_millis(now().millis()), ..entry(&subject(n), body.to_owned()) }
}

/// An entry whose answer was selected by `accept-language`.
pub(super) fn varying(n: u64, body: &str, request: &HeaderMap) -> Entry {
    let names: Arc<[http::HeaderName]> = [http::header::ACCEPT_LANGUAGE].into();
    let key = keyer().selected(subject(n).key, &names, request);
    Entry { selected: Some(Selected { key, names }), ..fetched(n, body) }
}

pub(super) fn cached(entry: Entry) -> Arc<Cached> {
    Arc::new(Cached::new(&entry))
}

pub(super) fn put(key: u128, value: impl Into<bytes::Bytes>) -> Put {
    Put { key: KeyHash(key), value: value.into(), expires: now() + Span::from_secs(600), now: now() }
}

impl Tier {
    /// An answer that was asked for now, under no lease.
    pub(crate) fn put(&self, entry: Arc<Cached>, now: Time) {
        self.put_asked(entry, Asked { begun: now, mark: 0, lease: None }, now);
    }
}

/// A tier whose writer runs.
pub(super) fn tier(store: Arc<dyn Store>, sealer: Option<Sealer>, options: TierOptions) -> Tier {
    let (tier, writer) = Tier::new(store, sealer, options);
    #[expect(clippy::disallowed_methods, reason = "ends with the runtime of the test")]
    tokio::spawn(writer.run());
    tier
}

/// Waits until `holds`; fails after ten seconds.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let patience = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), patience).await.is_ok(), "{what}: not within ten seconds");
}

pub(super) async fn look(tier: &Tier, subject: &Arc<Subject>) -> Result<Box<Entry>, GetOutcome> {
    tier.get(subject, &HeaderMap::new(), now()).await.map(|looked| looked.entry)
}
