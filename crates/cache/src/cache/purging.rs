//! Purging memory, and what is below.

use std::sync::Arc;

use farthing_freshness::index::Index;
use farthing_types::Time;
use parking_lot::Mutex;

use super::{Cache, Inner, Node, Shard, add, into_entry};
use crate::cached::{Cached, EndReason};
use crate::l2::Tier;
use crate::purge::{Purge, Purged, Several};

impl Cache {
    /// Purges entries and keeps answers under way from bringing them back. A `soft` purge makes entries stale instead, so
    /// that they can be validated and served while or if the origin fails.
    pub fn purge(&self, purge: &Purge, soft: bool, now: Time) -> Purged {
        self.purge_in(&[(purge.clone(), soft)], now, |_| true)
    }

    /// As [`Cache::purge`], for purges that other instances have carried out: what is shared with them is left as they have left it. Memory is
    /// gone through once.
    pub fn purge_heard(&self, purges: &[(Purge, bool)], now: Time) -> Purged {
        self.purge_in(purges, now, |l2| !l2.is_shared())
    }

    /// As [`Cache::purge_heard`], of memory alone: what is below is judged by marks.
    pub fn purge_memory(&self, purges: &[(Purge, bool)], now: Time) -> Purged {
        self.purge_in(purges, now, |_| false)
    }

    fn purge_in(&self, purges: &[(Purge, bool)], now: Time, below: fn(&Tier) -> bool) -> Purged {
        // In this order: what is stored from here on is refused; what stood before is taken out, here and then below, where an entry is put
        // under its shard's lock; and only then may a flight that begins count as younger.
        let unfinished: Vec<_> = purges.iter().map(|(purge, soft)| self.0.purges.begin(purge.clone(), *soft)).collect();
        let those = |which: &dyn Fn(&Purge, bool) -> bool| {
            Several::new(purges.iter().filter(|(purge, soft)| which(purge, *soft)).map(|(purge, _)| purge))
        };
        let (hard, soft) = (those(&|_, soft| !soft), those(&|_, soft| soft));
        let (all, changed) = (those(&|_, _| true), those(&|purge, _| purge.is_of_one()));
        let mut out = Purged { epoch: unfinished.last().map_or_else(|| self.epoch(), |last| last.epoch), ..Purged::default() };
        for shard in &self.0.shards {
            let mut shard = shard.lock();
            let ended = take(&mut shard.index, &hard);
            out.entries += ended.len() + self.0.soften(&shard.index, &soft, &changed);
            self.0.keep_stats(&ended);
            self.0.forget_changed(&ended, &changed);
            let mut flights = Vec::new();
            shard.flights.retain(|_, flight| {
                let purged = flight.purge(&all);
                if purged {
                    flights.push(Arc::clone(flight));
                }
                !purged
            });
            drop(shard);
            out.flights += flights.len();
            self.0.ended(ended, EndReason::Purged, now);
        }
        if let Some(l2) = self.0.l2.as_ref().filter(|l2| below(l2)) {
            purges.iter().for_each(|(purge, soft)| l2.purge(purge, *soft, now));
        }
        drop(unfinished);
        add(&self.0.counters.purged, out.entries);
        out
    }

    /// How many entries a purge would hit.
    pub fn purge_dry_run(&self, purge: &Purge) -> usize {
        let hits = |shard: &Mutex<Shard>| shard.lock().index.iter().filter(|(_, node)| is_hit(node, purge)).count();
        self.0.shards.iter().map(hits).sum()
    }
}

impl Inner {
    /// Makes entries stale; how many. The copies of those that have `changed` are forgotten, too.
    fn soften(&self, index: &Index<Node>, purges: &Several<'_>, changed: &Several<'_>) -> usize {
        if purges.is_empty() {
            return 0;
        }
        let mut count = 0;
        for (key, node) in index.iter() {
            if let Node::Entry(entry) = node
                && purges.matches(entry)
            {
                entry.purge_soft();
                count += 1;
                if changed.matches(entry) {
                    self.copies.forget(key);
                }
            }
        }
        count
    }

    /// A purge of one resource says that its answer has changed: whoever fetches it anew brings nothing back. Larger ones are losses.
    fn forget_changed(&self, ended: &[Arc<Cached>], changed: &Several<'_>) {
        changed.keys().for_each(|key| self.copies.forget(key));
        ended.iter().filter(|entry| changed.matches(entry)).for_each(|entry| self.copies.forget(entry.stored_key()));
    }
}

fn is_hit(node: &Node, purge: &Purge) -> bool {
    matches!(node, Node::Entry(entry) if purge.matches(entry))
}

fn take(index: &mut Index<Node>, purges: &Several<'_>) -> Vec<Arc<Cached>> {
    if purges.is_empty() {
        return Vec::new();
    }
    let hit = |node: &Node| matches!(node, Node::Entry(entry) if purges.matches(entry));
    index.remove_where(|_, node| hit(node)).into_iter().filter_map(into_entry).collect()
}
