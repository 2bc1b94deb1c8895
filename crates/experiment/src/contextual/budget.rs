//! What exploration has cost, by estimate, against what a day may cost.

use farthing_types::Span;
use serde::{Deserialize, Serialize};

const DAY_S: f64 = 86_400.0;

/// Dollars lost against the variant that was estimated to be the cheapest, by the day (UTC) in which the window began in which they were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    day: i64,
    today: f64,
    total: f64,
}

/// The day, since 1970, in which a window of this length begins.
pub(crate) fn day_of(window: i64, length: Span) -> i64 {
    (window as f64 * length.as_secs_f64() / DAY_S).floor() as i64
}

/// How many windows begin after this one in the day in which it begins.
pub(crate) fn later_today(window: i64, length: Span) -> f64 {
    let length_s = length.as_secs_f64();
    let left_s = (day_of(window, length) as f64 + 1.0) * DAY_S - window as f64 * length_s;
    // What begins with the next day is not of this one; a millisecond is less than any window is off by.
    ((left_s - 0.001) / length_s).floor().max(0.0)
}

impl Spent {
    /// Counts what was lost in a window that is over.
    pub fn count(&mut self, (window, length): (i64, Span), usd: f64) {
        let usd = if usd.is_finite() { usd.max(0.0) } else { 0.0 };
        let day = day_of(window, length);
        if day > self.day {
            (self.day, self.today) = (day, 0.0);
        }
        self.total += usd;
        self.today += if day == self.day { usd } else { 0.0 };
    }

    /// What of `budget` dollars a day may still be lost in `window`, where `planned` is what windows of that day are expected to lose that are not
    /// counted yet. A window longer than a day has as many days' money.
    pub fn left(&self, (window, length): (i64, Span), (budget, planned): (f64, f64)) -> f64 {
        let days = (length.as_secs_f64() / DAY_S).max(1.0);
        let counted = if day_of(window, length) == self.day { self.today } else { 0.0 };
        (budget * days - counted - planned).max(0.0)
    }

    /// Lost in the day of the window that was counted last.
    pub const fn today(&self) -> f64 {
        self.today
    }
    /// Lost in all.
    pub const fn total(&self) -> f64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_day_has_its_money_and_what_is_planned_is_gone() {
        let hour = Span::from_secs(3_600);
        let mut spent = Spent::default();
        assert_eq!(spent.left((0, hour), (5.0, 0.0)), 5.0);
        spent.count((0, hour), 2.0);
        spent.count((1, hour), f64::NAN);
        assert_eq!((spent.left((2, hour), (5.0, 1.5)), spent.left((2, hour), (5.0, 9.0))), (1.5, 0.0));
        assert_eq!(spent.left((24, hour), (5.0, 0.0)), 5.0, "another day");
        spent.count((24, hour), 1.0);
        assert_eq!((spent.today(), spent.total()), (1.0, 3.0));
        assert_eq!([0, 22, 23, 24].map(|window| later_today(window, hour)), [23.0, 1.0, 0.0, 23.0]);
        assert_eq!([0, 1, 3].map(|window| later_today(window, Span::from_secs(7 * 3_600))), [3.0, 2.0, 0.0]);
        let two_days = Span::from_secs(2 * 86_400);
        assert_eq!(spent.left((9, two_days), (5.0, 0.0)), 10.0);
    }
}
