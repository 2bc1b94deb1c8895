//! Where each key's value stands: in memory, bounded.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use farthing_freshness::index::KeyMap;
use farthing_types::KeyHash;

use super::record::Placed;

/// Bytes of memory that one key takes in the index: slot and control byte of a hash map that is at its emptiest after it grew.
pub(super) const ENTRY_BYTES: usize = 104;

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: u32,
    pub offset: u32,
    pub len: u32,
    /// Asked for since it was written: kept when its segment goes.
    pub hot: bool,
    /// ms since 1970.
    pub expires: i64,
}

impl Place {
    pub(super) const fn placed(&self, key: KeyHash) -> Placed {
        Placed { key, offset: self.offset, len: self.len, expires: Some(self.expires) }
    }
}

/// A segment on disk.
#[derive(Debug)]
pub(super) struct Segment {
    pub file: Arc<File>,
    /// Bytes, its index file included.
    pub bytes: u64,
}

/// Index and segments.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: KeyMap<Place>,
    pub segments: BTreeMap<u32, Segment>,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|s| s.bytes).sum()
    }

    /// Makes room for records that are about to be noted.
    pub(super) fn reserve(&mut self, records: usize) {
        self.places.reserve(records);
    }

    /// Notes a record, in the order in which records were written.
    pub(super) fn note(&mut self, segment: u32, placed: &Placed) {
        match placed.expires {
            Some(expires) => {
                let place = Place { segment, offset: placed.offset, len: placed.len, hot: false, expires };
                self.places.insert(placed.key, place);
            }
            None => {
                self.places.remove(&placed.key);
            }
        }
    }

    /// Where the value of a key stands, which counts as asked for.
    pub(super) fn find(&mut self, key: KeyHash, now: i64) -> Option<(Placed, Arc<File>)> {
        let place = self.places.get_mut(&key)?;
        if place.expires <= now {
            self.places.remove(&key);
            return None;
        }
        place.hot = true;
        let (placed, segment) = (place.placed(key), place.segment);
        Some((placed, Arc::clone(&self.segments.get(&segment)?.file)))
    }

    /// Forgets a value that turned out to be damaged, unless another one took its place.
    pub(super) fn forget(&mut self, damaged: &Placed) {
        if self.places.get(&damaged.key).is_some_and(|p| p.placed(damaged.key) == *damaged) {
            self.places.remove(&damaged.key);
        }
    }

    /// Whether the value of a key is the one that stands there.
    pub(super) fn is_at(&self, segment: u32, placed: &Placed) -> bool {
        self.places.get(&placed.key).is_some_and(|place| place.segment == segment && place.placed(placed.key) == *placed)
    }

    /// Whether a key has a value.
    pub(super) fn has(&self, key: KeyHash) -> bool {
        self.places.contains_key(&key)
    }

    /// Takes out the values of some records that still stand in the segment `id`; those of them that were asked for go to `hot`.
    pub(super) fn take(&mut self, id: u32, records: &[Placed], now: i64, hot: &mut Vec<Placed>) {
        for record in records {
            let Some(place) = self.places.get(&record.key).filter(|p| p.segment == id) else { continue };
            if place.hot && place.expires > now {
                hot.push(place.placed(record.key));
            }
            self.places.remove(&record.key);
        }
    }

    /// Takes out everything that stands in a segment: slow, for when its records are not known.
    pub(super) fn take_all(&mut self, id: u32) {
        self.places.retain(|_, place| place.segment != id);
    }
}
