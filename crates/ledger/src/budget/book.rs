//! All budgets with their counters.

use std::collections::HashMap;
use std::sync::Arc;

use farthing_types::{BudgetSpec, BudgetUnit, Enforce, Money, Priority, Span, Time};
use foldhash::quality::RandomState;

use super::counter::{Counter, Raise};
use super::fleet::FleetSide;
use super::store::{Record, Written};
use super::view::{BookError, CounterView};
use super::{Ask, Blocked, Charge, CounterKey, Grant, Hold, Part, Reached, UnknownZone, Verdict, Who, Why, Windows};

/// Counters at a time, all budgets together: some hundred bytes each.
const MAX_COUNTERS: usize = 20_000;

/// All budgets with their counters. Decides, and does nothing else.
#[derive(Debug)]
pub struct Book {
    pub(super) budgets: Vec<Budget>,
    pub(super) max_counters: usize,
    /// Where the counters are those of a fleet.
    pub(super) fleet: Option<FleetSide>,
    /// What the ledger tells of a fleet, where there is none now.
    pub(super) kept: Vec<Record>,
    /// Why nothing can be written down, while that is so.
    fault: Option<String>,
    /// When room for more counters was made last.
    swept: Option<Time>,
}

#[derive(Debug)]
pub(super) struct Budget {
    pub(super) spec: BudgetSpec,
    /// It is no more: it counts the ends of what it has counted, and nothing else.
    pub(super) retired: bool,
    pub(super) windows: Windows,
    /// By unit.
    pub(super) counters: HashMap<Arc<str>, Counter, RandomState>,
    /// What tells it from others of its name in a fleet; `None` where it is no fleet's.
    pub(super) digest: Option<Arc<str>>,
}

impl Book {
    /// Budgets without anything spent.
    ///
    /// # Errors
    /// A time zone that nobody knows.
    pub fn new(specs: impl IntoIterator<Item = BudgetSpec>) -> Result<Self, UnknownZone> {
        let budgets = specs.into_iter().map(Budget::new).collect::<Result<_, _>>()?;
        Ok(Self { budgets, max_counters: MAX_COUNTERS, fleet: None, kept: Vec::new(), fault: None, swept: None })
    }

    /// The window of a budget, by its place.
    #[cfg(test)]
    pub(super) fn windows_at(&self, index: usize, now: Time) -> super::WindowSpan {
        self.budgets[index].windows.at(now)
    }

    /// Whether there is no budget.
    pub fn is_empty(&self) -> bool {
        self.budgets.is_empty()
    }

    /// The budgets.
    pub fn specs(&self) -> impl Iterator<Item = &BudgetSpec> {
        self.budgets.iter().filter(|budget| !budget.retired).map(|budget| &budget.spec)
    }

    /// Notes whether what may be spent can be written down; why not, where it cannot.
    pub fn set_fault(&mut self, fault: Option<String>) {
        self.fault = fault;
    }

    /// Why nothing can be written down.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Why nothing more can be granted now: what is granted already may be spent.
    pub fn trouble(&self) -> Option<String> {
        self.fault.clone().or_else(|| self.fleet.as_ref().and_then(FleetSide::trouble))
    }

    /// Sets money aside in every budget that counts the call, or in none.
    pub fn hold(&mut self, ask: &Ask<'_>) -> Verdict {
        self.hold_with(ask, true)
    }

    /// The same, where nothing more can be ordered now: a call that needs a grant is held back as by a fault.
    pub fn hold_within_grants(&mut self, ask: &Ask<'_>) -> Verdict {
        self.hold_with(ask, false)
    }

    fn hold_with(&mut self, ask: &Ask<'_>, orders: bool) -> Verdict {
        self.make_room(ask.now);
        let fault = self.fault.is_some() || self.fleet.as_ref().is_some_and(|side| side.is_away(ask.now));
        let closed = self.fleet.as_ref().is_some_and(FleetSide::is_closed);
        let (mut parts, mut fault_of) = (Vec::new(), None);
        for index in 0..self.budgets.len() {
            let Some(unit) = self.budgets[index].unit(&ask.who) else { continue };
            let full = !self.budgets[index].counters.contains_key(unit) && !self.has_room();
            let budget = &mut self.budgets[index];
            if full {
                if budget.spec.holds_back(ask.priority) {
                    return Verdict::Blocked(budget.too_many(unit, ask));
                }
                continue;
            }
            budget.roll(unit, ask.now);
            match budget.room(unit, ask, (fault, closed)) {
                Err(why) => return Verdict::Blocked(budget.blocked((unit, why), ask)),
                Ok(true) => _ = fault_of.get_or_insert_with(|| budget.blocked((unit, Why::Fault), ask)),
                Ok(false) => {}
            }
            parts.extend(budget.counters.get(unit).map(|counter| (index, counter.key.clone(), counter.window.start)));
        }
        let bound = ask.bound.unwrap_or_default();
        match fault_of {
            Some(blocked) if !orders => Verdict::Blocked(blocked),
            // Only now, when no budget holds the call back: what is asked for is written down.
            Some(blocked) => Verdict::Needs(self.grants(&parts, ask, |counter, limit| counter.needs(bound, limit), Some(bound)), blocked),
            None => {
                for part in &parts {
                    if let Some((_, counter)) = self.find(part) {
                        counter.reserved += bound;
                    }
                }
                let ahead = if orders { self.grants(&parts, ask, Counter::ahead, None) } else { Vec::new() };
                Verdict::Held(Hold { parts, amount: bound }, ahead)
            }
        }
    }

    /// The counters of a call that was made although nothing was set aside for it: what it has cost is settled with them, whatever room they
    /// have.
    pub fn owed(&mut self, ask: &Ask<'_>) -> Hold {
        self.make_room(ask.now);
        let mut hold = Hold::default();
        for index in 0..self.budgets.len() {
            let Some(unit) = self.budgets[index].unit(&ask.who) else { continue };
            if !self.budgets[index].counters.contains_key(unit) && !self.has_room() {
                continue;
            }
            let budget = &mut self.budgets[index];
            budget.roll(unit, ask.now);
            hold.parts.extend(budget.counters.get(unit).map(|counter| (index, counter.key.clone(), counter.window.start)));
        }
        hold
    }

    /// The grants of counters that need some; a counter of a fleet asks that for `bound` more.
    fn grants(
        &mut self,
        parts: &[Part],
        ask: &Ask<'_>,
        needs: impl Fn(&mut Counter, Money) -> Option<Grant>,
        bound: Option<Money>,
    ) -> Vec<Grant> {
        let (mut grants, mut asking) = (Vec::new(), Vec::new());
        for part in parts {
            let Some((spec, counter)) = self.find(part).filter(|(spec, _)| spec.enforce != Enforce::Soft) else { continue };
            let limit = counter.limit(spec.limit, ask.now);
            let passes = !spec.holds_back(ask.priority);
            match needs(counter, limit) {
                Some(_) if counter.share.is_some() => {
                    asking.extend(counter.ask_fleet(bound, limit, (passes, ask.now)).then(|| part.clone()))
                }
                grant => grants.extend(grant),
            }
        }
        if let Some(side) = &mut self.fleet {
            side.queue(asking);
        }
        grants
    }

    /// The counter in the window in which money was set aside; `None` when that is over, or it was forgotten.
    pub(super) fn find(&mut self, (index, key, window): &Part) -> Option<(&BudgetSpec, &mut Counter)> {
        let budget = self.budgets.get_mut(*index)?;
        let counter =
            budget.counters.get_mut(&key.unit).filter(|counter| Arc::ptr_eq(&counter.key, key) && counter.window.start == *window)?;
        Some((&budget.spec, counter))
    }

    /// Notes what is durable.
    pub fn granted(&mut self, grants: &[Grant]) {
        for grant in grants {
            if let Some(counter) = self.of_grant(grant) {
                counter.granted = counter.granted.max(grant.total);
                // Whoever asked may be gone by now: it is looked at whether anything is to be given back.
                counter.changed |= counter.held() == Money::ZERO;
            }
        }
    }

    /// The counter of a grant; `None` when its window is over, or it was forgotten.
    pub(super) fn of_grant(&mut self, grant: &Grant) -> Option<&mut Counter> {
        self.of_key(&grant.counter).filter(|counter| counter.window.start == grant.window)
    }

    fn of_key(&mut self, key: &CounterKey) -> Option<&mut Counter> {
        let budget = self.budgets.iter_mut().find(|budget| budget.spec.name == key.budget)?;
        budget.counters.get_mut(&key.unit)
    }

    /// Counts a call that was held back for good.
    pub fn note_blocked(&mut self, counter: &CounterKey) {
        if let Some(counter) = self.of_key(counter) {
            counter.blocked += 1;
        }
    }

    /// Settles a call; tells the levels that its counters have reached.
    pub fn settle(&mut self, hold: &Hold, charge: Charge, now: Time) -> Vec<Reached> {
        let mut reached = Vec::new();
        for part in &hold.parts {
            let Some((spec, counter)) = self.find(part) else { continue };
            counter.settle(hold.amount, charge);
            let (limit, used) = (counter.limit(spec.limit, now), counter.used_by_all());
            let level = level(used, limit, spec.warn_at);
            if level > counter.told {
                counter.told = level;
                reached.push(Reached { counter: counter.key.clone(), used_up: level == 2, used, limit, window: counter.window.start });
            }
        }
        reached
    }

    /// Gives back what a call that goes on can no longer cost.
    pub fn shrink(&mut self, hold: &mut Hold, to: Money) {
        let less = hold.amount - to;
        if less <= Money::ZERO {
            return;
        }
        for part in &hold.parts {
            if let Some((_, counter)) = self.find(part) {
                counter.reserved -= less;
            }
        }
        hold.amount = to;
    }

    /// Adds money to a counter for some time; the record is to be made durable.
    ///
    /// # Errors
    /// See [`BookError`].
    pub fn raise(&mut self, (budget, unit): (&str, Option<&str>), raise: Raise, now: Time) -> Result<Record, BookError> {
        let index = self.budgets.iter().position(|known| *known.spec.name == *budget && !known.retired);
        let index = index.ok_or_else(|| {
            let names: Vec<&str> = self.specs().map(|spec| &*spec.name).collect();
            BookError::NoBudget(budget.to_owned(), names.join(", "))
        })?;
        let unit = match (self.budgets[index].spec.per, unit) {
            (Some(per), None) => return Err(BookError::NoUnit { budget: budget.to_owned(), unit: per }),
            (None, Some(_)) => return Err(BookError::NoUnits(budget.to_owned())),
            (_, unit) => unit.unwrap_or_default(),
        };
        if raise.until <= now {
            return Err(BookError::Past);
        }
        self.make_room(now);
        if !self.budgets[index].counters.contains_key(unit) && !self.has_room() {
            return Err(BookError::Full(self.max_counters));
        }
        let Budget { spec, counters, .. } = self.budgets[index].roll(unit, now);
        let mut raise = raise;
        if let Some(counter) = counters.get_mut(unit) {
            // Two that are alike are two: records and other instances tell them apart by what they say.
            while counter.raises.contains(&raise) {
                raise.until = raise.until + Span::from_nanos(1);
            }
            counter.raises.push(raise.clone());
            counter.told = level(counter.used_by_all(), counter.limit(spec.limit, now), spec.warn_at).min(counter.told);
        }
        Ok(Record::raise((budget, unit), raise))
    }

    /// Every counter in its present window.
    pub fn views(&mut self, now: Time) -> Vec<CounterView> {
        let mut views = Vec::new();
        for budget in self.budgets.iter_mut().filter(|budget| !budget.retired) {
            if budget.spec.per.is_none() {
                budget.roll("", now);
            }
            let Budget { spec, windows, counters, digest, .. } = budget;
            for counter in counters.values_mut() {
                if counter.window.is_over(now) {
                    counter.roll(windows.at(now), digest.as_ref());
                }
                views.push(counter.view(spec.limit, now));
            }
        }
        views.sort_by(|a, b| a.counter.cmp(&b.counter));
        views
    }

    fn has_room(&self) -> bool {
        self.counters() < self.max_counters
    }

    fn counters(&self) -> usize {
        self.budgets.iter().map(|budget| budget.counters.len()).sum()
    }

    /// Makes room for the counters of a call where there is none: those of windows that are over go, and those that are as new, which units that
    /// nobody pays for leave behind (made-up credentials). Before any counter of the call is looked at: one that it has found already could
    /// go. Once a second at most: it looks through all of them.
    fn make_room(&mut self, now: Time) {
        if self.counters() + self.budgets.len() <= self.max_counters || self.swept.is_some_and(|at| now.since(at) < Span::from_secs(1)) {
            return;
        }
        self.swept = Some(now);
        for budget in &mut self.budgets {
            let stays = |counter: &Counter| !counter.window.is_over(now) || counter.reserved > Money::ZERO;
            budget.counters.retain(|_, counter| stays(counter) && !counter.is_as_new());
        }
        if !self.has_room() {
            tracing::warn!(max = self.max_counters, "more units than budgets count: calls of new ones are held back");
        }
    }

    /// Takes over what was written down before the start. What was granted and is not accounted for counts as spent; what was spent since
    /// comes to it.
    pub fn restore(&mut self, records: impl IntoIterator<Item = Record>, now: Time) {
        let counters = self.budgets.iter_mut().flat_map(|budget| budget.counters.values_mut());
        let since: Vec<_> = counters
            .map(|counter| {
                (counter.key.clone(), counter.window.start, std::mem::take(&mut counter.spent), std::mem::take(&mut counter.uncertain))
            })
            .collect();
        for record in records {
            let Some((name, unit)) = record.counter() else {
                self.meet(record);
                continue;
            };
            let Some(index) = self.budgets.iter().position(|budget| *budget.spec.name == *name) else { continue };
            if unit.is_empty() == self.budgets[index].spec.per.is_some() {
                continue;
            }
            // Without a bound: the file is short, and what it tells of a unit must not be forgotten for want of room.
            if let Some(counter) = self.budgets[index].roll(&unit, now).counters.get_mut(&unit) {
                record.apply(counter);
            }
        }
        for Budget { spec, counters, .. } in &mut self.budgets {
            counters.retain(|_, counter| !counter.is_as_new());
            for counter in counters.values_mut() {
                counter.asked = counter.granted;
                counter.lost = (counter.granted - counter.spent - counter.uncertain).max(Money::ZERO);
                counter.changed = true;
                for (_, _, spent, uncertain) in
                    since.iter().filter(|(key, start, ..)| **key == *counter.key && *start == counter.window.start)
                {
                    counter.spent += *spent;
                    counter.uncertain += *uncertain;
                }
                counter.told = level(counter.used_by_all(), counter.limit(spec.limit, now), spec.warn_at);
            }
        }
    }

    /// What is to be written down: of counters that have changed since the last time, or of all. To be ordered before anything else is held:
    /// what is given back here is gone.
    pub fn records(&mut self, what: Written, now: Time) -> Vec<Record> {
        let mut records = Vec::new();
        if what != Written::Change {
            records.extend(self.kept.iter().cloned());
            records.extend(self.fleet_records());
        }
        for Budget { spec, counters, .. } in &mut self.budgets {
            for counter in counters.values_mut() {
                let changed = std::mem::take(&mut counter.changed);
                if changed || what != Written::Change {
                    counter.give_back(counter.limit(spec.limit, now));
                    records.extend(Record::of(counter, what));
                }
            }
        }
        records
    }

    /// Drops what a tenant has been counted by alone: one that is to be forgotten.
    pub fn forget(&mut self, name: &str) -> usize {
        let budgets = self.budgets.iter_mut().filter(|budget| budget.spec.per == Some(BudgetUnit::Tenant));
        budgets.filter_map(|budget| budget.counters.remove(name)).count()
    }

    /// Whether any budget may hold requests of this priority back.
    pub fn holds_back(&self, priority: Priority) -> bool {
        self.specs().any(|spec| spec.holds_back(priority))
    }
}

impl Budget {
    /// The unit whose counter counts a call; `None` where it is not counted.
    fn unit<'a>(&self, who: &Who<'a>) -> Option<&'a str> {
        unit(&self.spec, who).filter(|_| !self.retired)
    }

    /// Brings the counter of a unit into the present window; it is made where there is none yet.
    fn roll(&mut self, unit: &str, now: Time) -> &mut Self {
        match self.counters.get_mut(unit) {
            Some(counter) if !counter.window.is_over(now) => {}
            Some(counter) => counter.roll(self.windows.at(now), self.digest.as_ref()),
            None => {
                let key = CounterKey { budget: self.spec.name.clone(), unit: unit.into() };
                let mut counter = Counter::new(Arc::new(key), self.windows.at(now));
                counter.shared(self.digest.as_ref());
                self.counters.insert(counter.key.unit.clone(), counter);
            }
        }
        self
    }

    /// Whether the counter has room for the call, and whether it needs a grant first. `closed`: the fleet grants nothing of what counted before a loss.
    fn room(&self, unit: &str, ask: &Ask<'_>, (fault, closed): (bool, bool)) -> Result<bool, Why> {
        let spec = &self.spec;
        let holds = spec.holds_back(ask.priority);
        let Some(counter) = self.counters.get(unit) else { return Ok(false) };
        let Some(bound) = ask.bound else {
            return if holds && !spec.unpriced_ok { Err(Why::Unpriced) } else { Ok(false) };
        };
        let limit = counter.limit(spec.limit, ask.now);
        let share = counter.share.as_deref();
        let needed = counter.held() + bound;
        let needs = spec.enforce != Enforce::Soft && needed > counter.granted;
        // What is granted may be spent, whatever others have told since; not so where more was granted in all than there is by now, because the limit has fallen.
        let beyond = share.is_some_and(|share| share.fleet().allowed + counter.granted > limit);
        let by_all = if needs || beyond { counter.used_by_others() } else { Money::ZERO };
        if holds && needed + by_all > limit {
            return Err(Why::Exceeded);
        }
        let fault = fault || (closed && share.is_some_and(|share| share.is_withheld(ask.now)));
        if holds && needs && !fault && share.is_some_and(|share| share.is_short(needed, ask.now)) {
            return Err(Why::Exceeded);
        }
        match needs {
            true if fault && holds && !spec.fault_ok => Err(Why::Fault),
            needs => Ok(needs && !fault),
        }
    }

    fn blocked(&self, (unit, why): (&str, Why), ask: &Ask<'_>) -> Blocked {
        let Some(counter) = self.counters.get(unit) else { return self.too_many(unit, ask) };
        Blocked {
            counter: counter.key.clone(),
            why,
            action: self.spec.action(ask.priority),
            limit: counter.limit(self.spec.limit, ask.now),
            used: counter.used_by_all(),
            reserved: counter.reserved,
            needed: ask.bound,
            resets: counter.window.end,
        }
    }

    fn too_many(&self, unit: &str, ask: &Ask<'_>) -> Blocked {
        Blocked {
            counter: Arc::new(CounterKey { budget: self.spec.name.clone(), unit: unit.into() }),
            why: Why::TooManyUnits,
            action: self.spec.action(ask.priority),
            limit: self.spec.limit,
            used: Money::ZERO,
            reserved: Money::ZERO,
            needed: ask.bound,
            resets: self.windows.at(ask.now).end,
        }
    }
}

/// 2 used up, 1 near the limit.
pub(super) fn level(used: Money, limit: Money, warn_at: f64) -> u8 {
    let near = limit.nanos() as f64 * warn_at;
    if used >= limit { 2 } else { u8::from(used.nanos() as f64 >= near) }
}

/// The unit whose counter counts the call; `None` where the budget does not count it. A call without the unit (no team) is not counted
/// by a budget for each of them.
fn unit<'a>(spec: &BudgetSpec, who: &Who<'a>) -> Option<&'a str> {
    let scope = &spec.scope;
    let is = |wanted: &Option<Arc<str>>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
    let counted = is(&scope.tenant, Some(who.tenant))
        && is(&scope.team, who.team)
        && is(&scope.service, who.service)
        && is(&scope.key, who.key)
        && (scope.routes.is_empty() || scope.routes.iter().any(|route| **route == *who.route));
    if !counted {
        return None;
    }
    match spec.per {
        None => Some(""),
        Some(BudgetUnit::Tenant) => Some(who.tenant),
        Some(BudgetUnit::Team) => who.team,
        Some(BudgetUnit::Service) => who.service,
        Some(BudgetUnit::Key) => who.key,
    }
}
