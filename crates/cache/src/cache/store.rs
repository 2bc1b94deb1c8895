//! Putting entries in their places.

use std::collections::VecDeque;
use std::sync::Arc;

use farthing_fleet::lease::Ending;
use farthing_freshness::Entry;
use farthing_types::{KeyHash, Time, UncachedReason};

use super::{Inner, Node, Stored, Variants, add, into_entry};
use crate::cached::{Cached, EndReason, EntryEnd};
use crate::l2::Asked;
use crate::purge::Since;

impl Inner {
    /// Stores an answer that has just come, here and behind in L2.
    pub(crate) fn store(&self, entry: &Entry, asked: Asked, now: Time) -> Result<Stored, UncachedReason> {
        let marked = Cached::marked(entry, asked.mark, &self.shapes);
        let mut asked = Some(asked);
        let stored = self.keep_and((marked, entry.epoch), now, |cached| {
            if let Some((l2, asked)) = self.l2.as_ref().zip(asked.take()) {
                l2.put_asked(Arc::clone(cached), asked, now);
            }
        });
        // It goes nowhere: what was purged under way another instance may ask for anew; what does not fit fits nowhere.
        let refused = stored.as_ref().err().is_some_and(|reason| *reason != UncachedReason::Invalidated);
        if let Some(lease) = asked.and_then(|asked| asked.lease).filter(|_| refused) {
            lease.end(Ending::Unkept);
        }
        stored
    }

    /// Stores an entry, whose call began at this purge sequence number, here alone.
    pub(crate) fn keep(&self, entry: (Cached, u64), now: Time) -> Result<Stored, UncachedReason> {
        self.keep_and(entry, now, |_| {})
    }

    /// Stores an entry; `also` is done with one that stays, under its shard's lock, so that a purge which comes later finds that done.
    fn keep_and(&self, (entry, epoch): (Cached, u64), now: Time, also: impl FnOnce(&Arc<Cached>)) -> Result<Stored, UncachedReason> {
        if let Some(selected) = entry.selected() {
            self.note_variant(entry.primary(), &selected, now);
        }
        if let Some(hearing) = &self.hearing {
            hearing.note_route(&entry);
        }
        let key = entry.stored_key();
        let cached = Arc::new(entry);
        let mut shard = self.shard(key).lock();
        match self.purges.since(epoch, cached.named()) {
            Since::Hard => {
                drop(shard);
                add(&self.counters.invalidated, 1);
                return Err(UncachedReason::Invalidated);
            }
            Since::Soft => cached.purge_soft(),
            Since::Untouched => {}
        }
        // A failure stands for none of the answers among which it would have been chosen, and must not take their place.
        if cached.status().is_server_error() && matches!(shard.index.peek(key), Some(Node::Varies(_))) {
            return Err(UncachedReason::Status);
        }
        // What was noted since the entry was built counts, too.
        let live = match shard.index.peek(key) {
            Some(Node::Entry(old)) => Some(old.stats()),
            _ => self.table.get(key),
        };
        if let Some(live) = live {
            cached.update_stats(|stats| *stats = live);
        }
        let inserted = shard.index.insert(Node::Entry(Arc::clone(&cached)), now);
        let refused = inserted.refused.is_some();
        let evicted: Vec<_> = inserted.evicted.into_iter().filter_map(into_entry).collect();
        self.keep_stats(&evicted);
        if refused {
            self.keep_stats(std::slice::from_ref(&cached));
        } else if !cached.soft_purged() {
            // What is below takes an answer for as young as its arrival, and would not know that this one was asked for before the purge.
            also(&cached);
        }
        drop(shard);
        let replaced = inserted.replaced.and_then(into_entry);
        self.evicted(evicted, now);
        if let Some(old) = &replaced {
            let successor = (!refused).then(|| Arc::clone(&cached));
            self.events.ended(EntryEnd { entry: Arc::clone(old), why: EndReason::Replaced, successor, at: now });
        }
        if refused {
            self.copies.forget(key);
            return Err(UncachedReason::TooLarge);
        }
        self.note_copy(&cached);
        add(&self.counters.stored, 1);
        Ok(Stored { entry: cached, replaced })
    }

    /// Under the primary key too: without the entry nobody knows that its answers vary.
    fn note_copy(&self, entry: &Cached) {
        let end = entry.fetched_at() + entry.fresh_for();
        self.copies.note(entry.stored_key(), end);
        if entry.is_selected() {
            self.copies.note(entry.primary(), end);
        }
    }

    /// Notes under the primary key that its answers vary, and which variants there are.
    fn note_variant(&self, primary: KeyHash, selected: &farthing_freshness::Selected, now: Time) {
        let mut shard = self.shard(primary).lock();
        let mut keys = match shard.index.remove(primary) {
            Some(Node::Varies(variants)) if variants.names == selected.names => variants.keys,
            Some(Node::Varies(variants)) => {
                drop(shard);
                self.drop_variants(variants.keys, now);
                shard = self.shard(primary).lock();
                VecDeque::new()
            }
            Some(Node::Entry(entry)) => {
                self.keep_stats(std::slice::from_ref(&entry));
                drop(shard);
                self.ended(vec![entry], EndReason::Replaced, now);
                shard = self.shard(primary).lock();
                VecDeque::new()
            }
            None => VecDeque::new(),
        };
        keys.retain(|key| *key != selected.key);
        keys.push_back(selected.key);
        let surplus = keys.len().saturating_sub(self.config.max_vary.max(1));
        let old: VecDeque<KeyHash> = keys.drain(..surplus).collect();
        let variants = Box::new(Variants { primary, names: Arc::clone(&selected.names), keys });
        let inserted = shard.index.insert(Node::Varies(variants), now);
        let evicted: Vec<_> = inserted.evicted.into_iter().filter_map(into_entry).collect();
        self.keep_stats(&evicted);
        drop(shard);
        self.evicted(evicted, now);
        self.drop_variants(old, now);
    }

    fn drop_variants(&self, keys: VecDeque<KeyHash>, now: Time) {
        let removed = |key| {
            let mut shard = self.shard(key).lock();
            let entry = shard.index.remove(key).and_then(into_entry);
            self.keep_stats(entry.as_slice());
            entry
        };
        self.evicted(keys.into_iter().filter_map(removed).collect(), now);
    }
}
