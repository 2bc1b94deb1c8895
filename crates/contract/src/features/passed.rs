//! What the time between two fetches of a key tells about its hazard.
//!
//! When the second fetch found a change, the first one since lies somewhere between (interval-censored). Given the hazard so far, each
//! stretch of the time gets its probability of holding it, and the time watched ends there: one step of the EM algorithm
//! (Dempster, Laird and Rubin 1977). What came after the first change in the gap is not seen.

use super::ahead::{Ahead, Stretch};

/// Longer gaps say nothing about the rhythm, and are taken without.
pub(super) const RHYTHMIC_S: f64 = 86_400.0;
/// Most stretches: 60 minutes, 96 quarters and 16 intervals, with broken ones at the ends.
const PARTS: usize = 180;

/// One stretch of the time that passed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    /// Interval of the time since the change before.
    pub bucket: usize,
    /// Probability that the first change lies in it.
    pub changes: f64,
    /// Expected seconds in it before the change.
    pub seconds: f64,
    /// The rhythm's factor.
    pub rhythm: f64,
    start: f64,
    end: f64,
    hazard: f64,
    cumulated: f64,
}

/// All of it.
pub(super) struct Passed {
    parts: Vec<Part>,
    total: f64,
    late: f64,
}

impl Passed {
    /// The time from a fetch with the hazard `ahead` to the next, `gap_s` later. Where a change was `seen`: with the probability that it came at
    /// the end of the gap, because it drew the request that found it.
    pub fn of(ahead: &Ahead<'_>, gap_s: f64, seen: Option<f64>) -> Self {
        let flat = ahead.flat();
        let ahead = if gap_s > RHYTHMIC_S { &flat } else { ahead };
        let mut passed = Self { parts: Vec::with_capacity(16), total: 0.0, late: 0.0 };
        for stretch in ahead.stretches().take_while(|s| s.start < gap_s).take(PARTS) {
            passed.add(&stretch, gap_s);
        }
        if let Some(late) = seen {
            passed.share_change(late);
        }
        passed
    }

    fn add(&mut self, stretch: &Stretch, gap_s: f64) {
        let end = stretch.end.min(gap_s);
        let seconds = end - stretch.start;
        let Stretch { start, hazard, bucket, factor, .. } = *stretch;
        self.parts.push(Part { bucket, changes: 0.0, seconds, rhythm: factor, start, end, hazard, cumulated: self.total });
        self.total += hazard * seconds;
    }

    /// Spreads the change that was seen, and ends the time watched with it.
    fn share_change(&mut self, late: f64) {
        self.late = late;
        let total = self.total.max(1e-12);
        let seen = -(-total).exp_m1();
        let last = self.parts.len().saturating_sub(1);
        for (n, part) in self.parts.iter_mut().enumerate() {
            let within = part.hazard * part.seconds;
            let spread = (-part.cumulated).exp() * -(-within).exp_m1() / seen;
            part.changes = (1.0 - late) * spread + if n == last { late } else { 0.0 };
            // Probability that the change was still to come in the middle of the stretch.
            let middle = part.cumulated + 0.5 * within;
            let to_come = (-middle).exp() * -(-(total - middle).max(0.0)).exp_m1() / seen;
            part.seconds *= late + (1.0 - late) * to_come.min(1.0);
        }
    }

    /// The stretches.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Probability that the change that was seen came at the end; zero where none was seen.
    pub fn late(&self) -> f64 {
        self.late
    }

    /// Changes expected over all of it.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// Changes expected while there was none.
    pub fn expected(&self) -> f64 {
        self.parts().iter().map(|p| p.hazard * p.seconds).sum()
    }

    /// Seconds watched while there was none.
    pub fn seconds(&self) -> f64 {
        self.parts().iter().map(|p| p.seconds).sum()
    }

    /// Probability that the change that was seen had come by an age (seconds).
    pub fn changed_by(&self, age: f64) -> f64 {
        let parts = self.parts().iter().take_while(|p| p.start < age);
        parts.map(|p| p.changes * ((age.min(p.end) - p.start) / (p.end - p.start).max(1e-9))).sum()
    }
}
