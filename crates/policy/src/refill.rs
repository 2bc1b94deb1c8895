//! Bringing lost copies back without flooding the provider: calls that replace a copy which should still be there wait for their
//! turn, so that the provider sees at most a multiple of the rate before (docs/adr/0008-refill-bound.md).
//!
//! Pure: the time is an argument. What waits and what sleeps is elsewhere.

use farthing_types::{Span, Time};

/// Time constant of the rate of calls.
const MEMORY: Span = Span::from_secs(300);
/// The rate is known after so long ...
const KNOWN_AFTER: Span = Span::from_secs(2);
/// ... and so many calls. A provider that is hardly asked is not flooded either.
const KNOWN_CALLS: f64 = 10.0;
/// Part of the room above the rate that is used: the rest is left for an error of the rate, and for what comes in bursts and
/// cannot be held back.
const USED: f64 = 0.8;
/// Room that may be saved up: what comes in between two ticks of a timer.
const SAVED: Span = Span::from_millis(10);
/// Calls beyond the room of so long are forgiven.
const FORGIVEN: Span = Span::from_secs(10);
/// Nothing held back for so long: what is brought back since belongs to the rate.
const CALM: Span = Span::from_secs(60);
/// What goes on for longer is no cold start, but how this cache is.
const LONGEST: Span = Span::from_secs(900);
/// Most calls that wait for one provider.
const MOST_WAITING: usize = 10_000;

/// How the refill of a provider's copies is bounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefillBound {
    /// Most calls, as a multiple of the rate before; 0: no bound.
    pub factor: f64,
    /// Longest time that a call waits for its turn; then it goes.
    pub wait: Span,
}

/// Why a call goes out, as far as the bound is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Would be made in any case. Never waits; makes the rate.
    Ordinary,
    /// Brings a copy back that was lost.
    Refill,
    /// Ordered by an operator: waits for as long as it takes, behind everybody who has a client.
    Warm,
}

/// Whether it is a call's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It goes. `within` is false when it goes beyond the bound, because it would come too late otherwise.
    Go {
        /// Within the bound.
        within: bool,
    },
    /// To be asked again after this time.
    Wait(Span),
}

/// The calls to one provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Refill {
    bound: RefillBound,
    since: Time,
    /// `calls` and `room` are as of this time.
    at: Time,
    /// Calls that make the rate, each weighing `exp(-age / MEMORY)`.
    calls: f64,
    /// Calls that may go at once; negative after more than that have gone.
    room: f64,
    waiting: usize,
    /// When the last of those who wait must have gone.
    tail: Time,
    /// When a turn was given last.
    released: Time,
    /// First and last time that calls were held back, without a pause of `CALM` between.
    held: Option<(Time, Time)>,
}

impl Refill {
    /// Nothing is known yet, so nothing is bounded.
    pub const fn new(bound: RefillBound, now: Time) -> Self {
        Self { bound, since: now, at: now, calls: 0.0, room: 1.0, waiting: 0, tail: now, released: now, held: None }
    }

    /// Takes over the rate (1/s) that an earlier process has measured.
    pub fn recall(&mut self, rate: f64, now: Time) {
        let calls = rate * MEMORY.as_secs_f64();
        if calls.is_finite() && calls >= KNOWN_CALLS && self.rate().is_none() {
            self.since = now - MEMORY.saturating_mul(20);
            (self.at, self.calls) = (now, calls);
        }
    }

    /// Calls per second, without those that brought lost copies back; `None` while too little is known.
    pub fn rate(&self) -> Option<f64> {
        let seen = self.at.since(self.since);
        let known = self.calls >= KNOWN_CALLS && seen >= KNOWN_AFTER;
        let memory = MEMORY.as_secs_f64();
        known.then(|| self.calls / (memory * -(-seen.as_secs_f64() / memory).exp_m1()))
    }

    /// Calls that wait.
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes a place in the line until `deadline`; false when too many wait.
    pub fn enter(&mut self, deadline: Time) -> bool {
        let enters = self.waiting < MOST_WAITING;
        if enters {
            self.waiting += 1;
            self.tail = self.tail.max(deadline);
        }
        enters
    }

    /// Gives a place in the line back.
    pub const fn leave(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Notes a call that goes out without a turn.
    pub fn called(&mut self, demand: Demand, now: Time) {
        self.advance(now);
        self.charge(demand);
    }

    /// Whether the first in line, who must have gone at `deadline`, may go; if so, it is noted.
    pub fn turn(&mut self, deadline: Time, now: Time) -> Turn {
        self.advance(now);
        let turn = match self.surplus() {
            Some((rate, spare)) if self.room < 1.0 => self.late_or_not(deadline, (rate, spare)),
            _ => Turn::Go { within: true },
        };
        if matches!(turn, Turn::Go { .. }) {
            self.charge(Demand::Refill);
        }
        turn
    }

    /// Whether a call that nobody waits for may go; if so, it is noted.
    pub fn turn_to_warm(&mut self, now: Time) -> Turn {
        self.advance(now);
        match self.surplus() {
            Some((rate, spare)) if self.room < 1.0 || self.waiting > 0 => {
                Turn::Wait(seconds((1.0 - self.room) / (rate + spare)).clamp(Span::from_millis(10), Span::from_secs(1)))
            }
            _ => {
                self.charge(Demand::Warm);
                Turn::Go { within: true }
            }
        }
    }

    /// Whether nothing is being brought back: then a call that can as well be left out holds up nobody.
    pub fn is_calm(&self, now: Time) -> bool {
        self.waiting == 0 && self.held.is_none_or(|(_, last)| now.since(last) > CALM)
    }

    fn late_or_not(&mut self, deadline: Time, (rate, spare): (f64, f64)) -> Turn {
        let now = self.at;
        // More than a second's worth waits: a moment of it is nothing that tells.
        if self.waiting as f64 > spare {
            self.held = match self.held {
                Some((first, last)) if now.since(last) <= CALM => Some((first, now)),
                _ => Some((now, now)),
            };
        }
        if now >= deadline {
            return Turn::Go { within: false };
        }
        let mut due = now + seconds((1.0 - self.room) / (rate + spare));
        let left = self.tail.since(now);
        // Not all can go within the bound and in time: evenly until the last one's time, rather than all at that time.
        if self.waiting as f64 > self.room + spare * left.as_secs_f64() {
            let evenly = self.released + left / u32::try_from(self.waiting.max(1)).unwrap_or(u32::MAX);
            if now >= evenly {
                self.released = evenly.max(now - SAVED);
                return Turn::Go { within: false };
            }
            due = due.min(evenly);
        }
        Turn::Wait(due.min(deadline).since(now).max(Span::from_millis(1)))
    }

    /// The rate, and how much more than it may go out; `None`: no bound.
    fn surplus(&self) -> Option<(f64, f64)> {
        let rate = self.rate().filter(|_| self.bound.factor > 1.0)?;
        Some((rate, rate * USED * (self.bound.factor - 1.0)))
    }

    fn advance(&mut self, now: Time) {
        let passed = now.since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.calls *= (-passed / MEMORY.as_secs_f64()).exp();
        self.room = match self.surplus() {
            Some((rate, spare)) => {
                let allowed = rate + spare;
                let most = (allowed * SAVED.as_secs_f64()).max(1.0);
                (self.room + allowed * passed).clamp(-allowed * FORGIVEN.as_secs_f64(), most)
            }
            None => 1.0,
        };
    }

    fn charge(&mut self, demand: Demand) {
        self.room -= 1.0;
        let calm = self.held.is_none_or(|(first, last)| self.at.since(last) > CALM || self.at.since(first) > LONGEST);
        // Alone it makes no rate: a start with nothing but lost copies would be its own measure.
        let usual = calm && self.rate().is_some();
        if demand == Demand::Ordinary || (demand == Demand::Refill && usual) {
            self.calls += 1.0;
        }
        if demand == Demand::Refill && self.released < self.at {
            self.released = self.at;
        }
    }
}

fn seconds(seconds: f64) -> Span {
    Span::try_from_secs_f64(seconds).unwrap_or(Span::from_secs(1))
}

#[cfg(test)]
#[path = "refill_tests.rs"]
mod tests;
