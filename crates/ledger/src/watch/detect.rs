//! Detectors of change: bets against "nothing has changed", gathered as e-CUSUM (Shin, Ramdas, Rinaldo: e-detectors).
//!
//! Each observation is turned into an e-value, a number whose mean is at most one while nothing has changed. The gathered evidence is
//! `M = max(1, M) * e`, and it speaks when `M` reaches a limit; the mean time to a false alarm is then at least that limit, in observations.

use std::collections::VecDeque;

use super::stats::{location, student5};

/// Hours whose residuals are compared with; the last day's are not, so that a change does not hide itself.
const REFERENCE_HOURS: usize = 1_008;
const APART: usize = 24;
/// Fewest of them.
const FEWEST: usize = 168;
/// Fewer than this factor between what came and what is usual is no sudden change: a holiday may be as much.
const SUDDEN: f64 = 2.0;
/// Exponent of the bets on small probabilities.
const EPSILON: f64 = 0.13;
/// Smallest scale of hourly residuals.
const HOUR_SCALE: f64 = 0.12;
/// Hours of nothing unusual after which a sudden change is over.
const QUIET: u32 = 6;

/// What a detector says after an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Quiet,
    /// Something has changed, first told now.
    Changed,
    /// It still is as when it was told.
    Still,
}

/// Finds sudden changes, in log ratios by the hour.
#[derive(Clone, Debug, Default)]
pub struct Sudden {
    /// Residuals of the past, oldest first.
    past: VecDeque<f32>,
    /// Those that are compared with, sorted; made anew once a day.
    reference: Vec<f32>,
    middle: f64,
    scale: f64,
    age: u32,
    evidence: f64,
    since: u32,
    told: bool,
    calm: u32,
}

impl Sudden {
    /// Bytes that one takes at most.
    pub const BYTES: usize = REFERENCE_HOURS * 8 + 128;

    /// Takes the log ratio of an hour.
    pub fn hour(&mut self, ratio: f64, limit: f64) -> Verdict {
        if self.age.is_multiple_of(24) {
            self.refresh();
        }
        self.age = self.age.wrapping_add(1);
        let excess = ratio - self.middle;
        let unusual = excess > SUDDEN.ln();
        let verdict = self.bet(excess, unusual, limit);
        // What was told of is not what the future is compared with, unless it stays.
        if !self.told || self.since > 7 * 24 {
            self.past.push_back(ratio as f32);
            if self.past.len() > REFERENCE_HOURS {
                self.past.pop_front();
            }
        }
        verdict
    }

    /// Hours since the evidence began to gather.
    pub const fn since(&self) -> u32 {
        self.since
    }

    fn bet(&mut self, excess: f64, unusual: bool, limit: f64) -> Verdict {
        if self.reference.len() < FEWEST {
            return Verdict::Quiet;
        }
        if self.told {
            self.since += 1;
            self.calm = if unusual { 0 } else { self.calm + 1 };
            if self.calm < QUIET && self.since <= 14 * 24 {
                return Verdict::Still;
            }
            (self.told, self.evidence, self.since) = (false, 0.0, 0);
            return Verdict::Quiet;
        }
        let e = if unusual { self.e_value(excess) } else { EPSILON };
        if self.evidence <= 1.0 {
            self.since = 0;
        }
        self.evidence = self.evidence.max(1.0) * e;
        self.since += 1;
        if self.evidence < limit {
            return Verdict::Quiet;
        }
        (self.told, self.calm) = (true, 0);
        Verdict::Changed
    }

    /// Half of the bet is on the rank among the past, which assumes nothing of its distribution; half on a heavy tail at the scale of it.
    fn e_value(&self, excess: f64) -> f64 {
        let beyond = self.reference.len() - self.reference.partition_point(|past| f64::from(*past) < excess + self.middle);
        let rank = (1 + beyond) as f64 / (1 + self.reference.len()) as f64;
        let calibrated = |p: f64| EPSILON * p.powf(EPSILON - 1.0);
        f64::midpoint(calibrated(rank), calibrated(student5(excess / self.scale)))
    }

    fn refresh(&mut self) {
        let known = self.past.len().saturating_sub(APART);
        self.reference = self.past.iter().take(known).copied().collect();
        let values: Vec<f64> = self.reference.iter().map(|past| f64::from(*past)).collect();
        (self.middle, self.scale) = location(&values, HOUR_SCALE);
        self.reference.sort_by(f32::total_cmp);
    }
}

/// Days whose residuals are compared with, and the last ones that are not: a slow change must not be taken for the usual.
const REFERENCE_DAYS: usize = 42;
const APART_DAYS: usize = 7;
const FEWEST_DAYS: usize = 14;
/// A single day counts for no more than this, in scales.
const MOST_OF_A_DAY: f64 = 3.0;
/// Fewest days of evidence: holidays come alone or in twos, with a bridge in threes.
const FEWEST_GATHERED: u32 = 4;
/// Strengths of change that are bet on, in scales.
const STRENGTHS: [f64; 3] = [0.8, 1.2, 1.8];
/// Days end at each quarter of a day: what begins at noon need not wait for midnight to count.
pub const QUARTERS: usize = 4;
/// Days after which a change that stays is the usual.
const NEW_USUAL: u32 = 21;

/// Finds slow changes, in log ratios by the day.
#[derive(Clone, Debug, Default)]
pub struct Slow {
    lanes: [Lane; QUARTERS],
    /// Days since it was told.
    told: Option<u32>,
}

/// The days that end at the same hour.
#[derive(Clone, Debug, Default)]
struct Lane {
    past: VecDeque<f32>,
    evidence: [f64; STRENGTHS.len()],
    since: u32,
}

impl Slow {
    /// Bytes that one takes at most.
    pub const BYTES: usize = QUARTERS * ((REFERENCE_DAYS + APART_DAYS) * 4 + 128);

    /// Takes the log ratio of the day that ends at a quarter. `floor` is the smallest scale.
    pub fn day(&mut self, quarter: usize, ratio: f64, (floor, limit): (f64, f64)) -> Verdict {
        let Some(z) = self.lanes.get_mut(quarter).and_then(|lane| lane.day(ratio, floor)) else { return Verdict::Quiet };
        if let Some(days) = &mut self.told {
            *days += u32::from(quarter == 0);
            if z > 1.0 && *days < NEW_USUAL {
                return Verdict::Still;
            }
            self.told = None;
            self.lanes.iter_mut().for_each(Lane::forget);
            return Verdict::Quiet;
        }
        // The mean of e-values is one, too.
        let evidence = self.lanes.iter().map(Lane::mean).sum::<f64>() / QUARTERS as f64;
        if evidence < limit || self.since() < FEWEST_GATHERED {
            return Verdict::Quiet;
        }
        self.told = Some(0);
        Verdict::Changed
    }

    /// Days for which the evidence has gathered.
    pub fn since(&self) -> u32 {
        self.lanes.iter().map(|lane| lane.since).max().unwrap_or(0)
    }
}

impl Lane {
    /// How unusual the day is, in scales; `None` as long as too little is known.
    fn day(&mut self, ratio: f64, floor: f64) -> Option<f64> {
        let known = self.past.len().saturating_sub(APART_DAYS);
        let z = (known >= FEWEST_DAYS).then(|| self.bet(ratio, known, floor));
        if self.past.len() == REFERENCE_DAYS + APART_DAYS {
            self.past.pop_front();
        }
        self.past.push_back(ratio as f32);
        z
    }

    fn bet(&mut self, ratio: f64, known: usize, floor: f64) -> f64 {
        let values: Vec<f64> = self.past.iter().take(known).map(|past| f64::from(*past)).collect();
        let (middle, scale) = location(&values, floor);
        let z = ((ratio - middle) / scale).min(MOST_OF_A_DAY);
        if self.evidence.iter().all(|evidence| *evidence <= 1.0) {
            self.since = 0;
        }
        self.since += 1;
        for (evidence, strength) in self.evidence.iter_mut().zip(STRENGTHS) {
            *evidence = evidence.max(1.0) * (strength * z - strength * strength / 2.0).exp();
        }
        z
    }

    fn mean(&self) -> f64 {
        self.evidence.iter().sum::<f64>() / STRENGTHS.len() as f64
    }

    fn forget(&mut self) {
        (self.evidence, self.since) = ([0.0; STRENGTHS.len()], 0);
    }
}
