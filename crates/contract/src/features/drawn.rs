//! Readers that a change draws, in time: how many there are, and how soon after it they come.
//!
//! After a fetch that found a change, more requests follow at once than the key's rate gives: the change at time zero draws `m` readers
//! (Poisson), each after an exponential delay of mean `d`. What there is of them is learned from the requests between a fetch and the next,
//! by an EM algorithm (Dempster, Laird and Rubin 1977) kept up to date one observation at a time. Requests may come in crowds, or more often
//! at some hours, for reasons of their own; so what follows fetches that found nothing new is learned beside it, of all
//! and of those after a silence (a crowd is larger seen from its first), and only what there is beyond both counts.
//!
//! What follows from it: a silence of some length says that probably nothing has changed, for a change would have drawn somebody, and the
//! first request after a silence says that probably something has. With `v(x) = exp(-m (1 - e^(-x/d)))`, the probability that a change has
//! drawn nobody within `x`, hazard `h`, other requests at rate `r` and those that an earlier change still draws at rate `e(g)`, the next request after
//! a gap `g` finds nothing changed with probability `exp(-h I(v, g)) (r + e(g)) / (r + e(g) + h (1 - v(g)))`, `I` the integral of `v` from 0 to `g`
//! (thinned Poisson processes).

use super::persist::persist;

/// Weight of "hardly anybody", in changes; and the readers per change that it has.
const PRIOR: f64 = 10.0;
const START_READS: f64 = 0.1;
/// Weight of the delay assumed before anything was seen, in readers; and that delay, seconds.
const DELAY_WEIGHT: f64 = 2.0;
const START_DELAY_S: f64 = 300.0;
/// Delays are taken to lie between these, seconds.
const DELAYS_S: (f64, f64) = (2.0, 3_600.0);
/// Everything is halved at this many changes.
const FULL: f64 = 1_000.0;
/// Log likelihood ratio from which it is used, and to which it may fall before it no longer is.
const SHOWN: f64 = 10.0;
const DOUBTED: f64 = 3.0;
/// The ratio goes no higher, so that what ends is forgotten.
const HIGHEST: f64 = 200.0;
/// Time before a fetch that found nothing new, from which it counts as one after a silence, in delays.
const SILENCE: f64 = 3.0;
/// How much must have been watched after fetches that found nothing new to compare with, in changes.
const COMPARED: f64 = 20.0;
/// Most readers per change.
const MOST: f64 = 50.0;

/// Readers among the requests that followed fetches, and how much of the time in which they come was watched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Following {
    readers: f64,
    watched: f64,
}

impl Following {
    fn per_change(&self) -> f64 {
        (self.readers + PRIOR * START_READS) / (self.watched + PRIOR)
    }
}

/// What is known of it on a route.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Drawn {
    change: Following,
    plain: Following,
    silence: Following,
    /// Sum of the readers' delays, and what the ends of gaps cut off.
    delays_s: f64,
    cut_s: f64,
    odds: f64,
    used: bool,
}

persist!(Following { readers, watched });
persist!(Drawn { change, plain, silence, delays_s, cut_s, odds, used });

/// The requests from one fetch of a key to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followed {
    /// Whether the first fetch found a change.
    pub found: bool,
    /// From the last change that was seen to the first fetch, seconds.
    pub since_s: f64,
    /// Time before the first fetch without one, seconds.
    pub silence_s: f64,
    /// From the first fetch to the second, seconds.
    pub gap_s: f64,
    /// Requests in between, and their mean distance from the first, seconds.
    pub hits: f64,
    pub mean_s: f64,
    /// Probability that the second was drawn by a change in between, where there were no others.
    pub late: f64,
    /// Changes expected in between, if there was at least one; else zero.
    pub changes: f64,
    /// Other requests of the key, 1/s.
    pub background: f64,
}

impl Drawn {
    /// Takes in the requests between two fetches.
    pub fn note(&mut self, seen: &Followed) {
        let (delay, first) = (self.delay_s(), self.first_s());
        // Until it is used changes are not dated by it.
        let since = if seen.found && !self.used { first } else { seen.since_s };
        let after_change = since < REACH * delay;
        if !after_change && seen.found {
            return;
        }
        let since = if after_change { since } else { first };
        let (after, before) = (self.change.per_change(), self.of_itself());
        let kernel = |at: f64| (-(since + at) / delay).exp() / delay;
        let (begin, end) = ((-since / delay).exp(), (-(since + seen.gap_s) / delay).exp());
        let (watched, background) = (begin - end, seen.background.max(1e-9));
        let told = 1.0 - seen.late;
        if after_change {
            let ratio = |at: f64| ((after * kernel(at) + background) / (before * kernel(at) + background)).ln();
            let better = told * ratio(seen.gap_s) + seen.hits * ratio(seen.mean_s) - (after - before) * watched;
            self.odds = (self.odds + better.clamp(-SHOWN, SHOWN)).clamp(-HIGHEST, HIGHEST);
            let enough = if self.used { DOUBTED } else { SHOWN };
            self.used = self.odds > enough && self.plain.watched >= COMPARED;
        }
        let mean = if after_change { after } else { before };
        // With requests in between, those of a change in between are among them.
        let newly = if seen.hits > 0.0 { seen.changes * after / seen.gap_s.max(1.0) } else { 0.0 };
        let share = |at: f64| mean * kernel(at) / (mean * kernel(at) + background - newly * (-at / delay).exp_m1());
        let (last, hits) = (told * share(seen.gap_s), seen.hits * share(seen.mean_s));
        let silence = !after_change && seen.silence_s >= SILENCE * delay;
        let sums = [(after_change, &mut self.change), (!after_change, &mut self.plain), (silence, &mut self.silence)];
        for (_, following) in sums.into_iter().filter(|(counts, _)| *counts) {
            following.readers += last + hits;
            following.watched += watched;
        }
        if after_change {
            self.delays_s += last * (since + seen.gap_s) + hits * (since + seen.mean_s);
            self.cut_s += (since + seen.gap_s) * end - since * begin;
        }
        self.forget();
    }

    fn forget(&mut self) {
        if self.change.watched > FULL {
            let halved = [&mut self.change.readers, &mut self.change.watched, &mut self.delays_s, &mut self.cut_s];
            halved.into_iter().for_each(|sum| *sum *= 0.5);
        }
        for following in [&mut self.plain, &mut self.silence].into_iter().filter(|f| f.watched > FULL) {
            (following.readers, following.watched) = (following.readers * 0.5, following.watched * 0.5);
        }
    }

    /// Requests that follow a fetch without a change having drawn them.
    fn of_itself(&self) -> f64 {
        self.plain.per_change().max(self.silence.per_change())
    }

    fn delay_s(&self) -> f64 {
        let sum = self.delays_s + self.change.per_change() * self.cut_s + DELAY_WEIGHT * START_DELAY_S;
        (sum / (self.change.readers + DELAY_WEIGHT)).clamp(DELAYS_S.0, DELAYS_S.1)
    }

    /// As [`Draws::first_s`].
    fn first_s(&self) -> f64 {
        first_s(self.change.per_change().min(MOST), self.delay_s())
    }

    /// Readers that a change draws, and the mean of their delays in seconds; `None` until it has shown itself.
    pub fn known(&self) -> Option<(f64, f64)> {
        let reads = (self.change.per_change() - self.of_itself()).min(MOST);
        (self.used && reads > 0.0).then(|| (reads, self.delay_s()))
    }
}

/// Time from a change to the first of `reads` readers whose mean delay is `delay_s`: so long that as many are still to come as there are after
/// the first, `m / (1 - e^-m) - 1`.
fn first_s(reads: f64, delay_s: f64) -> f64 {
    let more = reads / -(-reads).exp_m1() - 1.0;
    delay_s * (reads / more.max(1e-9)).ln().max(0.0)
}

/// What changes draw to one key, as of a fetch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draws {
    /// Readers that a change draws, in the mean.
    pub reads: f64,
    /// Mean time from a change to such a reader, seconds.
    pub delay_s: f64,
    /// Requests that no change has drawn, 1/s.
    pub background: f64,
    /// Time from the last change to the fetch, seconds.
    pub since_s: f64,
}

/// Steps of the integral of [`Draws::silent`], and how many delays it reaches: beyond, all that a change draws has come.
const STEPS: u32 = 24;
const REACH: f64 = 6.0;
/// What is surer is taken as this sure: minus a log of a probability.
const MOST_TOLD: f64 = 40.0;

impl Draws {
    /// Share of those that a change draws who have come within a time, seconds.
    pub fn come(&self, seconds: f64) -> f64 {
        -(-seconds / self.delay_s).exp_m1()
    }

    /// Requests per second that the last change still draws, so many seconds after the fetch.
    pub fn still(&self, seconds: f64) -> f64 {
        self.reads / self.delay_s * (-(self.since_s + seconds) / self.delay_s).exp()
    }

    /// Requests per second that no change since the fetch has drawn, so many seconds after it.
    pub(super) fn others(&self, seconds: f64) -> f64 {
        (self.background + self.still(seconds)).max(1e-12)
    }

    /// Probability that a change has drawn nobody within a time, seconds.
    pub fn silent(&self, seconds: f64) -> f64 {
        (-self.reads * self.come(seconds)).exp()
    }

    /// Mean of [`Draws::silent`] from 0 to `seconds`.
    fn mean_silent(&self, seconds: f64) -> f64 {
        let near = seconds.min(REACH * self.delay_s);
        let step = near / f64::from(STEPS);
        let sum: f64 = (0..STEPS).map(|n| self.silent((f64::from(n) + 0.5) * step)).sum();
        if seconds <= 0.0 { 1.0 } else { (sum * step + self.silent(seconds) * (seconds - near)) / seconds }
    }

    /// For the next request, `gap_s` after the fetch: minus the log of the probability that it finds nothing changed, where `expected` changes
    /// were expected in that time.
    pub fn found(&self, expected: f64, gap_s: f64) -> f64 {
        expected * self.mean_silent(gap_s) + self.by_reader(expected, gap_s).ln_1p()
    }

    /// For the next request, `gap_s` after the fetch: the odds that it finds a change, where `expected` changes were expected in that time; and if it
    /// does, how many readers the change still draws in the mean.
    pub(super) fn newly(&self, expected: f64, gap_s: f64) -> (f64, f64) {
        let all = self.found(expected, gap_s).min(MOST_TOLD).exp_m1();
        let by = self.by_reader(expected, gap_s).min(all);
        let (come, silent) = (self.reads * self.come(gap_s), self.silent(gap_s));
        // Of one that drew the request, with `u` the readers that would have come: integral of `(m - u) e^-u` over that of `e^-u`.
        let of_reader = if come > 1e-6 { self.reads - (1.0 - silent * (1.0 + come)) / (1.0 - silent) } else { self.reads };
        // Of one that drew nobody yet: integral of `(m - u)` over that of 1, both times `e^-u`.
        let of_silent = if come > 1e-6 { self.delay_s * (1.0 - silent) / (self.mean_silent(gap_s) * gap_s) } else { self.reads };
        (all, if all > 0.0 { (by * of_reader + (all - by) * of_silent) / all } else { 0.0 })
    }

    /// Probability that the change came with the last request, where it still draws `coming` readers: as much that with else a change evenly spread
    /// over the gap as many are to come.
    pub(super) fn late(&self, coming: f64, gap_s: f64) -> f64 {
        let spread = self.come(gap_s) * self.delay_s / gap_s.max(1e-3);
        let late = (-self.first_s() / self.delay_s).exp();
        ((coming / self.reads - spread) / (late - spread).max(1e-9)).clamp(0.0, 1.0)
    }

    /// Odds that a request that comes `gap_s` after the fetch was drawn by a change since.
    fn by_reader(&self, expected: f64, gap_s: f64) -> f64 {
        expected / gap_s.max(1.0) * (1.0 - self.silent(gap_s)) / self.others(gap_s)
    }

    /// Probability that the next request, `gap_s` after the fetch, was drawn by the change that it found.
    pub fn is_drawn(&self, expected: f64, gap_s: f64) -> f64 {
        let odds = self.by_reader(expected, gap_s);
        let otherwise = -(-expected * self.mean_silent(gap_s)).exp_m1();
        if odds + otherwise > 0.0 { odds / (odds + otherwise) } else { 0.0 }
    }

    /// How long before a fetch, `gap_s` after the last, the change was that it found, where with the probability `late` it drew that request: so long that
    /// as many readers are still to come as there are on average, seconds.
    pub fn dated_s(&self, late: f64, gap_s: f64) -> f64 {
        let spread = self.come(gap_s) * self.delay_s / gap_s.max(1e-3);
        let still = late * (-self.first_s() / self.delay_s).exp() + (1.0 - late) * spread;
        (-self.delay_s * still.max(1e-12).ln()).clamp(0.0, gap_s)
    }

    /// Time from a change to the first reader that it draws, seconds.
    pub fn first_s(&self) -> f64 {
        first_s(self.reads, self.delay_s)
    }
}

#[cfg(test)]
mod tests {
    use farthing_types::{Draw, DrawKind};

    use super::super::{Doubt, KeyStats, RouteStats};
    use super::*;
    use farthing_types::Time;

    /// Draws in order, uniform in (0, 1).
    struct Dice(i64);

    impl Dice {
        fn uniform(&mut self) -> f64 {
            self.0 += 1;
            Draw::new(5).uniform(DrawKind::Sample, "drawn", 0, self.0).max(1e-12)
        }
        fn exponential(&mut self, mean: f64) -> f64 {
            -self.uniform().ln() * mean
        }
        fn poisson(&mut self, mean: f64) -> usize {
            let (mut n, mut product) = (0, self.uniform());
            while product > (-mean).exp() {
                n += 1;
                product *= self.uniform();
            }
            n
        }
    }

    /// Times of a key's reads over `seconds`, each with the number of changes before it: one of these every `interval` seconds, others every `pause`, each of
    /// which brings so many more within the delay; `after` says which.
    fn reads(
        dice: &mut Dice,
        seconds: f64,
        (interval, pause): (f64, f64),
        (of_change, of_read, delay): (f64, f64, f64),
    ) -> Vec<(f64, u64)> {
        let times = |dice: &mut Dice, mean: f64| {
            std::iter::successors(Some(dice.exponential(mean)), |t| Some(t + dice.exponential(mean)))
                .take_while(|t| *t < seconds)
                .collect::<Vec<_>>()
        };
        let (changes, mut reads) = (times(dice, interval), times(dice, pause));
        for (starts, mean) in [(&changes, of_change), (&reads.clone(), of_read)] {
            for start in starts {
                for _ in 0..dice.poisson(mean) {
                    reads.push(start + dice.exponential(delay));
                }
            }
        }
        reads.sort_by(f64::total_cmp);
        let version = |at: f64| changes.iter().filter(|c| **c <= at).count() as u64;
        reads.into_iter().map(|at| (at, version(at))).collect()
    }

    const START_MS: i64 = 1_700_000_000_000;

    /// The reads of some keys, in their order, each copy kept for `ttl` seconds; `told` gets before each fetch what the statistics foretell of it, and whether it found a change.
    fn play(keys: Vec<Vec<(f64, u64)>>, ttl: f64, mut told: impl FnMut(f64, bool)) -> RouteStats {
        let mut route = RouteStats::default();
        let mut stats = vec![KeyStats::default(); keys.len()];
        let mut all: Vec<_> = keys.into_iter().enumerate().flat_map(|(key, reads)| reads.into_iter().map(move |r| (key, r))).collect();
        all.sort_by(|a, b| a.1.0.total_cmp(&b.1.0));
        for (n, (key, (at, version))) in all.into_iter().enumerate() {
            let (key, now) = (&mut stats[key], Time::from_millis(START_MS + (at * 1e3) as i64));
            route.on_request_of(key, now);
            if key.last_fetch().is_some_and(|last| now.since(last).as_secs_f64() < ttl) {
                continue;
            }
            if let (Some(last), Some(draws), true) = (key.last_fetch(), key.last_fetch().and_then(|last| route.draws(key, last)), n > 4_000)
            {
                let gap = now.since(last).as_secs_f64();
                let found = draws.found(route.ahead(key, last).between(0.0, gap), gap);
                told(-(-found).exp_m1(), key.hash() != Some(version));
            }
            route.on_fetch(key, now, version);
        }
        route
    }

    /// What the route has shown, for a key of which nothing is known.
    fn shown(route: &RouteStats) -> Option<Draws> {
        route.draws(&KeyStats::default(), Time::from_millis(START_MS + 500_000_000))
    }

    #[test]
    fn readers_that_changes_draw_are_found_and_their_silence_is_foretold() {
        let mut dice = Dice(0);
        let keys = (0..30).map(|_| reads(&mut dice, 500_000.0, (7_200.0, 2_400.0), (3.0, 0.0, 180.0))).collect();
        let mut bins = [(0.0, 0.0, 0.0); 5];
        let route = play(keys, 0.0, |p, changed| {
            let bin = &mut bins[((p * 5.0) as usize).min(4)];
            *bin = (bin.0 + 1.0, bin.1 + p, bin.2 + f64::from(u8::from(changed)));
        });
        let Draws { reads, delay_s: delay, .. } = shown(&route).unwrap();
        assert!((2.4..3.8).contains(&reads) && (140.0..230.0).contains(&delay), "{reads} {delay}");
        for (n, p, changed) in bins.into_iter().filter(|bin| bin.0 > 500.0) {
            assert!(((p - changed) / n).abs() < 0.03, "{bins:?}");
        }
    }

    #[test]
    fn a_doubt_can_be_asked_for_before_the_request_is_noted() {
        let mut dice = Dice(9 << 40);
        let keys = (0..30).map(|_| reads(&mut dice, 300_000.0, (7_200.0, 2_400.0), (3.0, 0.0, 180.0))).collect();
        let mut route = play(keys, 0.0, |_, _| ());
        let (mut key, mut now) = (KeyStats::default(), Time::from_millis(START_MS + 300_000_000));
        route.on_request_of(&mut key, now);
        route.on_fetch(&mut key, now, 1);
        key.set_doubt(Doubt::above(0.5));
        let mut doubted = 0;
        for gap_s in [5, 4_000, 20, 30, 9_000, 15, 15] {
            now = now + farthing_types::Span::from_secs(gap_s);
            let (kept, told) = ((key, route.clone()), route.would_doubt(&key, now));
            assert_eq!((key, &route), (kept.0, &kept.1));
            assert_eq!(route.on_request_of(&mut key, now), told);
            doubted += u32::from(told);
            assert!(doubted == 0 || gap_s > 5, "nothing has happened within five seconds");
        }
        assert!(doubted > 0);
        key.set_doubt(Doubt::NEVER);
        assert!(!route.on_request_of(&mut key, now) && !route.would_doubt(&key, now));
    }

    #[test]
    fn crowds_that_come_of_themselves_are_not_taken_for_drawn() {
        let mut dice = Dice(1 << 40);
        let keys = (0..30).map(|_| reads(&mut dice, 500_000.0, (7_200.0, 4_800.0), (0.0, 2.0, 120.0))).collect();
        assert_eq!(shown(&play(keys, 0.0, |_, _| ())), None);
        let plain = (0..30).map(|_| reads(&mut dice, 500_000.0, (7_200.0, 2_400.0), (0.0, 0.0, 1.0))).collect();
        assert_eq!(shown(&play(plain, 0.0, |_, _| ())), None);
    }

    #[test]
    fn busy_hours_are_not_taken_for_drawn() {
        for (seed, ttl) in [(2i64, 0.0), (3, 60.0), (4, 900.0)] {
            let mut dice = Dice(seed << 40);
            // Ten requests for one in the busy half of the day.
            let busy = |at: f64| ((at / 43_200.0) as u64).is_multiple_of(2);
            let keys = (0..8).map(|_| {
                let all = reads(&mut dice, 400_000.0, (7_200.0, 60.0), (0.0, 0.0, 1.0));
                all.into_iter().filter(|(at, _)| busy(*at) || dice.uniform() < 0.1).collect()
            });
            let route = play(keys.collect(), ttl, |_, _| ());
            assert_eq!(shown(&route), None, "{ttl}");
        }
    }

    #[test]
    fn what_comes_at_one_moment_leaves_numbers() {
        let (mut key, mut route, now) = (KeyStats::default(), RouteStats::default(), Time::from_millis(START_MS));
        for version in 0..9 {
            for _ in 0..3 {
                route.on_request_of(&mut key, now);
            }
            route.on_fetch(&mut key, now, version);
        }
        assert_eq!(RouteStats::decode(&route.encode()), Some(route));
    }

    #[test]
    fn with_nobody_drawn_nothing_is_told_but_the_hazard() {
        let draws = Draws { reads: 1e-9, delay_s: 100.0, background: 1e-3, since_s: f64::MAX };
        for (expected, gap) in [(0.0, 1.0), (0.3, 50.0), (2.0, 1e5)] {
            assert!((draws.found(expected, gap) - expected).abs() < 1e-6);
        }
        let many = Draws { reads: 5.0, ..draws };
        assert!(many.found(0.5, 5_000.0) < 0.6 && many.found(0.01, 300.0) > 0.01);
        assert!(many.still(0.0) == 0.0 && many.first_s() < 100.0);
        assert_eq!(many.dated_s(1.0, 1_000.0), many.first_s());
    }
}
