use farthing_types::{Draw, DrawKind, Time};
use proptest::prelude::*;

use super::overhead::{FEWEST, Overhead, REST, ROW, WINDOW};
use super::{Standing, Standing::*};

/// Turns of two seconds with `rate` requests per second, of which a share is slow; what it turned to, and after how many seconds.
fn play(overhead: &mut Overhead, (from, seconds): (u64, u64), rate: u64, share: f64) -> Vec<(u64, Standing)> {
    let mut turns = Vec::new();
    for second in (from..from + seconds).step_by(2) {
        let now = Time::from_millis(second as i64 * 1_000);
        let draw = |n: u64| Draw::new(7).uniform(DrawKind::Sample, "slow", u128::from(second * 10_000 + n), 0);
        let slow = (0..rate * 2).filter(|n| draw(*n) < share).count() as u64;
        turns.extend(overhead.take(rate * 2, slow, now, false).map(|to| (second - from, to)));
    }
    turns
}

#[test]
fn a_route_above_its_limit_is_lean_within_a_minute_and_comes_back_when_it_is_calm() {
    let mut overhead = Overhead::new(Time::ZERO);
    assert_eq!(play(&mut overhead, (0, 600), 50, 0.03), [], "below the limit");
    let off = play(&mut overhead, (600, 60), 50, 0.2);
    assert!(matches!(off[..], [(20..=42, Off)]), "{off:?}");
    let (_, since) = overhead.standing();
    assert_eq!(overhead.tried_again(), Some(since + REST));
    // Still slow: off again after one window of trial, and for twice as long.
    let again = play(&mut overhead, (660, 340), 50, 0.2);
    assert_eq!(again.iter().map(|(_, to)| *to).collect::<Vec<_>>(), [Trial, Off]);
    assert_eq!(overhead.tried_again(), Some(overhead.standing().1 + REST * 2));
    let on = play(&mut overhead, (1_000, 700), 50, 0.01);
    assert_eq!(on.iter().map(|(_, to)| *to).collect::<Vec<_>>(), [Trial, On]);
    assert_eq!(play(&mut overhead, (2_000, 600), 50, 0.03), []);
}

#[test]
fn a_share_between_calm_and_allowed_does_not_come_back() {
    let mut overhead = Overhead::new(Time::ZERO);
    play(&mut overhead, (0, 60), 50, 0.5);
    let turns = play(&mut overhead, (60, 400), 50, 0.04);
    assert_eq!(turns.iter().map(|(_, to)| *to).collect::<Vec<_>>(), [Trial, Off]);
}

#[test]
fn slow_traffic_takes_longer_windows_and_single_slow_requests_are_no_evidence() {
    let mut overhead = Overhead::new(Time::ZERO);
    // A request in four seconds, each slow: a window needs FEWEST of them.
    let mut off = None;
    for n in 0..400u64 {
        let now = Time::from_millis(n as i64 * 4_000);
        if overhead.take(1, 1, now, false) == Some(Off) {
            off = Some(n);
            break;
        }
    }
    let needed = u64::from(ROW) * FEWEST;
    assert!(off.is_some_and(|n| (needed - 1..needed + 10).contains(&n)), "{off:?}");
    // One slow burst of a single window.
    let mut overhead = Overhead::new(Time::ZERO);
    assert_eq!(play(&mut overhead, (0, WINDOW.as_secs()), 50, 1.0), []);
    assert_eq!(play(&mut overhead, (10, 600), 50, 0.0), []);
}

/// What was left out is not what takes the time: the next is, as soon as the first; where nothing is left, it waits for its trial.
#[test]
fn what_does_not_help_is_followed_by_more_while_there_is_more() {
    let mut overhead = Overhead::new(Time::ZERO);
    play(&mut overhead, (0, 60), 50, 0.2);
    let (standing, since) = overhead.standing();
    assert_eq!(standing, Off);
    let mut further = Vec::new();
    for second in (60..140).step_by(2) {
        let turned = overhead.take(100, 20, Time::from_millis(second * 1_000), further.len() < 2);
        further.extend(turned.map(|to| (second, to)));
    }
    assert!(matches!(further[..], [(80..=100, Off), (110..=130, Off)]), "{further:?}");
    assert_eq!(overhead.standing(), (Off, since), "its trial comes no later for it");
    // Where it has helped nothing more is left out.
    let mut overhead = Overhead::new(Time::ZERO);
    play(&mut overhead, (0, 60), 50, 0.2);
    assert!((60..200).step_by(2).all(|second| overhead.take(100, 1, Time::from_millis(second * 1_000), true).is_none()));
}

/// At the limit itself it is switched off by chance once in many hours.
#[test]
fn at_the_limit_chance_hardly_ever_switches_off() {
    let mut overhead = Overhead::new(Time::ZERO);
    let turns = play(&mut overhead, (0, 12 * 3_600), 10, 0.05);
    assert!(turns.iter().filter(|(_, to)| *to == Off).count() <= 1, "{turns:?}");
}

proptest! {
    #[test]
    fn it_turns_only_from_one_standing_to_the_next(steps in proptest::collection::vec((0..200u64, 0.0..1.0f64, 0..400_000i64), 0..200), more: bool) {
        let (mut overhead, mut ms, mut before) = (Overhead::new(Time::ZERO), 0, On);
        for (requests, share, wait) in steps {
            ms += wait;
            let slow = (requests as f64 * share) as u64;
            let turned = overhead.take(requests, slow, Time::from_millis(ms), more);
            if let Some(to) = turned {
                prop_assert!(matches!((before, to), (On, Off) | (Off, Trial) | (Trial, On | Off)) || (more && (before, to) == (Off, Off)), "{before:?} {to:?}");
                before = to;
            }
            prop_assert_eq!(overhead.standing().0, before);
            prop_assert!((0.0..=1.0).contains(&overhead.evidence()));
            prop_assert_eq!(overhead.tried_again().is_some(), before == Off);
        }
    }
}
