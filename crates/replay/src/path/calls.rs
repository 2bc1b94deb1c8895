//! Calls under way, and who waits for them.

use std::sync::Arc;

use farthing_freshness::VariantTtl;
use farthing_freshness::entry::Lately;
use farthing_freshness::semantics::Facts;
use farthing_types::{Money, Purpose, Time, UncachedReason};

use super::provider::Answer;

/// A stored copy.
#[derive(Debug)]
pub struct Copy {
    /// Index of the route.
    pub route: u16,
    /// When the answer, or its last 304, arrived.
    pub fetched_at: Time,
    /// What its head said.
    pub facts: Facts,
    /// Status.
    pub status: u16,
    /// The TTL of each variant.
    pub variants: Vec<VariantTtl>,
    /// Price of a full answer.
    pub price: Option<Money>,
    /// Paid for the call that brought it.
    pub paid: Option<Money>,
    /// Canonical digest.
    pub hash: u64,
    /// Length of the body.
    pub bytes: u64,
    /// A background refresh brought it.
    pub refreshed: bool,
    /// Its TTL was decided otherwise than in the log.
    pub other_ttl: bool,
    /// When a background refresh of it was last begun.
    pub begun: Lately,
    /// When a call for it last failed, and it stood in.
    pub failed: Lately,
}

impl Copy {
    /// The TTL of a variant, or of the first.
    pub fn variant(&self, variant: &str) -> Option<&VariantTtl> {
        VariantTtl::of(&self.variants, variant)
    }
    /// As the cache has it: an expired copy is kept a day for validation, the sweep comes once a minute.
    pub fn longest(&self) -> farthing_types::Span {
        self.facts.reuse().longest(self.variants.iter().map(|v| (v.ttl, v.stale)))
    }
}

/// Why a call is wanted, and what may stand in for it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The copy it may confirm.
    pub previous: Option<Arc<Copy>>,
    /// The copy may stand in when the call fails.
    pub stale: bool,
    /// Why.
    pub reason: UncachedReason,
}

/// One who waits.
#[derive(Clone, Debug)]
pub struct Waiter {
    /// Index of the request.
    pub request: u32,
    /// Its own view.
    pub wanted: Wanted,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No head yet.
    Filling,
    /// The head has come and whoever asks reads along.
    Streaming,
    /// The answer is its leader's alone.
    Alone,
}

/// A call under a ticket.
#[derive(Debug)]
pub struct Flight {
    /// The key it fills.
    pub key: u32,
    /// The route.
    pub route: u16,
    /// The request that ordered it: its directives decide what may be stored.
    pub class: u32,
    /// Why it is made.
    pub purpose: Purpose,
    /// Whether the answer is wanted in the cache, or why not.
    pub landing: Result<(), UncachedReason>,
    /// The copy it may confirm.
    pub previous: Option<Arc<Copy>>,
    /// It is made conditional on that copy.
    pub conditional: bool,
    /// The variant of the request that ordered it.
    pub variant: Option<u16>,
    /// Its answer.
    pub answer: Answer,
    /// Where it stands.
    pub phase: Phase,
    /// The leading request comes first; none for a refresh.
    pub waiting: Vec<Waiter>,
    /// Whether the first of those waiting leads.
    pub led: bool,
    /// Somebody purged what it will bring: it is not kept.
    pub purged: bool,
}

/// A call for one request alone.
#[derive(Debug)]
pub struct Passing {
    /// The request.
    pub request: u32,
    /// The key.
    pub key: u32,
    /// The route.
    pub route: u16,
    /// Whether it belongs to a keyed request.
    pub keyed: bool,
    /// Why it is made.
    pub purpose: Purpose,
    /// Its answer.
    pub answer: Answer,
}
