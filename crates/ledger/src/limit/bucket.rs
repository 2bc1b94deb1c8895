//! A token bucket in integers: nothing drifts, whatever the rate.

use farthing_types::{RateSpec, Span, Time};

/// All of a limit, in parts of which instances that share it have so many each.
pub const WHOLE: u32 = 1_000_000;

/// A wait that only ends by a greater share.
pub const NEVER: Span = Span::from_secs(30 * 365 * 86_400);

/// Nanoseconds of the longest period that is reckoned with: eleven days.
const LONGEST: i128 = 1_000_000_000_000_000;

/// What an instance has of a rate and of a burst, of [`WHOLE`] each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Of the rate.
    pub rate: u32,
    /// Of the burst.
    pub burst: u32,
}

impl Shares {
    /// Of one that shares with nobody.
    pub const ALL: Self = Self { rate: WHOLE, burst: WHOLE };

    /// A share of what several have. A twentieth of the burst is left out: calls of several instances do not take equally long to the provider, and the
    /// limit is to hold there.
    pub const fn of(share: u32) -> Self {
        Self { rate: share, burst: share / 20 * 19 }
    }
}

/// Counts in units of one token by one nanosecond of the period by one part of [`WHOLE`]: each nanosecond brings `count` x share of them, a token is
/// `period` x [`WHOLE`] of them.
#[derive(Clone, Debug)]
pub struct Bucket {
    spec: RateSpec,
    shares: Shares,
    level: i128,
    /// Up to when it has been filled; in the future while it is held.
    at: Time,
}

impl Bucket {
    /// One of these shares, full or empty.
    pub fn new(spec: RateSpec, shares: Shares, full: bool, now: Time) -> Self {
        let mut bucket = Self { spec, shares, level: 0, at: now };
        if full {
            bucket.level = bucket.full();
        }
        bucket
    }

    /// Its share is another one from now on. What is in it is neither more for that nor filled anew; what a smaller one does not hold is lost.
    pub fn share(&mut self, shares: Shares, now: Time) {
        self.fill(now);
        self.shares = shares;
        self.level = self.level.min(self.full());
    }

    /// Its rate is another one from now on. As many whole tokens as are in it stay in it, as far as it holds them: it is not filled anew.
    pub fn respecify(&mut self, spec: RateSpec, now: Time) {
        self.fill(now);
        if spec == self.spec {
            return;
        }
        let whole = self.level.div_euclid(self.token());
        self.spec = spec;
        self.level = whole.saturating_mul(self.token()).min(self.full());
    }

    fn period(&self) -> i128 {
        i128::try_from(self.spec.period.as_nanos()).unwrap_or(LONGEST).clamp(1, LONGEST)
    }

    /// A token.
    fn token(&self) -> i128 {
        self.period() * i128::from(WHOLE)
    }

    fn units(&self, amount: u64) -> i128 {
        i128::from(amount).saturating_mul(self.token())
    }

    fn full(&self) -> i128 {
        i128::from(self.spec.burst) * self.period() * i128::from(self.shares.burst)
    }

    /// What a nanosecond brings.
    fn speed(&self) -> i128 {
        i128::from(self.spec.count) * i128::from(self.shares.rate)
    }

    fn fill(&mut self, now: Time) {
        let elapsed = now.nanos().saturating_sub(self.at.nanos());
        if elapsed > 0 {
            self.level = self.level.saturating_add(i128::from(elapsed).saturating_mul(self.speed())).min(self.full());
            self.at = now;
        }
    }

    /// How long until `amount` can be taken; zero when it can be now. What is more than it holds waits until it is full. [`NEVER`] where nothing comes.
    pub fn wait(&mut self, amount: u64, now: Time) -> Span {
        self.fill(now);
        let needed = self.units(amount).min(self.full()) - self.level;
        match (needed > 0, self.speed()) {
            (false, _) => self.at.since(now),
            (true, 0) => NEVER,
            (true, speed) => (self.at.since(now) + nanos((needed + speed - 1) / speed)).min(NEVER),
        }
    }

    /// As much of `amount` as the limit allows at a time, whatever the share.
    pub fn holds(&self, amount: u64) -> u64 {
        amount.min(self.spec.burst)
    }

    /// As much of `amount` as it can hold at a time.
    pub fn fits(&self, amount: u64) -> u64 {
        amount.min(u64::try_from(self.full() / self.token()).unwrap_or(u64::MAX).max(1))
    }

    /// How long it takes to bring `amount`.
    pub fn takes(&self, amount: u64) -> Span {
        match self.speed() {
            0 if amount == 0 => Span::ZERO,
            0 => NEVER,
            speed => nanos(self.units(amount) / speed).min(NEVER),
        }
    }

    /// How long the whole limit takes to bring `amount`.
    pub fn weighs(&self, amount: u64) -> Span {
        nanos(i128::from(amount) * self.period() / i128::from(self.spec.count.max(1)))
    }

    /// What share of the whole rate `amount` in this time is, of [`WHOLE`].
    pub fn share_of(&self, amount: u64, span: Span) -> u32 {
        let span = i128::try_from(span.as_nanos()).unwrap_or(i128::MAX).max(1);
        let share = self.units(amount) / span.saturating_mul(i128::from(self.spec.count.max(1)));
        u32::try_from(share).unwrap_or(WHOLE).min(WHOLE)
    }

    /// Takes `amount`, whether or not it is there.
    pub fn take(&mut self, amount: u64, now: Time) {
        self.fill(now);
        self.level = self.level.saturating_sub(self.units(amount));
    }

    /// Takes `amount`, owing no more than it can hold: whoever may always pass does not close it for ever to the others.
    pub fn owe(&mut self, amount: u64, now: Time) {
        self.take(amount, now);
        self.level = self.level.max(-self.full());
    }

    /// Puts `amount` into it: what was taken and not needed.
    pub fn put(&mut self, amount: u64, now: Time) {
        self.fill(now);
        self.level = self.level.saturating_add(self.units(amount)).min(self.full());
    }

    /// Gives nothing until `until`. Whoever asks for that has counted otherwise than we have, so that one is left for the first who tries.
    pub fn hold(&mut self, until: Time, now: Time) {
        self.fill(now);
        self.level = self.level.min(self.token());
        self.at = self.at.max(until);
    }

    /// How many can be taken at once.
    pub fn left(&mut self, now: Time) -> u64 {
        self.fill(now);
        let whole = u64::try_from((self.level / self.token()).max(0)).unwrap_or(u64::MAX);
        let one = self.level > 0 && self.level == self.full();
        whole.max(u64::from(one))
    }

    /// How many it lacks until it is full, rounded up.
    pub fn missing(&mut self, now: Time) -> u64 {
        self.fill(now);
        let (missing, token) = (self.full() - self.level, self.token());
        u64::try_from((missing + token - 1) / token).unwrap_or(u64::MAX)
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

    fn whole(spec: RateSpec) -> Bucket {
        Bucket::new(spec, Shares::ALL, true, at(0))
    }

    #[test]
    fn tokens_come_back_one_by_one() {
        let mut bucket = whole(RateSpec { count: 3, period: Span::from_secs(1), burst: 2 });
        bucket.take(2, at(0));
        assert_eq!(bucket.wait(1, at(0)), Span::from_nanos(333_333_334));
        assert_eq!(bucket.wait(1, at(333_333_334)), Span::ZERO);
        assert_eq!(bucket.wait(99, at(333_333_334)), Span::from_nanos(333_333_333), "no more than it holds");
        bucket.owe(9, at(333_333_334));
        assert_eq!(bucket.wait(1, at(333_333_334)), Span::from_secs(1), "it owes what it can hold");
    }

    #[test]
    fn a_held_one_begins_with_one() {
        let mut bucket = whole(RateSpec { count: 10, period: Span::from_secs(1), burst: 10 });
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
            let mut bucket = whole(spec);
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
            let mut bucket = whole(RateSpec { count, period: Span::from_nanos(period_ns), burst });
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
