//! How many repeats an upstream gets: a share of its calls of the last seconds, and a few in any case. Pure: time is an argument.

use farthing_types::Span;

/// How far back calls and repeats count, in seconds; the present one is the last of them.
const WINDOW: u64 = 10;

/// Calls and repeats of one second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    calls: u64,
    repeats: u64,
}

/// Keeps repeats below a share of the calls: an upstream in trouble gets that share on top of its calls, and no more.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    share: f64,
    /// Repeats that the window has room for however few calls there are.
    floor: f64,
    seconds: [Second; WINDOW as usize],
    /// The second that was looked at last.
    at: u64,
}

impl RetryBudget {
    /// Room for `share` repeats per call, and for `floor` a second in any case.
    pub(crate) fn new(share: f64, floor: u32) -> Self {
        let floor = f64::from(floor) * WINDOW as f64;
        Self { share: share.max(0.0), floor, seconds: [Second::default(); WINDOW as usize], at: 0 }
    }

    /// A call came, `since` the beginning of time.
    pub(crate) fn called(&mut self, since: Span) {
        self.turn(since).calls += 1;
    }

    /// Takes room for one repeat, where there is some.
    pub(crate) fn take(&mut self, since: Span) -> bool {
        self.turn(since);
        let sum = |what: fn(&Second) -> u64| self.seconds.iter().map(what).sum::<u64>() as f64;
        let room = sum(|second| second.repeats) + 1.0 <= self.share * sum(|second| second.calls) + self.floor;
        if room {
            self.turn(since).repeats += 1;
        }
        room
    }

    /// The present second, with those forgotten that have left the window.
    fn turn(&mut self, since: Span) -> &mut Second {
        let now = since.as_secs().max(self.at);
        for passed in (self.at + 1..=now).take(WINDOW as usize) {
            // Where the window has gone by as a whole, each of its places is met once, whatever they are called.
            self.seconds[(passed % WINDOW) as usize] = Second::default();
        }
        self.at = now;
        &mut self.seconds[(now % WINDOW) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a list of all events says: whether a repeat in second `now` has room.
    fn has_room(events: &[(u64, bool)], now: u64, (share, floor): (f64, u32)) -> bool {
        let within = |repeat: bool| events.iter().filter(|(at, was)| *was == repeat && at + WINDOW > now).count() as f64;
        within(true) + 1.0 <= share * within(false) + f64::from(floor) * WINDOW as f64
    }

    proptest! {
        #[test]
        fn room_is_what_a_list_of_all_events_says(
            share in 0.0..1.0f64,
            floor in 0..3u32,
            steps in proptest::collection::vec((0..3_000u64, any::<bool>()), 1..400),
            leap in 0..40_000u64,
        ) {
            let mut budget = RetryBudget::new(share, floor);
            let mut events: Vec<(u64, bool)> = Vec::new();
            let mut millis = 0;
            for (index, (wait, repeat)) in steps.iter().enumerate() {
                millis += if index == 200 { leap } else { wait / 10 };
                let (since, now) = (Span::from_millis(millis), millis / 1_000);
                if !repeat {
                    budget.called(since);
                    events.push((now, false));
                } else {
                    let room = has_room(&events, now, (share, floor));
                    prop_assert_eq!(budget.take(since), room);
                    if room {
                        events.push((now, true));
                    }
                }
            }
        }
    }

    #[test]
    fn a_long_silence_empties_the_window_and_a_clock_that_steps_back_changes_nothing() {
        let mut budget = RetryBudget::new(0.5, 0);
        for _ in 0..4 {
            budget.called(Span::from_secs(3));
        }
        assert!(budget.take(Span::from_secs(12)) && budget.take(Span::from_secs(1)));
        assert!(!budget.take(Span::from_secs(12)), "half of four");
        assert!(!budget.take(Span::from_secs(13)), "the calls have left the window");
        for _ in 0..2 {
            budget.called(Span::from_secs(1_000));
        }
        assert!(budget.take(Span::from_secs(1_000)) && !budget.take(Span::from_secs(1_000)));
    }
}
