//! The counts, and what they learn from a visit.

use farthing_types::{Span, Time};

use super::slots::Slots;
use super::state::{FEWER_SUCCESSORS, Popularity, SUCCESSORS, Session, State, Step, delay_of};
use super::{Visit, mix};

/// Kinds of states in the table of pairs, so that their hashes differ.
const ORDER_2: u64 = 2;
const ROUTE: u64 = 3;
const TEMPLATE: u64 = 4;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Things with what follows them, about 400 bytes each.
    pub states: usize,
    /// Pairs of things, and routes, with what follows them, about 150 bytes each.
    pub pairs: usize,
    /// Sessions, about 650 bytes each.
    pub sessions: usize,
    /// Things with their popularity, 32 bytes each.
    pub things: usize,
}

impl Default for Capacity {
    /// About 18 MiB.
    fn default() -> Self {
        Self { states: 16_384, pairs: 32_768, sessions: 8_192, things: 65_536 }
    }
}

/// What followed what, per state, route and template; who is where; how often things are asked for.
#[derive(Clone, Debug)]
pub struct Associations {
    pub(super) states: Slots<State<SUCCESSORS>>,
    pub(super) pairs: Slots<State<FEWER_SUCCESSORS>>,
    pub(super) sessions: Slots<Session>,
    pub(super) things: Slots<Popularity>,
    /// How far ahead a request still counts as following.
    pub(super) horizon: Span,
}

pub(super) fn order_2(before: u64, thing: u64) -> u64 {
    mix(mix(ORDER_2, before), thing)
}
pub(super) fn route_state(route: u16) -> u64 {
    mix(ROUTE, u64::from(route))
}
pub(super) fn template_state(route: u16) -> u64 {
    mix(TEMPLATE, u64::from(route))
}

fn seconds(at: Time) -> u32 {
    u32::try_from(at.millis() / 1_000).unwrap_or(if at < Time::ZERO { 0 } else { u32::MAX })
}

impl Associations {
    /// Nothing seen yet. What is asked for up to `horizon` after a request counts as following it.
    pub fn new(capacity: Capacity, horizon: Span) -> Self {
        Self {
            states: Slots::new(capacity.states),
            pairs: Slots::new(capacity.pairs),
            sessions: Slots::new(capacity.sessions),
            things: Slots::new(capacity.things),
            horizon: horizon.max(Span::from_millis(1)),
        }
    }

    /// The horizon.
    pub fn horizon(&self) -> Span {
        self.horizon
    }

    /// Bytes held, the same at all times.
    pub fn bytes(&self) -> usize {
        self.states.bytes() + self.pairs.bytes() + self.sessions.bytes() + self.things.bytes()
    }

    /// Learns from a request: it follows what its session asked for within the horizon before.
    pub fn on_visit(&mut self, visit: &Visit) {
        self.things.touch(visit.thing).visit(visit.at);
        let session = if visit.session == 0 { Session::default() } else { *self.sessions.touch(visit.session) };
        self.credit(&session, visit);
        self.occur(&session, visit);
        if visit.session != 0 {
            let step = Step { thing: visit.thing, params: visit.params, at: visit.at, route: visit.route };
            self.sessions.touch(visit.session).push(step);
        }
    }

    /// Credits the states of the session's last requests, each once, up to the last time the same was asked for.
    fn credit(&mut self, session: &Session, visit: &Visit) {
        let now = seconds(visit.at);
        for (n, step) in session.steps().enumerate() {
            let delay = visit.at.since(step.at);
            if delay > self.horizon || step.thing == visit.thing {
                break;
            }
            if session.steps().take(n).any(|later| later.thing == step.thing) {
                continue;
            }
            let delay = delay_of(delay.as_secs_f64() / self.horizon.as_secs_f64());
            self.states.touch(step.thing).follow(visit.thing, visit.route, delay, now);
            if let Some(before) = session.back(n + 1) {
                self.pairs.touch(order_2(before.thing, step.thing)).follow(visit.thing, visit.route, delay, now);
            }
            let first_of_route = !session.steps().take(n).any(|later| later.route == step.route);
            if first_of_route {
                self.pairs.touch(route_state(step.route)).follow(u64::from(visit.route), visit.route, delay, now);
            }
            if visit.params != 0 && step.params == visit.params && step.route != visit.route {
                self.pairs.touch(template_state(step.route)).follow(u64::from(visit.route), visit.route, delay, now);
            }
        }
    }

    /// The visit itself is a new occurrence of its states.
    fn occur(&mut self, session: &Session, visit: &Visit) {
        let now = seconds(visit.at);
        self.states.touch(visit.thing).occur(now);
        if let Some(before) = session.back(0).filter(|step| visit.at.since(step.at) <= self.horizon) {
            self.pairs.touch(order_2(before.thing, visit.thing)).occur(now);
        }
        self.pairs.touch(route_state(visit.route)).occur(now);
        if visit.params != 0 {
            self.pairs.touch(template_state(visit.route)).occur(now);
        }
    }
}
