//! What can be done to the requests of a route: a closed list of combinations.

use std::fmt;

/// A combination of strategies. With the cache equal requests in flight are always joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mix {
    /// Every request is a call.
    #[default]
    Bypass,
    /// Equal requests in flight share one call.
    Dedupe,
    /// Calls wait for others and go out together.
    Batch,
    /// Both.
    DedupeBatch,
    /// Answers are kept under the live TTL decision; equal requests in flight share one call.
    Cache,
    /// The same, and what the cache does not answer goes out in batches.
    CacheBatch,
}

/// A strategy within a mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// Answers are kept.
    Cache,
    /// Equal requests in flight are joined.
    Dedupe,
    /// Calls wait for others.
    Batch,
}

impl Member {
    /// Every member.
    pub const ALL: [Self; 3] = [Self::Cache, Self::Dedupe, Self::Batch];
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Dedupe => "dedupe",
            Self::Batch => "batch",
        }
    }
}

impl Mix {
    /// How many there are.
    pub const COUNT: usize = 6;
    /// Every mix, the plainer ones first.
    pub const ALL: [Self; Self::COUNT] = [Self::Bypass, Self::Dedupe, Self::Batch, Self::DedupeBatch, Self::Cache, Self::CacheBatch];

    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Dedupe => "dedupe",
            Self::Batch => "batch",
            Self::DedupeBatch => "dedupe+batch",
            Self::Cache => "cache",
            Self::CacheBatch => "cache+batch",
        }
    }
    /// Whether answers are kept.
    pub const fn caches(self) -> bool {
        matches!(self, Self::Cache | Self::CacheBatch)
    }
    /// Whether equal requests in flight are joined.
    pub const fn joins(self) -> bool {
        !matches!(self, Self::Bypass | Self::Batch)
    }
    /// Whether calls wait for others.
    pub const fn batches(self) -> bool {
        matches!(self, Self::Batch | Self::DedupeBatch | Self::CacheBatch)
    }
    /// Whether it contains the strategy.
    pub const fn has(self, member: Member) -> bool {
        match member {
            Member::Cache => self.caches(),
            Member::Dedupe => self.joins(),
            Member::Batch => self.batches(),
        }
    }
    /// The mix of these strategies; the cache brings joining with it.
    pub const fn of(cache: bool, dedupe: bool, batch: bool) -> Self {
        match (cache, dedupe, batch) {
            (true, _, false) => Self::Cache,
            (true, _, true) => Self::CacheBatch,
            (false, true, false) => Self::Dedupe,
            (false, true, true) => Self::DedupeBatch,
            (false, false, true) => Self::Batch,
            (false, false, false) => Self::Bypass,
        }
    }
    /// The mix without a strategy; without joining there is no cache either.
    pub const fn without(self, member: Member) -> Self {
        match member {
            Member::Cache => Self::of(false, self.joins(), self.batches()),
            Member::Dedupe => Self::of(false, false, self.batches()),
            Member::Batch => Self::of(self.caches(), self.joins(), false),
        }
    }
    /// Its place in [`Mix::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_list_is_closed_under_taking_away() {
        assert_eq!(Mix::ALL.iter().map(|m| m.as_str()).collect::<BTreeSet<_>>().len(), Mix::COUNT);
        for (i, mix) in Mix::ALL.into_iter().enumerate() {
            assert_eq!((mix.index(), Mix::of(mix.caches(), mix.joins(), mix.batches())), (i, mix));
            for member in Member::ALL {
                assert!(!mix.without(member).has(member));
                if !mix.has(member) {
                    assert_eq!(mix.without(member), mix);
                }
            }
        }
        assert_eq!(Mix::CacheBatch.without(Member::Cache), Mix::DedupeBatch);
    }
}
