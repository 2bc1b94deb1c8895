//! The words by which a purge knows an answer.

use std::sync::Arc;

use farthing_types::KeyHash;

use super::{Entry, Packed, Subject};

/// An answer, stored or under way, as purges see it.
pub trait Named {
    /// The primary key.
    fn key(&self) -> KeyHash;
    /// The tenant who owns it; empty on shared routes.
    fn tenant(&self) -> &str;
    /// The route.
    fn route(&self) -> &str;
    /// The path, without query.
    fn path(&self) -> &str;
    /// Whether it has a tag, or may have it.
    fn has_tag(&self, tag: &str) -> bool;
}

/// An answer under way: what is asked for, and its tags, where they are known.
#[derive(Clone, Copy, Debug)]
pub struct UnderWay<'a>(pub &'a Subject, pub Option<&'a [Arc<str>]>);

impl Named for UnderWay<'_> {
    fn key(&self) -> KeyHash {
        self.0.key
    }
    fn tenant(&self) -> &str {
        &self.0.tenant
    }
    fn route(&self) -> &str {
        &self.0.route
    }
    fn path(&self) -> &str {
        &self.0.path
    }
    /// Tags not known yet count as had: better a call too many.
    fn has_tag(&self, tag: &str) -> bool {
        self.1.is_none_or(|tags| tags.iter().any(|own| **own == *tag))
    }
}

impl Named for Entry {
    fn key(&self) -> KeyHash {
        self.subject.key
    }
    fn tenant(&self) -> &str {
        &self.subject.tenant
    }
    fn route(&self) -> &str {
        &self.subject.route
    }
    fn path(&self) -> &str {
        &self.subject.path
    }
    fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| **own == *tag)
    }
}

impl Named for Packed {
    fn key(&self) -> KeyHash {
        self.primary()
    }
    fn tenant(&self) -> &str {
        &self.shape().tenant
    }
    fn route(&self) -> &str {
        &self.shape().route
    }
    fn path(&self) -> &str {
        Packed::path(self)
    }
    fn has_tag(&self, tag: &str) -> bool {
        self.tags().any(|own| own == tag)
    }
}
