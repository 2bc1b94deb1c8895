//! A token bucket in integers: nothing drifts, whatever the rate.

use farthing_types::{RateSpec, Span, Time};

/// Counts in units of one token by one nanosecond of the period: each nanosecond brings `count` of them, a token is `period` of them.
#[derive(Clone, Debug)]
pub struct Bucket {
    spec: RateSpec,
    level: i128,
    /// Up to when it has been filled; in the future while it is held.
    at: Time,
}

impl Bucket {
    /// A full one.
    pub fn new(spec: RateSpec, now: Time) -> Self {
        let mut bucket = Self { spec, level: 0, at: now };
        bucket.level = bucket.full();
        bucket
    }

    fn period(&self) -> i128 {
        i128::try_from(self.spec.period.as_nanos()).unwrap_or(i128::MAX).max(1)
    }

    fn full(&self) -> i128 {
        i128::from(self.spec.burst) * self.period()
    }

    fn fill(&mut self, now: Time) {
        let elapsed = now.nanos().saturating_sub(self.at.nanos());
        if elapsed > 0 {
            self.level = (self.level + i128::from(elapsed) * i128::from(self.spec.count)).min(self.full());
            self.at = now;
        }
    }

    /// How long until `amount` can be taken; zero when it can be now. What is more than it holds waits until it is full.
    pub fn wait(&mut self, amount: u64, now: Time) -> Span {
        self.fill(now);
        let needed = i128::from(amount.min(self.spec.burst)) * self.period() - self.level;
        let count = i128::from(self.spec.count.max(1));
        let filling = if needed > 0 { (needed + count - 1) / count } else { 0 };
        self.at.since(now) + nanos(filling)
    }

    /// As much of `amount` as it can hold at a time.
    pub fn holds(&self, amount: u64) -> u64 {
        amount.min(self.spec.burst)
    }

    /// How long it takes to bring `amount`.
    pub fn takes(&self, amount: u64) -> Span {
        nanos(i128::from(amount) * self.period() / i128::from(self.spec.count.max(1)))
    }

    /// Takes `amount`, whether or not it is there.
    pub fn take(&mut self, amount: u64, now: Time) {
        self.fill(now);
        self.level -= i128::from(amount) * self.period();
    }

    /// Takes `amount`, owing no more than it can hold: whoever may always pass does not close it for ever to the others.
    pub fn owe(&mut self, amount: u64, now: Time) {
        self.take(amount, now);
        self.level = self.level.max(-self.full());
    }

    /// Puts `amount` into it: what was taken and not needed, or has been leased.
    pub fn put(&mut self, amount: u64, now: Time) {
        self.fill(now);
        self.level = (self.level + i128::from(amount) * self.period()).min(self.full());
    }

    /// Gives nothing until `until`. Whoever asks for that has counted otherwise than we have, so that one is left for the first who tries.
    pub fn hold(&mut self, until: Time, now: Time) {
        self.fill(now);
        self.level = self.level.min(self.period());
        self.at = self.at.max(until);
    }

    /// How many can be taken at once.
    pub fn left(&mut self, now: Time) -> u64 {
        self.fill(now);
        u64::try_from((self.level / self.period()).max(0)).unwrap_or(u64::MAX)
    }

    /// How many it lacks until it is full, rounded up.
    pub fn missing(&mut self, now: Time) -> u64 {
        self.fill(now);
        let (missing, period) = (self.full() - self.level, self.period());
        u64::try_from((missing + period - 1) / period).unwrap_or(u64::MAX)
    }

    /// How long until it is full.
    pub fn until_full(&mut self, now: Time) -> Span {
        self.wait(u64::MAX, now)
    }
}

fn nanos(count: i128) -> Span {
    Span::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: i64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn tokens_come_back_one_by_one() {
        let mut bucket = Bucket::new(RateSpec { count: 3, period: Span::from_secs(1), burst: 2 }, at(0));
        bucket.take(2, at(0));
        assert_eq!(bucket.wait(1, at(0)), Span::from_nanos(333_333_334));
        assert_eq!(bucket.wait(1, at(333_333_334)), Span::ZERO);
        assert_eq!(bucket.wait(99, at(333_333_334)), Span::from_nanos(333_333_333), "no more than it holds");
        bucket.owe(9, at(333_333_334));
        assert_eq!(bucket.wait(1, at(333_333_334)), Span::from_secs(1), "it owes what it can hold");
    }

    #[test]
    fn a_held_one_begins_with_one() {
        let mut bucket = Bucket::new(RateSpec { count: 10, period: Span::from_secs(1), burst: 10 }, at(0));
        bucket.hold(at(5_000_000_000), at(0));
        assert_eq!(bucket.wait(1, at(1_000_000_000)), Span::from_secs(4));
        assert_eq!(bucket.wait(2, at(1_000_000_000)), Span::from_millis(4_100));
        bucket.hold(at(2_000_000_000), at(1_000_000_000));
        assert_eq!(bucket.wait(1, at(1_000_000_000)), Span::from_secs(4), "a shorter one changes nothing");
    }

    proptest! {
        /// In any window the amounts taken are at most rate x window + burst, whatever is given back.
        #[test]
        fn no_window_has_more_than_rate_and_burst(
            (count, period_us, burst) in (1..5_000u64, 1..10_000_000u64, 1..2_000u64),
            steps in proptest::collection::vec((0..50_000_000i64, 1..50u64, 0..60u64), 1..80),
        ) {
            let spec = RateSpec { count, period: Span::from_micros(period_us), burst };
            let mut bucket = Bucket::new(spec, at(0));
            let mut now = 0;
            let mut taken: Vec<(i64, i128)> = Vec::new();
            for (pause, amount, kept) in steps {
                now += pause;
                let amount = amount.min(burst);
                if bucket.wait(amount, at(now)).is_zero() {
                    bucket.take(amount, at(now));
                    // What is given back at once was never used.
                    let kept = kept.min(amount);
                    bucket.put(amount - kept, at(now));
                    taken.push((now, i128::from(kept)));
                }
            }
            let period = i128::from(period_us) * 1_000;
            for (from, &(began, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for &(end, amount) in &taken[from..] {
                    sum += amount * period;
                    let most = i128::from(end - began) * i128::from(count) + i128::from(burst) * period;
                    prop_assert!(sum <= most, "{sum} > {most} from {began} to {end}");
                }
            }
        }

        /// Whoever waits as long as it says gets what it asked for, and a nanosecond earlier would not have.
        #[test]
        fn it_says_exactly_how_long(
            (count, period_ns, burst) in (1..5_000u64, 1..10_000_000_000u64, 1..2_000u64),
            (used, amount, pause) in (0..4_000u64, 1..3_000u64, 0..10_000_000_000i64),
        ) {
            let mut bucket = Bucket::new(RateSpec { count, period: Span::from_nanos(period_ns), burst }, at(0));
            bucket.owe(used, at(0));
            let wait = bucket.wait(amount, at(pause));
            let then = at(pause) + wait;
            if !wait.is_zero() {
                prop_assert!(!bucket.clone().wait(amount, then - Span::from_nanos(1)).is_zero());
            }
            prop_assert!(bucket.wait(amount, then).is_zero());
        }
    }
}
