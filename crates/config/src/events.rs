//! Sources of events that say what has changed.

use std::fmt;
use std::sync::Arc;

use farthing_types::Span;

use crate::{L2Redis, Purges};

/// A source of events.
#[derive(Clone, Debug, PartialEq)]
pub struct EventsConfig {
    /// Its name, which routes refer to.
    pub name: Arc<str>,
    /// Where events come from.
    pub from: EventsFrom,
    /// Without news for so long it counts as down; `None`: never.
    pub down_after: Option<Span>,
    /// When events may have been missed, its routes' entries become stale instead of being removed.
    pub soft_on_gap: bool,
    /// What its events purge.
    pub rules: Vec<EventRule>,
}

/// Where events come from.
#[derive(Clone, Debug, PartialEq)]
pub enum EventsFrom {
    /// Signed deliveries at the admin port.
    Webhook {
        /// Keys of which any may have signed: more than one while they are exchanged.
        keys: Vec<SigningKey>,
    },
    /// A stream in Redis.
    Redis {
        /// How to reach it.
        server: L2Redis,
        /// The stream's key.
        stream: String,
    },
}

/// What events of some types purge, on the routes that name their source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRule {
    /// The event's `type`; with `*` at its end, the beginning of it.
    pub kind: Arc<str>,
    /// What is purged.
    pub purges: Purges,
}

impl EventRule {
    /// Whether it is about events of this type.
    pub fn is_about(&self, kind: &str) -> bool {
        self.kind.strip_suffix('*').map_or(*self.kind == *kind, |beginning| kind.starts_with(beginning))
    }
}

/// The key of a signature; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Box<[u8]>);

impl SigningKey {
    /// Wraps the bytes.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }
    /// The bytes: for the one place that verifies with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_matched_whole_or_by_their_beginning() {
        let rule = |kind: &str| EventRule { kind: kind.into(), purges: Purges::default() };
        for (kind, event, about) in
            [("a.b", "a.b", true), ("a.b", "a.bc", false), ("a.*", "a.b", true), ("a.*", "ab", false), ("*", "", true)]
        {
            assert_eq!(rule(kind).is_about(event), about, "{kind} {event}");
        }
        assert!(!format!("{:?}", SigningKey::new(*b"abc")).contains("97"));
    }
}
