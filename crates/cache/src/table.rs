//! Statistics of keys that have no entry: a fixed table, so that a key which comes back is not unknown.

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
    stats: KeyStats,
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
        let tag = key.short().max(1);
        let mut stripe = self.stripe(key).lock();
        let used = stripe.tick();
        let slot = self.set(&mut stripe, key).iter_mut().find(|s| s.tag == tag)?;
        slot.used = used;
        Some(slot.stats)
    }

    /// Changes what is known about a key, from nothing when it is new.
    pub fn update<R>(&self, key: KeyHash, change: impl FnOnce(&mut KeyStats) -> R) -> R {
        let tag = key.short().max(1);
        let mut stripe = self.stripe(key).lock();
        if stripe.slots.is_empty() {
            stripe.slots = vec![Slot::default(); self.sets_per_stripe * WAYS];
        }
        let used = stripe.tick();
        let mut spare = Slot::default();
        let set = self.set(&mut stripe, key);
        let at = set.iter().position(|s| s.tag == tag);
        let at = at.or_else(|| set.iter().enumerate().min_by_key(|(_, s)| (s.tag != 0, s.used)).map(|(i, _)| i));
        let slot = at.and_then(|at| set.get_mut(at)).unwrap_or(&mut spare);
        if slot.tag != tag {
            *slot = Slot { tag, ..Slot::default() };
        }
        slot.used = used;
        change(&mut slot.stats)
    }

    fn stripe(&self, key: KeyHash) -> &Mutex<Stripe> {
        &self.stripes[(key.0 as usize) % STRIPES]
    }

    fn set<'a>(&self, stripe: &'a mut Stripe, key: KeyHash) -> &'a mut [Slot] {
        let start = ((key.0 as u64 >> 8) as usize % self.sets_per_stripe) * WAYS;
        stripe.slots.get_mut(start..start + WAYS).unwrap_or_default()
    }
}

impl Stripe {
    fn tick(&mut self) -> u32 {
        self.clock = self.clock.wrapping_add(1);
        self.clock
    }
}
