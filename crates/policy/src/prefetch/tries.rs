//! Decisions to fetch ahead, carried out or not, until it is known whether they would have been used: what permits are earned by.

use std::collections::{HashMap, VecDeque};

use farthing_types::Time;

use super::permit::{Outcome, Permits};
use super::watch::{Awaited, Watch};

/// A decision to fetch ahead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Try {
    /// What ([`farthing_contract::features::Visit::thing`]).
    pub thing: u64,
    /// Its route.
    pub route: u16,
    /// Until when the copy is, or would be, fresh.
    pub until: Time,
    /// The probability above which it paid ([`super::Stakes::threshold`]).
    pub threshold: f64,
    /// How many were decided after the same request.
    pub together: u32,
}

/// Tries in the order in which they were decided, and the permits that they earn. Bounded.
pub struct Tries {
    /// Expiry of what was, or would have been, fetched: as long as that copy is fresh there is nothing to try again.
    shadow: HashMap<u64, Time>,
    waiting: VecDeque<(Try, bool)>,
    /// Number of the first that waits.
    first: u64,
    awaited: Watch<u64>,
    permits: Permits,
    capacity: usize,
}

impl Tries {
    /// At most `capacity` that wait at a time.
    pub fn new(permits: Permits, capacity: usize) -> Self {
        Self { shadow: HashMap::new(), waiting: VecDeque::new(), first: 0, awaited: Watch::new(capacity), permits, capacity }
    }

    /// Begins a try, unless the copy of an earlier one would still be fresh: tries that share an outcome would count as so much
    /// evidence. What costs nothing proves nothing either.
    pub fn begin(&mut self, one: Try, now: Time) {
        let fresh = self.shadow.get(&one.thing).is_some_and(|until| now < *until);
        if one.threshold <= 0.0 || fresh || self.waiting.len() >= self.capacity {
            return;
        }
        self.shadow.insert(one.thing, one.until);
        let number = self.first + self.waiting.len() as u64;
        self.waiting.push_back((one, false));
        self.awaited.add(Awaited { thing: one.thing, until: one.until, note: number });
    }

    /// `thing` was asked for.
    pub fn asked(&mut self, thing: u64, now: Time) {
        let (first, waiting) = (self.first, &mut self.waiting);
        self.awaited.asked(thing, now, |number| {
            if let Some((_, used)) = number.checked_sub(first).and_then(|n| waiting.get_mut(n as usize)) {
                *used = true;
            }
        });
    }

    /// Judges those whose time is over, in the order in which they were decided; how many those were.
    pub fn settle(&mut self, now: Time) -> usize {
        let before = self.waiting.len();
        self.awaited.expire(now, |_| {});
        while let Some((one, used)) = self.waiting.front().filter(|(one, _)| one.until < now).copied() {
            self.waiting.pop_front();
            self.first += 1;
            if self.shadow.get(&one.thing) == Some(&one.until) {
                self.shadow.remove(&one.thing);
            }
            let Try { route, threshold, together, .. } = one;
            self.permits.matured(usize::from(route), Outcome { threshold, used, together });
        }
        before - self.waiting.len()
    }

    /// Forgets what waits; permits stay.
    pub fn forget(&mut self) {
        self.first += self.waiting.len() as u64;
        self.waiting.clear();
        self.shadow.clear();
        self.awaited = Watch::new(self.capacity);
    }

    /// The permits.
    pub fn permits(&self) -> &Permits {
        &self.permits
    }
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> Time {
        Time::from_millis(ms)
    }

    proptest! {
        #[test]
        fn they_are_bounded_and_nothing_is_left_when_their_time_is_over(
            steps in proptest::collection::vec((0..40i64, 0..8u64, any::<bool>()), 0..300), capacity in 1..20usize,
        ) {
            let (mut tries, mut ms) = (Tries::new(Permits::new(vec![0]), capacity), 0);
            for (wait, thing, ask) in steps {
                ms += wait;
                tries.settle(at(ms));
                if ask {
                    tries.asked(thing, at(ms));
                } else {
                    tries.begin(Try { thing, route: 0, until: at(ms + 50), threshold: 0.5, together: 1 }, at(ms));
                }
                prop_assert!(tries.len() <= capacity && tries.shadow.len() <= capacity);
            }
            tries.settle(at(ms + 51));
            prop_assert!(tries.is_empty() && tries.shadow.is_empty() && tries.awaited.is_empty());
        }
    }

    #[test]
    fn a_thing_is_tried_once_while_its_copy_would_be_fresh() {
        let mut tries = Tries::new(Permits::new(vec![0]), 8);
        let one = Try { thing: 1, route: 0, until: at(100), threshold: 0.5, together: 1 };
        tries.begin(one, at(0));
        tries.begin(Try { until: at(150), ..one }, at(50));
        tries.begin(Try { thing: 2, threshold: 0.0, ..one }, at(50));
        assert_eq!(tries.len(), 1);
        tries.settle(at(101));
        tries.begin(Try { until: at(200), ..one }, at(101));
        assert_eq!(tries.len(), 1);
        tries.forget();
        tries.begin(Try { until: at(210), ..one }, at(110));
        assert_eq!(tries.len(), 1, "what was forgotten is not in the way");
    }

    #[test]
    fn used_tries_earn_the_permit() {
        let mut tries = Tries::new(Permits::new(vec![0]), 8);
        for i in 0..200 {
            let now = at(i * 100);
            tries.settle(now);
            tries.begin(Try { thing: 1, route: 0, until: now + farthing_types::Span::from_millis(60), threshold: 0.5, together: 1 }, now);
            tries.asked(1, at(i * 100 + 10));
        }
        assert!(tries.permits().is_live(0));
    }
}
