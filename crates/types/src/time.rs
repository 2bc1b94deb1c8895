//! Time as integer nanoseconds, and the clocks that tell it.
//!
//! This is the only module that asks the operating system for the time.

use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time in nanoseconds; never negative in practice, saturating in arithmetic.
pub type Span = Duration;

/// Nanoseconds since 1970-01-01 UTC, on the time line of some [`Clock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(i64);

impl Time {
    /// The epoch.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }
    /// From milliseconds since the epoch, saturating.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }
    /// From seconds since the epoch, rounded to nanoseconds.
    pub fn from_secs_f64(seconds: f64) -> Self {
        Self((seconds * 1e9) as i64)
    }
    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> i64 {
        self.0
    }
    /// Milliseconds since the epoch, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
    /// Seconds since the epoch.
    pub fn secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
    /// The time from `earlier` to here; zero when `earlier` lies in the future.
    pub fn since(self, earlier: Self) -> Span {
        Span::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Year, month and day of a day since 1970 in the Gregorian calendar (civil-from-days after Howard Hinnant's "chrono-compatible date
/// algorithms").
///
/// Counts from 1 March of year 0, so that the leap day is the last of its year: an era of 400 years has 146,097 days, a
/// century 36,524, four years 1,461; from March on, five months have 153 days.
pub const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + carry, month, day)
}

/// Days since 1970 of a day of the Gregorian calendar, counted as [`civil`] does: its inverse.
pub const fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The day since 1970 of a date in the Gregorian calendar; `None` when there is no such date.
pub fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=9_999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = day_number(year, month, day);
    (civil(days) == (year, month, day)).then_some(days)
}

impl Add<Span> for Time {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)))
    }
}
impl Sub<Span> for Time {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)))
    }
}

/// Tells the time. Decisions never ask: they are told. Only the composers (proxy, replay, demo) hold a clock.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Time;
    /// The time of the day as the system has it now: it may be set, and goes on while the machine sleeps. That of [`Clock::now`] where time is not
    /// the system's.
    fn wall(&self) -> Time {
        self.now()
    }
}

/// The wall clock, made monotonic within the process: it is read once, then advanced by the monotonic clock.
#[derive(Debug)]
pub struct RealClock {
    origin: std::time::Instant,
    epoch_nanos: i64,
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clocks")]
impl Default for RealClock {
    fn default() -> Self {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { origin: std::time::Instant::now(), epoch_nanos: i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX) }
    }
}

impl Clock for RealClock {
    fn now(&self) -> Time {
        Time(self.epoch_nanos.saturating_add(i64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(i64::MAX)))
    }
    fn wall(&self) -> Time {
        Time(Self::default().epoch_nanos)
    }
}

/// A clock that runs `factor` times as fast as the real one from a chosen start.
#[derive(Debug)]
pub struct ScaledClock {
    real: RealClock,
    real_start: Time,
    start: Time,
    factor: f64,
}

impl ScaledClock {
    /// Starts now at `start`, running `factor` times as fast as real time.
    pub fn new(start: Time, factor: f64) -> Self {
        let real = RealClock::default();
        Self { real_start: real.now(), real, start, factor }
    }
    /// The real time that passes while this clock advances by `span`.
    pub fn real_span(&self, span: Span) -> Span {
        Span::try_from_secs_f64(span.as_secs_f64() / self.factor).unwrap_or(Span::ZERO)
    }
    /// How many times as fast as real time it runs.
    pub fn factor(&self) -> f64 {
        self.factor
    }
}

impl Clock for ScaledClock {
    fn now(&self) -> Time {
        let real = self.real.now().since(self.real_start);
        self.start + Span::try_from_secs_f64(real.as_secs_f64() * self.factor).unwrap_or(Span::ZERO)
    }
}

/// A clock that stands still until it is told to move: for replay and tests.
#[derive(Debug, Default)]
pub struct VirtualClock(AtomicI64);

impl VirtualClock {
    /// A clock that shows `start`.
    pub fn new(start: Time) -> Self {
        Self(AtomicI64::new(start.0))
    }
    /// Moves to `time`; never backwards.
    pub fn set(&self, time: Time) {
        self.0.fetch_max(time.0, Ordering::AcqRel);
    }
    /// Moves on by `span`.
    pub fn advance(&self, span: Span) {
        self.set(self.now() + span);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_no_time_ago() {
        assert_eq!(Time::from_nanos(5).since(Time::from_nanos(9)), Span::ZERO);
        assert_eq!(Time::from_millis(2).since(Time::ZERO), Span::from_millis(2));
    }

    #[test]
    fn a_virtual_clock_never_goes_back() {
        let clock = VirtualClock::new(Time::from_millis(10));
        clock.set(Time::from_millis(5));
        clock.advance(Span::from_millis(1));
        assert_eq!(clock.now(), Time::from_millis(11));
    }
}

#[cfg(test)]
mod calendar_tests {
    use super::{civil, days_of};

    #[test]
    fn dates_and_days_are_inverse() {
        for days in (-200_000..200_000).step_by(13) {
            let (year, month, day) = civil(days);
            assert_eq!(days_of(year, month, day), Some(days));
        }
        assert_eq!((days_of(1970, 1, 1), days_of(2026, 11, 26)), (Some(0), Some(20_783)));
        for (year, month, day) in [(2023, 2, 29), (1900, 2, 29), (2024, 13, 1), (2024, 0, 1), (2024, 4, 31), (2024, 1, 0), (0, 1, 1)] {
            assert_eq!(days_of(year, month, day), None, "{year}-{month}-{day}");
        }
    }
}
