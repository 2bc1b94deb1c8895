//! Whether marks in prompts pay on a route: off when what was paid for writes was not made up for by reads, and tried again after a rest.
//!
//! *The test* is that of the cache's worth ([`super::worth`]): a bettor stakes a share of what the largest saving `u` would take; a call with net
//! saving `v`, which is negative where it wrote more than it read, multiplies wealth by `1 - l v / u`, whose mean is at most 1 while no call is
//! expected to lose. `u` is what reading all of its input could save, known before the call.

use farthing_types::{Money, Span, Time};

use super::{Detector, Standing, rest};

/// Stakes, as shares of the largest that is safe.
const STAKES: [f64; 4] = [0.05, 0.2, 0.5, 0.9];
/// Calls after which another bettor begins.
const CALLS: u64 = 100;
/// Evidence of a loss that switches off: marks that do not lose are switched off within `n` hundred calls with a probability of at most
/// `(n + 1) / 1,000`.
const LOSS: f64 = 1e3;
/// The same on trial.
const LOSS_ON_TRIAL: f64 = 1e2;
/// How long they rest, the first time; each time in a row twice as long.
const REST: Span = Span::from_secs(3_600);
/// The longest rest.
const LONGEST: Span = Span::from_secs(24 * 3_600);
/// Marked calls of a trial that has lost nothing.
const TRIAL: u64 = 200;

/// How marks stand on one route. Of fixed size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MarkWorth {
    /// Until when they rest; `None` while they do not.
    until: Option<Time>,
    trial: bool,
    rests: u32,
    evidence: Detector<{ STAKES.len() }>,
    calls: u64,
    net: Money,
    largest: Money,
}

impl MarkWorth {
    /// How they stand.
    pub const fn standing(&self) -> Standing {
        match (self.until, self.trial) {
            (Some(_), _) => Standing::Off,
            (None, true) => Standing::Trial,
            (None, false) => Standing::On,
        }
    }

    /// When they are tried again.
    pub const fn tried_again(&self) -> Option<Time> {
        self.until
    }

    /// Evidence of a loss; 1 is none.
    pub fn evidence(&self) -> f64 {
        self.evidence.evidence()
    }

    /// Marked calls since they stand so, and what these have saved, net.
    pub const fn judged(&self) -> (u64, Money) {
        (self.calls, self.net)
    }

    /// Whether a call may be marked now, and the new standing, where a rest has ended.
    pub fn may(&mut self, now: Time) -> (bool, Option<Standing>) {
        match self.until {
            None => (true, None),
            Some(until) if now < until => (false, None),
            Some(_) => {
                *self = Self { trial: true, rests: self.rests, ..Self::default() };
                (true, Some(Standing::Trial))
            }
        }
    }

    /// The provider refused what it answered without marks: they rest at once.
    pub fn refused(&mut self, now: Time) -> Option<Standing> {
        if self.until.is_some() {
            return None;
        }
        *self = Self { until: Some(now + rest((REST, LONGEST), self.rests)), rests: (self.rests + 1).min(8), ..Self::default() };
        Some(Standing::Off)
    }

    /// Takes a marked call: what it has saved, net of what it wrote, and the most that it could have saved. The new standing, where that
    /// changes it.
    pub fn take(&mut self, now: Time, saved: Money, most: Money) -> Option<Standing> {
        if self.until.is_some() {
            return None;
        }
        self.calls += 1;
        self.net += saved;
        self.largest = self.largest.max(most);
        if self.calls.is_multiple_of(CALLS) {
            self.evidence.begin();
        }
        if self.largest > Money::ZERO {
            let share = saved.nanos() as f64 / self.largest.nanos() as f64;
            self.evidence.bet(STAKES.map(|stake| (1.0 - stake * share).max(0.0)));
        }
        if self.evidence.evidence() >= if self.trial { LOSS_ON_TRIAL } else { LOSS } {
            return self.refused(now);
        }
        if self.trial && self.calls >= TRIAL && self.net >= Money::ZERO {
            (self.trial, self.rests) = (false, 0);
            return Some(Standing::On);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use farthing_types::{Draw, DrawKind};

    use super::*;

    const MOST: Money = Money::from_nanos(900);

    #[test]
    fn writes_that_nobody_reads_end_soon_and_are_tried_again_after_a_rest() {
        let (mut worth, mut now, mut rests) = (MarkWorth::default(), Time::from_millis(0), Vec::new());
        for _ in 0..3 {
            let mut calls = 0;
            while worth.may(now).0 {
                worth.take(now, Money::from_nanos(-250), MOST);
                calls += 1;
                assert!(calls < 100, "evidence {}", worth.evidence());
            }
            assert_eq!(worth.standing(), Standing::Off);
            rests.push(worth.tried_again().unwrap().since(now));
            now = worth.tried_again().unwrap();
            assert_eq!(worth.may(now), (true, Some(Standing::Trial)));
        }
        assert_eq!(rests, [REST, REST * 2, REST * 4]);
        // What pays on trial is on again, and has its first rest before it.
        for _ in 0..TRIAL {
            worth.take(now, Money::from_nanos(300), MOST);
        }
        assert_eq!(worth.standing(), Standing::On);
        assert_eq!(worth.judged(), (TRIAL, Money::from_nanos(300).times(200)));
    }

    /// Seeded: 400 routes of 2,000 marked calls each whose mean saving is exactly zero.
    #[test]
    fn marks_that_do_not_lose_are_hardly_ever_switched_off() {
        let draw = Draw::new(5);
        let mut off = 0;
        for route in 0..400 {
            let mut worth = MarkWorth::default();
            // Written with 250 in 900, read with 900 of 900: fair at 250 / 1,150.
            let lost = (0..2_000).any(|call| {
                let read = draw.uniform(DrawKind::Sample, "marks", call, route) < 250.0 / 1_150.0;
                let saved = if read { 900 } else { -250 };
                worth.take(Time::from_millis(0), Money::from_nanos(saved), MOST).is_some()
            });
            off += u32::from(lost);
        }
        assert!(off <= 8, "the bound is 21 in 1,000, {off} of 400 were switched off");
    }

    #[test]
    fn what_was_refused_rests_at_once_and_a_trial_without_a_loss_ends_it() {
        let (mut worth, now) = (MarkWorth::default(), Time::from_millis(0));
        assert_eq!((worth.refused(now), worth.refused(now)), (Some(Standing::Off), None));
        assert!(!worth.may(now).0);
        let later = now + REST;
        assert_eq!(worth.may(later), (true, Some(Standing::Trial)));
        let back = (0..TRIAL).filter_map(|_| worth.take(later, Money::ZERO, Money::ZERO)).collect::<Vec<_>>();
        assert_eq!(back, [Standing::On]);
    }

    #[test]
    fn a_loss_after_a_long_gain_is_found() {
        let mut worth = MarkWorth::default();
        for _ in 0..10_000 {
            assert_eq!(worth.take(Time::from_millis(0), Money::from_nanos(600), MOST), None);
        }
        let found = (0..400).position(|_| worth.take(Time::from_millis(0), Money::from_nanos(-250), MOST).is_some());
        assert!(found.is_some_and(|calls| calls < 250), "{found:?}");
    }
}
