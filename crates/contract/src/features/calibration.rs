//! How far the live hazards of a route are off, by the age of the copy and by what the last fetches of the key showed.
//!
//! Right after a change many sources are quiet until their next update; others change in bursts. A posterior of one rate per
//! key cannot say so. Here the changes observed are counted against the changes expected, per age interval and state of the
//! key, and their ratio corrects the hazard.

use super::key::KeyStats;
use super::persist::{Persist, persist};
use super::spec::{TTL_HORIZONS, TTL_OUTPUTS};

/// Weight of "the hazards are right", in changes.
const PRIOR: f32 = 10.0;
/// Each cell forgets by this factor once it holds [`FULL`] changes.
const KEEP: f32 = 0.5;
const FULL: f32 = 4_000.0;
const STATES: usize = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cell {
    changes: f32,
    expected: f32,
}

/// Ratios of observed to expected changes; 256 bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Calibration([[Cell; TTL_OUTPUTS]; STATES]);

impl Calibration {
    /// Notes that a copy was fetched when the key's statistics were `key`, and `changes` happened where `expected` (per age
    /// interval, with the factors of this calibration) were expected.
    pub fn note(&mut self, key: &KeyStats, changes: f64, expected: &[f64; TTL_OUTPUTS]) {
        let total: f64 = expected.iter().sum();
        if total <= 0.0 {
            return;
        }
        let factors = self.factors(key);
        for ((cell, e), factor) in self.0[state(key)].iter_mut().zip(expected).zip(factors) {
            cell.changes += (changes * e / total) as f32;
            cell.expected += (e / factor) as f32;
            if cell.expected > FULL {
                *cell = Cell { changes: cell.changes * KEEP, expected: cell.expected * KEEP };
            }
        }
    }

    /// Factor on the hazard, per age interval.
    pub fn factors(&self, key: &KeyStats) -> [f64; TTL_OUTPUTS] {
        self.0[state(key)].map(|cell| f64::from(((cell.changes + PRIOR) / (cell.expected + PRIOR)).clamp(0.05, 20.0)))
    }
}

persist!(Cell { changes, expected });

impl Persist for Calibration {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        Persist::take(from).map(Self)
    }
}

/// Never changed; changed at the last fetch; changed within the hour before it; unchanged for longer.
fn state(key: &KeyStats) -> usize {
    let fetched_s = key.last_fetch_ms.div_euclid(1_000);
    let quiet_s = fetched_s - i64::from(key.last_change_s);
    match (key.changes, quiet_s) {
        (0, _) => 0,
        (_, ..=1) => 1,
        (_, ..=3_600) => 2,
        _ => 3,
    }
}

/// Start and end (s) of each age interval.
pub(super) fn intervals() -> impl Iterator<Item = (usize, f64, f64)> {
    (0..TTL_OUTPUTS).map(|k| {
        let start = if k == 0 { 0.0 } else { TTL_HORIZONS[k - 1] };
        (k, start, TTL_HORIZONS.get(k).copied().unwrap_or(f64::INFINITY))
    })
}
