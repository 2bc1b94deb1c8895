//! All limits and their counters: who may go, who waits, who is refused.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use farthing_types::{LimitScope, LimitSpec, LimitWhy, OnLimit, Priority, Span, Time};

use super::counter::{Begin, Cost, Counter, Room};
use super::fleet::Side;
use super::line::{Place, WaiterId};
use super::queue::{Queue, Waiter};
use super::stats::Stats;
use super::{Ask, Mood, Pass, Refusal, Stage, Verdict, Who, Woken};

/// Counters at a time; further units share one.
const MAX_COUNTERS: usize = 65_536;
/// Where all are in use the idle ones are looked for no more often: that takes a look at each.
const SWEEP_EVERY: Span = Span::from_secs(1);
/// Unit of the counter that they share.
const OTHERS: &str = "(others)";

/// All limits of an instance.
#[derive(Debug, Default)]
pub struct Book {
    pub(super) limits: Vec<Limit>,
    pub(super) counters: Vec<Option<Counter>>,
    free: Vec<u32>,
    /// So many counters are in use before the idle ones are looked for.
    sweep_at: usize,
    /// When that was done last.
    swept: Time,
    queue: Queue,
    /// When a counter has room for who is next before it.
    due: BTreeSet<(Time, u32)>,
    due_of: HashMap<u32, Time>,
    /// Counters of which something has changed.
    pub(super) changed: Vec<u32>,
    /// Whose wait is over.
    woken: Vec<Woken>,
    /// How often something was given, given back or withheld.
    pub(super) changes: u64,
    /// Where instances share them.
    pub(super) fleet: Option<Box<Side>>,
}

#[derive(Debug)]
pub(super) struct Limit {
    pub spec: Arc<LimitSpec>,
    pub names: HashSet<Arc<str>>,
    pub units: HashMap<Arc<str>, u32>,
    pub stats: Stats,
    /// It is no more, and counts only the ends of what it has counted.
    pub retired: bool,
}

impl Limit {
    pub fn new(spec: LimitSpec) -> Self {
        let names = spec.names.iter().cloned().collect();
        Self { names, spec: Arc::new(spec), units: HashMap::new(), stats: Stats::default(), retired: false }
    }

    /// Whose counter counts a call; `None` where it is not counted.
    fn unit<'a>(&self, ask: &Ask<'a>) -> Option<&'a str> {
        let Who { tenant, team, service, key, route, provider } = ask.who;
        let (stage, unit) = match self.spec.scope {
            LimitScope::Tenant => (Stage::Call, Some(tenant)),
            LimitScope::Team => (Stage::Call, team),
            LimitScope::Service => (Stage::Call, service),
            LimitScope::Key => (Stage::Call, key),
            LimitScope::Route => (Stage::Call, Some(route)),
            LimitScope::Provider => (Stage::Attempt, Some(provider)),
        };
        let unit = unit.filter(|unit| stage == ask.stage && !self.retired && (self.names.is_empty() || self.names.contains(*unit)))?;
        Some(if self.spec.shared { "" } else { unit })
    }
}

impl Book {
    /// The limits of a configuration, with nothing used.
    pub fn new(specs: impl IntoIterator<Item = LimitSpec>) -> Self {
        Self { limits: specs.into_iter().map(Limit::new).collect(), sweep_at: 1_024, ..Self::default() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// Asks for a call's turn. After an answer, and after everything else that is told to the book, [`Book::pump`] says whose wait is over.
    pub fn ask(&mut self, ask: &Ask<'_>) -> Verdict {
        self.keep_time(ask.now);
        let counters = self.counters_of(ask);
        self.note_asked(&counters, ask.cost);
        let mut first = None;
        for (at, &counter) in counters.iter().enumerate() {
            let action = self.action(counter, ask.priority, ask.mood == Mood::Waits);
            if action == OnLimit::Pass || self.has_room(counter, ask.cost, ask.now) {
                continue;
            }
            if action == OnLimit::Refuse && ask.mood != Mood::AtOnce {
                let place = self.place(counter, ask);
                return Verdict::Refused(self.refusal((counter, &place), LimitWhy::Exceeded, ask.now));
            }
            first.get_or_insert(at);
        }
        match first {
            None => Verdict::Passed(self.take(counters, (ask.priority, ask.mood == Mood::Waits), ask.cost, ask.now)),
            Some(at) => self.line_up(ask, counters, at),
        }
    }

    fn line_up(&mut self, ask: &Ask<'_>, counters: Vec<u32>, at: usize) -> Verdict {
        let counter = counters[at];
        let place = self.place(counter, ask);
        if ask.mood == Mood::AtOnce {
            return Verdict::Blocked(self.told((counter, &place), LimitWhy::Exceeded, ask.now));
        }
        let turn = self.of(counter).map_or(Span::ZERO, |counter| counter.turn(&place, ask.now));
        if ask.now + turn > ask.deadline {
            return Verdict::Refused(self.refusal((counter, &place), LimitWhy::Deadline, ask.now));
        }
        match self.queue.room(ask.who.tenant, ask.priority, ask.bytes) {
            Ok(()) => {}
            Err(Some(gives)) => self.displace(gives, ask.now),
            Err(None) => return Verdict::Refused(self.refusal((counter, &place), LimitWhy::QueueFull, ask.now)),
        }
        let (always, cost, bytes, deadline) = (ask.mood == Mood::Waits, ask.cost, ask.bytes, ask.deadline);
        let id = self.queue.enter(Waiter { place: place.clone(), always, cost, bytes, deadline, counters, at });
        if let Some(counter) = self.of(counter) {
            counter.line.enter(id, &place);
        }
        self.changed.push(counter);
        Verdict::Queued(id)
    }

    /// Has a waiter give its place up.
    fn displace(&mut self, id: WaiterId, now: Time) {
        if let Some((counter, waiter)) = self.take_out(id, false) {
            let refusal = self.refusal((counter, &waiter.place), LimitWhy::Displaced, now);
            self.woken.push(Woken { id, result: Err(refusal), waited: now.since(waiter.place.since) });
        }
    }

    /// A waiter has waited as long as it may: what it is told, which is counted. `None` where its wait was over already.
    pub fn expire(&mut self, id: WaiterId, now: Time) -> Option<Refusal> {
        let (counter, waiter) = self.take_out(id, false)?;
        // Who is next may need less.
        self.changed.push(counter);
        Some(self.refusal((counter, &waiter.place), LimitWhy::Deadline, now))
    }

    /// A waiter gives up; false where its wait was over already.
    pub fn give_up(&mut self, id: WaiterId) -> bool {
        let left = self.take_out(id, false);
        self.changed.extend(left.as_ref().map(|(counter, _)| *counter));
        left.is_some()
    }

    /// A call has ended: others may begin.
    pub fn end(&mut self, pass: &Pass) {
        self.each(pass, Counter::end);
    }

    /// It is known what tokens a call has used; `None`: it never will be, and what was reserved counts.
    pub fn settle(&mut self, pass: &Pass, used: Option<u64>, now: Time) {
        let cost = pass.cost;
        if used.is_some_and(|used| used > cost.tokens) {
            for &id in &pass.counters {
                let limit = self.counters[id as usize].as_ref().map(|counter| counter.limit);
                let limit = limit.map(|limit| &mut self.limits[limit as usize]).filter(|limit| limit.spec.tokens.is_some());
                limit.into_iter().for_each(|limit| limit.stats.overruns += 1);
            }
        }
        self.each(pass, |counter| counter.settle(cost, used, now));
    }

    /// A call was never made: all is as if it had not been let through.
    pub fn undo(&mut self, pass: &Pass, now: Time) {
        let cost = pass.cost;
        self.each(pass, |counter| {
            counter.undo(cost, now);
            counter.end();
        });
    }

    fn each(&mut self, pass: &Pass, mut act: impl FnMut(&mut Counter)) {
        self.changes += 1;
        for &id in &pass.counters {
            if let Some(counter) = self.of(id) {
                act(counter);
                if !counter.line.is_empty() {
                    self.changed.push(id);
                }
            }
        }
    }

    /// The provider wants to be left alone until then.
    pub fn hold(&mut self, provider: &str, until: Time, now: Time) {
        self.changes += 1;
        let ask = Ask {
            who: Who { provider, ..Who::default() },
            stage: Stage::Attempt,
            priority: Priority::Medium,
            mood: Mood::Usual,
            cost: Cost { tokens: 0 },
            bytes: 0,
            deadline: now,
            now,
        };
        for id in self.counters_of(&ask) {
            let Some(counter) = self.of(id) else { continue };
            counter.hold(until, now);
            let limit = counter.limit;
            self.limits[limit as usize].stats.held += 1;
            self.changed.push(id);
        }
    }

    /// Whose wait is over now.
    pub fn pump(&mut self, now: Time) -> Vec<Woken> {
        self.keep_time(now);
        while let Some(&(at, counter)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            self.due_of.remove(&counter);
            self.changed.push(counter);
        }
        while let Some(counter) = self.changed.pop() {
            self.serve(counter, now);
        }
        std::mem::take(&mut self.woken)
    }

    /// When to pump next, if nothing happens before.
    pub fn next(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Lets go who is next before a counter, as long as it has room.
    fn serve(&mut self, id: u32, now: Time) {
        if let Some(due) = self.due_of.remove(&id) {
            self.due.remove(&(due, id));
        }
        loop {
            let Some(next) = self.of(id).and_then(|counter| counter.line.next()) else { return };
            let Some(waiter) = self.queue.get(next) else { return };
            let (cost, expired) = (waiter.cost, waiter.deadline < now);
            match self.of(id).map(|counter| counter.room(cost, now)) {
                _ if expired => self.give(next, Err(LimitWhy::Deadline), now),
                Some(Room::Now) => self.try_next(next, now),
                Some(Room::After(span)) => {
                    self.due.insert((now + span, id));
                    self.due_of.insert(id, now + span);
                    return;
                }
                Some(Room::Slot) | None => return,
            }
        }
    }

    /// Lets a waiter go for which the counter that it waits before has room, unless another one has none: then it waits before that.
    fn try_next(&mut self, id: WaiterId, now: Time) {
        let Some(waiter) = self.queue.get(id) else { return };
        let (at, cost, priority, always) = (waiter.at, waiter.cost, waiter.place.priority, waiter.always);
        let counters = waiter.counters.clone();
        let blocks = |book: &mut Self, (other, counter): (usize, u32)| {
            let action = book.action(counter, priority, always);
            // A line further on is entered at its end, one before has been left already. So nobody moves in circles.
            let room = if other > at {
                book.has_room(counter, cost, now)
            } else {
                book.of(counter).is_none_or(|counter| counter.room(cost, now) == Room::Now)
            };
            (action != OnLimit::Pass && !room).then_some((other, action))
        };
        let others = counters.iter().copied().enumerate().filter(|(other, _)| *other != at);
        match others.into_iter().find_map(|other| blocks(self, other)) {
            None => self.give(id, Ok(()), now),
            Some((_, OnLimit::Refuse)) => self.give(id, Err(LimitWhy::Exceeded), now),
            Some((other, _)) => self.move_to(id, other),
        }
    }

    fn move_to(&mut self, id: WaiterId, other: usize) {
        let Some(waiter) = self.queue.get_mut(id) else { return };
        let (from, to) = (waiter.counters[waiter.at], waiter.counters[other]);
        let before = waiter.place.clone();
        waiter.at = other;
        let cost = waiter.cost;
        if let Some(counter) = self.of(from) {
            counter.line.leave(id, &before, false);
        }
        let Some(counter) = self.of(to) else { return };
        let place = Place { work: counter.work(cost), tokens: counter.amount(cost), ..before };
        counter.line.enter(id, &place);
        if let Some(waiter) = self.queue.get_mut(id) {
            waiter.place = place;
        }
        self.changed.push(to);
    }

    /// Ends a waiter's wait.
    fn give(&mut self, id: WaiterId, result: Result<(), LimitWhy>, now: Time) {
        let Some((counter, waiter)) = self.take_out(id, result.is_ok()) else { return };
        let waited = now.since(waiter.place.since);
        let result = match result {
            Ok(()) => {
                let limit = self.limit_of(counter);
                self.limits[limit].stats.wait(waited);
                Ok(self.take(waiter.counters, (waiter.place.priority, waiter.always), waiter.cost, now))
            }
            Err(why) => Err(self.refusal((counter, &waiter.place), why, now)),
        };
        self.woken.push(Woken { id, result, waited });
    }

    /// Takes a waiter out of the queue and its line; the counter before which it waited.
    fn take_out(&mut self, id: WaiterId, served: bool) -> Option<(u32, Waiter)> {
        let waiter = self.queue.leave(id)?;
        let at = waiter.counters[waiter.at];
        if let Some(counter) = self.of(at) {
            counter.line.leave(id, &waiter.place, served);
        }
        Some((at, waiter))
    }

    fn take(&mut self, counters: Vec<u32>, (priority, always): (Priority, bool), cost: Cost, now: Time) -> Pass {
        self.changes += 1;
        for &id in &counters {
            let passes = self.action(id, priority, always) == OnLimit::Pass;
            let within = !passes || self.has_room(id, cost, now);
            let Some(counter) = self.of(id) else { continue };
            counter.take(cost, within, now);
            let limit = counter.limit;
            let stats = &mut self.limits[limit as usize].stats;
            stats.admitted += 1;
            stats.passed_over += u64::from(!within);
        }
        Pass { counters, cost }
    }

    pub(super) fn of(&mut self, id: u32) -> Option<&mut Counter> {
        self.counters.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn limit_of(&self, id: u32) -> usize {
        self.counters[id as usize].as_ref().map_or(0, |counter| counter.limit as usize)
    }

    fn action(&self, id: u32, priority: Priority, always: bool) -> OnLimit {
        let action = self.limits[self.limit_of(id)].spec.action(priority);
        if always && action == OnLimit::Refuse { OnLimit::Wait } else { action }
    }

    /// Whether a counter has room that nobody waits for.
    fn has_room(&mut self, id: u32, cost: Cost, now: Time) -> bool {
        let room = self.of(id).is_none_or(|counter| counter.line.is_empty() && counter.room(cost, now) == Room::Now);
        if !room {
            self.note_short(id);
        }
        room
    }

    fn place(&self, id: u32, ask: &Ask<'_>) -> Place {
        let counter = self.counters[id as usize].as_ref();
        let (work, tokens) = counter.map_or((1, 0), |counter| (counter.work(ask.cost), counter.amount(ask.cost)));
        Place { tenant: ask.who.tenant.into(), priority: ask.priority, since: ask.now, work, tokens }
    }

    /// A refusal, which is counted.
    fn refusal(&mut self, at: (u32, &Place), why: LimitWhy, now: Time) -> Refusal {
        let limit = self.limit_of(at.0);
        self.limits[limit].stats.refuse(why);
        self.told(at, why, now)
    }

    /// What is told of a counter without room.
    fn told(&mut self, (id, place): (u32, &Place), why: LimitWhy, now: Time) -> Refusal {
        let retry_after = self.of(id).map_or(Span::ZERO, |counter| counter.turn(place, now));
        let (limit, unit) = (self.limit_of(id), self.of(id).map(|counter| counter.unit.clone()));
        Refusal { limit: self.limits[limit].spec.name.clone(), unit: unit.unwrap_or_else(|| "".into()), why, retry_after }
    }

    /// The counters of a call, in the order of their limits.
    pub(super) fn counters_of(&mut self, ask: &Ask<'_>) -> Vec<u32> {
        if self.used() >= self.sweep_at && (self.used() < MAX_COUNTERS || ask.now.since(self.swept) >= SWEEP_EVERY) {
            self.sweep(ask.now);
        }
        let mut found = Vec::new();
        for limit in 0..self.limits.len() {
            let Some(unit) = self.limits[limit].unit(ask) else { continue };
            let known = self.limits[limit].units.get(unit).copied();
            found.push(known.unwrap_or_else(|| self.open(limit, unit, ask.now)));
        }
        found
    }

    /// A counter for a unit that has none.
    pub(super) fn open(&mut self, limit: usize, unit: &str, now: Time) -> u32 {
        let crowded = self.used() >= MAX_COUNTERS;
        let unit: Arc<str> = if crowded { OTHERS.into() } else { unit.into() };
        if crowded {
            self.limits[limit].stats.crowded += 1;
            if let Some(&shared) = self.limits[limit].units.get(&unit) {
                return shared;
            }
        }
        let spec = self.limits[limit].spec.clone();
        let mark = self.fleet.is_some().then(|| super::fleet::mark(&spec, &unit));
        let begin = mark.map_or(Begin::ALONE, |mark| self.begin(mark, now));
        let mut counter = Counter::new((u32::try_from(limit).unwrap_or(u32::MAX), unit.clone()), &spec, &begin, now);
        counter.mark = mark.unwrap_or_default();
        let id = match self.free.pop() {
            Some(id) => {
                self.counters[id as usize] = Some(counter);
                id
            }
            None => {
                self.counters.push(Some(counter));
                u32::try_from(self.counters.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.limits[limit].units.insert(unit, id);
        if let (Some(side), Some(mark)) = (&mut self.fleet, mark) {
            side.marks.insert(mark, id);
        }
        id
    }

    /// Counters in use.
    fn used(&self) -> usize {
        self.counters.len() - self.free.len()
    }

    /// Forgets counters that are as new.
    fn sweep(&mut self, now: Time) {
        self.drop_idle(now, |_, _| true);
        self.swept = now;
        self.sweep_at = (self.used() * 2).clamp(1_024, MAX_COUNTERS);
    }

    /// Forgets the counters of a tenant that are as new; how many stay. What these have given would be given anew if they were forgotten, too.
    pub fn forget_tenant(&mut self, tenant: &str, now: Time) -> usize {
        self.changes += 1;
        self.drop_idle(now, |spec, unit| spec.scope == LimitScope::Tenant && unit == tenant);
        self.limits.iter().filter(|limit| limit.spec.scope == LimitScope::Tenant && limit.units.contains_key(tenant)).count()
    }

    fn drop_idle(&mut self, now: Time, meant: impl Fn(&LimitSpec, &str) -> bool) {
        for (id, place) in self.counters.iter_mut().enumerate() {
            let Some(counter) = place else { continue };
            let limit = &mut self.limits[counter.limit as usize];
            if meant(&limit.spec, &counter.unit) && counter.is_idle(now) {
                limit.units.remove(&counter.unit);
                if let Some(side) = &mut self.fleet {
                    side.marks.remove(&counter.mark);
                }
                *place = None;
                self.free.push(u32::try_from(id).unwrap_or(u32::MAX));
            }
        }
        if let Some(side) = &mut self.fleet {
            // Where nobody is told of them for long, as without Redis, they would be noted again with each life of a counter.
            side.short.retain(|id| self.counters.get(*id as usize).and_then(Option::as_ref).is_some_and(|counter| counter.short));
        }
    }
}
