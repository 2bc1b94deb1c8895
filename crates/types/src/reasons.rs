//! Closed lists of reasons; each value has one stable string for metric label, log column and header.

use std::fmt;
use std::sync::Arc;

/// Who made a decision, and at what level of the chain model, table, rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// A named rule.
    Rule(&'static str),
    /// The table of this version.
    Table(u32),
    /// The ONNX model of this version.
    Model(u32),
    /// Something better was meant to decide but could not, for the given reason; a rule stood in.
    Fallback(&'static str),
    /// An operator, a header or a variant fixed the value.
    Override(Arc<str>),
}

impl By {
    /// The kind alone: bounded, for metric labels.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Rule(_) => "rule",
            Self::Table(_) => "table",
            Self::Model(_) => "model",
            Self::Fallback(_) => "fallback",
            Self::Override(_) => "override",
        }
    }
}

impl fmt::Display for By {
    /// `model:3`, `rule:static`, `fallback:no-library` ...
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(name) => write!(f, "rule:{name}"),
            Self::Table(version) => write!(f, "table:{version}"),
            Self::Model(version) => write!(f, "model:{version}"),
            Self::Fallback(reason) => write!(f, "fallback:{reason}"),
            Self::Override(who) => write!(f, "override:{who}"),
        }
    }
}

/// A decided value and who decided it.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice<T> {
    /// What was decided.
    pub value: T,
    /// Who decided.
    pub by: By,
}

/// A closed list: an enum whose values have one stable string each.
#[macro_export]
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }
        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// The stable string.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
            /// The value of a stable string.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|r| r.as_str() == text)
            }
        }
        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
reasons! {
    /// How a client request was answered.
    Outcome {
        /// From the cache, fresh.
        Hit = "hit",
        /// From the cache, stale, where that is allowed.
        Stale = "stale",
        /// From a call this request led.
        Lead = "lead",
        /// From a call that another request led.
        Follow = "follow",
        /// Passed to the provider without the cache.
        Bypass = "bypass",
        /// Refused by us (4xx/5xx of ours).
        Refused = "refused",
        /// The provider could not be reached or failed.
        Failed = "failed",
    }
}

reasons! {
    /// Why an answer was not served from the cache. Each such answer has exactly one.
    UncachedReason {
        /// First request for the key, or the entry was evicted.
        Cold = "cold",
        /// The entry was older than its TTL.
        Expired = "expired",
        /// The method may not be answered from a cache.
        Method = "method",
        /// The request asked for a fresh answer or forbade storing.
        RequestDirective = "request-directive",
        /// The request carries a Cookie and the route's mode obeys it.
        RequestCookie = "request-cookie",
        /// The origin forbade storing.
        OriginNoStore = "origin-no-store",
        /// The answer sets a cookie.
        SetCookie = "set-cookie",
        /// A shared route may not reuse this (Authorization or `private`).
        Private = "private",
        /// The status may not be cached.
        Status = "status",
        /// `Vary: *`, or too many variants.
        Vary = "vary",
        /// The body is larger than the route allows, or streams without end.
        TooLarge = "too-large",
        /// The transfer broke off.
        Incomplete = "incomplete",
        /// Answers of this route differ from call to call.
        Nondeterministic = "nondeterministic",
        /// The predicted saving of storing is not positive.
        NotWorth = "not-worth",
        /// The source of events that would tell of changes is down: the entry was older than the route's `ttl_when_down`.
        EventsDown = "events-down",
        /// Nothing is heard of the other instances of the fleet, so that the entry, which has tags, may have been purged.
        FleetUnheard = "fleet-unheard",
        /// The requests for the entry say that it has changed: people ask because something changed.
        Doubted = "doubted",
        /// More tags than are kept, or such that cannot be read: a purge could miss the answer.
        Tags = "tags",
        /// The answer says in its body that it is none (`cacheable_if` of the route).
        SoftError = "soft-error",
        /// The request or the answer has a personal field (`pii` of the route).
        Personal = "pii",
        /// The route, tenant or a variant has caching off.
        Disabled = "disabled",
        /// The operator's bypass switch is on.
        Bypassed = "bypassed",
        /// The route's cache costs more than it saves, so it is off for most keys.
        Unprofitable = "unprofitable",
        /// The strategy decision of the route leaves the cache out: another combination is cheaper.
        NotChosen = "not-chosen",
        /// `--mode observe`.
        Observe = "observe",
        /// The key belongs to the savings holdout.
        Holdout = "holdout",
        /// The provider's terms forbid it.
        Terms = "terms",
        /// No explicit freshness, and the mode allows none to be predicted.
        NoFreshness = "no-freshness",
        /// A range, upgrade or other thing that passes through untouched.
        PassThrough = "pass-through",
        /// The entry was invalidated while the call was running.
        Invalidated = "invalidated",
        /// The upstream failed.
        UpstreamFailed = "upstream-failed",
        /// A budget is used up, or could not be kept with the call.
        OverBudget = "over-budget",
        /// A limit has no room for the call.
        OverLimit = "over-limit",
        /// Farthing had too much under way.
        Overload = "overload",
        /// The call can wait, and goes to the provider's batch endpoint (`defer` of the route).
        Deferred = "deferred",
        /// Another provider stood in for the one that the route would have asked.
        Fallback = "fallback",
    }
}

impl UncachedReason {
    /// Whether a request that passed by the cache for this reason has a key that means something.
    pub const fn is_keyed(self) -> bool {
        !matches!(self, Self::Method | Self::PassThrough | Self::TooLarge)
    }

    /// Whether the cache is left out to save money: a copy from before is not used, and equal requests share a call as if there were none.
    pub const fn leaves_out(self) -> bool {
        matches!(self, Self::NotChosen | Self::Unprofitable)
    }

    /// Whether those who wait for the same answer may have it although it is not to be stored. What belongs to one request alone
    /// (cookies, privacy, prohibitions) is not handed around.
    pub const fn joinable(self) -> bool {
        !matches!(
            self,
            Self::SetCookie
                | Self::Private
                | Self::OriginNoStore
                | Self::RequestDirective
                | Self::RequestCookie
                | Self::Vary
                | Self::Nondeterministic
                | Self::Personal
                | Self::PassThrough
        )
    }
}
