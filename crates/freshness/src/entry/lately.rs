//! When something last happened to a copy, and whether that is long ago.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use farthing_types::{Span, Time};

/// How long a failed call speaks for the next ones where a stale copy may stand in: a dead provider costs its clients no time and its
/// route no row of a call for each of them.
pub const FAILED_LATELY: Span = Span::from_secs(1);
/// How soon after a background refresh the same copy may have the next: the one before has failed then. Without it every stale answer of a
/// dead provider would begin one.
pub const REFRESH_AGAIN: Span = Span::from_secs(1);

/// A moment, or none yet; ns since 1970.
#[derive(Debug)]
pub struct Lately(AtomicI64);

impl Default for Lately {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Lately {
    /// It happened then.
    pub const fn at(then: Time) -> Self {
        Self(AtomicI64::new(then.nanos()))
    }

    /// It happens now.
    pub fn note(&self, now: Time) {
        self.0.store(now.nanos(), Ordering::Relaxed);
    }

    /// Whether it happened less than `span` ago.
    pub fn within(&self, span: Span, now: Time) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        last != i64::MIN && now.since(Time::from_nanos(last)) < span
    }

    /// True for the one caller who is to do it: for none within `every` after the last.
    pub fn claim(&self, every: Span, now: Time) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        !self.within(every, now) && self.0.compare_exchange(last, now.nanos(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// As [`Lately`], of four bytes, for spans of seconds: the lower half of the milliseconds since 1970. What happened a multiple of 49.7 days ago, to within such
/// a span, counts as just now, so it is for what may as well be done a moment later.
#[derive(Debug, Default)]
pub struct JustNow(AtomicU32);

impl JustNow {
    /// It happens now.
    pub fn note(&self, now: Time) {
        self.0.store(low(now), Ordering::Relaxed);
    }

    /// Whether it happened less than `span` ago.
    pub fn within(&self, span: Span, now: Time) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        last != 0 && is_within(last, span, now)
    }

    /// True for the one caller who is to do it: for none within `every` after the last.
    pub fn claim(&self, every: Span, now: Time) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        !self.within(every, now) && self.0.compare_exchange(last, low(now), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// A moment; 0 is for none.
fn low(now: Time) -> u32 {
    (now.millis() as u32).max(1)
}
fn is_within(last: u32, span: Span, now: Time) -> bool {
    let ago = low(now).wrapping_sub(last);
    u128::from(ago) < span.as_millis() || ago > u32::MAX - BACK_MS
}
/// How far a clock may go back, ms: what lies so far ahead has just happened.
const BACK_MS: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_claims_and_the_next_waits() {
        let (lately, at) = (Lately::default(), Time::from_millis);
        assert!(!lately.within(Span::from_secs(9), at(0)));
        assert!(lately.claim(REFRESH_AGAIN, at(0)) && !lately.claim(REFRESH_AGAIN, at(999)));
        assert!(lately.claim(REFRESH_AGAIN, at(1_000)));
        lately.note(at(5_000));
        assert!(lately.within(FAILED_LATELY, at(5_999)) && !lately.within(FAILED_LATELY, at(6_000)));
    }

    #[test]
    fn the_short_one_does_the_same_for_weeks() {
        for start in [0, 1_700_000_000_000, i64::from(u32::MAX) - 500] {
            let (lately, at) = (JustNow::default(), |ms| Time::from_millis(start + ms));
            assert!(!lately.within(Span::from_secs(9), at(0)));
            assert!(lately.claim(REFRESH_AGAIN, at(1)) && !lately.claim(REFRESH_AGAIN, at(1_000)));
            assert!(lately.claim(REFRESH_AGAIN, at(1_001)));
            lately.note(at(5_000));
            assert!(lately.within(FAILED_LATELY, at(5_999)) && !lately.within(FAILED_LATELY, at(6_000)));
            assert!(lately.within(FAILED_LATELY, at(4_900)), "a clock that went back");
            assert!([24, 30, 49].iter().all(|days| !lately.within(FAILED_LATELY, at(days * 86_400_000))));
        }
    }
}
