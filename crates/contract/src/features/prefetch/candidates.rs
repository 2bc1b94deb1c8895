//! What may be asked for next, with everything that is known about it.

use farthing_types::{Span, Time};

use super::associations::{Associations, order_2, route_state, template_state};
use super::state::{FEWER_SUCCESSORS, SUCCESSORS, Session, State, Successor, delay_of};
use super::{PREFETCH_FEATURES, Visit, thing_of};

/// Most candidates per visit.
pub const CANDIDATES: usize = 48;

/// Something that may be asked for within the horizon after a visit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Candidate {
    /// What ([`Visit::thing`]).
    pub thing: u64,
    /// Its route.
    pub route: u16,
    /// Parameters for its template, where it was found by template only or has the visit's parameters; else zero.
    pub params: u64,
    /// Share of the occurrences of the visit's thing that it followed.
    pub ratio: f32,
    /// The same after the visit's thing and the one before it.
    pub ratio_2: f32,
    /// The largest such share after the session's request before this one, unless it was asked for since.
    pub ratio_earlier: f32,
    /// Share of the visits of the visit's route after which its route was asked for with the same parameters.
    pub ratio_template: f32,
    /// How often the visit's thing was seen.
    pub support: f32,
    /// How often the two in a row were seen.
    pub support_2: f32,
    /// Usual time until it is asked for, seconds.
    pub delay_s: Option<f32>,
}

impl Candidate {
    /// The rule: the conditional share, from the highest order with at least two occurrences, down to the template's. Of `n` occurrences
    /// one more is counted after which something else follows (method A of prediction by partial matching, Cleary and Witten 1984).
    pub fn plain_ratio(&self) -> f32 {
        let shrunk = |ratio: f32, n: f32| ratio * n / (n + 1.0);
        if self.support_2 >= 4.0 && self.ratio_2 > 0.0 {
            return shrunk(self.ratio_2, self.support_2);
        }
        if self.support >= 2.0 && self.ratio > 0.0 {
            return shrunk(self.ratio, self.support);
        }
        self.ratio_template
    }
}

impl Associations {
    /// Fills `into` with what may follow `visit`, which was learned from already; at most [`CANDIDATES`].
    pub fn candidates(&self, visit: &Visit, into: &mut Vec<Candidate>) {
        into.clear();
        let session = self.session(visit);
        let (no_thing, no_pair) = (State::<SUCCESSORS>::default(), State::<FEWER_SUCCESSORS>::default());
        let first = self.states.get(visit.thing).unwrap_or(&no_thing);
        let before = session.back(1);
        let second = before.and_then(|step| self.pairs.get(order_2(step.thing, visit.thing))).unwrap_or(&no_pair);
        for successor in first.successors() {
            let ratio = first.ratio(successor);
            self.found(into, visit, successor, |c| c.ratio = ratio);
        }
        for successor in second.successors() {
            let ratio = second.ratio(successor);
            self.found(into, visit, successor, |c| c.ratio_2 = ratio);
        }
        if let Some(step) = before.filter(|step| visit.at.since(step.at) <= self.horizon) {
            let earlier = self.states.get(step.thing).unwrap_or(&no_thing);
            let age = delay_of(visit.at.since(step.at).as_secs_f64() / self.horizon.as_secs_f64());
            for successor in earlier.successors() {
                let ratio = earlier.ratio(successor);
                let rest = Successor { delay: successor.delay.saturating_sub(age), ..*successor };
                self.found(into, visit, &rest, |c| c.ratio_earlier = ratio);
            }
        }
        self.by_template(visit, into);
        for candidate in into.iter_mut() {
            (candidate.support, candidate.support_2) = (first.seen(), second.seen());
        }
    }

    fn by_template(&self, visit: &Visit, into: &mut Vec<Candidate>) {
        if visit.params == 0 {
            return;
        }
        let Some(state) = self.pairs.get(template_state(visit.route)) else { return };
        for successor in state.successors() {
            let ratio = state.ratio(successor);
            let there = Successor { thing: thing_of(successor.route, visit.params), ..*successor };
            self.found(into, visit, &there, |c| {
                c.ratio_template = ratio;
                c.params = visit.params;
            });
        }
    }

    fn session(&self, visit: &Visit) -> Session {
        self.sessions.get(visit.session).copied().filter(|_| visit.session != 0).unwrap_or_default()
    }

    /// Merges one reason for a candidate.
    fn found(&self, into: &mut Vec<Candidate>, visit: &Visit, successor: &Successor, set: impl Fn(&mut Candidate)) {
        if successor.thing == visit.thing {
            return;
        }
        if let Some(known) = into.iter_mut().find(|c| c.thing == successor.thing) {
            set(known);
            return;
        }
        if into.len() < CANDIDATES {
            let delay_s = Some(successor.delay() * self.horizon.as_secs_f32());
            let mut candidate = Candidate { thing: successor.thing, route: successor.route, delay_s, ..Candidate::default() };
            set(&mut candidate);
            into.push(candidate);
        }
    }
}

/// The features of `candidate` after `visit`, in the order of [`super::PREFETCH_SPEC`]; `life` is how long a copy fetched now would be
/// fresh. Constant time, no allocation.
pub fn prefetch_features(seen: &Associations, visit: &Visit, candidate: &Candidate, life: Span) -> [f32; PREFETCH_FEATURES] {
    let horizon = seen.horizon.as_secs_f64();
    let session = seen.session(visit);
    let route = seen.pairs.get(route_state(visit.route)).copied().unwrap_or_default();
    let ratio_route = route.successors().find(|s| s.route == candidate.route).map_or(0.0, |s| route.ratio(s));
    let popularity = seen.things.get(candidate.thing).copied();
    let (fast, slow) = popularity.map_or((0.0, 0.0), |p| p.rates(visit.at));
    let others = |rate: f64| 1.0 - (-rate * horizon).exp();
    let by_session =
        [candidate.ratio, candidate.ratio_2, candidate.ratio_earlier, candidate.ratio_template].into_iter().fold(0.0, f32::max);
    let any = 1.0 - (1.0 - f64::from(by_session)) * (1.0 - others(slow));
    let asked = session.steps().find(|step| step.thing == candidate.thing).map(|step| step.at);
    let gap = session.back(1).map(|step| step.at);
    let since = |at: Option<Time>| at.map_or(0.0, |at| spans(visit.at.since(at).as_secs_f64() / horizon));
    let life = life.as_secs_f64() / horizon;
    [
        candidate.ratio,
        log1(candidate.support),
        candidate.ratio_2,
        log1(candidate.support_2),
        flag(candidate.support_2 <= 0.0),
        candidate.ratio_earlier,
        candidate.ratio_template,
        ratio_route,
        log1(route.seen()),
        candidate.delay_s.map_or(0.0, |d| (f64::from(d) / horizon).clamp(0.0, 4.0) as f32),
        flag(candidate.delay_s.is_none()),
        since(popularity.map(|p| p.last)),
        flag(popularity.is_none()),
        others(fast) as f32,
        others(slow) as f32,
        any.clamp(0.0, 1.0) as f32,
        since(asked),
        flag(asked.is_none()),
        flag(session.ever_asked(candidate.thing)),
        flag(session.again),
        log1(session.visits as f32),
        since(gap),
        flag(visit.missed),
        flag(visit.route == candidate.route),
        life.clamp(0.0, 4.0) as f32,
        (horizon.max(1e-3).ln() / 7.0).clamp(-2.0, 4.0) as f32,
    ]
}

fn flag(on: bool) -> f32 {
    f32::from(u8::from(on))
}

/// Logarithm of a count, order one.
fn log1(count: f32) -> f32 {
    count.clamp(0.0, 1e9).ln_1p() / 4.0
}

/// Logarithm of a time in horizons, order one: 0 at none, 0.35 at one, 2.3 at ten thousand.
fn spans(horizons: f64) -> f32 {
    (horizons.clamp(0.0, 1e9).ln_1p() / 4.0) as f32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::{Capacity, PREFETCH_NAMES, PREFETCH_SPEC};
    use super::*;

    const SMALL: Capacity = Capacity { states: 64, pairs: 64, sessions: 16, things: 64 };

    fn visit(ms: i64, session: u64, thing: u64) -> Visit {
        Visit { at: Time::from_millis(ms), session, thing, route: (thing % 5) as u16, params: thing % 3, missed: thing.is_multiple_of(2) }
    }

    proptest! {
        #[test]
        fn features_are_finite_and_of_order_one_and_memory_stays(
            start in 0..4_000_000_000_000i64, horizon in 0..10_000_000u64, life in any::<u32>(),
            visits in proptest::collection::vec((prop_oneof![0..3_000i64, -50..0i64, 0..100_000_000_000i64], 0..6u64, 0..40u64), 1..200),
        ) {
            let mut seen = Associations::new(SMALL, Span::from_millis(horizon));
            let bytes = seen.bytes();
            let (mut ms, mut found) = (start, Vec::new());
            for (wait, session, thing) in visits {
                ms += wait;
                let visit = visit(ms, session, thing);
                seen.on_visit(&visit);
                seen.candidates(&visit, &mut found);
                prop_assert!(found.len() <= CANDIDATES);
                for candidate in &found {
                    let features = prefetch_features(&seen, &visit, candidate, Span::from_millis(life.into()));
                    prop_assert!(features.iter().all(|f| f.is_finite() && f.abs() <= 10.0), "{features:?}");
                    prop_assert!((0.0..=1.0).contains(&candidate.plain_ratio()));
                }
            }
            prop_assert_eq!(seen.bytes(), bytes);
        }
    }

    #[test]
    fn names_are_unique() {
        assert_eq!(PREFETCH_NAMES.iter().collect::<BTreeSet<_>>().len(), PREFETCH_FEATURES);
        assert_eq!((PREFETCH_SPEC.names.len(), PREFETCH_SPEC.outputs()), (PREFETCH_FEATURES, 1));
    }

    #[test]
    fn what_follows_is_found_with_its_share() {
        let mut seen = Associations::new(Capacity::default(), Span::from_secs(60));
        for i in 0..20 {
            let at = |s: i64| Time::from_millis((i * 1_000 + s) * 1_000);
            let step = |s: i64, thing: u64| Visit { at: at(s), session: 1 + i as u64, thing, route: 0, params: 0, missed: true };
            seen.on_visit(&step(1, 10));
            seen.on_visit(&step(3, 11));
            if i % 2 == 0 {
                seen.on_visit(&step(5, 12));
            }
        }
        let now = Visit { at: Time::from_millis(30_000_000), session: 99, thing: 10, route: 0, params: 0, missed: true };
        seen.on_visit(&now);
        let mut found = Vec::new();
        seen.candidates(&now, &mut found);
        let of = |thing: u64| found.iter().find(|c| c.thing == thing).map(|c| (c.ratio, c.delay_s.unwrap_or(0.0)));
        let (often, soon) = of(11).unwrap();
        let (half, later) = of(12).unwrap();
        assert!((often - 0.95).abs() < 0.06 && (half - 0.5).abs() < 0.06, "{often} {half}");
        assert!(soon < later);
    }

    #[test]
    fn a_template_names_what_nobody_asked_for_yet() {
        let mut seen = Associations::new(Capacity::default(), Span::from_secs(60));
        let step = |ms: i64, session: u64, route: u16, params: u64| Visit {
            at: Time::from_millis(ms),
            session,
            thing: thing_of(route, params),
            route,
            params,
            missed: true,
        };
        for user in 1..10 {
            seen.on_visit(&step(user * 100_000, user as u64, 0, user as u64));
            seen.on_visit(&step(user * 100_000 + 2_000, user as u64, 1, user as u64));
        }
        let now = step(2_000_000, 77, 0, 4_711);
        seen.on_visit(&now);
        let mut found = Vec::new();
        seen.candidates(&now, &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].thing, found[0].route, found[0].params), (thing_of(1, 4_711), 1, 4_711));
        assert!(found[0].plain_ratio() > 0.85);
    }

    #[test]
    fn without_sessions_nothing_follows() {
        let mut seen = Associations::new(Capacity::default(), Span::from_secs(60));
        let mut found = Vec::new();
        for i in 0..100 {
            let now = Visit { at: Time::from_millis(i), session: 0, thing: 1 + i as u64 % 2, route: 0, params: 0, missed: true };
            seen.on_visit(&now);
            seen.candidates(&now, &mut found);
            assert!(found.is_empty());
        }
    }
}
