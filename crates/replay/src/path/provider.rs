//! What the provider answers: as logged where the call was made, else by what the key's fetches tell.
//!
//! A change lies between two fetches that differ; where in between is drawn uniformly, once per pair of fetches, so that every policy
//! meets the same provider. A call that the log does not have is taken to succeed, with the price and the latency of the key's nearest
//! logged call (of its route, when it has none).

use std::collections::HashMap;

use farthing_freshness::semantics::{Bans, Facts};
use farthing_types::{Draw, DrawKind, Money, Span, Time, UncachedReason};

use super::rows::{CalledRow, Log};

/// How much later than its request a call may begin in a log of real time.
const SLACK: Span = Span::from_millis(200);
/// Refetches, and the share of them that found another answer, from which a route's answers count as different each time.
const MIN_REFETCHES: u32 = 30;
const ALWAYS: f64 = 0.99;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When its head comes.
    pub head: Time,
    /// When its body has ended.
    pub end: Time,
    /// Status; `None` when the call fails.
    pub status: Option<u16>,
    /// Canonical digest; `None` when the body was not read whole.
    pub hash: Option<u64>,
    /// Length of the body.
    pub bytes: u64,
    /// What its head says.
    pub facts: Facts,
    /// What its head forbids.
    pub bans: Bans,
    /// Paid for it.
    pub paid: Option<Money>,
    /// Attempts that reach the provider.
    pub attempts: u32,
    /// Price of one full answer.
    pub price: Option<Money>,
    /// Parameters of the query.
    pub query_parameters: u32,
    /// The body was too large to be held, or broke off.
    pub unheld: bool,
    /// Why its body forbade to keep it; the body itself is not in the log.
    pub content: Option<UncachedReason>,
    /// The logged call behind it; `None` for a modelled one.
    pub logged: Option<u32>,
}

/// A fetch of a key: when, and what it found.
#[derive(Clone, Copy)]
struct Sighting {
    at: Time,
    hash: u64,
}

/// What is known of a route.
#[derive(Clone, Copy, Default)]
struct RouteFacts {
    refetches: u32,
    changed: u32,
    last: Option<u32>,
    /// Price of a 304, once one was seen.
    confirm: Option<Option<Money>>,
}

/// The provider.
pub struct Provider<'a> {
    log: &'a Log,
    draw: Draw,
    /// Calls of each key, by their start.
    calls: Vec<Vec<u32>>,
    ids: HashMap<u64, u32>,
    used: Vec<bool>,
    sightings: Vec<Vec<Sighting>>,
    routes: Vec<RouteFacts>,
}

/// What is asked of the provider.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The key.
    pub key: u32,
    /// The route.
    pub route: u16,
    /// When the call begins.
    pub at: Time,
    /// The call that the log names for the request; 0 when it names none.
    pub named: u64,
    /// The log says that the provider failed the request.
    pub failed: bool,
    /// Digest and full price of the copy that a conditional call may confirm.
    pub confirms: Option<(u64, Option<Money>)>,
}

impl<'a> Provider<'a> {
    /// The provider behind a log.
    pub fn new(log: &'a Log, seed: u64) -> Self {
        let mut provider = Self {
            log,
            draw: Draw::new(seed),
            calls: vec![Vec::new(); log.keys.len()],
            ids: HashMap::with_capacity(log.called.len()),
            used: vec![false; log.called.len()],
            sightings: vec![Vec::new(); log.keys.len()],
            routes: vec![RouteFacts::default(); log.routes.len()],
        };
        for (index, call) in log.called.iter().enumerate() {
            provider.learn(u32::try_from(index).unwrap_or(u32::MAX), call);
        }
        provider.sightings.iter_mut().for_each(|seen| seen.sort_by_key(|s| s.at));
        provider
    }

    fn learn(&mut self, index: u32, call: &CalledRow) {
        let key = call.key as usize;
        let Some(route) = self.routes.get_mut(usize::from(call.route)) else { return };
        if call.status == Some(304) {
            route.confirm = Some(call.paid);
        } else if call.status.is_some_and(|s| s < 400) {
            route.last = Some(index);
        }
        let seen = &mut self.sightings[key];
        // A 304 confirms what was seen last.
        let hash = call.hash.or(seen.last().map(|last| last.hash).filter(|_| call.status == Some(304)));
        if let (Some(hash), Some(200..=299 | 304)) = (hash, call.status) {
            if let Some(last) = seen.last() {
                route.refetches += 1;
                route.changed += u32::from(last.hash != hash);
            }
            seen.push(Sighting { at: call.head, hash });
        }
        self.calls[key].push(index);
        self.ids.insert(call.id, index);
    }

    /// Whether answers of the route differ from call to call.
    pub fn nondeterministic(&self, route: u16) -> bool {
        self.routes
            .get(usize::from(route))
            .is_some_and(|r| r.refetches >= MIN_REFETCHES && f64::from(r.changed) >= ALWAYS * f64::from(r.refetches))
    }

    /// Digest of what the provider would answer now; `None` when nothing of the key was ever seen.
    pub fn value(&self, key: u32, route: u16, at: Time) -> Option<u64> {
        let seen = self.sightings.get(key as usize)?;
        if self.nondeterministic(route) {
            return Some(self.draw.bits(DrawKind::Sample, "answer", u128::from(key), at.nanos()));
        }
        let after = seen.partition_point(|s| s.at <= at);
        let (Some(before), next) = (after.checked_sub(1).and_then(|i| seen.get(i)).or(seen.first()), seen.get(after)) else { return None };
        let Some(next) = next.filter(|next| next.hash != before.hash && before.at <= at) else { return Some(before.hash) };
        Some(if at < self.change(key, before.at, next.at) { before.hash } else { next.hash })
    }

    /// When, between two fetches that differ, the answer changed.
    fn change(&self, key: u32, before: Time, next: Time) -> Time {
        let part = self.draw.uniform(DrawKind::Sample, "change", u128::from(self.log.keys[key as usize]), before.nanos());
        before + next.since(before).mul_f64(part)
    }

    /// Every change: key, route, moment, length of the body from then on.
    pub fn changes(&self) -> Vec<(u32, u16, Time, u32)> {
        let mut changes = Vec::new();
        for (key, calls) in (0u32..).zip(&self.calls) {
            let mut before: Option<&CalledRow> = None;
            for call in calls.iter().map(|i| &self.log.called[*i as usize]).filter(|c| c.hash.is_some() && c.status.is_some()) {
                if let Some(before) = before.filter(|b| b.hash != call.hash) {
                    let bytes = u32::try_from(call.bytes).unwrap_or(u32::MAX);
                    changes.push((key, call.route, self.change(key, before.head, call.head), bytes));
                }
                before = Some(call);
            }
        }
        changes
    }

    /// Answers a call.
    pub fn answer(&mut self, order: &Order) -> Answer {
        match self.find(order) {
            Some(index) => self.logged(index, order),
            None if order.failed => failing(order),
            None => self.model(order),
        }
    }

    /// The logged call that this one is: the one that the log names for the request, else the next of the key that begins with it.
    fn find(&mut self, order: &Order) -> Option<u32> {
        let named = self.ids.get(&order.named).copied().filter(|i| {
            let call = &self.log.called[*i as usize];
            call.key == order.key && call.start >= order.at && !self.used[*i as usize]
        });
        let found = named.or_else(|| self.next(order))?;
        self.used[found as usize] = true;
        Some(found)
    }

    fn next(&self, order: &Order) -> Option<u32> {
        let calls = self.calls.get(order.key as usize)?;
        let start = |i: &u32| self.log.called[*i as usize].start;
        let from = calls.partition_point(|i| start(i) < order.at);
        calls[from..].iter().take_while(|i| start(i) <= order.at + SLACK).find(|i| !self.used[**i as usize]).copied()
    }

    fn logged(&self, index: u32, order: &Order) -> Answer {
        let call = &self.log.called[index as usize];
        let mut answer = of(call, Some(index));
        // It confirmed a copy that is not held here: the answer comes whole.
        if order.confirms.is_none() && call.status == Some(304) {
            answer.status = Some(200);
            answer.paid = call.price.or(call.paid);
        }
        answer
    }

    /// A call that the log does not have.
    fn model(&self, order: &Order) -> Answer {
        let calls = &self.calls[order.key as usize];
        let called = |i: &u32| &self.log.called[*i as usize];
        let full = |i: &&u32| called(i).status.is_some_and(|s| s < 400 && s != 304);
        let before = calls.partition_point(|i| called(i).start <= order.at);
        let nearest = calls[..before].iter().rev().find(full).or_else(|| calls[before..].iter().find(full));
        let nearest = nearest.copied().or_else(|| self.routes.get(usize::from(order.route))?.last);
        let hash = self.value(order.key, order.route, order.at);
        let Some(index) = nearest else { return unknown(order, hash) };
        let call = &self.log.called[index as usize];
        let mut answer = of(call, None);
        answer.head = order.at + call.head.since(call.start);
        answer.end = answer.head + call.end.since(call.head);
        answer.hash = hash;
        (answer.paid, answer.attempts) = (call.price.or(call.paid), 1);
        let confirm = self.routes.get(usize::from(order.route)).and_then(|r| r.confirm);
        if let (Some((held, price)), Some(paid)) = (order.confirms, confirm)
            && hash == Some(held)
        {
            (answer.status, answer.paid, answer.price) = (Some(304), paid, price);
        }
        answer
    }
}

fn of(call: &CalledRow, logged: Option<u32>) -> Answer {
    use UncachedReason::{Incomplete, Personal, SoftError, Tags, Terms, TooLarge};
    Answer {
        head: call.head,
        end: call.end,
        status: call.status,
        hash: call.hash,
        bytes: call.bytes,
        facts: call.facts.clone(),
        bans: call.bans,
        paid: call.paid,
        attempts: call.attempts,
        price: call.price,
        query_parameters: call.query_parameters,
        unheld: matches!(call.not_stored, Some(Incomplete | TooLarge)),
        content: call.not_stored.filter(|reason| matches!(reason, SoftError | Personal | Tags | Terms)),
        logged,
    }
}

/// A call that failed before anything was sent: it left no row.
fn failing(order: &Order) -> Answer {
    Answer { status: None, hash: None, paid: Some(Money::ZERO), attempts: 0, price: None, ..unknown(order, None) }
}

/// A call to a route of which the log has none.
fn unknown(order: &Order, hash: Option<u64>) -> Answer {
    Answer {
        head: order.at,
        end: order.at,
        status: Some(200),
        hash: hash.or(Some(u64::from(order.key))),
        bytes: 0,
        facts: Facts { date: order.at, ..Facts::default() },
        bans: Bans::default(),
        paid: None,
        attempts: 1,
        price: None,
        query_parameters: 0,
        unheld: false,
        content: None,
        logged: None,
    }
}
