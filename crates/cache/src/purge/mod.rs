//! Purging, and the log that keeps an answer under way from bringing back what was purged while it travelled.

mod lots;
mod spelling;
mod wire;

use std::collections::VecDeque;
use std::sync::Arc;

use farthing_freshness::entry::Named;
use farthing_freshness::index::KeyMap;
use farthing_types::{KeyHash, RouteName, Tenant};
use parking_lot::Mutex;

use spelling::{are_one_path, begins_with};

pub(crate) use lots::{Lot, Target, group_of_variants, groups_of, lots};

/// How many purges are remembered one by one. An answer that began before the oldest of them is not stored.
const REMEMBERED: usize = 4096;

/// What to purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// One primary key with all its `Vary` variants.
    Key(KeyHash),
    /// Everything of one path on a route, whatever its query, body and headers. However it is written: `/a:b` and `/a%3Ab` are one path.
    Path {
        /// The route.
        route: RouteName,
        /// Whose entries; the empty name on shared routes.
        tenant: Tenant,
        /// The path.
        path: Arc<str>,
    },
    /// Everything with this tag.
    Tag(Arc<str>),
    /// What of a route meets all that is given here.
    Within {
        /// The route.
        route: RouteName,
        /// Whose entries; `None`: everybody's. The empty name on shared routes.
        tenant: Option<Tenant>,
        /// Everything of exactly this path, whatever its query, body and headers.
        path: Option<Arc<str>>,
        /// Everything with this tag.
        tag: Option<Arc<str>>,
    },
    /// Everything of a route whose path begins so (the empty prefix: the whole route); `None`: of any route.
    Prefix {
        /// The route.
        route: Option<RouteName>,
        /// The beginning of the path.
        path: Arc<str>,
    },
    /// Everything of a tenant.
    Tenant(Tenant),
    /// Everything.
    All,
}

impl Purge {
    /// The tenant that it names.
    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::Tenant(tenant) | Self::Path { tenant, .. } => Some(tenant),
            Self::Within { tenant, .. } => tenant.as_ref(),
            Self::Key(_) | Self::Tag(_) | Self::Prefix { .. } | Self::All => None,
        }
    }

    /// Whether it is about one resource.
    pub(crate) const fn is_of_one(&self) -> bool {
        matches!(self, Self::Key(_) | Self::Path { .. })
    }

    /// Whether it is about an answer, stored or under way.
    pub fn matches(&self, answer: &dyn Named) -> bool {
        match self {
            Self::Key(key) => answer.key() == *key,
            Self::Path { route, tenant, path } => {
                *answer.route() == **route && *answer.tenant() == **tenant && are_one_path(answer.path(), path)
            }
            Self::Tag(tag) => answer.has_tag(tag),
            Self::Within { route, tenant, path, tag } => {
                *answer.route() == **route
                    && tenant.as_ref().is_none_or(|tenant| *answer.tenant() == **tenant)
                    && path.as_ref().is_none_or(|path| are_one_path(answer.path(), path))
                    && tag.as_ref().is_none_or(|tag| answer.has_tag(tag))
            }
            Self::Prefix { route, path } => route.as_ref().is_none_or(|r| **r == *answer.route()) && begins_with(answer.path(), path),
            Self::Tenant(tenant) => *answer.tenant() == **tenant,
            Self::All => true,
        }
    }
}

/// Purges that an entry or an answer under way is asked about at once.
pub(crate) struct Several<'a> {
    keys: KeyMap<()>,
    others: Vec<&'a Purge>,
}

impl<'a> Several<'a> {
    pub(crate) fn new(purges: impl Iterator<Item = &'a Purge>) -> Self {
        let mut out = Self { keys: KeyMap::default(), others: Vec::new() };
        for purge in purges {
            match purge {
                Purge::Key(key) => drop(out.keys.insert(*key, ())),
                other => out.others.push(other),
            }
        }
        out
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.others.is_empty()
    }
    /// The primary keys that are among them by themselves.
    pub(crate) fn keys(&self) -> impl Iterator<Item = KeyHash> {
        self.keys.keys().copied()
    }
    /// As [`Purge::matches`] of one of them.
    pub(crate) fn matches(&self, answer: &dyn Named) -> bool {
        (!self.keys.is_empty() && self.keys.contains_key(&answer.key())) || self.others.iter().any(|purge| purge.matches(answer))
    }
}

/// What a purge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Entries removed, or made stale by a soft purge.
    pub entries: usize,
    /// Calls under way that nobody else may join any more and whose answers will not be stored (or stored as stale).
    pub flights: usize,
    /// The purge's sequence number.
    pub epoch: u64,
}

/// A purge on its way through shards and tiers.
pub(crate) struct Unfinished<'a> {
    log: &'a PurgeLog,
    pub(crate) epoch: u64,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.log.0.lock().unfinished.retain(|unfinished| *unfinished != self.epoch);
    }
}

/// What purges since some epoch mean for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    Untouched,
    Soft,
    Hard,
}

#[derive(Default)]
struct Log {
    epoch: u64,
    recent: VecDeque<(u64, Purge, bool)>,
    /// Purges that have not gone through all shards and tiers yet, oldest first.
    unfinished: VecDeque<u64>,
}

/// Recent purges under increasing sequence numbers.
#[derive(Default)]
pub(crate) struct PurgeLog(Mutex<Log>);

impl PurgeLog {
    /// The newest purge of which nothing can be met any more: it and all before it have gone through every shard and tier. What is found
    /// or called for from now on is known to be no older than it.
    pub(crate) fn settled(&self) -> u64 {
        let log = self.0.lock();
        log.unfinished.front().map_or(log.epoch, |oldest| oldest - 1)
    }

    /// Notes a purge, which is finished when the guard is dropped: also by a panic, or nothing could be stored any more.
    pub(crate) fn begin(&self, purge: Purge, soft: bool) -> Unfinished<'_> {
        Unfinished { log: self, epoch: self.add(purge, soft) }
    }

    fn add(&self, purge: Purge, soft: bool) -> u64 {
        let mut log = self.0.lock();
        log.epoch += 1;
        let epoch = log.epoch;
        log.recent.push_back((epoch, purge, soft));
        log.unfinished.push_back(epoch);
        if log.recent.len() > REMEMBERED {
            log.recent.pop_front();
        }
        epoch
    }

    /// Whether an answer whose call began at `epoch` was purged since.
    pub(crate) fn since(&self, epoch: u64, entry: &dyn Named) -> Since {
        let log = self.0.lock();
        let forgotten = log.recent.front().is_some_and(|(oldest, ..)| *oldest > epoch + 1);
        if forgotten {
            return Since::Hard;
        }
        let mut out = Since::Untouched;
        for (_, purge, soft) in log.recent.iter().rev().take_while(|(at, ..)| *at > epoch) {
            match (purge.matches(entry), soft) {
                (true, false) => return Since::Hard,
                (true, true) => out = Since::Soft,
                _ => {}
            }
        }
        out
    }
}
