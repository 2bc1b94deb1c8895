use proptest::prelude::*;

use super::*;

const PATIENT: Span = Span::from_secs(60);

fn rule(window: Window) -> BatchRule {
    BatchRule { window, ..BatchRule::default() }
}

#[test]
fn the_window_is_that_of_e1() {
    let millis = |rate| BatchRule { min_rate: 0.0, ..rule(Window::Auto) }.window(rate, PATIENT).map(|window| window.as_millis());
    let of_e1 = [(0.0, 200), (10.0, 200), (10.1, 100), (50.0, 100), (50.1, 50), (100.0, 50), (100.1, 20), (1e9, 20)];
    for (rate, expected) in of_e1 {
        assert_eq!(millis(rate), Ok(expected), "{rate}/s");
    }
}

#[test]
fn few_calls_do_not_wait_and_nobody_waits_who_has_no_time() {
    let auto = rule(Window::Auto);
    assert_eq!(auto.window(9.9, PATIENT), Err(Alone::Slow));
    assert_eq!(auto.window(10.0, PATIENT), Ok(Span::from_millis(200)));
    assert_eq!(auto.window(20.0, Span::from_millis(60)), Ok(Span::from_millis(30)), "half of the SLA");
    assert_eq!(auto.window(20.0, Span::from_micros(1_999)), Err(Alone::Impatient));
    assert_eq!(rule(Window::Fixed(Span::ZERO)).window(20.0, PATIENT), Err(Alone::Impatient));
}

#[test]
fn a_learned_window_is_as_long_as_it_takes_to_fill_a_batch() {
    let learned = BatchRule { max_size: 11, min_rate: 0.0, ..rule(Window::Learned) };
    assert_eq!(learned.window(1_000.0, PATIENT), Ok(Span::from_millis(10)));
    assert_eq!(learned.window(100.0, PATIENT), Ok(Span::from_millis(100)));
    assert_eq!(learned.window(20.0, PATIENT), Ok(Span::from_millis(200)), "four at least");
    assert_eq!(learned.window(4.9, PATIENT), Err(Alone::Nobody));
    assert_eq!(learned.window(0.0, PATIENT), Err(Alone::Nobody));
}

#[test]
fn a_steady_rate_is_found_and_forgotten() {
    let mut arrivals = Arrivals::default();
    let mut now = Time::from_millis(1_000_000);
    assert!(arrivals.note(now) < 10.0, "one call is no traffic");
    for _ in 0..500 {
        now = now + Span::from_millis(20);
        arrivals.note(now);
    }
    assert!((arrivals.rate(now) - 50.0).abs() < 1.0, "{}", arrivals.rate(now));
    assert!(arrivals.rate(now + Span::from_secs(10)) < 0.01);
}

#[test]
fn the_tightest_member_ends_the_waiting() {
    let (start, ms) = (Time::from_millis(1_000), Span::from_millis);
    let load = Load { units: 1, bytes: 10 };
    let mut batch = Gathering::begin(start, ms(100));
    assert!(!batch.add(&rule(Window::Auto), load, start + ms(500)));
    assert_eq!(batch.due(), (start + ms(100), Flush::Window));
    assert!(!batch.add(&rule(Window::Auto), load, start + ms(30)));
    assert_eq!(batch.due(), (start + ms(30), Flush::Deadline));
}

#[test]
fn batches_that_fail_are_left_alone_for_a_while() {
    let (mut rest, at) = (Rest::default(), |secs: i64| Time::from_millis(secs * 1_000));
    assert!(!rest.note(at(1), false) && !rest.note(at(2), false) && !rest.note(at(3), true), "one that goes well begins anew");
    assert!(!rest.note(at(4), false) && !rest.note(at(5), false) && rest.note(at(6), false));
    assert!(rest.rests(at(35)) && !rest.note(at(7), false), "one of those under way");
    assert!(!rest.rests(at(36)));
    assert!(rest.note(at(37), false), "and again at once");
    assert!(rest.rests(at(66)) && !rest.note(at(68), true) && !rest.rests(at(68)));
}

proptest! {
    /// E1, E2: never above half of what anybody is ready to wait, never more than fits, and full is flushed at once.
    #[test]
    fn no_batch_is_late_or_too_large(
        calls in proptest::collection::vec((0u64..50, 1u64..2_000, 1u32..6, 0u64..400), 1..200),
        fixed in proptest::option::of(1u64..500),
        max_size in 2u32..40,
        max_bytes in 400u64..2_000,
    ) {
        let window = fixed.map_or(Window::Auto, |millis| Window::Fixed(Span::from_millis(millis)));
        let rule = BatchRule { window, max_size, max_bytes, min_rate: 0.0 };
        let (mut now, mut arrivals) = (Time::from_millis(1_000), Arrivals::default());
        // Of the batch under way: its state, and what each member is ready to bear.
        let mut open: Option<(Gathering, Vec<(Time, Load)>)> = None;
        for (pause, patience, units, bytes) in calls {
            now = now + Span::from_millis(pause);
            let (load, patience) = (Load { units, bytes }, Span::from_millis(patience));
            let rate = arrivals.note(now);
            let Ok(window) = rule.window(rate, patience) else { prop_assert!(patience < Span::from_millis(2)); continue };
            prop_assert!(window <= patience / 2);
            if open.as_ref().is_some_and(|(batch, _)| batch.due().0 <= now || batch.fits(&rule, load).is_err()) {
                open = None;
            }
            let (batch, members) = open.get_or_insert_with(|| (Gathering::begin(now, window), Vec::new()));
            prop_assert!(batch.fits(&rule, load).is_ok() || members.is_empty());
            let full = batch.add(&rule, load, now + patience / 2);
            members.push((now + patience / 2, load));
            prop_assert!(members.iter().all(|(latest, _)| batch.due().0 <= *latest), "sent too late for somebody");
            let units: u32 = members.iter().map(|(_, load)| load.units).sum();
            prop_assert_eq!(full, units >= max_size);
            prop_assert!(units <= max_size && members.iter().map(|(_, load)| load.bytes).sum::<u64>() <= max_bytes || members.len() == 1);
            if full {
                open = None;
            }
        }
    }
}
