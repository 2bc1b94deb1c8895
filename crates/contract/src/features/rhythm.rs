//! When in the day and in the hour the answers of a route change.
//!
//! Many sources publish on a schedule: nightly, at a quarter past, every four hours. The hazard of a copy at time `t` is taken
//! as its own hazard times `day[quarter of the day] x hour[minute of the hour]` (UTC). Both factors are learned from
//! interval-censored observations, one EM step each: the changes expected in an interval where one was observed are spread
//! over it in proportion to the hazard so far, and set against the changes expected there.

use farthing_types::{Span, Time};

use super::persist::persist;

/// Time constant of the rhythm: schedules last, and each slot sees few changes.
pub const RHYTHM_MEMORY: Span = Span::from_secs(180 * 86_400);

const QUARTERS: usize = 96;
const MINUTES: usize = 60;
const QUARTER_S: f64 = 900.0;
const MINUTE_S: f64 = 60.0;
/// Weight of "no rhythm" in each slot, in changes.
const PRIOR: f32 = 2.0;
/// Up to this age the minute of the hour is told apart; beyond, the mean of its quarter counts.
const FINE_S: f64 = 3_600.0;
/// Longer gaps say nothing about the time of day.
const LONGEST_S: f64 = 86_400.0;
/// Pieces of the longest gap: 60 minutes and 96 quarters, each with a broken one at either end.
const PIECES: usize = 160;
/// A profile is used once it has foretold the observations better than "no rhythm" by this log likelihood ratio (each
/// observation is judged by the profile before it has seen it) ...
const EVIDENCE_ON: f64 = 10.0;
/// ... and until the ratio has fallen to this.
const EVIDENCE_OFF: f64 = 3.0;
/// Bounds of the ratio, so that it can turn within a few hundred observations.
const EVIDENCE_RANGE: (f64, f64) = (-15.0, 60.0);
/// Observations between two recomputations of the factors, which cost a logarithm per slot.
const SETTLE_EVERY: u32 = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Slot {
    changes: f32,
    expected: f32,
}

/// Factors by time of day and minute of the hour; about 2 KiB.
#[derive(Clone, Debug, PartialEq)]
pub struct Rhythm {
    day: Profile<QUARTERS>,
    hour: Profile<MINUTES>,
    quarter_means: [f32; 4],
    faded: Time,
    observed: u32,
}

/// One stretch of an interval with a constant factor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Piece {
    /// Start, seconds after the interval's start.
    pub start: f64,
    /// End, seconds after the interval's start.
    pub end: f64,
    /// Factor on the hazard.
    pub factor: f64,
}

/// Quarter of the day and minute of the hour.
#[derive(Clone, Copy, Debug)]
struct Slots {
    quarter: usize,
    minute: usize,
}

/// A piece of an interval that was watched.
#[derive(Clone, Copy, Debug)]
struct Watched {
    /// Changes expected without rhythm.
    flat: f64,
    factor: f64,
    slots: Slots,
}

#[derive(Clone, Debug, PartialEq)]
struct Profile<const N: usize> {
    slots: [Slot; N],
    factors: [f32; N],
    evidence: f64,
    used: bool,
}

impl<const N: usize> Default for Profile<N> {
    fn default() -> Self {
        Self { slots: [Slot::default(); N], factors: [1.0; N], evidence: 0.0, used: false }
    }
}

impl<const N: usize> Profile<N> {
    fn raw(&self, slot: usize) -> f64 {
        f64::from(self.factors[slot % N])
    }
    fn factor(&self, slot: usize) -> f64 {
        if self.used { self.raw(slot) } else { 1.0 }
    }
    fn add(&mut self, slot: usize, changes: f64, expected: f64) {
        let slot = &mut self.slots[slot % N];
        slot.changes += changes as f32;
        slot.expected += expected as f32;
    }
    fn fade(&mut self, keep: f32) {
        for slot in &mut self.slots {
            slot.changes *= keep;
            slot.expected *= keep;
        }
    }
    /// Recomputes the factors.
    fn settle(&mut self) {
        let (changes, expected) = self.slots.iter().fold((0.0, 0.0), |(c, e), s| (c + s.changes, e + s.expected));
        let level = (changes + PRIOR) / (expected + PRIOR);
        for (slot, factor) in self.slots.iter().zip(&mut self.factors) {
            *factor = ((slot.changes + PRIOR) / (slot.expected * level + PRIOR)).clamp(0.02, 50.0);
        }
    }
    /// Judges the factors by an observation of a copy expected to change `flat` times without and `told` times with them.
    fn judge(&mut self, changed: bool, flat: f64, told: f64) {
        let ratio = if changed { ((-told).exp_m1() / (-flat).exp_m1()).ln() } else { flat - told };
        if ratio.is_finite() {
            self.evidence = (self.evidence + ratio).clamp(EVIDENCE_RANGE.0, EVIDENCE_RANGE.1);
        }
        self.used = self.evidence > if self.used { EVIDENCE_OFF } else { EVIDENCE_ON };
    }
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { day: Profile::default(), hour: Profile::default(), quarter_means: [1.0; 4], faded: Time::ZERO, observed: 0 }
    }
}

impl Rhythm {
    /// Notes that a copy was watched from `start` for `gap`; `hazard` gives the changes expected between two ages (seconds), without
    /// rhythm.
    pub(super) fn observe(&mut self, start: Time, gap: Span, changed: bool, hazard: impl Fn(f64, f64) -> f64) {
        let (from, gap_s) = (start.secs_f64(), gap.as_secs_f64());
        if gap_s <= 0.0 || gap_s > LONGEST_S {
            return;
        }
        self.fade(start + gap);
        // The minute of the hour can only be learned from gaps shorter than an hour.
        let fine = gap_s <= FINE_S;
        let watched = self.watched((from, gap_s), fine, hazard);
        self.judge(&watched, (changed, fine));
        let total: f64 = watched.iter().map(|w| w.factor * w.flat).sum();
        let mut before = 0.0;
        for piece in &watched {
            let within = piece.factor * piece.flat;
            let (changes, seen) = if changed { first_change(before, within, total) } else { (0.0, 1.0) };
            self.credit(piece, (changes, within * seen, fine));
            before += within;
        }
        self.observed = self.observed.wrapping_add(1);
        if self.observed.is_multiple_of(SETTLE_EVERY) {
            self.settle();
        }
    }

    /// The pieces of a gap, with the changes expected in each without rhythm.
    fn watched(&self, (from, gap_s): (f64, f64), fine: bool, hazard: impl Fn(f64, f64) -> f64) -> Vec<Watched> {
        let most = (gap_s / if fine { MINUTE_S } else { QUARTER_S }) as usize + 2;
        let mut watched = Vec::with_capacity(most.min(PIECES));
        for (piece, slots) in self.pieces_by(from, if fine { FINE_S } else { 0.0 }, true).take(PIECES) {
            let end = piece.end.min(gap_s);
            let slots = if end < piece.end { Slots::at(from + 0.5 * (piece.start + end)) } else { slots };
            watched.push(Watched { flat: hazard(piece.start, end), factor: piece.factor, slots });
            if piece.end >= gap_s {
                break;
            }
        }
        watched
    }

    fn judge(&mut self, watched: &[Watched], (changed, fine): (bool, bool)) {
        let (mut flat, mut day, mut hour) = (0.0, 0.0, 0.0);
        for piece in watched {
            flat += piece.flat;
            day += piece.flat * self.day.raw(piece.slots.quarter);
            hour += piece.flat * self.hour.raw(piece.slots.minute);
        }
        self.day.judge(changed, flat, day);
        if fine {
            self.hour.judge(changed, flat, hour);
        }
    }

    fn settle(&mut self) {
        self.day.settle();
        self.hour.settle();
        for (i, mean) in self.quarter_means.iter_mut().enumerate() {
            *mean = self.hour.factors[i * 15..(i + 1) * 15].iter().sum::<f32>() / 15.0;
        }
    }

    fn credit(&mut self, piece: &Watched, (changes, expected, fine): (f64, f64, bool)) {
        let Slots { quarter, minute } = piece.slots;
        let (day, hour) = (self.day.raw(quarter), self.hour.raw(minute));
        self.day.add(quarter, changes, expected / day);
        if fine {
            self.hour.add(minute, changes, expected / hour);
        }
    }

    fn fade(&mut self, now: Time) {
        let idle = now.since(self.faded);
        if idle > RHYTHM_MEMORY / 1_000 {
            let keep = (-idle.as_secs_f64() / RHYTHM_MEMORY.as_secs_f64()).exp() as f32;
            self.day.fade(keep);
            self.hour.fade(keep);
            self.faded = now;
        }
    }

    /// Whether anything beyond chance was found.
    pub fn is_used(&self) -> bool {
        self.day.used || self.hour.used
    }

    /// The factors from `start` on, without end. One piece of factor 1 when there is no rhythm.
    pub fn pieces(&self, start: Time) -> impl Iterator<Item = Piece> + '_ {
        let flat = (!self.is_used()).then_some(Piece { start: 0.0, end: f64::INFINITY, factor: 1.0 });
        let varying = || self.pieces_by(start.secs_f64(), if self.hour.used { FINE_S } else { 0.0 }, false).map(|(piece, _)| piece);
        let varying = self.is_used().then(varying);
        flat.into_iter().chain(varying.into_iter().flatten())
    }

    /// Integral of the factor over `[0, age]` seconds from `start`.
    pub fn weight(&self, start: Time, age: f64) -> f64 {
        if !self.is_used() {
            return age;
        }
        self.pieces(start).take_while(|p| p.start < age).map(|p| p.factor * (p.end.min(age) - p.start)).sum()
    }

    /// Integral of the factor between two ages, seconds from `start`.
    pub fn weight_between(&self, start: Time, from: f64, to: f64) -> f64 {
        if self.is_used() { self.weight(start, to) - self.weight(start, from) } else { to - from }
    }

    /// Each with the slots of its middle.
    fn pieces_by(&self, from: f64, fine_s: f64, raw: bool) -> impl Iterator<Item = (Piece, Slots)> + '_ {
        let mut start = 0.0;
        std::iter::from_fn(move || {
            let at = from + start;
            let fine = start < fine_s;
            let step = if fine { MINUTE_S } else { QUARTER_S };
            // Half a step on, so that rounding at a border cannot pick the slot before it.
            let end = (((at + 1e-6) / step).floor() + 1.0) * step - from;
            let end = if end > start + 1e-6 { end } else { start + step };
            let slots = Slots::at(from + 0.5 * (start + end));
            let piece = Piece { start, end, factor: self.factor(slots, fine, raw) };
            start = end;
            Some((piece, slots))
        })
    }

    fn factor(&self, Slots { quarter, minute }: Slots, fine: bool, raw: bool) -> f64 {
        let day = if raw { self.day.raw(quarter) } else { self.day.factor(quarter) };
        let hour = match (fine, raw || self.hour.used) {
            (_, false) => 1.0,
            (true, true) => self.hour.raw(minute),
            (false, true) => f64::from(self.quarter_means[quarter % 4]),
        };
        day * hour
    }
}

persist!(Slot { changes, expected });
persist!(Profile<const N: usize> { slots, factors, evidence, used });
persist!(Rhythm { day, hour, quarter_means, faded, observed });

/// Where one change or more was seen among `total` expected ones: the probability that the first lies in a piece of `within` of them
/// that `before` of them precede, and the share of the piece that had passed by then.
fn first_change(before: f64, within: f64, total: f64) -> (f64, f64) {
    let seen = -(-total.max(1e-12)).exp_m1();
    let changes = (-before).exp() * -(-within).exp_m1() / seen;
    let middle = before + 0.5 * within;
    let to_come = (-middle).exp() * -(-(total - middle).max(0.0)).exp_m1() / seen;
    (changes, to_come.min(1.0))
}

impl Slots {
    fn at(second: f64) -> Self {
        let quarter = (rest(second, 86_400.0) / QUARTER_S) as usize % QUARTERS;
        Self { quarter, minute: (rest(second, 3_600.0) / MINUTE_S) as usize % MINUTES }
    }
}

/// `rem_euclid` for whole divisors and times of this age, bit by bit, without its long division: quotient times divisor and the
/// difference are exact.
fn rest(second: f64, divisor: f64) -> f64 {
    let rest = second - (second / divisor) as i64 as f64 * divisor;
    if rest < 0.0 { rest + divisor } else { rest }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use farthing_types::{Draw, DrawKind};
    use proptest::prelude::*;

    use super::*;

    /// Watches a source of one change a day every 10 minutes for `days`; `when(day)` is the second of its change.
    fn watched(days: i64, when: impl Fn(i64) -> i64) -> Rhythm {
        let mut rhythm = Rhythm::default();
        for step in 0..days * 144 {
            let (from, to) = (step * 600, (step + 1) * 600);
            let change = (from / 86_400) * 86_400 + when(from / 86_400);
            rhythm.observe(Time::from_millis(from * 1_000), Span::from_secs(600), (from..to).contains(&change), |a, b| (b - a) / 86_400.0);
        }
        rhythm
    }

    #[test]
    fn a_schedule_is_found_and_placed() {
        let rhythm = watched(120, |day| 8 * 3_600 + 900 + day * 37 % 400);
        assert!(rhythm.is_used());
        let at = |hour: i64| rhythm.weight(Time::from_millis((hour * 3_600) * 1_000), 3_600.0) / 3_600.0;
        assert!(at(8) > 8.0, "{}", at(8));
        assert!(at(2) < 0.7 && at(20) < 0.7, "{} {}", at(2), at(20));
    }

    #[test]
    fn chance_is_not_taken_for_a_schedule() {
        let draw = Draw::new(1);
        let rhythm = watched(120, |day| (draw.uniform(DrawKind::Sample, "t", day as u128, 0) * 86_400.0) as i64);
        assert!(!rhythm.is_used());
        assert!((rhythm.weight(Time::from_millis(5), 10_000.0) - 10_000.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_rest_is_that_of_the_long_division(nanos in any::<i64>(), near in 0..40_000_000i64, off in -3..=3i64) {
            let borders = [near as f64 * 3_600.0, near as f64 * 86_400.0].map(|s| f64::from_bits(s.to_bits().saturating_add_signed(off)));
            for second in [nanos as f64 / 1e9, borders[0], borders[1], -borders[0]] {
                for divisor in [3_600.0, 86_400.0] {
                    prop_assert_eq!(rest(second, divisor).to_bits(), (second.rem_euclid(divisor) + 0.0).to_bits(), "{} {}", second, divisor);
                }
            }
        }

        #[test]
        fn pieces_join_without_gaps(start in 0..4_000_000_000_000i64, age in 0.0..200_000.0f64) {
            static WATCHED: LazyLock<Rhythm> = LazyLock::new(|| watched(60, |_| 30_000));
            let rhythm = &*WATCHED;
            let start = Time::from_millis(start);
            let mut end = 0.0;
            for piece in rhythm.pieces(start).take(300) {
                prop_assert!((piece.start - end).abs() < 1e-9 && piece.end > piece.start && piece.factor > 0.0 && piece.factor.is_finite());
                end = piece.end;
            }
            prop_assert!(rhythm.weight(start, age).is_finite());
        }
    }
}
