//! Whether candidates were asked for within the horizon: the label, seen with or without fetching ahead.

use std::collections::{HashMap, VecDeque};

use farthing_types::Time;

/// A candidate whose outcome is awaited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Awaited<T> {
    /// What ([`farthing_contract::features::Visit::thing`]).
    pub thing: u64,
    /// Until when a request for it counts.
    pub until: Time,
    /// What the caller wants back.
    pub note: T,
}

struct Entry<T> {
    awaited: Awaited<T>,
    /// Number of the entry before this one for the same thing.
    earlier: Option<u64>,
    open: bool,
}

/// Awaits outcomes of at most `capacity` candidates; when it is full new ones are not watched (and counted).
pub struct Watch<T> {
    entries: VecDeque<Entry<T>>,
    /// Number of the first entry.
    first: u64,
    latest: HashMap<u64, u64>,
    capacity: usize,
    unwatched: u64,
}

impl<T: Copy> Watch<T> {
    /// Room for `capacity` candidates.
    pub fn new(capacity: usize) -> Self {
        Self { entries: VecDeque::new(), first: 0, latest: HashMap::new(), capacity: capacity.max(1), unwatched: 0 }
    }

    /// Begins to watch.
    pub fn add(&mut self, awaited: Awaited<T>) {
        if self.entries.len() >= self.capacity {
            self.unwatched += 1;
            return;
        }
        let number = self.first + self.entries.len() as u64;
        let earlier = self.latest.insert(awaited.thing, number);
        self.entries.push_back(Entry { awaited, earlier, open: true });
    }

    /// `thing` was asked for: answers what had awaited it in time.
    pub fn asked(&mut self, thing: u64, now: Time, mut came: impl FnMut(T)) {
        let mut next = self.latest.remove(&thing);
        while let Some(index) = next.and_then(|n| n.checked_sub(self.first)) {
            let Some(entry) = self.entries.get_mut(index as usize) else { break };
            // What is too late stays open for `expire`.
            if entry.open && now <= entry.awaited.until {
                entry.open = false;
                came(entry.awaited.note);
            }
            next = entry.earlier;
        }
    }

    /// Answers those, oldest first, whose time is over without a request.
    pub fn expire(&mut self, now: Time, mut lapsed: impl FnMut(T)) {
        while self.entries.front().is_some_and(|e| !e.open || e.awaited.until < now) {
            let Some(entry) = self.entries.pop_front() else { break };
            if self.latest.get(&entry.awaited.thing) == Some(&self.first) {
                self.latest.remove(&entry.awaited.thing);
            }
            self.first += 1;
            if entry.open {
                lapsed(entry.awaited.note);
            }
        }
    }

    /// Candidates held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// Candidates that found no room.
    pub fn unwatched(&self) -> u64 {
        self.unwatched
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_candidate_has_one_outcome_and_memory_is_bounded(
            steps in proptest::collection::vec((0..50i64, 0..6u64, any::<bool>()), 0..400), capacity in 1..40usize,
        ) {
            let mut watch = Watch::new(capacity);
            let (mut ms, mut added, mut ended) = (0, 0u64, std::collections::BTreeMap::new());
            for (wait, thing, ask) in steps {
                ms += wait;
                let now = Time::from_millis(ms);
                watch.expire(now, |id: u64| *ended.entry(id).or_insert(0) += 1);
                if ask {
                    watch.asked(thing, now, |id: u64| *ended.entry(id).or_insert(0) += 1);
                } else {
                    watch.add(Awaited { thing, until: Time::from_millis(ms + 60), note: added });
                    added += 1;
                }
                prop_assert!(watch.len() <= capacity && watch.latest.len() <= capacity);
            }
            watch.expire(Time::from_millis(ms + 1_000), |id: u64| *ended.entry(id).or_insert(0) += 1);
            prop_assert!(ended.values().all(|n| *n == 1));
            prop_assert_eq!(ended.len() as u64 + watch.unwatched(), added);
            prop_assert!(watch.is_empty() && watch.latest.is_empty());
        }
    }

    #[test]
    fn only_requests_in_time_count() {
        let mut watch = Watch::new(8);
        let at = Time::from_millis;
        watch.add(Awaited { thing: 1, until: at(10), note: 'a' });
        watch.add(Awaited { thing: 1, until: at(20), note: 'b' });
        let (mut came, mut lapsed) = (Vec::new(), Vec::new());
        watch.asked(1, at(15), |c| came.push(c));
        watch.expire(at(30), |c| lapsed.push(c));
        assert_eq!((came, lapsed), (vec!['b'], vec!['a']));
    }
}
