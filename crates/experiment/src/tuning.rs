//! Which value of a number of a plan is tried next, and what its experiment leads to. The search is pure: who runs it begins the experiment that it
//! asks for, one at a time, and tells it the verdict.
//!
//! A round looks at the neighbours of the value in force, one on each side, each in an experiment of its own against that value. What is `better` is in
//! force from then on and its next neighbour on that side is looked at; nothing else moves the value. A round ends when both sides are closed, so it has at
//! most two experiments in which nothing is promoted, and at half of the error probability each it promotes without a reason no more often than one
//! experiment finds without one ([`ROUND_ALPHA`]).

use farthing_types::{Overrides, Span, Time};
use serde::{Deserialize, Serialize};

use crate::answer::Verdict;
use crate::unit::{self, UnitKind};

/// Error probability of a round: that it moves a value although nothing is gained by it.
pub const ROUND_ALPHA: f64 = 0.05;
/// Experiments of a round that can end without a promotion: one on each side.
const SIDES: f64 = 2.0;
/// A neighbour of a time is so many times as long, or as short.
const FACTOR: f64 = 2.0;
/// Below this share of its upper bound a time that may be nothing is nothing.
const NOTHING: f64 = 1.0 / 32.0;
/// A time that is nothing begins with this share of its upper bound.
const SOMETHING: f64 = 1.0 / 8.0;
/// How far a neighbour of a probability is.
const STEP: f64 = 0.1;
/// A neighbour that is nearer than this share of a usual step is not worth an experiment.
const WORTH: f64 = 0.2;

/// A number of a route's plan that experiments may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Knob {
    /// How long calls of a batch wait for each other, milliseconds.
    BatchWindow,
    /// How long before their expiry entries are refreshed, milliseconds.
    RefreshAhead,
    /// Least probability of use at which a call is made ahead.
    PrefetchConfidence,
}

impl Knob {
    /// All of them, in the order in which they are looked at.
    pub const ALL: [Self; 3] = [Self::BatchWindow, Self::RefreshAhead, Self::PrefetchConfidence];

    /// The stable string: the key of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BatchWindow => "batch_window",
            Self::RefreshAhead => "refresh_ahead",
            Self::PrefetchConfidence => "prefetch_confidence",
        }
    }

    /// What a variant with this value changes about the plan. Times are rounded to milliseconds.
    pub fn overrides(self, value: f64) -> Overrides {
        let millis = Some(value.max(0.0).round() as u64);
        match self {
            Self::BatchWindow => Overrides { batch_window_ms: millis, ..Overrides::default() },
            Self::RefreshAhead => Overrides { refresh_ahead_ms: millis, ..Overrides::default() },
            Self::PrefetchConfidence => Overrides { prefetch_confidence: Some(value), ..Overrides::default() },
        }
    }

    /// A value as a configuration would say it.
    pub fn text(self, value: f64) -> String {
        if self.is_time() { format!("{}ms", value.round()) } else { format!("{value}") }
    }

    /// The finest unit that it may be compared by.
    pub fn unit(self) -> UnitKind {
        unit::finest([&self.overrides(0.0)])
    }

    const fn is_time(self) -> bool {
        matches!(self, Self::BatchWindow | Self::RefreshAhead)
    }

    /// As it can be written: whole milliseconds, thousandths of a probability.
    fn rounded(self, value: f64) -> f64 {
        if self.is_time() { value.round() } else { (value * 1_000.0).round() / 1_000.0 }
    }

    fn next(self, value: f64, (side, (low, high)): (Side, (f64, f64))) -> f64 {
        let wanted = match (self.is_time(), side) {
            (true, Side::Up) if value <= 0.0 => (high * SOMETHING).max(1.0),
            (true, Side::Up) => value * FACTOR,
            (true, Side::Down) if low <= 0.0 && value <= high * NOTHING => 0.0,
            (true, Side::Down) => value / FACTOR,
            (false, Side::Up) => value + STEP,
            (false, Side::Down) => value - STEP,
        };
        self.rounded(wanted.clamp(low, high))
    }

    /// How many usual steps lie between two values.
    fn steps(self, from: f64, to: f64) -> f64 {
        match (self.is_time(), from.min(to) <= 0.0) {
            (true, false) => (to / from).ln().abs() / FACTOR.ln(),
            (true, true) => f64::from(u8::from(from != to)),
            (false, _) => (to - from).abs() / STEP,
        }
    }
}

/// On which side of the value in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Above.
    Up,
    /// Below.
    Down,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// A value that is to be tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The value.
    pub value: f64,
    /// The value in force, which it is compared with.
    pub against: f64,
    /// On which side of it.
    pub side: Side,
    /// Why this one.
    pub why: String,
}

/// What an experiment over a candidate came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is in force.
    Promoted,
    /// It costs more, harms, or was decided against.
    Worse,
    /// Whatever difference there is, it is not worth a change.
    Same,
    /// It was not shown in time, or an operator has stopped it.
    Untold,
}

impl Outcome {
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Worse => "worse",
            Self::Same => "same",
            Self::Untold => "untold",
        }
    }
}

/// What a verdict about a candidate leads to; `None`: the experiment goes on. Nothing but `better` moves the value.
pub fn outcome(verdict: &Verdict, time_is_over: bool) -> Option<Outcome> {
    match verdict {
        Verdict::Better => Some(Outcome::Promoted),
        Verdict::Worse => Some(Outcome::Worse),
        Verdict::NoWorthwhileDifference => Some(Outcome::Same),
        Verdict::KeepRunning { .. } | Verdict::NotValid { .. } => time_is_over.then_some(Outcome::Untold),
    }
}

/// The search for one value on one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Search {
    knob: Knob,
    /// As configured: where it begins.
    start: f64,
    low: f64,
    high: f64,
    value: f64,
    /// Sides on which nothing is to be looked for any more in this round.
    up_closed: bool,
    down_closed: bool,
    heading: Option<Side>,
    settled: Option<Time>,
    rounds: u32,
}

impl Search {
    /// It begins at `start`, which lies between the bounds.
    pub fn new(knob: Knob, start: f64, (low, high): (f64, f64)) -> Self {
        let start = knob.rounded(start);
        let value = start.clamp(low, high);
        Self { knob, start, low, high, value, up_closed: false, down_closed: false, heading: None, settled: None, rounds: 1 }
    }

    /// What was kept of the search, where it is about the same: another start or other bounds begin anew.
    pub fn or_kept(self, kept: Option<Self>) -> Self {
        let same = |kept: &Self| kept.knob == self.knob && (kept.start, kept.low, kept.high) == (self.start, self.low, self.high);
        kept.filter(same).unwrap_or(self)
    }

    /// What it is about.
    pub const fn knob(&self) -> Knob {
        self.knob
    }

    /// The value in force.
    pub const fn value(&self) -> f64 {
        self.value
    }

    /// The value that was configured.
    pub const fn start(&self) -> f64 {
        self.start
    }

    /// Between which it may be moved.
    pub const fn bounds(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Since when nothing is left to look at; `None` while a round goes on.
    pub const fn settled(&self) -> Option<Time> {
        self.settled
    }

    /// Rounds that have begun.
    pub const fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Error probability of an experiment of a round.
    pub fn alpha() -> f64 {
        ROUND_ALPHA / SIDES
    }

    /// Begins another round, where the last one ended `again` ago: what was best then may not be now.
    pub fn renew(&mut self, now: Time, again: Span) {
        if self.settled.is_some_and(|at| now.since(at) >= again) {
            (self.up_closed, self.down_closed, self.heading, self.settled) = (false, false, None, None);
            self.rounds = self.rounds.saturating_add(1);
        }
    }

    /// The value to try next; `None` where the round is over, which is noted.
    pub fn candidate(&mut self, now: Time) -> Option<Candidate> {
        if self.settled.is_some() {
            return None;
        }
        let found = self.wanted();
        if found.is_none() {
            self.settled = Some(now);
        }
        found
    }

    fn wanted(&self) -> Option<Candidate> {
        let (knob, value) = (self.knob, self.value);
        let room = |side: Side| knob.steps(value, if side == Side::Up { self.high } else { self.low });
        let first = self.heading.unwrap_or(if room(Side::Up) >= room(Side::Down) { Side::Up } else { Side::Down });
        let open = |side: &Side| !if *side == Side::Up { self.up_closed } else { self.down_closed };
        [first, first.other()].into_iter().filter(open).find_map(|side| {
            let next = knob.next(value, (side, (self.low, self.high)));
            // At a bound, or so near to it that nothing could be told.
            (knob.steps(value, next) >= WORTH).then(|| Candidate { value: next, against: value, side, why: self.why(side, &open) })
        })
    }

    fn why(&self, side: Side, open: &impl Fn(&Side) -> bool) -> String {
        let (above, bound) = match side {
            Side::Up => ("above", self.high),
            Side::Down => ("below", self.low),
        };
        let (value, bound) = (self.knob.text(self.value), self.knob.text(bound));
        match self.heading {
            Some(heading) if heading == side => format!("{value} was better, so what lies {above} it, up to the bound {bound}"),
            _ if !open(&side.other()) => format!("the other side of {value} is closed, so what lies {above} it, up to the bound {bound}"),
            _ => format!("there is most room {above} {value}, up to the bound {bound}"),
        }
    }

    /// Learns what became of a candidate.
    pub fn learn(&mut self, candidate: &Candidate, outcome: Outcome) {
        match outcome {
            Outcome::Promoted => {
                self.value = candidate.value.clamp(self.low, self.high);
                self.heading = Some(candidate.side);
                // What lies behind is what it was better than.
                self.close(candidate.side.other());
            }
            Outcome::Worse | Outcome::Same | Outcome::Untold => self.close(candidate.side),
        }
    }

    const fn close(&mut self, side: Side) {
        match side {
            Side::Up => self.up_closed = true,
            Side::Down => self.down_closed = true,
        }
    }
}

#[cfg(test)]
#[path = "tuning_tests.rs"]
mod tests;
