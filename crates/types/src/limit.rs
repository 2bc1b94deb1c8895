//! What a limit is: a rate or a number at a time, whose calls it counts, and what becomes of those beyond it.

use std::sync::Arc;

use crate::{Priority, Span, reasons};

reasons! {
    /// By what a limit tells calls apart.
    LimitScope {
        /// By the tenant that pays.
        Tenant = "tenant",
        /// By the team of the Farthing key.
        Team = "team",
        /// By the service of the Farthing key.
        Service = "service",
        /// By the Farthing key.
        Key = "key",
        /// By the route.
        Route = "route",
        /// By the provider. Such a limit counts each attempt that reaches it; all others count each call once.
        Provider = "provider",
    }
}

reasons! {
    /// What becomes of a call for which a limit has no room.
    OnLimit {
        /// It is made, counted, and those after it have less room.
        Pass = "pass",
        /// It waits for its turn until its deadline.
        Wait = "wait",
        /// It is refused: 429 `rate_limited`.
        Refuse = "refuse",
    }
}

reasons! {
    /// Why a call was refused by a limit.
    LimitWhy {
        /// There is no room, and calls of its priority do not wait.
        Exceeded = "exceeded",
        /// Its turn would come, or has come, after its deadline.
        Deadline = "deadline",
        /// Too many wait already.
        QueueFull = "queue-full",
        /// It gave its place to one that matters more, or to somebody who has fewer places.
        Displaced = "displaced",
    }
}

/// A token bucket: it holds `burst`, and `count` of it come back in each `period`, one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSpec {
    /// How many come back in a period; at least one.
    pub count: u64,
    /// The period; not zero.
    pub period: Span,
    /// The most that may be used at once.
    pub burst: u64,
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    /// Its name.
    pub name: Arc<str>,
    /// By what it tells calls apart.
    pub scope: LimitScope,
    /// Whose calls it counts; empty: everybody's.
    pub names: Vec<Arc<str>>,
    /// All that it counts share one bucket; else each has its own.
    pub shared: bool,
    /// Requests.
    pub requests: Option<RateSpec>,
    /// Tokens of requests and answers together.
    pub tokens: Option<RateSpec>,
    /// Calls under way at a time, answers included.
    pub concurrency: Option<u32>,
    /// What becomes of calls beyond it, by priority in the order of [`Priority::ALL`].
    pub on_limit: [OnLimit; 3],
}

impl Default for LimitSpec {
    fn default() -> Self {
        Self {
            name: "default".into(),
            scope: LimitScope::Tenant,
            names: Vec::new(),
            shared: false,
            requests: None,
            tokens: None,
            concurrency: None,
            on_limit: [OnLimit::Pass, OnLimit::Wait, OnLimit::Refuse],
        }
    }
}

impl LimitSpec {
    /// What becomes of a call of this priority for which it has no room.
    pub fn action(&self, priority: Priority) -> OnLimit {
        self.on_limit[priority as usize]
    }
}

/// What a call claims of limits on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// How much it matters.
    pub priority: Priority,
    /// How long it may wait for its turn.
    pub patience: Span,
    /// The most tokens that one attempt can use; `None` when that cannot be told.
    pub tokens: Option<u64>,
}

impl Default for Claim {
    fn default() -> Self {
        Self { priority: Priority::Medium, patience: Span::MAX, tokens: None }
    }
}

/// How a limit refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// When there will be room, as far as that can be told.
    pub retry_after: Span,
    /// How much the call mattered: one that matters more may be let through.
    pub priority: Priority,
    /// How long it was ready to wait for its turn: one that waits longer may have it.
    pub patience: Span,
    /// Why.
    pub why: LimitWhy,
}
