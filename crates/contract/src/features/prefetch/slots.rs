//! A table of fixed size: four places per key, and a full set forgets what was touched longest ago.

/// Places that a key may lie in.
const WAYS: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Slot<T> {
    /// Zero: empty.
    key: u64,
    /// Counts touches of the table, wrapping.
    touched: u32,
    value: T,
}

/// Values by 64-bit hash; never grows, never more than four looks.
#[derive(Clone, Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    clock: u32,
}

impl<T: Copy + Default> Slots<T> {
    /// Bytes of one entry.
    pub(crate) const BYTES: usize = size_of::<Slot<T>>();

    /// Room for at most `entries` (rounded down to a power of two, at least four).
    pub(crate) fn new(entries: usize) -> Self {
        let entries = entries.max(WAYS);
        let count = 1usize << (usize::BITS - 1 - entries.leading_zeros());
        Self { slots: vec![Slot { key: 0, touched: 0, value: T::default() }; count], clock: 0 }
    }

    fn set(&self, key: u64) -> std::ops::Range<usize> {
        let sets = self.slots.len() / WAYS;
        // The upper bits: the lower ones are what callers mix last.
        let set = ((key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize) & (sets - 1);
        set * WAYS..(set + 1) * WAYS
    }

    /// The value of `key`, if it is remembered.
    pub(crate) fn get(&self, key: u64) -> Option<&T> {
        let key = key.max(1);
        self.slots[self.set(key)].iter().find(|slot| slot.key == key).map(|slot| &slot.value)
    }

    /// The value of `key`; a new one takes the place of what was touched longest ago.
    pub(crate) fn touch(&mut self, key: u64) -> &mut T {
        let key = key.max(1);
        self.clock = self.clock.wrapping_add(1);
        let (range, clock) = (self.set(key), self.clock);
        let set = &mut self.slots[range];
        let found = set.iter().position(|slot| slot.key == key);
        let oldest = || (0..WAYS).max_by_key(|i| if set[*i].key == 0 { u32::MAX } else { clock.wrapping_sub(set[*i].touched) });
        let place = found.or_else(oldest).unwrap_or(0);
        let slot = &mut set[place];
        if found.is_none() {
            *slot = Slot { key, touched: clock, value: T::default() };
        }
        slot.touched = clock;
        &mut slot.value
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.len() * Self::BYTES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_never_grows_and_keeps_what_was_just_touched(keys in proptest::collection::vec(any::<u64>(), 1..300), room in 0..100usize) {
            let mut slots = Slots::<u64>::new(room);
            let bytes = slots.bytes();
            prop_assert!(bytes <= room.max(4) * Slots::<u64>::BYTES);
            for key in keys {
                *slots.touch(key) = key;
                prop_assert_eq!(slots.get(key), Some(&key));
                prop_assert_eq!(slots.bytes(), bytes);
            }
        }
    }

    #[test]
    fn the_oldest_of_a_full_set_makes_room() {
        let mut slots = Slots::<u8>::new(4);
        for key in 1..=4 {
            *slots.touch(key) = key as u8;
        }
        slots.touch(1);
        slots.touch(5);
        assert_eq!((slots.get(1), slots.get(2), slots.get(5)), (Some(&1), None, Some(&0)));
    }
}
