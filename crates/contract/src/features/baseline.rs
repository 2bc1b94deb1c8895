//! How a route's keys change after a change: hazard by the time since the last change that was seen, and by how many there were.
//!
//! Many sources are quiet just after an update, likeliest to change when the next one is due, and nearly dead once they have
//! missed it. One rate per key cannot say so. Each cell sets the changes observed against the time watched, each second of it
//! weighing what the key itself (its factor) and the rhythm say; a cell with little evidence follows the cells of other
//! counts, and these the whole route.

use super::key::KeyStats;
use super::persist::{Persist, persist};

/// Numbers of intervals of the time since the last change.
pub(super) const BUCKETS: usize = 16;
/// Their inner edges, seconds.
pub(super) const EDGES_S: [f64; BUCKETS - 1] = [
    60.0, 240.0, 600.0, 1_200.0, 1_800.0, 2_700.0, 3_600.0, 5_400.0, 7_200.0, 14_400.0, 28_800.0, 57_600.0, 86_400.0, 172_800.0, 604_800.0,
];
const COUNTS: usize = 4;
/// Weight of the interval over all counts in a cell, and of the route in that, in changes.
const PRIOR: f64 = 3.0;

/// Changes, and adjusted seconds watched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cell {
    changes: f32,
    seconds: f32,
}

persist!(Cell { changes, seconds });

/// 512 bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Baseline([[Cell; BUCKETS]; COUNTS]);

impl Persist for Baseline {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        Persist::take(from).map(Self)
    }
}

impl Baseline {
    /// Adds what was seen of keys with `count` changes in an interval.
    pub fn add(&mut self, count: u16, bucket: usize, changes: f64, seconds: f64) {
        if let Some(cell) = self.0[class(count)].get_mut(bucket) {
            cell.changes += changes as f32;
            cell.seconds += seconds as f32;
        }
    }

    /// Forgets toward the prior.
    pub fn fade(&mut self, keep: f32) {
        for cell in self.0.iter_mut().flatten() {
            cell.changes *= keep;
            cell.seconds *= keep;
        }
    }

    /// Hazards (1/s) of a key with `count` changes, by interval, where the route as a whole has `route`.
    pub fn hazards(&self, count: u16, route: f64) -> [f64; BUCKETS] {
        let row = &self.0[class(count)];
        std::array::from_fn(|b| {
            let (changes, seconds) = self.0.iter().fold((0.0, 0.0), |(c, s), row| (c + row[b].changes, s + row[b].seconds));
            let all = (f64::from(changes) + PRIOR) / (f64::from(seconds) + PRIOR / route);
            (f64::from(row[b].changes) + PRIOR) / (f64::from(row[b].seconds) + PRIOR / all)
        })
    }
}

fn class(count: u16) -> usize {
    match count {
        0 => 0,
        1 => 1,
        2..=4 => 2,
        _ => 3,
    }
}

/// Interval of a time since the last change.
pub(super) fn bucket_of(since_s: f64) -> usize {
    EDGES_S.iter().filter(|edge| since_s >= **edge).count()
}

/// Seconds since the last change of a key that was seen, or since it was first seen.
pub(super) fn since_change(key: &KeyStats, now_s: f64) -> f64 {
    let since = if key.changes > 0 { key.last_change_s } else { key.first_seen_s };
    (now_s - f64::from(since)).max(0.0)
}
