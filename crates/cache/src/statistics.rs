//! Live statistics of keys: in the entry where there is one, else in the table. And which copies should be there.

use std::collections::HashSet;

use farthing_freshness::entry::KeyStats;
use farthing_types::{KeyHash, Time};

use crate::cache::{Cache, Node};
use crate::copies::SavedCopy;
use crate::table::SavedKey;

impl Cache {
    /// Statistics of a key ([`crate::Ticket::key`], or the primary key), with or without an entry.
    pub fn key_stats(&self, key: KeyHash) -> Option<KeyStats> {
        match self.0.shard(key).lock().index.peek(key) {
            Some(Node::Entry(entry)) => Some(entry.stats()),
            _ => self.0.table.get(key),
        }
    }

    /// Changes the statistics of a key, with or without an entry. `change` runs under the lock that orders all changes to them.
    pub fn update_key_stats<R>(&self, key: KeyHash, change: impl FnOnce(&mut KeyStats) -> R) -> R {
        match self.0.shard(key).lock().index.peek(key) {
            Some(Node::Entry(entry)) => entry.update_stats(change),
            _ => self.0.table.update(key, change),
        }
    }

    /// Hands the statistics of every key to `each`. A key may come more than once: the first are the right ones, of its entry.
    /// No lock is held for longer than a part takes, so the whole is not of one moment.
    pub fn visit_key_stats(&self, each: &mut dyn FnMut(SavedKey)) {
        for shard in &self.0.shards {
            let entries: Vec<SavedKey> = shard
                .lock()
                .index
                .iter()
                .filter_map(|(key, node)| match node {
                    Node::Entry(entry) => Some(SavedKey::new(key, entry.stats())),
                    Node::Varies(..) => None,
                })
                .collect();
            entries.into_iter().for_each(&mut *each);
        }
        self.0.table.visit(each);
    }

    /// Drops the statistics of keys without an entry, by the upper halves of the keys as the log has them; how many that were.
    pub fn forget_key_stats(&self, tags: &HashSet<u64>) -> usize {
        self.0.table.forget(tags)
    }

    /// Puts back what [`Cache::visit_key_stats`] gave; for a cache that nobody uses yet.
    pub fn restore_key_stats(&self, saved: SavedKey) {
        self.0.table.restore(saved);
    }

    /// Whether a copy of a key without one should be there and fresh: it was stored here, and neither made room nor was purged by itself.
    pub fn has_lost(&self, key: KeyHash, now: Time) -> bool {
        self.0.copies.is_due(key, now)
    }

    /// How many copies are known of at most; what [`Cache::visit_copies`] gives is of use to a cache with the same number.
    pub fn copies_capacity(&self) -> usize {
        self.0.copies.capacity()
    }

    /// Hands every copy that should be fresh at `now` to `each`.
    pub fn visit_copies(&self, now: Time, each: &mut dyn FnMut(SavedCopy)) {
        self.0.copies.visit(now, each);
    }

    /// Puts back what [`Cache::visit_copies`] gave; for a cache that nobody uses yet.
    pub fn restore_copy(&self, saved: SavedCopy) {
        self.0.copies.restore(saved);
    }
}
