//! Live statistics of keys: in the entry where there is one, else in the table.

use farthing_freshness::entry::KeyStats;
use farthing_types::KeyHash;

use crate::cache::{Cache, Node};
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

    /// Puts back what [`Cache::visit_key_stats`] gave; for a cache that nobody uses yet.
    pub fn restore_key_stats(&self, saved: SavedKey) {
        self.0.table.restore(saved);
    }
}
