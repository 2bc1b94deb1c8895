//! An entry: a complete answer with what is needed to decide about its reuse.

mod codec;
mod fields;
mod lately;
mod named;
mod packed;
mod shape;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use farthing_types::{By, CallId, DecisionId, KeyHash, Money, RouteName, Span, Tenant, Time};
use http::{HeaderMap, StatusCode};

use crate::key::Selected;
use crate::semantics::Facts;

pub use codec::{DecodeError, FORMAT_VERSION};
pub use farthing_contract::features::KeyStats;
pub use fields::{Fields, FieldsOf};
pub use lately::{FAILED_LATELY, JustNow, Lately, REFRESH_AGAIN};
pub use named::{Named, UnderWay};
pub use packed::{ChosenTtl, Packed};
pub use shape::Shape;

/// At most this many variants keep a TTL of their own in an entry.
pub const MAX_VARIANTS: usize = 4;

/// What is asked for: the key, and the words by which it can be purged. Made once per request that is not a hit, shared by
/// flight and entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The primary key.
    pub key: KeyHash,
    /// The tenant who owns the answer; empty on shared routes.
    pub tenant: Tenant,
    /// The route.
    pub route: RouteName,
    /// The path (without query), for purging by prefix.
    pub path: Arc<str>,
}

/// What one variant of an experiment (or the route, under the name `""`) decided about an entry when it was filled.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantTtl {
    /// Name of the variant; empty outside of an experiment.
    pub variant: Arc<str>,
    /// How long the copy is fresh, from `fetched_at`.
    pub ttl: Span,
    /// How much longer it may be served while it is renewed in the background.
    pub stale: Span,
    /// Who decided.
    pub by: By,
}

impl VariantTtl {
    /// That of `variant`, or of the first variant when it has none of its own; `None` when no TTL was chosen.
    pub fn of<'a>(all: &'a [Self], variant: &str) -> Option<&'a Self> {
        all.iter().find(|v| &*v.variant == variant).or_else(|| all.first())
    }
}

/// A complete answer, immutable once stored. It has no expiry of its own: age is compared at lookup with the TTL of the
/// variant then assigned to the key.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What it answers.
    pub subject: Arc<Subject>,
    /// The second-level key, when the answer had a `Vary`.
    pub selected: Option<Selected>,
    /// The status.
    pub status: StatusCode,
    /// End-to-end headers, without `Age`.
    pub headers: Fields,
    /// The whole body.
    pub body: Bytes,
    /// Trailers, when the provider sent some.
    pub trailers: Option<Box<HeaderMap>>,
    /// When the answer (or its last 304) arrived; kept to the millisecond in the flat format.
    pub fetched_at: Time,
    /// What RFC 9111 needs to know.
    pub facts: Facts,
    /// At most [`MAX_VARIANTS`] TTLs; the first is taken for a variant that is not among them.
    pub variants: Vec<VariantTtl>,
    /// Live statistics of the key as of the fill.
    pub stats: KeyStats,
    /// What the call cost; `None` when unknown.
    pub price: Option<Money>,
    /// The call that fetched it.
    pub call: CallId,
    /// The logged TTL decision.
    pub decision: Option<DecisionId>,
    /// Purge tags.
    pub tags: Vec<Arc<str>>,
    /// Purge sequence number when the call began ([`crate::entry`] format field `epochs`).
    pub epoch: u64,
    /// Digest of the canonical body, to tell whether the next fetch changed something.
    pub canonical_hash: u64,
}

impl Entry {
    /// The key under which it is stored: the second-level key when it has one.
    pub fn stored_key(&self) -> KeyHash {
        self.selected.as_ref().map_or(self.subject.key, |s| s.key)
    }

    /// The age after which no variant may serve it any more, stale windows included.
    pub fn longest(&self) -> Span {
        self.facts.reuse().longest(self.variants.iter().map(|v| (v.ttl, v.stale)))
    }

    /// The flat form for the tiers outside of this process.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads the flat form of the entry for `expected`.
    ///
    /// # Errors
    /// Foreign (another version, key or tenant) or damaged bytes; to be counted and taken for a miss.
    pub fn decode(bytes: &Bytes, expected: &Arc<Subject>) -> Result<Self, DecodeError> {
        codec::decode(bytes, expected)
    }
}
