//! One counter of a limit: its buckets, its calls under way, and who waits before it.

use std::sync::Arc;

use farthing_types::{LimitSpec, Span, Time};

use super::bucket::Bucket;
use super::line::{Ahead, Line, Place};

/// What one call or attempt uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Tokens that are reserved for it.
    pub tokens: u64,
}

/// Whether a counter has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It has.
    Now,
    /// It will have after so long, if nobody else takes it.
    After(Span),
    /// When a call ends.
    Slot,
}

/// A counter of a limit.
#[derive(Debug)]
pub struct Counter {
    /// Number of its limit.
    pub limit: u32,
    /// Whose it is; empty where all share it.
    pub unit: Arc<str>,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    most: Option<u32>,
    /// Calls under way.
    pub running: u32,
    /// Reservations that are not settled.
    pub open: u32,
    /// Nothing before then: the provider has asked for that.
    held_until: Time,
    pub line: Line,
}

impl Counter {
    /// One that nothing has used.
    pub fn new(limit: u32, unit: Arc<str>, spec: &LimitSpec, now: Time) -> Self {
        Self {
            limit,
            unit,
            requests: spec.requests.map(|rate| Bucket::new(rate, now)),
            tokens: spec.tokens.map(|rate| Bucket::new(rate, now)),
            most: spec.concurrency,
            running: 0,
            open: 0,
            held_until: Time::from_nanos(i64::MIN),
            line: Line::default(),
        }
    }

    /// As many tokens as are reserved for a call: no more than can be there at a time.
    pub fn amount(&self, cost: Cost) -> u64 {
        self.tokens.as_ref().map_or(0, |bucket| bucket.holds(cost.tokens))
    }

    /// Whether it has room, and when.
    pub fn room(&mut self, cost: Cost, now: Time) -> Room {
        let wait = self.wait(Ahead { requests: 1, tokens: self.amount(cost) }, now);
        match self.most {
            _ if !wait.is_zero() => Room::After(wait),
            Some(most) if self.running >= most => Room::Slot,
            _ => Room::Now,
        }
    }

    /// How long its buckets take to bring all that; more than they hold at a time comes in rounds.
    pub fn wait(&mut self, all: Ahead, now: Time) -> Span {
        let one = |bucket: &mut Option<Bucket>, amount: u64| {
            let Some(bucket) = bucket else { return Span::ZERO };
            let held = bucket.holds(amount);
            bucket.wait(held, now) + bucket.takes(amount - held)
        };
        let buckets = one(&mut self.requests, all.requests).max(one(&mut self.tokens, all.tokens));
        buckets.max(self.held_until.since(now))
    }

    /// What a call uses, in nanoseconds of the counter's time: by this tenants share it.
    pub fn work(&self, cost: Cost) -> u64 {
        let one = |bucket: &Option<Bucket>, amount| bucket.as_ref().map_or(Span::ZERO, |bucket| bucket.takes(amount));
        let span = one(&self.requests, 1).max(one(&self.tokens, self.amount(cost)));
        u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// When a waiter that comes now would have its turn, as far as that is known: calls under way may end at any time.
    pub fn turn(&mut self, place: &Place, now: Time) -> Span {
        let ahead = self.line.ahead(&place.tenant, place.priority);
        self.wait(Ahead { requests: ahead.requests + 1, tokens: ahead.tokens.saturating_add(place.tokens) }, now)
    }

    /// Counts a call; `within` where it has room.
    pub fn take(&mut self, cost: Cost, within: bool, now: Time) {
        for (bucket, amount) in [(&mut self.requests, 1), (&mut self.tokens, cost.tokens)] {
            match bucket {
                Some(bucket) if within => bucket.take(bucket.holds(amount), now),
                Some(bucket) => bucket.owe(bucket.holds(amount), now),
                None => {}
            }
        }
        self.running += 1;
        self.open += 1;
    }

    /// A call has ended.
    pub fn end(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// A call that was counted was never made.
    pub fn undo(&mut self, cost: Cost, now: Time) {
        if let Some(bucket) = &mut self.requests {
            bucket.put(1, now);
        }
        self.settle(cost, Some(0), now);
    }

    /// It is known what a call has used; `None`: it never will be, and what was reserved counts.
    pub fn settle(&mut self, cost: Cost, used: Option<u64>, now: Time) {
        self.open = self.open.saturating_sub(1);
        let (Some(bucket), Some(used)) = (&mut self.tokens, used) else { return };
        let reserved = bucket.holds(cost.tokens);
        match used > reserved {
            true => bucket.take(used - reserved, now),
            false => bucket.put(reserved - used, now),
        }
    }

    /// Gives nothing until then.
    pub fn hold(&mut self, until: Time, now: Time) {
        self.held_until = self.held_until.max(until);
        for bucket in [&mut self.requests, &mut self.tokens].into_iter().flatten() {
            bucket.hold(until, now);
        }
    }

    /// What is left of requests and tokens, and until all is there again.
    pub fn left(&mut self, now: Time) -> [Option<(u64, Span)>; 2] {
        [&mut self.requests, &mut self.tokens].map(|bucket| bucket.as_mut().map(|bucket| (bucket.left(now), bucket.until_full(now))))
    }

    /// Requests and tokens that it lacks.
    pub fn missing(&mut self, now: Time) -> [u64; 2] {
        [&mut self.requests, &mut self.tokens].map(|bucket| bucket.as_mut().map_or(0, |bucket| bucket.missing(now)))
    }

    /// Lacks that much of them, too.
    pub fn take_over(&mut self, missing: [u64; 2], now: Time) {
        for (bucket, missing) in [&mut self.requests, &mut self.tokens].into_iter().zip(missing) {
            if let Some(bucket) = bucket {
                bucket.owe(missing, now);
            }
        }
    }

    /// How long it gives nothing yet.
    pub fn held(&self, now: Time) -> Span {
        self.held_until.since(now)
    }

    /// Whether it is as new: then nothing is lost by forgetting it.
    pub fn is_idle(&mut self, now: Time) -> bool {
        let full = self.left(now).into_iter().flatten().all(|(_, wait)| wait.is_zero());
        full && self.open == 0 && self.running == 0 && self.line.is_empty() && self.held(now).is_zero()
    }
}
