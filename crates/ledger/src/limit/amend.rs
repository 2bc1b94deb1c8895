//! Other limits than before, while calls are under way: what was given counts on.

use farthing_types::{LimitSpec, Time};

use super::Book;
use super::book::Limit;

impl Book {
    /// Puts these limits in force. One of the same name and kind of counters keeps its counters: what they have given is missing from the new rate as it was
    /// from the old one, nothing is filled anew, and who waits is judged by the new one. One that is left out counts nothing more; calls that it counted end as they began.
    pub fn amend(&mut self, specs: impl IntoIterator<Item = LimitSpec>, now: Time) {
        self.keep_time(now);
        self.changes += 1;
        self.limits.iter_mut().for_each(|limit| limit.retired = true);
        for spec in specs {
            let same = |limit: &Limit| limit.spec.name == spec.name && limit.spec.scope == spec.scope && limit.spec.shared == spec.shared;
            match self.limits.iter().position(same) {
                Some(index) => self.respecify(index, spec, now),
                None => self.limits.push(Limit::new(spec)),
            }
        }
        let waited = self.waited_before();
        self.changed.extend(waited);
    }

    fn respecify(&mut self, index: usize, spec: LimitSpec, now: Time) {
        let limit = &mut self.limits[index];
        (limit.retired, limit.names) = (false, spec.names.iter().cloned().collect());
        let ids: Vec<u32> = limit.units.values().copied().collect();
        let spec = std::sync::Arc::new(spec);
        limit.spec = spec.clone();
        for id in ids {
            if let Some(counter) = self.of(id) {
                counter.respecify(&spec, now);
            }
        }
    }

    /// Counters before which somebody waits: there may be room now, or later than was thought.
    fn waited_before(&self) -> Vec<u32> {
        let waited = |(id, counter): (usize, &Option<super::counter::Counter>)| {
            counter.as_ref().filter(|counter| !counter.line.is_empty()).and_then(|_| u32::try_from(id).ok())
        };
        self.counters.iter().enumerate().filter_map(waited).collect()
    }
}

#[cfg(test)]
mod tests {
    use farthing_types::{LimitScope, Priority, RateSpec, Span};
    use proptest::prelude::*;

    use super::super::*;
    use super::*;

    fn spec(name: &str, count: u64, burst: u64) -> LimitSpec {
        let requests = Some(RateSpec { count, period: Span::from_secs(1), burst });
        LimitSpec { name: name.into(), scope: LimitScope::Provider, requests, ..LimitSpec::default() }
    }

    fn ask(now: Time) -> Ask<'static> {
        Ask {
            who: Who { tenant: "a", route: "r", provider: "p", ..Who::default() },
            stage: Stage::Attempt,
            priority: Priority::Medium,
            mood: Mood::Usual,
            cost: Cost { tokens: 0 },
            bytes: 0,
            deadline: now + Span::from_secs(3_600),
            now,
        }
    }

    fn at(ms: i64) -> Time {
        Time::from_millis(ms)
    }

    fn passes(book: &mut Book, now: Time) -> bool {
        match book.ask(&ask(now)) {
            Verdict::Passed(pass) => {
                book.end(&pass);
                true
            }
            Verdict::Queued(id) => {
                book.give_up(id);
                false
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_given_is_not_given_again_by_another_rate() {
        let mut book = Book::new([spec("p", 1, 3)]);
        assert!((0..3).all(|_| passes(&mut book, at(0))) && !passes(&mut book, at(0)));
        book.amend([spec("p", 10, 10)], at(0));
        assert!(!passes(&mut book, at(0)), "a larger bucket is not filled anew");
        assert!(passes(&mut book, at(100)), "it fills at the new rate");
        book.amend([spec("p", 1, 1)], at(2_000));
        assert!(passes(&mut book, at(2_000)) && !passes(&mut book, at(2_000)), "what a smaller one does not hold is lost");
    }

    #[test]
    fn who_waits_goes_by_the_new_rate_and_a_limit_that_is_gone_counts_nothing() {
        let mut book = Book::new([spec("p", 1, 1), spec("q", 1_000, 1_000)]);
        assert!(passes(&mut book, at(0)));
        let Verdict::Queued(id) = book.ask(&ask(at(0))) else { panic!("it waits") };
        assert!(book.pump(at(0)).is_empty());
        assert_eq!(book.next(), Some(at(1_000)));
        book.amend([spec("p", 10, 1), spec("q", 1_000, 1_000)], at(0));
        assert!(book.pump(at(0)).is_empty());
        assert_eq!(book.next(), Some(at(100)), "not before its time by the old rate, nor later than by the new one");
        assert!(book.pump(at(100)).iter().any(|woken| woken.id == id && woken.result.is_ok()));
        book.amend([spec("q", 1_000, 1_000)], at(200));
        assert!((0..50).all(|_| passes(&mut book, at(200))), "p is gone");
        assert_eq!(book.views(0, at(200)).len(), 1);
        book.amend([spec("p", 10, 1), spec("q", 1_000, 1_000)], at(200));
        assert!(passes(&mut book, at(200)) && !passes(&mut book, at(200)), "and there again");
    }

    #[test]
    fn calls_under_way_end_under_a_limit_that_is_gone() {
        let calls = LimitSpec { requests: None, concurrency: Some(1), ..spec("c", 1, 1) };
        let mut book = Book::new([calls.clone(), spec("q", 1_000, 1_000)]);
        let Verdict::Passed(pass) = book.ask(&ask(at(0))) else { panic!("it passes") };
        let Verdict::Queued(id) = book.ask(&ask(at(0))) else { panic!("it waits") };
        book.amend([spec("q", 1_000, 1_000)], at(1));
        assert!(book.pump(at(1)).is_empty());
        book.end(&pass);
        assert!(book.pump(at(2)).iter().any(|woken| woken.id == id && woken.result.is_ok()), "nobody is left behind");
        book.amend([LimitSpec { concurrency: Some(2), ..calls }], at(3));
        assert_eq!(book.views(1, at(3))[0].busiest[0].running, 1, "the one that went then is counted until it ends");
    }

    proptest! {
        /// However often it is amended: over any window in which one rate holds no more passes than it allows.
        #[test]
        fn no_window_has_more_than_the_greatest_rate_and_burst(
            rates in proptest::collection::vec((1..50u64, 1..20u64), 2..6),
            steps in proptest::collection::vec((0..400i64, 0..6usize), 1..120),
        ) {
            let mut book = Book::new([spec("p", rates[0].0, rates[0].1)]);
            let (mut now, mut went) = (0, Vec::new());
            for (pause, turn) in steps {
                now += pause;
                if let Some(&(count, burst)) = rates.get(turn) {
                    book.amend([spec("p", count, burst)], at(now));
                }
                if passes(&mut book, at(now)) {
                    went.push(now);
                }
            }
            let (count, burst) = (rates.iter().map(|r| r.0).max().unwrap(), rates.iter().map(|r| r.1).max().unwrap());
            for (first, &from) in went.iter().enumerate() {
                for (last, &to) in went.iter().enumerate().skip(first) {
                    let most = (to - from) as u64 * count + burst * 1_000;
                    prop_assert!((last - first + 1) as u64 * 1_000 <= most + 999, "{} in {} ms", last - first + 1, to - from);
                }
            }
        }
    }
}
