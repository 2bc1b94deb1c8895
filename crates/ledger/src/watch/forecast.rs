//! What a period will have cost at its end: what has been spent, and the rest by resampled days.

use super::history::History;
use super::random::Random;
use super::stats::{location, median, quantile};

/// Paths that are drawn.
const PATHS: usize = 400;
/// Days whose deviations are drawn from, and how many in a row.
const DAYS: i64 = 35;
const BLOCK: usize = 3;
/// Fewest days that are known.
const FEWEST: i64 = 14;
/// Days that say where the level is now.
const RECENT: usize = 7;
/// The part of the trend that is believed, and by what factor it fades each day.
const BELIEVED: f64 = 0.5;
const DAMPED: f64 = 0.95;
/// How far the level may wander by the square root of a day, as a part of the deviations' size.
const WANDER: f64 = 0.25;

/// The end of a period.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Totals of the paths, ascending, dollars.
    totals: Vec<f64>,
    /// Spent so far, dollars.
    pub so_far: f64,
}

impl Forecast {
    #[cfg(test)]
    pub(super) const fn of(totals: Vec<f64>, so_far: f64) -> Self {
        Self { totals, so_far }
    }

    /// The total that is not exceeded with probability `q`, dollars.
    pub fn quantile(&self, q: f64) -> f64 {
        quantile(&self.totals, q)
    }

    /// Probability that the period costs more than `amount` dollars.
    pub fn over(&self, amount: f64) -> f64 {
        let below = self.totals.partition_point(|total| *total <= amount);
        (self.totals.len() - below) as f64 / self.totals.len().max(1) as f64
    }
}

/// The total at hour `until` (since 1970), when `so_far` dollars have been spent of the period at the end of the history.
/// `None` with less than two weeks known.
pub fn forecast(history: &History, so_far: f64, until: i64, seed: u64) -> Option<Forecast> {
    let now = history.next();
    let profile = history.profile();
    let days = (history.known() as i64 / 24).min(DAYS);
    if days < FEWEST || profile.mean <= 0.0 {
        return None;
    }
    let usual =
        |from: i64, to: i64| (from..to).map(|hour| profile.at(hour)).sum::<f64>().max(1e-9 + 0.01 * profile.mean * (to - from) as f64);
    let spent = |from: i64, to: i64| (from..to).filter_map(|hour| history.get(hour)).map(|hour| hour.usd).sum::<f64>();
    // Days that end now: all whole, whatever the hour.
    let ratios: Vec<f64> = (0..days)
        .rev()
        .map(|back| (now - 24 * (back + 1), now - 24 * back))
        .map(|(from, to)| ((spent(from, to) + 0.01 * profile.mean) / usual(from, to)).ln())
        .collect();
    let slope = BELIEVED * slope(&ratios);
    let recent = ratios.len().saturating_sub(RECENT);
    // The middle of the recent days is half of them ago.
    let level = median(ratios.get(recent..)?) + slope * (RECENT as f64 / 2.0);
    let last = ratios.len() as f64 - 1.0;
    let middle = median(&ratios);
    let deviations: Vec<f64> = ratios.iter().enumerate().map(|(day, ratio)| ratio - middle - slope * (day as f64 - last / 2.0)).collect();
    // Of the usual days: holidays are drawn as they come, and say nothing of where the level is.
    let (_, size) = location(&deviations, 0.0);
    let rest: Vec<f64> = (now..until).step_by(24).map(|from| usual(from, (from + 24).min(until))).collect();
    let mut random = Random::new(seed);
    let mut totals: Vec<f64> = (0..PATHS).map(|_| so_far + path(&rest, (level, slope), (&deviations, size), &mut random)).collect();
    totals.sort_by(f64::total_cmp);
    Some(Forecast { totals, so_far })
}

fn path(rest: &[f64], (level, slope): (f64, f64), (deviations, size): (&[f64], f64), random: &mut Random) -> f64 {
    // Where the level is, is itself only known as well as a week tells it.
    let mut level = level + size / (RECENT as f64).sqrt() * random.normal();
    let (mut trend, mut at, mut left) = (slope, 0, 0);
    let mut total = 0.0;
    for usual in rest {
        if left == 0 {
            (at, left) = (random.below(deviations.len()), BLOCK);
        }
        level += trend + WANDER * size * random.normal();
        trend *= DAMPED;
        total += usual * (level + deviations.get(at % deviations.len()).copied().unwrap_or(0.0)).exp();
        (at, left) = (at + 1, left - 1);
    }
    total
}

/// Median of the slopes between all pairs of days (Theil and Sen): no single day bends it.
fn slope(ratios: &[f64]) -> f64 {
    let mut slopes = Vec::new();
    for (first, low) in ratios.iter().enumerate() {
        for (later, high) in ratios.iter().enumerate().skip(first + 7) {
            slopes.push((high - low) / (later - first) as f64);
        }
    }
    median(&slopes)
}
