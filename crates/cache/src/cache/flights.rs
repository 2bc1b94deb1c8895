//! The flights of a shard, and which of them are for variants of a key.

use std::sync::Arc;

use farthing_freshness::index::KeyMap;
use farthing_types::KeyHash;

use crate::flight::Flight;

#[derive(Default)]
pub(crate) struct Flights {
    by_key: KeyMap<Arc<Flight>>,
    /// By primary key: keys of flights that stand under another one.
    variants: KeyMap<Vec<KeyHash>>,
}

impl Flights {
    pub(super) fn get(&self, key: KeyHash) -> Option<&Arc<Flight>> {
        self.by_key.get(&key)
    }
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Puts a flight in the place of another one of its key, which is returned.
    pub(super) fn insert(&mut self, flight: Arc<Flight>) -> Option<Arc<Flight>> {
        let (key, primary) = (flight.key, flight.subject.key);
        let replaced = self.remove(key);
        if key != primary {
            self.variants.entry(primary).or_default().push(key);
        }
        self.by_key.insert(key, flight);
        replaced
    }

    pub(super) fn remove(&mut self, key: KeyHash) -> Option<Arc<Flight>> {
        let flight = self.by_key.remove(&key)?;
        let primary = flight.subject.key;
        if let Some(keys) = self.variants.get_mut(&primary) {
            keys.retain(|of| *of != key);
            if keys.is_empty() {
                self.variants.remove(&primary);
            }
        }
        Some(flight)
    }

    /// Takes out those of a primary key for which `which` holds.
    pub(super) fn take_of(&mut self, primary: KeyHash, which: impl Fn(&Flight) -> bool) -> Vec<Arc<Flight>> {
        let mut keys = self.variants.get(&primary).cloned().unwrap_or_default();
        keys.push(primary);
        keys.retain(|key| self.by_key.get(key).is_some_and(|flight| which(flight)));
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    /// Takes out all for which `which` holds.
    pub(super) fn take(&mut self, which: impl Fn(&Flight) -> bool) -> Vec<Arc<Flight>> {
        let keys: Vec<KeyHash> = self.by_key.iter().filter(|(_, flight)| which(flight)).map(|(key, _)| *key).collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use farthing_freshness::ticket::Limits;
    use farthing_types::Span;

    use super::*;
    use crate::tests::{NOW, subject};

    #[test]
    fn flights_of_a_key_are_found_with_its_variants() {
        let limits = Limits { max_handovers: 1, max_followers: 1, hit_for_miss: Span::ZERO };
        let flight = |key: u128, of: u64| Arc::new(Flight::new(KeyHash(key), subject(of), (0, 0), NOW, limits));
        let mut flights = Flights::default();
        let own = subject(1).key;
        for flight in [flight(own.0, 1), flight(7, 1), flight(8, 1), flight(9, 2)] {
            assert!(flights.insert(flight).is_none());
        }
        assert!(flights.insert(flight(7, 1)).is_some());
        assert_eq!((flights.len(), flights.variants.len()), (4, 2));
        let mut taken: Vec<KeyHash> = flights.take_of(own, |flight| flight.key != KeyHash(8)).iter().map(|flight| flight.key).collect();
        taken.sort_unstable();
        assert_eq!(taken, [KeyHash(7), own]);
        assert!(flights.get(KeyHash(8)).is_some() && flights.get(KeyHash(7)).is_none());
        assert!(flights.take_of(subject(5).key, |_| true).is_empty());
        assert_eq!(flights.take(|_| true).len(), 2);
        assert_eq!((flights.len(), flights.variants.len()), (0, 0));
    }
}
