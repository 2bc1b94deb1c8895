//! The state of a flight: one call that fills a key, its leader, and those who wait for it.
//!
//! Pure: [`Flight::step`] takes an event and tells what is to be done; `farthing-cache` does it. The invariants:
//! - at most one leader at any time; a leader that goes away before the head hands over to exactly one follower, at most
//!   [`Limits::max_handovers`] times, not counting those who had no room for the call;
//! - every follower is told exactly one thing, or left by itself;
//! - sharing is decided once; nobody attaches after byte 0 was let go, after the end, or after a purge.

use std::collections::BTreeSet;

use farthing_types::{Span, Time, UncachedReason};

/// One who waits in a flight.
pub type Follower = u64;

/// Bounds of a flight.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most followers of a flight, readers included.
    pub max_followers: usize,
    /// How often a flight may change hands before its followers are told [`Wake::LeaderGone`].
    pub max_handovers: u32,
    /// How long a key whose answer could not be shared lets everyone pass.
    pub hit_for_miss: Span,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Someone asks for the key.
    Join,
    /// Someone asks for the key without `Authorization`: what is only known of authorised requests says nothing of this one.
    JoinPlain,
    /// A waiting follower went away.
    Leave(Follower),
    /// The leader went away without an outcome (panic, cancel).
    LeaderGone,
    /// The leader has no room for the call: whoever follows may have some.
    HeldBack,
    /// The head came and everyone may have the answer.
    Share,
    /// The head came and the answer is the leader's alone: its own client reads it, nobody else.
    Alone(UncachedReason),
    /// The head came and is about the leader's request, and says nothing of what others would get: its own client reads it, all others join again. `authorized`:
    /// because it was authorised, so that requests which are, too, make their own calls for a while.
    OfAsker {
        /// Why it is the leader's alone.
        reason: UncachedReason,
        /// Whether the leader's `Authorization` is all that makes it so.
        authorized: bool,
    },
    /// The call failed.
    Fail,
    /// Byte 0 of the body is held no longer.
    Slid,
    /// What the flight will bring was purged meanwhile: nobody else may join it.
    Purged,
    /// The body ended or broke off and its outcome is settled.
    End,
}

/// What followers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Here is the head and the body as it comes.
    Share,
    /// Make your own call.
    Alone(UncachedReason),
    /// The answer was about another's request: join again.
    Another,
    /// The call failed.
    Fail,
    /// Leaders went away too often.
    LeaderGone,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The joiner waits under this id.
    Follow(Follower),
    /// The joiner reads along from byte 0.
    Attach,
    /// The joiner makes its own call, without a ticket.
    Pass(UncachedReason),
    /// The joiner is refused: too many wait already.
    Crowded,
    /// The joiner leads a new flight that takes this one's place.
    Supersede,
    /// This follower becomes the leader.
    HandOver(Follower),
    /// These followers are told this.
    Wake(Vec<Follower>, Wake),
    /// The flight leaves the map.
    Forget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A leader works; no head yet.
    Filling,
    /// The body streams and may be joined from byte 0.
    Streaming,
    /// The body streams, byte 0 is gone.
    Sliding,
    /// Over; the key lets everyone pass until then.
    Marked(UncachedReason, Time),
    /// Over.
    Over,
}

/// One flight.
#[derive(Debug)]
pub struct Flight {
    limits: Limits,
    phase: Phase,
    waiting: BTreeSet<Follower>,
    next: Follower,
    /// The leader's own client.
    own: Option<Follower>,
    handovers: u32,
    purged: bool,
    /// What it marks is known of authorised requests only.
    of_authorized: bool,
}

impl Flight {
    /// A flight whose leader has just been appointed.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Filling,
            waiting: BTreeSet::new(),
            next: 0,
            own: None,
            handovers: 0,
            purged: false,
            of_authorized: false,
        }
    }

    /// Followers that wait for the head.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether it is over (a marker counts as over).
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over | Phase::Marked(..))
    }

    /// Whether it is only a marker, and until when.
    pub const fn marked_until(&self) -> Option<Time> {
        match self.phase {
            Phase::Marked(_, until) => Some(until),
            _ => None,
        }
    }

    /// Takes an event that happened at `now`; returns what is to be done, in order.
    pub fn step(&mut self, event: Event, now: Time) -> Vec<Action> {
        match event {
            Event::JoinPlain if self.of_authorized => vec![Action::Supersede],
            Event::Join | Event::JoinPlain => vec![self.join(now)],
            Event::Leave(follower) => {
                self.waiting.remove(&follower);
                Vec::new()
            }
            Event::LeaderGone => self.leader_gone(1),
            Event::HeldBack => self.leader_gone(0),
            Event::Share if self.phase == Phase::Filling => {
                self.phase = Phase::Streaming;
                self.wake(Wake::Share)
            }
            Event::Alone(reason) if self.phase == Phase::Filling => {
                let mut actions = self.wake_own(Wake::Alone(reason));
                actions.extend(self.mark(reason, now));
                actions
            }
            Event::OfAsker { reason, authorized } if self.phase == Phase::Filling => {
                let mut actions = self.wake_own(Wake::Another);
                if authorized {
                    self.of_authorized = true;
                    actions.extend(self.mark(reason, now));
                } else {
                    self.phase = Phase::Over;
                    actions.push(Action::Forget);
                }
                actions
            }
            Event::Fail if self.phase == Phase::Filling => self.over(Wake::Fail),
            Event::Slid if self.phase == Phase::Streaming => {
                self.phase = Phase::Sliding;
                Vec::new()
            }
            Event::Purged => self.purge(),
            Event::End if !self.is_over() => self.over(Wake::LeaderGone),
            Event::Share | Event::Alone(_) | Event::OfAsker { .. } | Event::Fail | Event::Slid | Event::End => Vec::new(),
        }
    }

    /// Registers the leader's own client, which follows like the others but also gets an answer that is not shared.
    /// Always possible while the head has not come.
    pub fn own_follower(&mut self) -> Follower {
        let id = self.follower();
        self.own = Some(id);
        id
    }

    fn follower(&mut self) -> Follower {
        let id = self.next;
        self.next += 1;
        self.waiting.insert(id);
        id
    }

    fn join(&mut self, now: Time) -> Action {
        match self.phase {
            Phase::Marked(reason, until) if now < until && !self.purged => Action::Pass(reason),
            Phase::Over | Phase::Marked(..) => Action::Supersede,
            _ if self.purged => Action::Supersede,
            Phase::Sliding => Action::Pass(UncachedReason::TooLarge),
            Phase::Streaming => Action::Attach,
            Phase::Filling if self.waiting.len() >= self.limits.max_followers => Action::Crowded,
            Phase::Filling => Action::Follow(self.follower()),
        }
    }

    /// Hands over; `counted` of the times that a flight may change hands are used up by that.
    fn leader_gone(&mut self, counted: u32) -> Vec<Action> {
        if self.phase != Phase::Filling {
            return self.step(Event::End, Time::ZERO);
        }
        if counted > 0 && self.handovers >= self.limits.max_handovers {
            return self.over(Wake::LeaderGone);
        }
        self.own = None;
        match self.waiting.pop_first() {
            Some(heir) => {
                self.handovers += counted;
                vec![Action::HandOver(heir)]
            }
            None => self.over(Wake::LeaderGone),
        }
    }

    fn purge(&mut self) -> Vec<Action> {
        let first = !std::mem::replace(&mut self.purged, true);
        if first && matches!(self.phase, Phase::Marked(..)) {
            self.phase = Phase::Over;
        }
        if first { vec![Action::Forget] } else { Vec::new() }
    }

    /// Gives the answer to the leader's own client, and tells all others something else.
    fn wake_own(&mut self, others: Wake) -> Vec<Action> {
        let own = self.own.take().filter(|own| self.waiting.remove(own));
        let mut actions: Vec<Action> = own.map(|own| Action::Wake(vec![own], Wake::Share)).into_iter().collect();
        actions.extend(self.wake(others));
        actions
    }

    /// Lets all who come pass for a while, unless nothing is to be remembered.
    fn mark(&mut self, reason: UncachedReason, now: Time) -> Option<Action> {
        let forgets = self.purged || self.limits.hit_for_miss.is_zero();
        self.phase = if forgets { Phase::Over } else { Phase::Marked(reason, now + self.limits.hit_for_miss) };
        forgets.then_some(Action::Forget)
    }

    fn over(&mut self, wake: Wake) -> Vec<Action> {
        self.phase = Phase::Over;
        let mut actions = self.wake(wake);
        actions.push(Action::Forget);
        actions
    }

    fn wake(&mut self, wake: Wake) -> Vec<Action> {
        let all: Vec<Follower> = std::mem::take(&mut self.waiting).into_iter().collect();
        if all.is_empty() { Vec::new() } else { vec![Action::Wake(all, wake)] }
    }
}

#[cfg(test)]
mod tests;
