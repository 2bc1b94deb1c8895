//! One counter of a limit: its buckets, its calls under way, and who waits before it.

use std::sync::Arc;

use farthing_types::{LimitSpec, RateSpec, Span, Time};

use super::bucket::{Bucket, NEVER, Shares, WHOLE};
use super::line::{Ahead, Line, Place};

/// So long it takes, about, until it is known what share others leave to an instance.
const ASKED: Span = Span::from_secs(1);

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
    /// When a call ends, or the instance has a greater share.
    Slot,
}

/// What an instance has of all limits without asking: a share of each rate and burst, and of calls at a time, of [`WHOLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Of rates.
    pub rate: u32,
    /// Of bursts.
    pub burst: u32,
    /// Of calls at a time.
    pub slots: u32,
    /// Nothing of it may be used yet.
    pub closed: bool,
}

impl Standing {
    /// Of an instance that shares with nobody.
    pub const ALL: Self = Self { rate: WHOLE, burst: WHOLE, slots: WHOLE, closed: false };
    /// Of one that has nothing.
    pub const NOTHING: Self = Self { rate: 0, burst: 0, slots: 0, closed: true };

    /// How many calls at a time it has of these: one at least, where it has any share.
    pub fn calls(slots: u32, all: u32) -> u32 {
        let part = u64::from(all) * u64::from(slots) / u64::from(WHOLE);
        u32::try_from(part).unwrap_or(u32::MAX).max(u32::from(slots > 0)).min(all)
    }
}

/// Another share of a counter's rate than the standing one, for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The share.
    pub rate: u32,
    /// Until when.
    pub until: Time,
    /// It is less than the standing one, which others use meanwhile.
    pub lent: bool,
}

impl Moved {
    /// The share of the rate, beside that standing one.
    pub fn beside(&self, standing: u32) -> u32 {
        if self.lent { self.rate.min(standing) } else { self.rate.max(standing) }
    }
}

/// By which begin a counter opens.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'a> {
    /// What the instance has.
    pub standing: Standing,
    /// What it has of this counter's rate.
    pub moved: Option<Moved>,
    /// Since when it has had which share of rates and bursts; nothing before.
    pub history: &'a [(Time, u32)],
    /// Nobody had used anything at the begin of that.
    pub full: bool,
}

impl Begin<'_> {
    /// Of an instance that shares with nobody.
    pub const ALONE: Self = Self { standing: Standing::ALL, moved: None, history: &[], full: true };

    /// A bucket as it is when nobody has used it here so far.
    fn bucket(&self, rate: RateSpec, now: Time) -> Bucket {
        let Some((&(began, first), later)) = self.history.split_first() else {
            let Standing { rate: share, burst, .. } = self.standing;
            return Bucket::new(rate, Shares { rate: share, burst }, self.full, now);
        };
        let mut bucket = Bucket::new(rate, Shares::of(first), self.full, began);
        later.iter().for_each(|(at, share)| bucket.share(Shares::of(*share), *at));
        bucket
    }
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
    /// Calls at a time, of all instances together.
    most: Option<u32>,
    standing: Standing,
    moved: Option<Moved>,
    /// What was asked for since it was looked at last: requests and tokens.
    asked: [u64; 2],
    /// Somebody found no room since then.
    pub short: bool,
    /// How others know it.
    pub mark: u128,
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
    pub fn new((limit, unit): (u32, Arc<str>), spec: &LimitSpec, begin: &Begin<'_>, now: Time) -> Self {
        let bucket = |rate| begin.bucket(rate, now);
        let mut counter = Self {
            limit,
            unit,
            requests: spec.requests.map(bucket),
            tokens: spec.tokens.map(bucket),
            most: spec.concurrency,
            standing: begin.standing,
            moved: None,
            asked: [0; 2],
            short: false,
            mark: 0,
            running: 0,
            open: 0,
            held_until: Time::from_nanos(i64::MIN),
            line: Line::default(),
        };
        counter.set_moved(begin.moved, now);
        counter
    }

    fn buckets(&mut self) -> impl Iterator<Item = &mut Bucket> {
        [&mut self.requests, &mut self.tokens].into_iter().flatten()
    }

    /// The share of the rate ends with its time, whenever that is noticed.
    fn turn_over(&mut self, now: Time) {
        if let Some(moved) = self.moved.filter(|moved| moved.until <= now) {
            self.moved = None;
            self.reshare(moved.until);
        }
    }

    fn reshare(&mut self, now: Time) {
        let shares = Shares { rate: self.rate(), burst: self.standing.burst };
        self.buckets().for_each(|bucket| bucket.share(shares, now));
    }

    /// What the instance has of its rate.
    pub fn rate(&self) -> u32 {
        self.moved.map_or(self.standing.rate, |moved| moved.beside(self.standing.rate))
    }

    /// The instance has another standing share.
    pub fn set_standing(&mut self, standing: Standing, now: Time) {
        self.turn_over(now);
        self.standing = standing;
        self.reshare(now);
    }

    /// Nobody has used anything of it.
    pub fn fill_up(&mut self, now: Time) {
        self.buckets().for_each(|bucket| bucket.put(u64::MAX, now));
    }

    /// The instance has another share of its rate.
    pub fn set_moved(&mut self, moved: Option<Moved>, now: Time) {
        self.turn_over(now);
        if self.moved != moved {
            self.moved = moved;
            self.reshare(now);
        }
    }

    /// Whether as many calls are under way as such a share has room for, at most.
    pub fn fits(&self, slots: u32) -> bool {
        self.most.is_none_or(|most| self.running <= Standing::calls(slots, most))
    }

    /// Notes what a call asks for.
    pub fn ask(&mut self, cost: Cost) {
        self.asked[0] += 1;
        self.asked[1] = self.asked[1].saturating_add(self.amount(cost));
    }

    /// What share of its rate was asked for in this time, since that was asked last; all, where somebody found no room.
    pub fn wanted(&mut self, span: Span) -> u32 {
        let [requests, tokens] = std::mem::take(&mut self.asked);
        let one = |bucket: &Option<Bucket>, amount| bucket.as_ref().map_or(0, |bucket| bucket.share_of(amount, span));
        let asked = one(&self.requests, requests).max(one(&self.tokens, tokens));
        let short = std::mem::take(&mut self.short) || !self.line.is_empty();
        if short { WHOLE } else { asked }
    }

    /// It counts by other rates from now on. What was given is missing from them; a rate that it did not have begins full.
    pub fn respecify(&mut self, spec: &LimitSpec, now: Time) {
        self.turn_over(now);
        let shares = Shares { rate: self.rate(), burst: self.standing.burst };
        let held_until = self.held_until;
        let amend = |bucket: &mut Option<Bucket>, rate: Option<RateSpec>| match (bucket.as_mut(), rate) {
            (Some(bucket), Some(rate)) => bucket.respecify(rate, now),
            (None, Some(rate)) => {
                let mut fresh = Bucket::new(rate, shares, true, now);
                if held_until > now {
                    fresh.hold(held_until, now);
                }
                *bucket = Some(fresh);
            }
            (_, None) => *bucket = None,
        };
        amend(&mut self.requests, spec.requests);
        amend(&mut self.tokens, spec.tokens);
        self.most = spec.concurrency;
    }

    /// Whether it has a rate, so that shares of it can move.
    pub fn has_rate(&self) -> bool {
        self.requests.is_some() || self.tokens.is_some()
    }

    /// As many tokens as are reserved for a call: no more than can be there at a time.
    pub fn amount(&self, cost: Cost) -> u64 {
        self.tokens.as_ref().map_or(0, |bucket| bucket.holds(cost.tokens))
    }

    /// Whether it has room, and when.
    pub fn room(&mut self, cost: Cost, now: Time) -> Room {
        if self.standing.closed {
            return Room::Slot;
        }
        let wait = self.one(cost, now);
        match self.most {
            _ if wait >= NEVER => Room::Slot,
            _ if !wait.is_zero() => Room::After(wait),
            Some(most) if self.running >= Standing::calls(self.standing.slots, most) => Room::Slot,
            _ => Room::Now,
        }
    }

    /// How long until one call may go: one that uses more than its buckets hold goes when they are full, and they owe the rest.
    fn one(&mut self, cost: Cost, now: Time) -> Span {
        self.turn_over(now);
        let tokens = self.amount(cost);
        let one = |bucket: &mut Option<Bucket>, amount| bucket.as_mut().map_or(Span::ZERO, |bucket| bucket.wait(amount, now));
        one(&mut self.requests, 1).max(one(&mut self.tokens, tokens)).max(self.held_until.since(now))
    }

    /// How long its buckets take to bring all that; more than they hold at a time comes in rounds.
    pub fn wait(&mut self, all: Ahead, now: Time) -> Span {
        self.turn_over(now);
        let one = |bucket: &mut Option<Bucket>, amount: u64| {
            let Some(bucket) = bucket else { return Span::ZERO };
            let held = bucket.fits(amount);
            (bucket.wait(held, now) + bucket.takes(amount - held)).min(NEVER)
        };
        let buckets = one(&mut self.requests, all.requests).max(one(&mut self.tokens, all.tokens));
        buckets.max(self.held_until.since(now))
    }

    /// What a call uses, in nanoseconds of the whole limit's time: by this tenants share it.
    pub fn work(&self, cost: Cost) -> u64 {
        let span = self.weighs(Ahead { requests: 1, tokens: self.amount(cost) });
        u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// When a waiter that comes now would have its turn, as far as that is known: calls under way may end at any time.
    pub fn turn(&mut self, place: &Place, now: Time) -> Span {
        let ahead = self.line.ahead(&place.tenant, place.priority);
        let all = Ahead { requests: ahead.requests + 1, tokens: ahead.tokens.saturating_add(place.tokens) };
        match self.wait(all, now) {
            // What it will have is asked for; until that is known, the whole limit is the measure.
            wait if wait >= NEVER => ASKED + self.weighs(all),
            wait => wait,
        }
    }

    fn weighs(&self, all: Ahead) -> Span {
        let one = |bucket: &Option<Bucket>, amount| bucket.as_ref().map_or(Span::ZERO, |bucket| bucket.weighs(amount));
        one(&self.requests, all.requests).max(one(&self.tokens, all.tokens))
    }

    /// Counts a call; `within` where it has room.
    pub fn take(&mut self, cost: Cost, within: bool, now: Time) {
        self.turn_over(now);
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
        self.turn_over(now);
        if let Some(bucket) = &mut self.requests {
            bucket.put(1, now);
        }
        self.settle(cost, Some(0), now);
    }

    /// It is known what a call has used; `None`: it never will be, and what was reserved counts.
    pub fn settle(&mut self, cost: Cost, used: Option<u64>, now: Time) {
        self.turn_over(now);
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
        self.turn_over(now);
        self.held_until = self.held_until.max(until);
        self.buckets().for_each(|bucket| bucket.hold(until, now));
    }

    /// What is left of requests and tokens, and until all is there again.
    pub fn left(&mut self, now: Time) -> [Option<(u64, Span)>; 2] {
        self.turn_over(now);
        let full = |bucket: &mut Bucket| match bucket.until_full(now) {
            // Others have its rate for a moment.
            wait if wait >= NEVER => {
                let missing = bucket.missing(now);
                bucket.weighs(missing)
            }
            wait => wait,
        };
        [&mut self.requests, &mut self.tokens].map(|bucket| bucket.as_mut().map(|bucket| (bucket.left(now), full(bucket))))
    }

    /// Requests and tokens that it lacks.
    pub fn missing(&mut self, now: Time) -> [u64; 2] {
        self.turn_over(now);
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
