//! What followed a state, decayed, and who is where in a session.

use farthing_types::{Span, Time};

/// Successors remembered per thing: a page of a list leads to all of its entries within the horizon.
pub const SUCCESSORS: usize = 24;
/// Successors remembered per pair of things, and per route.
pub const FEWER_SUCCESSORS: usize = 8;
/// Requests remembered per session.
pub const STEPS: usize = 16;
/// A session that has been silent for so long begins anew.
const SESSION_IDLE: Span = Span::from_secs(1_800);
/// Time after which a count weighs 1/e.
const MEMORY_S: f32 = 86_400.0;

/// A thing that was asked for after a state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Successor {
    /// What, by [`super::Visit::thing`] (or a route's number).
    pub thing: u64,
    /// Decayed number of times it followed.
    pub count: f32,
    /// Its route.
    pub route: u16,
    /// Usual time until then, in 65,535ths of the horizon.
    pub delay: u16,
}

impl Successor {
    /// Usual time until it follows, as a share of the horizon.
    pub fn delay(&self) -> f32 {
        f32::from(self.delay) / f32::from(u16::MAX)
    }
}

/// A share of the horizon in the unit of [`Successor::delay`].
pub(super) fn delay_of(share: f64) -> u16 {
    (share.clamp(0.0, 1.0) * f64::from(u16::MAX)) as u16
}

/// Counts of one state, with the `N` successors that follow it most.
#[derive(Clone, Copy, Debug)]
pub(super) struct State<const N: usize> {
    successors: [Successor; N],
    /// Decayed number of times the state occurred.
    seen: f32,
    at_s: u32,
}

impl<const N: usize> Default for State<N> {
    fn default() -> Self {
        Self { successors: [Successor::default(); N], seen: 0.0, at_s: 0 }
    }
}

impl<const N: usize> State<N> {
    fn decay(&mut self, now_s: u32) {
        let passed = now_s.saturating_sub(self.at_s);
        if passed >= 60 || self.at_s == 0 {
            let keep = (-(passed as f32) / MEMORY_S).exp();
            self.seen *= keep;
            self.successors.iter_mut().for_each(|s| s.count *= keep);
            self.at_s = now_s;
        }
    }

    /// The state occurred.
    pub fn occur(&mut self, now_s: u32) {
        self.decay(now_s);
        self.seen += 1.0;
    }

    /// `thing` of `route` followed, `delay` ([`delay_of`]) after the state. In a full state the rarest makes room as it wears down, so a passer-by
    /// does not displace what often follows.
    pub fn follow(&mut self, thing: u64, route: u16, delay: u16, now_s: u32) {
        self.decay(now_s);
        if let Some(known) = self.successors.iter_mut().find(|s| s.count > 0.0 && s.thing == thing && s.route == route) {
            known.count += 1.0;
            known.delay = ((u32::from(known.delay) * 4 + u32::from(delay)) / 5) as u16;
            return;
        }
        let Some(rarest) = self.successors.iter_mut().min_by(|a, b| a.count.total_cmp(&b.count)) else { return };
        if rarest.count > 1.0 {
            rarest.count -= 0.5;
        } else {
            *rarest = Successor { thing, count: 1.0, route, delay };
        }
    }

    /// What followed it.
    pub fn successors(&self) -> impl Iterator<Item = &Successor> {
        self.successors.iter().filter(|s| s.count > 0.0)
    }

    /// How often it occurred.
    pub fn seen(&self) -> f32 {
        self.seen
    }

    /// Share of the occurrences after which `successor` followed.
    pub fn ratio(&self, successor: &Successor) -> f32 {
        (successor.count / self.seen.max(successor.count).max(1e-6)).min(1.0)
    }
}

/// One request of a session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    pub thing: u64,
    pub params: u64,
    pub at: Time,
    pub route: u16,
}

/// Words of the filter of what a session asked for.
const FILTER: usize = 8;

/// The last requests of a session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Session {
    steps: [Step; STEPS],
    /// What it ever asked for, as a Bloom filter of two bits per thing: clients keep copies of their own and do not ask again.
    filter: [u64; FILTER],
    /// Whether the last request was for something that it had asked for before.
    pub again: bool,
    /// When it began.
    pub started: Time,
    /// Requests since then.
    pub visits: u32,
}

/// The two bits of a thing in a filter.
fn bits(thing: u64) -> [usize; 2] {
    let hash = super::mix(3, thing);
    [hash, hash >> 32].map(|half| (half as usize) % (FILTER * 64))
}

impl Session {
    /// Adds a request.
    pub fn push(&mut self, step: Step) {
        if self.visits > 0 && step.at.since(self.last().at) > SESSION_IDLE {
            *self = Self::default();
        }
        if self.visits == 0 {
            self.started = step.at;
        }
        self.again = self.ever_asked(step.thing);
        for bit in bits(step.thing) {
            self.filter[bit / 64] |= 1 << (bit % 64);
        }
        self.steps[self.visits as usize % STEPS] = step;
        // Stays in step with the ring when it wraps.
        self.visits = if self.visits == u32::MAX { STEPS as u32 } else { self.visits + 1 };
    }

    /// Whether it asked for `thing` since it began; seldom true for what it did not ask for: 2 % after fifty things.
    pub fn ever_asked(&self, thing: u64) -> bool {
        bits(thing).into_iter().all(|bit| self.filter[bit / 64] & (1 << (bit % 64)) != 0)
    }

    fn last(&self) -> Step {
        self.back(0).unwrap_or_default()
    }

    /// The request `n` before the last.
    pub fn back(&self, n: usize) -> Option<Step> {
        let visits = self.visits as usize;
        (n < STEPS && n < visits).then(|| self.steps[(visits - 1 - n) % STEPS])
    }

    /// The remembered requests, last first.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        (0..STEPS).map_while(|n| self.back(n))
    }
}

/// How often a thing is asked for, by anyone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Popularity {
    fast: f32,
    slow: f32,
    /// The last request; zero: none yet.
    pub last: Time,
}

const FAST_S: f64 = 300.0;
const SLOW_S: f64 = 1_800.0;

impl Popularity {
    /// A request came.
    pub fn visit(&mut self, now: Time) {
        let passed = now.since(self.last).as_secs_f64();
        self.fast = self.fast * (-passed / FAST_S).exp() as f32 + 1.0;
        self.slow = self.slow * (-passed / SLOW_S).exp() as f32 + 1.0;
        self.last = now;
    }

    /// Requests per second, by the last five minutes and the last half hour.
    pub fn rates(&self, now: Time) -> (f64, f64) {
        let passed = now.since(self.last).as_secs_f64();
        let rate = |count: f32, memory: f64| f64::from(count) * (-passed / memory).exp() / memory;
        (rate(self.fast, FAST_S), rate(self.slow, SLOW_S))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_state_keeps_what_often_follows() {
        let mut state = State::<SUCCESSORS>::default();
        for round in 0..50 {
            state.occur(100 + round);
            for thing in 0..SUCCESSORS as u64 {
                state.follow(thing, 0, 1, 100 + round);
            }
            state.follow(1_000 + u64::from(round), 0, 1, 100 + round);
        }
        let kept = state.successors().filter(|s| s.thing < SUCCESSORS as u64).count();
        assert!(kept >= SUCCESSORS - 1, "{kept}");
        assert!(state.successors().all(|s| (0.0..=1.0).contains(&state.ratio(s))));
    }

    #[test]
    fn counts_fade() {
        let mut state = State::<FEWER_SUCCESSORS>::default();
        state.occur(1_000);
        state.follow(1, 0, 1, 1_000);
        state.occur(1_000 + 10 * 86_400);
        assert!((state.seen() - 1.0).abs() < 1e-3);
        let ratio = state.successors().next().map_or(0.0, |s| state.ratio(s));
        assert!(ratio < 1e-3, "{ratio}");
    }

    #[test]
    fn a_session_knows_what_it_ever_asked_for() {
        let mut session = Session::default();
        for thing in 1..=50u64 {
            session.push(Step { thing, params: 0, at: Time::from_millis(thing as i64), route: 0 });
            assert!(!session.again || thing > 10, "{thing}");
        }
        assert!((1..=50).all(|thing| session.ever_asked(thing)));
        let wrong = (1_000..2_000).filter(|thing| session.ever_asked(*thing)).count();
        assert!(wrong < 60, "{wrong} of 1000");
        session.push(Step { thing: 7, params: 0, at: Time::from_millis(60), route: 0 });
        assert!(session.again);
    }

    #[test]
    fn a_silent_session_begins_anew() {
        let mut session = Session::default();
        let step = |s: i64| Step { thing: 1, params: 0, at: Time::from_millis(s * 1_000), route: 0 };
        session.push(step(10));
        session.push(step(20));
        assert_eq!((session.visits, session.steps().count()), (2, 2));
        session.push(step(20 + 1_801));
        assert_eq!((session.visits, session.steps().count()), (1, 1));
    }
}
