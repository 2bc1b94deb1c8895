use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const START: Time = Time::from_millis(1_000_000);
const BOUND: RefillBound = RefillBound { factor: 2.0, wait: Span::from_secs(5) };

/// A call as the provider saw it.
#[derive(Clone, Copy, Debug)]
struct Went {
    at: Time,
    asked: Time,
    refill: bool,
    within: bool,
    /// Most calls per second that were allowed until then.
    allowed: f64,
}

/// The line in front of a provider, in steps of a millisecond.
struct Play {
    refill: Refill,
    line: VecDeque<(Time, Time)>,
    went: Vec<Went>,
    now: Time,
    allowed: f64,
}

impl Play {
    fn new(bound: RefillBound, rate: f64) -> Self {
        let mut refill = Refill::new(bound, START);
        refill.recall(rate, START);
        Self { refill, line: VecDeque::new(), went: Vec::new(), now: START, allowed: 0.0 }
    }

    fn step(&mut self, ordinary: u32, lost: u32) {
        let now = self.now;
        for _ in 0..ordinary {
            self.refill.called(Demand::Ordinary, now);
            self.note(now, false, true);
        }
        for _ in 0..lost {
            assert!(self.refill.enter(now + BOUND.wait));
            self.line.push_back((now, now + BOUND.wait));
        }
        while let Some((asked, deadline)) = self.line.front().copied() {
            let Turn::Go { within } = self.refill.turn(deadline, now) else { break };
            self.line.pop_front();
            self.refill.leave();
            self.note(asked, true, within);
        }
        self.now = now + Span::from_millis(1);
    }

    fn note(&mut self, asked: Time, refill: bool, within: bool) {
        self.allowed = self.allowed.max(self.refill.surplus().map_or(f64::INFINITY, |(rate, spare)| rate + spare));
        self.went.push(Went { at: self.now, asked, refill, within, allowed: self.allowed });
    }

    fn between(&self, from_s: f64, to_s: f64) -> usize {
        let seconds = |went: &&Went| (from_s..to_s).contains(&went.at.since(START).as_secs_f64());
        self.went.iter().filter(seconds).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The theorem: no window of up to ten seconds that ends with a refill within the bound has more calls than allowed, whatever
    /// ordinary calls do.
    #[test]
    fn what_goes_within_the_bound_keeps_it(rate in 5.0..200.0f64, plan in proptest::collection::vec((0..3u32, 0..4u32, 1..400u32), 1..40)) {
        let mut play = Play::new(BOUND, rate);
        for (ordinary, lost, pause) in plan {
            play.step(ordinary * 5, lost * 5);
            (0..pause).for_each(|_| play.step(0, 0));
        }
        for (end, last) in play.went.iter().enumerate().filter(|(_, went)| went.refill && went.within) {
            for (begin, first) in play.went[..=end].iter().enumerate() {
                let window = last.at.since(first.at);
                if window <= FORGIVEN {
                    let most = last.allowed * window.as_secs_f64() + (last.allowed * SAVED.as_secs_f64()).max(1.0);
                    prop_assert!((end - begin + 1) as f64 <= most + 1e-6, "{} calls in {window:?}, allowed {most}", end - begin + 1);
                }
            }
        }
    }

    #[test]
    fn nobody_waits_for_longer_than_its_time(rate in 1.0..100.0f64, plan in proptest::collection::vec((0..2u32, 0..40u32, 1..300u32), 1..30)) {
        let mut play = Play::new(BOUND, rate);
        for (ordinary, lost, pause) in plan {
            play.step(ordinary, lost);
            (0..pause).for_each(|_| play.step(0, 0));
        }
        (0..5_001).for_each(|_| play.step(0, 0));
        prop_assert!(play.line.is_empty() && play.refill.waiting() == 0);
        for went in &play.went {
            prop_assert!(went.refill || went.at == went.asked, "an ordinary call never waits");
            prop_assert!(went.at.since(went.asked) <= BOUND.wait);
        }
    }
}

#[test]
fn a_flush_that_fits_is_spread_within_twice_the_rate() {
    let mut play = Play::new(BOUND, 40.0);
    // 40 ordinary calls a second, and 100 lost copies that are all asked for within the first second.
    (0..10_000u32).for_each(|ms| play.step(u32::from(ms % 25 == 0), u32::from(ms < 1_000 && ms % 10 == 0)));
    for second in 0..9 {
        let calls = play.between(f64::from(second), f64::from(second + 1));
        assert!(calls <= 80, "{calls} calls in second {second}");
    }
    assert!(play.went.iter().all(|went| went.within));
    let longest = play.went.iter().map(|went| went.at.since(went.asked)).max().unwrap();
    assert!(longest < Span::from_secs(3), "{longest:?}");
    assert!((play.refill.rate().unwrap() - 40.0).abs() < 1.0, "{:?}", play.refill.rate());
}

#[test]
fn a_flush_that_does_not_fit_is_spread_over_the_wait() {
    let mut play = Play::new(BOUND, 10.0);
    (0..8_000u32).for_each(|ms| play.step(u32::from(ms % 100 == 0), if ms == 0 { 1_000 } else { 0 }));
    for second in 0..5 {
        let calls = play.between(f64::from(second), f64::from(second + 1));
        assert!((150..=260).contains(&calls), "{calls} calls in second {second}: all at once would be 1,000");
    }
    assert_eq!(play.went.iter().filter(|went| went.refill).count(), 1_000, "none fails");
}

#[test]
fn nothing_is_held_back_while_little_is_known_or_the_bound_is_off() {
    for mut play in [Play::new(BOUND, 0.01), Play::new(RefillBound { factor: 0.0, ..BOUND }, 40.0)] {
        play.step(0, 500);
        assert_eq!(play.went.len(), 500);
    }
}

#[test]
fn copies_that_get_lost_all_the_time_are_part_of_the_rate() {
    // A store that drops copies by itself: half of the calls bring one back, more and more of them.
    let mut play = Play::new(BOUND, 20.0);
    (0..400_000u32).for_each(|ms| play.step(u32::from(ms % 50 == 0), u32::from(ms > 60_000 && ms % 60 == 0)));
    let rate = play.refill.rate().unwrap();
    assert!(rate > 28.0, "{rate}");
    let late = play.went.iter().filter(|went| went.at.since(went.asked) > Span::from_millis(500)).count();
    assert_eq!(late, 0);
    // A flood that never ends is what this cache is after a quarter of an hour.
    (0..1_500_000u32).for_each(|ms| play.step(u32::from(ms % 50 == 0), u32::from(ms % 5 == 0)));
    assert!(play.refill.rate().unwrap() > 100.0, "{:?}", play.refill.rate());
}

#[test]
fn warming_takes_what_is_left() {
    let mut refill = Refill::new(BOUND, START);
    refill.recall(10.0, START);
    let mut warmed = 0;
    for ms in 0..10_000u32 {
        let now = START + Span::from_millis(u64::from(ms));
        if ms % 100 == 0 {
            refill.called(Demand::Ordinary, now);
        }
        warmed += u32::from(matches!(refill.turn_to_warm(now), Turn::Go { .. }));
    }
    assert!((70..=85).contains(&warmed), "{warmed} beside 100 ordinary calls");
    assert!(refill.enter(START + Span::from_secs(60)));
    assert!(matches!(refill.turn_to_warm(START + Span::from_secs(20)), Turn::Wait(_)), "not before those who have a client");
    assert!((refill.rate().unwrap() - 10.0).abs() < 0.5, "warming does not raise the bound");
}
