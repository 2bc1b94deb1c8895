//! Statistics of keys that have no entry: a fixed table, so that a key which comes back is not unknown.

use std::collections::HashSet;

use farthing_freshness::entry::KeyStats;
use farthing_types::KeyHash;
use parking_lot::Mutex;

/// Slots that compete for one key: the least recently used one is overwritten.
const WAYS: usize = 8;
/// Separately locked parts; each is allocated when it is first written.
const STRIPES: usize = 256;

#[derive(Clone, Copy, Default)]
struct Slot {
    /// The key's upper half; 0 is empty. Two keys with equal upper halves share statistics, which is harmless.
    tag: u64,
    /// Sequence of last use within the stripe, for replacement.
    used: u32,
    /// The key's lowest bits, by which its place is found.
    place: u32,
    stats: KeyStats,
}

/// The statistics of a key as they leave and enter the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SavedKey {
    /// Upper half of the key, as in the log.
    pub tag: u64,
    /// Its lowest bits.
    pub place: u32,
    /// What is known about it.
    pub stats: KeyStats,
}

impl SavedKey {
    pub(crate) const fn new(key: KeyHash, stats: KeyStats) -> Self {
        Self { tag: key.short(), place: key.0 as u32, stats }
    }
}

#[derive(Default)]
struct Stripe {
    slots: Vec<Slot>,
    clock: u32,
}

/// A set-associative table of [`KeyStats`] in a fixed number of bytes.
pub struct StatsTable {
    stripes: Box<[Mutex<Stripe>]>,
    sets_per_stripe: usize,
}

impl StatsTable {
    /// A table of at most `bytes`.
    pub fn new(bytes: usize) -> Self {
        let sets = bytes / (size_of::<Slot>() * WAYS * STRIPES);
        Self { stripes: (0..STRIPES).map(|_| Mutex::default()).collect(), sets_per_stripe: sets.max(1) }
    }

    /// How many keys fit.
    pub fn capacity(&self) -> usize {
        self.sets_per_stripe * WAYS * STRIPES
    }

    /// What is known about a key.
    pub fn get(&self, key: KeyHash) -> Option<KeyStats> {
        let (tag, place) = (key.short().max(1), key.0 as u32);
        let mut stripe = self.stripe(place).lock();
        let used = stripe.tick();
        let slot = self.set(&mut stripe, place).iter_mut().find(|s| s.tag == tag)?;
        slot.used = used;
        Some(slot.stats)
    }

    /// Changes what is known about a key, from nothing when it is new.
    pub fn update<R>(&self, key: KeyHash, change: impl FnOnce(&mut KeyStats) -> R) -> R {
        self.change(key.short(), key.0 as u32, change)
    }

    /// All that is known, by part; the lock of one part is held at a time, and not while `each` runs.
    pub fn visit(&self, each: &mut dyn FnMut(SavedKey)) {
        for stripe in &self.stripes {
            let slots = stripe.lock().slots.clone();
            for slot in slots.iter().filter(|slot| slot.tag != 0) {
                each(SavedKey { tag: slot.tag, place: slot.place, stats: slot.stats });
            }
        }
    }

    /// Empties the slots of keys with these upper halves; how many that were.
    pub fn forget(&self, tags: &HashSet<u64>) -> usize {
        let mut forgotten = 0;
        for stripe in &self.stripes {
            for slot in stripe.lock().slots.iter_mut().filter(|slot| slot.tag != 0 && tags.contains(&slot.tag)) {
                *slot = Slot::default();
                forgotten += 1;
            }
        }
        forgotten
    }

    /// Puts back what [`StatsTable::visit`] gave, also of a table of another size.
    pub fn restore(&self, saved: SavedKey) {
        self.change(saved.tag, saved.place, |stats| *stats = saved.stats);
    }

    fn change<R>(&self, tag: u64, place: u32, change: impl FnOnce(&mut KeyStats) -> R) -> R {
        let tag = tag.max(1);
        let mut stripe = self.stripe(place).lock();
        if stripe.slots.is_empty() {
            stripe.slots = vec![Slot::default(); self.sets_per_stripe * WAYS];
        }
        let used = stripe.tick();
        let mut spare = Slot::default();
        let set = self.set(&mut stripe, place);
        let at = set.iter().position(|s| s.tag == tag);
        let at = at.or_else(|| set.iter().enumerate().min_by_key(|(_, s)| (s.tag != 0, s.used)).map(|(i, _)| i));
        let slot = at.and_then(|at| set.get_mut(at)).unwrap_or(&mut spare);
        if slot.tag != tag {
            *slot = Slot { tag, place, ..Slot::default() };
        }
        slot.used = used;
        change(&mut slot.stats)
    }

    fn stripe(&self, place: u32) -> &Mutex<Stripe> {
        &self.stripes[place as usize % STRIPES]
    }

    fn set<'a>(&self, stripe: &'a mut Stripe, place: u32) -> &'a mut [Slot] {
        let start = ((place >> 8) as usize % self.sets_per_stripe) * WAYS;
        stripe.slots.get_mut(start..start + WAYS).unwrap_or_default()
    }
}

impl Stripe {
    fn tick(&mut self) -> u32 {
        self.clock = self.clock.wrapping_add(1);
        self.clock
    }
}
