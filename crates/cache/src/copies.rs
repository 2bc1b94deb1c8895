//! Until when the copies that were stored are fresh, wherever they are: a key whose copy is gone before that time has lost it.
//!
//! Eight bytes for each copy in a table of fixed size. It knows nothing of where copies are: what makes room on purpose, or takes back one
//! answer because it changed, says so with [`Copies::forget`].

use farthing_types::{KeyHash, Time};
use parking_lot::Mutex;

/// Slots that compete for one key: the one that ends first is overwritten.
const WAYS: usize = 8;
/// Separately locked parts; each is allocated when it is first written.
const STRIPES: usize = 64;

/// Upper half: the key's uppermost bits. Lower half: end of freshness in whole seconds since 1970, rounded down; 0 is empty.
type Slot = u64;

/// A copy as it leaves and enters the table, for a process to come with a table of the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedCopy {
    /// Its place.
    pub place: u32,
    /// What stands there.
    pub slot: u64,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Copies {
    stripes: Box<[Mutex<Vec<Slot>>]>,
    sets_per_stripe: usize,
}

impl Copies {
    /// A table of at most `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        let sets = bytes / (size_of::<Slot>() * WAYS * STRIPES);
        Self { stripes: (0..STRIPES).map(|_| Mutex::default()).collect(), sets_per_stripe: sets.max(1) }
    }

    /// How many copies fit.
    pub(crate) fn capacity(&self) -> usize {
        self.sets_per_stripe * WAYS * STRIPES
    }

    /// A copy of `key` is fresh until `end`.
    pub(crate) fn note(&self, key: KeyHash, end: Time) {
        let end = seconds(end);
        let mut stripe = self.stripe(key).lock();
        if stripe.is_empty() {
            *stripe = vec![0; self.sets_per_stripe * WAYS];
        }
        let set = self.set(&mut stripe, key);
        let at = set.iter().position(|slot| is_of(*slot, key));
        let at = at.or_else(|| set.iter().enumerate().min_by_key(|(_, slot)| **slot as u32).map(|(at, _)| at));
        if let Some(slot) = at.and_then(|at| set.get_mut(at)) {
            *slot = u64::from(tag(key)) << 32 | u64::from(end);
        }
    }

    /// The copy of `key` is gone for a reason.
    pub(crate) fn forget(&self, key: KeyHash) {
        let mut stripe = self.stripe(key).lock();
        self.set(&mut stripe, key).iter_mut().filter(|slot| is_of(**slot, key)).for_each(|slot| *slot = 0);
    }

    /// Whether a copy of `key` should still be fresh at `now`.
    pub(crate) fn is_due(&self, key: KeyHash, now: Time) -> bool {
        let mut stripe = self.stripe(key).lock();
        self.set(&mut stripe, key).iter().any(|slot| is_of(*slot, key) && *slot as u32 > seconds(now))
    }

    /// All copies that should still be fresh at `now`; the lock of one part is held at a time, and not while `each` runs.
    pub(crate) fn visit(&self, now: Time, each: &mut dyn FnMut(SavedCopy)) {
        for (number, stripe) in self.stripes.iter().enumerate() {
            let slots = stripe.lock().clone();
            for (at, slot) in slots.iter().enumerate().filter(|(_, slot)| **slot as u32 > seconds(now)) {
                each(SavedCopy { place: (at * STRIPES + number) as u32, slot: *slot });
            }
        }
    }

    /// Puts back what [`Copies::visit`] gave, of a table of the same size.
    pub(crate) fn restore(&self, saved: SavedCopy) {
        let (at, number) = (saved.place as usize / STRIPES, saved.place as usize % STRIPES);
        let Some(stripe) = self.stripes.get(number) else { return };
        let mut stripe = stripe.lock();
        if stripe.is_empty() {
            *stripe = vec![0; self.sets_per_stripe * WAYS];
        }
        if let Some(slot) = stripe.get_mut(at) {
            *slot = saved.slot;
        }
    }

    fn stripe(&self, key: KeyHash) -> &Mutex<Vec<Slot>> {
        &self.stripes[key.0 as usize % STRIPES]
    }

    fn set<'a>(&self, stripe: &'a mut [Slot], key: KeyHash) -> &'a mut [Slot] {
        let start = ((key.0 as u64 >> 6) as usize % self.sets_per_stripe) * WAYS;
        stripe.get_mut(start..start + WAYS).unwrap_or_default()
    }
}

const fn tag(key: KeyHash) -> u32 {
    (key.0 >> 96) as u32
}

const fn is_of(slot: Slot, key: KeyHash) -> bool {
    slot as u32 != 0 && (slot >> 32) as u32 == tag(key)
}

fn seconds(time: Time) -> u32 {
    u32::try_from(time.millis() / 1_000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use farthing_types::Span;

    use super::*;

    const NOW: Time = Time::from_millis(1_700_000_000_500);

    fn key(n: u64) -> KeyHash {
        KeyHash((u128::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
    }

    #[test]
    fn a_copy_is_due_until_its_end_or_until_it_is_forgotten() {
        let copies = Copies::new(1 << 20);
        assert!(!copies.is_due(key(1), NOW), "nothing is known");
        copies.note(key(1), NOW + Span::from_secs(60));
        copies.note(key(2), NOW + Span::from_secs(60));
        assert!(copies.is_due(key(1), NOW + Span::from_secs(59)) && !copies.is_due(key(1), NOW + Span::from_secs(60)));
        copies.note(key(1), NOW + Span::from_secs(5));
        assert!(!copies.is_due(key(1), NOW + Span::from_secs(6)), "the last copy counts");
        copies.forget(key(2));
        assert!(!copies.is_due(key(2), NOW) && copies.is_due(key(1), NOW));
    }

    #[test]
    fn the_table_stays_within_its_bytes_and_keeps_what_lasts_longest() {
        let copies = Copies::new(64 << 10);
        assert_eq!(copies.capacity() * size_of::<Slot>(), 64 << 10);
        for n in 0..100_000 {
            let lasts = if n % 50 == 0 { 3_600 } else { 60 };
            copies.note(key(n), NOW + Span::from_secs(lasts));
        }
        let due = |lasting: bool| (0..100_000).filter(|n| (n % 50 == 0) == lasting && copies.is_due(key(*n), NOW)).count();
        assert!(due(true) > 1_900, "{}", due(true));
        assert!(due(true) + due(false) <= copies.capacity());
    }

    #[test]
    fn what_is_saved_comes_back() {
        let (copies, again) = (Copies::new(64 << 10), Copies::new(64 << 10));
        (0..1_000).for_each(|n| copies.note(key(n), NOW + Span::from_secs(n)));
        let mut count = 0;
        copies.visit(NOW + Span::from_secs(500), &mut |saved| {
            count += 1;
            again.restore(saved);
        });
        assert_eq!(count, 499);
        assert!((0..1_000).all(|n| again.is_due(key(n), NOW + Span::from_secs(500)) == (n > 500)));
        again.restore(SavedCopy { place: u32::MAX, slot: u64::MAX });
    }
}
