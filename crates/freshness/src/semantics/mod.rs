//! HTTP caching semantics: RFC 9111 (caching), 9110 (conditional requests, ranges), 5861 (stale windows), 9211 (Cache-Status),
//! 9213 (targeted cache control), as a set of pure functions over heads.
//!
//! Order of use: [`RequestFacts::read`] and [`may_lookup`] before the cache is asked; [`verdict`] on what it has;
//! [`conditional::answer`] for the client; [`conditional::validators`] for the call; [`may_store`] on the reply's head;
//! [`conditional::merge_304`] when the reply is a 304.

pub mod cache_status;
pub mod coding;
pub mod conditional;
#[cfg(test)]
mod conditional_tests;
mod date;
mod directives;
pub mod hop;
pub mod invalidation;
mod noted;
#[cfg(test)]
mod oracle;
mod reach;
mod request;
pub mod sf;
mod store;
pub mod targeted;
mod verdict;

use farthing_types::Span;

pub use date::parse_date;
pub use directives::Directives;
pub use noted::{Bans, CacheControl, Logged, UnknownWord, answer_noted, restrict};
pub use reach::{Reach, is_about_asker, reach};
pub use request::{RequestFacts, may_lookup};
pub use store::{
    Facts, Lifetime, Received, Reuse, is_stood_in_for, may_keep, may_renew, may_replace, may_stand_in, may_store, without_unstored,
};
pub use targeted::{Target, Targets};
pub use verdict::{Judged, Verdict, acceptable, acceptable_head, verdict};

/// How far the cache may go on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Never more than RFC 9111 allows.
    Respect,
    /// As `Respect`, and a TTL is predicted where the origin gave no explicit freshness.
    Learned,
    /// The operator knows better: the chosen TTL replaces the origin's freshness and its prohibitions.
    Override,
    /// Nothing is served from the cache; everything is logged.
    Observe,
}

/// What a route's configuration says about reuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How far the cache may go.
    pub mode: Mode,
    /// Whether entries serve every principal (a shared cache in the sense of the RFC).
    pub shared: bool,
    /// Whether methods other than GET and HEAD may be answered from the cache (their body is in the key).
    pub any_method: bool,
    /// The longest time a copy may be kept and served: the provider's terms, or the route's cap.
    pub max_age: Option<Span>,
    /// How long past its TTL a copy may be served when the origin fails, where the answer itself does not say.
    pub stale_if_error: Span,
    /// Which targeted fields are heeded; `None`: [`Targets::usual`].
    pub targets: Option<Targets>,
}

impl Rules {
    /// A private cache in `mode` without further limits.
    pub const fn new(mode: Mode) -> Self {
        Self { mode, shared: false, any_method: false, max_age: None, stale_if_error: Span::ZERO, targets: None }
    }

    /// Which targeted fields are heeded, the first one first.
    pub fn targets(&self) -> Targets {
        self.targets.unwrap_or(Targets::usual(self.shared))
    }

    /// Whether the origin's and the client's prohibitions bind (all modes but `Override`).
    pub const fn obeys(&self) -> bool {
        !matches!(self.mode, Mode::Override)
    }
}
