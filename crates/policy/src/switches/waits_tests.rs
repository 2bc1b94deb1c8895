use farthing_types::{Draw, DrawKind, Span, Time};
use proptest::prelude::*;

use super::waits::{BEGIN, CALM, LOOK, OFF, REST, Slice, TRIAL, Waits};
use super::{Detector, Standing};

fn u(seed: u64, what: &str, n: u64) -> f64 {
    Draw::new(seed).uniform(DrawKind::Sample, what, u128::from(n), 0)
}

/// Requests at `rate` per second from `from` until `until`, of which `with` miss their promise with the strategy and `without` without it. Batches of
/// five are late together. The time of each change.
fn play(waits: &mut Waits, seed: u64, (from, until, rate): (f64, f64, f64), (with, without): (f64, f64)) -> Vec<(f64, Standing)> {
    let mut turns = Vec::new();
    for n in 0..((until - from) * rate) as u64 {
        let at = from + n as f64 / rate;
        let now = Time::from_secs_f64(at);
        let number = (from * 1e3) as u64 + n;
        let (slice, turned) = waits.draw(Draw::new(seed).uniform(DrawKind::SwitchSlice, "r", u128::from(number), 0), now);
        turns.extend(turned.map(|standing| (at, standing)));
        let Some(slice) = slice else { continue };
        let late = u(seed, "late", number / 5);
        let missed = late < if slice.without { without } else { with };
        turns.extend(waits.settled(slice, missed, now).map(|standing| (at, standing)));
    }
    turns
}

#[test]
fn a_shift_that_breaks_promises_switches_off_within_a_minute() {
    for seed in 0..40 {
        for (rate, with, without) in [(10.0, 1.0, 0.0), (10.0, 0.6, 0.0), (50.0, 0.3, 0.01), (100.0, 0.2, 0.02), (20.0, 0.95, 0.4)] {
            let mut waits = Waits::new(Time::ZERO);
            // A long time in which all was well must not hide it.
            assert_eq!(play(&mut waits, seed, (0.0, 3_600.0, rate), (0.002, 0.002)), [], "{seed} {rate}");
            let turns = play(&mut waits, seed, (3_600.0, 3_660.0, rate), (with, without));
            assert!(matches!(turns[..], [(_, Standing::Off)]), "{seed}: {rate}/s, {with} {without}: {turns:?} {}", waits.evidence());
        }
    }
}

/// The bound: within `n` beginnings evidence reaches `a` with a probability of at most `n / a`.
#[test]
fn without_a_difference_it_is_hardly_ever_switched_off() {
    let beginnings = 30.0;
    let (mut reached, mut off) = (0, 0);
    for seed in 0..400 {
        let mut waits = Waits::new(Time::ZERO);
        let mut most = 0.0f64;
        for step in 0..30 {
            let from = f64::from(step) * BEGIN.as_secs_f64();
            let turns = play(&mut waits, seed, (from, from + BEGIN.as_secs_f64(), 30.0), (0.3, 0.3));
            off += usize::from(!turns.is_empty());
            most = most.max(waits.evidence());
        }
        reached += usize::from(most >= 300.0);
    }
    assert_eq!(off, 0, "at {OFF} this has a probability of 400 x 30 / 1e6 = 1 % over all runs together");
    let bound = 400.0 * beginnings / 300.0;
    assert!(f64::from(reached as u32) <= bound, "{reached} of 400 runs, {bound} allowed");
}

#[test]
fn what_is_off_is_tried_for_a_short_time_and_comes_back_when_it_does_no_harm() {
    let mut waits = Waits::new(Time::ZERO);
    let turns = play(&mut waits, 1, (0.0, 60.0, 50.0), (0.9, 0.0));
    let [(off, Standing::Off)] = turns[..] else { panic!("{turns:?}") };
    assert_eq!(waits.tried_again(), Some(waits.standing().1 + REST));
    // It still does harm: off again within the trial, and for twice as long.
    let turns = play(&mut waits, 1, (60.0, off + REST.as_secs_f64() + 20.0, 50.0), (0.9, 0.0));
    assert!(matches!(turns[..], [(_, Standing::Trial), (_, Standing::Off)]), "{turns:?}");
    assert!(turns[1].0 - turns[0].0 < TRIAL.as_secs_f64());
    assert_eq!(waits.tried_again(), Some(waits.standing().1 + REST * 2));
    // It does none any more.
    let again = turns[1].0 + (REST * 2).as_secs_f64();
    let turns = play(&mut waits, 1, (again + 1.0, again + 700.0, 50.0), (0.01, 0.01));
    assert!(matches!(turns[..], [(_, Standing::Trial), (_, Standing::On)]), "{turns:?}");
    assert_eq!(waits.share(Time::from_secs_f64(again + 700.0)), CALM, "nothing is missed any more");
}

#[test]
fn it_looks_closer_while_promises_are_missed() {
    let mut waits = Waits::new(Time::ZERO);
    play(&mut waits, 3, (0.0, 100.0, 50.0), (0.0, 0.0));
    assert_eq!(waits.share(Time::from_secs_f64(100.0)), CALM);
    // The provider is slow with and without it.
    play(&mut waits, 3, (100.0, 110.0, 50.0), (0.5, 0.5));
    assert_eq!(waits.share(Time::from_secs_f64(110.0)), LOOK);
    play(&mut waits, 3, (110.0, 400.0, 50.0), (0.5, 0.5));
    assert!(waits.share(Time::from_secs_f64(400.0)) < LOOK, "not for ever: it costs money");
    assert_eq!(waits.standing().0, Standing::On);
}

proptest! {
    /// The mean over the draw is the wealth before it, for any share and outcome: the bets are fair.
    #[test]
    fn the_bets_are_fair(share in 0.001f64..0.999, missed in any::<bool>()) {
        let after = |without| {
            let mut waits = Waits::new(Time::ZERO);
            waits.settled(Slice { without, share }, missed, Time::ZERO + Span::from_millis(1));
            waits.evidence()
        };
        let mean = share * after(true) + (1.0 - share) * after(false);
        prop_assert!((mean - Detector::<1>::default().evidence()).abs() < 1e-9, "{mean}");
    }
}
