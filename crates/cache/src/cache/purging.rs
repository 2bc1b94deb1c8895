//! Purging memory, and what is below.

use std::sync::Arc;

use farthing_freshness::index::{KeyMap, Walk};
use farthing_types::{KeyHash, Time};
use parking_lot::{Mutex, MutexGuard};

use super::{Cache, Inner, Node, STEP, Shard, add, into_entry};
use crate::cached::{Cached, EndReason};
use crate::l2::Tier;
use crate::purge::{Lot, Purge, Purged, Several, Target, group_of_variants, lots};

impl Cache {
    /// Purges entries and keeps answers under way from bringing them back. A `soft` purge makes entries stale instead, so
    /// that they can be validated and served while or if the origin fails. By key, path or tag it costs what it is about; else it looks at every
    /// entry, a few at a time.
    pub fn purge(&self, purge: &Purge, soft: bool, now: Time) -> Purged {
        self.purge_in(&[(purge.clone(), soft)], now, |_| true)
    }

    /// As [`Cache::purge`], for purges that other instances have carried out: what is shared with them is left as they have left it. Memory is
    /// gone through at most once.
    pub fn purge_heard(&self, purges: &[(Purge, bool)], now: Time) -> Purged {
        self.purge_in(purges, now, |l2| !l2.is_shared())
    }

    /// As [`Cache::purge_heard`], of memory alone: what is below is judged by marks.
    pub fn purge_memory(&self, purges: &[(Purge, bool)], now: Time) -> Purged {
        self.purge_in(purges, now, |_| false)
    }

    fn purge_in(&self, purges: &[(Purge, bool)], now: Time, below: fn(&Tier) -> bool) -> Purged {
        // In this order: what is stored from here on is refused; what stood before is taken out, here and then below, where an entry is put
        // under its shard's lock; and only then may a flight that begins count as younger. So what is to be taken out only gets less, and a shard's
        // lock may be let go on the way through it.
        let unfinished: Vec<_> = purges.iter().map(|(purge, soft)| self.0.purges.begin(purge.clone(), *soft)).collect();
        let lots = lots(purges);
        let keyless = Several::new(purges.iter().map(|(purge, _)| purge).filter(|purge| !matches!(purge, Purge::Key(_))));
        let mut out = Purged { epoch: unfinished.last().map_or_else(|| self.epoch(), |last| last.epoch), ..Purged::default() };
        for shard in &self.0.shards {
            let mut softened = KeyMap::default();
            for lot in &lots {
                out.entries += self.0.purge_lot(shard, (lot, &mut softened), now);
            }
            out.entries += softened.len();
            out.flights += Inner::purge_flights(shard, &lots, &keyless);
        }
        // Whoever fetches them anew brings nothing back.
        lots.iter().flat_map(|lot| lot.changed.keys()).for_each(|key| self.0.copies.forget(key));
        if let Some(l2) = self.0.l2.as_ref().filter(|l2| below(l2)) {
            purges.iter().for_each(|(purge, soft)| l2.purge(purge, *soft, now));
        }
        drop(unfinished);
        add(&self.0.counters.purged, out.entries);
        out
    }

    /// How many entries a purge would hit.
    pub fn purge_dry_run(&self, purge: &Purge) -> usize {
        let purges = [(purge.clone(), false)];
        let (lots, mut count) = (lots(&purges), 0);
        for (lot, shard) in lots.iter().flat_map(|lot| self.0.shards.iter().map(move |shard| (lot, shard))) {
            self.0.visit(shard, lot, |_, found| {
                count += found.len();
                (Vec::new(), EndReason::Purged, Time::ZERO)
            });
        }
        count
    }
}

impl Inner {
    /// Takes out what a lot is about, or makes it stale; how many are out. `softened`: those that were made stale and are still there.
    fn purge_lot(&self, shard: &Mutex<Shard>, (lot, softened): (&Lot<'_>, &mut KeyMap<()>), now: Time) -> usize {
        let mut count = 0;
        self.visit(shard, lot, |shard, found| {
            let mut ended = Vec::new();
            for key in found {
                let Some(Node::Entry(entry)) = shard.index.peek(key) else { continue };
                if lot.changed.matches(entry.named()) {
                    self.copies.forget(key);
                }
                if lot.hard.matches(entry.named()) {
                    ended.extend(shard.index.remove(key).and_then(into_entry));
                    softened.remove(&key);
                } else {
                    entry.purge_soft();
                    softened.insert(key, ());
                }
            }
            self.keep_stats(&ended);
            count += ended.len();
            (ended, EndReason::Purged, now)
        });
        count
    }

    /// Goes through the entries of a shard that a lot is about, in steps: see [`Inner::walk`].
    fn visit(
        &self,
        shard: &Mutex<Shard>,
        lot: &Lot<'_>,
        mut with: impl FnMut(&mut Shard, Vec<KeyHash>) -> (Vec<Arc<Cached>>, EndReason, Time),
    ) {
        let is_hit = |_, node: &Node| matches!(node, Node::Entry(entry) if lot.all.matches(entry.named()));
        let walk = match lot.target {
            Target::Anywhere => Walk::all(),
            Target::Group(group) => Walk::group(group),
            Target::Key(primary) => {
                if std::ptr::eq(shard, self.shard(primary)) {
                    let mut held = shard.lock();
                    let found = held.index.peek(primary).is_some_and(|node| is_hit(primary, node));
                    let (ended, why, at) = with(&mut held, found.then_some(primary).into_iter().collect());
                    drop(held);
                    self.ended(ended, why, at);
                }
                Walk::group(group_of_variants(primary))
            }
        };
        self.walk(shard, walk, is_hit, with);
    }

    /// Keeps others from joining the flights of a shard that purges are about; how many those are.
    fn purge_flights(shard: &Mutex<Shard>, lots: &[Lot<'_>], keyless: &Several<'_>) -> usize {
        let mut count = 0;
        let keys: Vec<(KeyHash, &Lot<'_>)> =
            lots.iter().filter_map(|lot| if let Target::Key(key) = lot.target { Some((key, lot)) } else { None }).collect();
        for some in keys.chunks(STEP) {
            let mut held = shard.lock();
            let flights: Vec<_> = some.iter().flat_map(|(key, lot)| held.flights.take_of(*key, |flight| flight.purge(&lot.all))).collect();
            MutexGuard::unlock_fair(held);
            count += flights.len();
        }
        // What looks at everything has the keys among its own.
        let rest = lots.iter().find(|lot| lot.target == Target::Anywhere).map_or(keyless, |lot| &lot.all);
        if rest.is_empty() {
            return count;
        }
        let flights = shard.lock().flights.take(|flight| flight.purge(rest));
        count + flights.len()
    }
}
