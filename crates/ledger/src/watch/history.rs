//! The last weeks of a series by the hour, and what an hour of the week usually is.

use super::stats::{median, median_of};

/// Hours of a week.
pub const WEEK: usize = 168;
/// Weeks that are remembered.
pub const WEEKS: usize = 6;
const HOURS: usize = WEEK * WEEKS;
/// Weight of the product of day and hour, in weeks, against the hour of the week's own past.
const SHRINK: f64 = 1.5;

/// One hour.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hour {
    /// Attempts of calls with a known price.
    pub calls: f64,
    /// What they cost, dollars.
    pub usd: f64,
}

/// A ring of the last hours.
#[derive(Clone, Debug)]
pub struct History {
    ring: Vec<(f32, f32)>,
    /// The hour after the last one, since 1970.
    next: i64,
    len: usize,
}

impl History {
    /// Of a series whose first hour is `first`.
    pub fn new(first: i64) -> Self {
        Self { ring: vec![(0.0, 0.0); HOURS], next: first, len: 0 }
    }

    /// Bytes that one takes.
    pub const BYTES: usize = HOURS * 8;

    /// The hour that comes next.
    pub const fn next(&self) -> i64 {
        self.next
    }

    /// Hours that are remembered.
    pub const fn known(&self) -> usize {
        self.len
    }

    /// Adds the next hour.
    pub fn push(&mut self, hour: Hour) {
        let at = place(self.next);
        if let Some(slot) = self.ring.get_mut(at) {
            *slot = (hour.calls as f32, hour.usd as f32);
        }
        self.next += 1;
        self.len = (self.len + 1).min(HOURS);
    }

    /// An hour; `None` when it is not remembered.
    pub fn get(&self, hour: i64) -> Option<Hour> {
        let known = hour < self.next && hour >= self.next - self.len as i64;
        self.ring.get(place(hour)).filter(|_| known).map(|(calls, usd)| Hour { calls: f64::from(*calls), usd: f64::from(*usd) })
    }

    /// What each hour of the week usually costs: the median of the same hour in past weeks, drawn towards the product of its day and its
    /// hour of the day, more so the fewer weeks there are.
    pub fn profile(&self) -> Profile {
        let first = self.next - self.len as i64;
        let values = |cell: usize| -> Vec<f64> {
            let start = first + (cell as i64 - first).rem_euclid(WEEK as i64);
            (start..self.next).step_by(WEEK).filter_map(|hour| self.get(hour)).map(|hour| hour.usd).collect()
        };
        let cells: Vec<Vec<f64>> = (0..WEEK).map(values).collect();
        let medians: Vec<f64> = cells.iter().map(|values| median(values)).collect();
        let days: Vec<f64> = medians.chunks(24).map(|day| day.iter().sum::<f64>() / 24.0).collect();
        let share = |hour: usize| {
            median_of((0..7).filter_map(|day| Some(medians.get(day * 24 + hour)? / days.get(day).filter(|mean| **mean > 0.0)?)))
        };
        let shares: Vec<f64> = (0..24).map(share).collect();
        let cell = |index: usize| {
            let (own, weeks) = (medians.get(index).copied().unwrap_or(0.0), cells.get(index).map_or(0, Vec::len) as f64);
            let product = days.get(index / 24).copied().unwrap_or(0.0) * shares.get(index % 24).copied().unwrap_or(0.0);
            (weeks * own + SHRINK * product) / (weeks + SHRINK)
        };
        let usual: Vec<f32> = (0..WEEK).map(|index| cell(index) as f32).collect();
        let mean = usual.iter().map(|usd| f64::from(*usd)).sum::<f64>() / WEEK as f64;
        Profile { usual, mean }
    }
}

/// What each hour of the week usually costs.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    usual: Vec<f32>,
    /// The mean over the week, dollars.
    pub mean: f64,
}

impl Profile {
    /// Bytes that one takes.
    pub const BYTES: usize = WEEK * 4;

    /// What `hour` (since 1970) usually costs, dollars.
    pub fn at(&self, hour: i64) -> f64 {
        self.usual.get(hour.rem_euclid(WEEK as i64) as usize).map_or(0.0, |usd| f64::from(*usd))
    }

    /// What the same hour of the day usually costs at the weekend, the dearer day of the two; on a weekend, that of the day itself.
    pub fn free_day(&self, hour: i64) -> f64 {
        // The first day of 1970 was a Thursday.
        let (day, at) = (hour.div_euclid(24).rem_euclid(7), hour.rem_euclid(24));
        if matches!(day, 2 | 3) { self.at(hour) } else { self.at(2 * 24 + at).max(self.at(3 * 24 + at)) }
    }
}

fn place(hour: i64) -> usize {
    hour.rem_euclid(HOURS as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_hour_is_the_median_of_its_weeks() {
        let mut history = History::new(1_000);
        for week in 0..7 {
            for hour in 0..WEEK as i64 {
                let usual = 1.0 + (hour % 24) as f64;
                history.push(Hour { calls: 1.0, usd: if week == 3 { 50.0 * usual } else { usual } });
            }
        }
        assert_eq!((history.known(), history.next()), (HOURS, 1_000 + 7 * WEEK as i64));
        let profile = history.profile();
        for hour in 0..WEEK as i64 {
            let usual = 1.0 + (hour % 24) as f64;
            assert!((profile.at(1_000 + hour) - usual).abs() < 0.01 * usual, "{hour}: {}", profile.at(1_000 + hour));
        }
        assert_eq!((history.get(999), history.get(1_000 + 7 * WEEK as i64), history.get(1_000)), (None, None, None));
        assert_eq!(history.get(1_000 + WEEK as i64).unwrap().usd, 1.0);
    }

    #[test]
    fn a_new_series_leans_on_day_and_hour() {
        // One week, with one odd hour: half of it is believed.
        let mut history = History::new(0);
        (0..WEEK as i64).for_each(|hour| history.push(Hour { calls: 1.0, usd: if hour == 30 { 10.0 } else { 1.0 } }));
        let odd = history.profile().at(30);
        assert!((2.0..7.0).contains(&odd), "{odd}");
    }
}
