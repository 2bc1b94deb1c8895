//! What a book tells its fleet of its counters, and takes over of what it is told.

use std::sync::Arc;

use farthing_types::{BudgetSpec, Money, Span, Time};

use super::member::Refused;
use super::share::{FleetSide, FleetTold, Share, Short};
use super::wire::{Known, Line, LineTold, MemberView, Told};
use super::{FOREVER, MAX_LINES, SWEPT_AFTER, down, money, rows, up};
use crate::budget::book::Budget;
use crate::budget::counter::{Counter, Raise, slice};
use crate::budget::store::Record;
use crate::budget::{Book, Grant, WindowSpan};

/// Raises that are told of.
const MAX_RAISES: usize = 1_000;
/// A counter of which there is nothing new is told of that often, to hear of others.
const TOLD_EVERY: Span = Span::from_secs(2);
/// How long it is believed that no more can be had.
const BELIEVED: Span = Span::from_millis(400);

impl Book {
    /// Shares all counters with a fleet from now on, as the member that the ledger knows, or as `drawn` where it knows none. To be called before the
    /// ledger is read; nothing is told before [`Book::begin_fleet`].
    pub fn enter_fleet(&mut self, drawn: &str) {
        self.fleet = Some(FleetSide::new(drawn.into()));
        for budget in &mut self.budgets {
            let digest = rows::digest(&budget.spec);
            for counter in budget.counters.values_mut() {
                counter.shared(Some(&digest));
            }
            budget.digest = Some(digest);
        }
    }

    /// The ledger was read: a new life of the member begins. [`Book::records`] has what must be durable before anything is told.
    pub fn begin_fleet(&mut self) {
        if let Some(side) = &mut self.fleet {
            side.starts += 1;
        }
    }

    /// Takes over what a record tells of the fleet; it is kept where there is none now.
    pub(in crate::budget) fn meet(&mut self, record: Record) {
        match &mut self.fleet {
            Some(side) => record.meet(side),
            None => {
                self.kept.retain(|old| !old.is_alike(&record));
                self.kept.push(record);
            }
        }
    }

    /// How often this member has begun; never, where its ledger was not read yet or there is no fleet.
    pub fn fleet_starts(&self) -> i64 {
        self.fleet.as_ref().map_or(0, |side| side.starts)
    }

    /// What must be durable before anything is told.
    pub fn fleet_records(&self) -> Vec<Record> {
        self.fleet.iter().flat_map(|side| [Record::me(side), Record::known(&side.known)]).collect()
    }

    /// The raises that are known here, as others are told of them.
    pub fn fleet_raises(&self, now: Time) -> Vec<String> {
        let counters = self.budgets.iter().flat_map(|budget| budget.counters.values());
        let raises = counters.flat_map(|counter| counter.raises.iter().map(move |raise| (&counter.key, raise)));
        let told = raises.filter(|(_, raise)| raise.until > now).map(|(key, raise)| Record::raise((&key.budget, &key.unit), raise.clone()));
        told.filter_map(|record| serde_json::to_string(&record).ok()).take(MAX_RAISES).collect()
    }

    /// Takes over raises that others were given; what is to be made durable of them.
    pub fn adopt_raises<'a>(&mut self, told: impl Iterator<Item = &'a str>, now: Time) -> Vec<Record> {
        let mut records = Vec::new();
        for text in told.take(MAX_RAISES) {
            let Ok(record) = serde_json::from_str::<Record>(text) else { continue };
            let (Some((budget, unit)), Some(raise)) = (record.counter(), record.raised()) else { continue };
            let unit = (!unit.is_empty()).then_some(&*unit);
            if raise.until > now && !self.has_raise((&budget, unit.unwrap_or_default()), raise) {
                records.extend(self.raise((&budget, unit), raise.clone(), now));
            }
        }
        records
    }

    fn has_raise(&self, (budget, unit): (&str, &str), raise: &Raise) -> bool {
        let budget = self.budgets.iter().find(|known| *known.spec.name == *budget);
        budget.and_then(|budget| budget.counters.get(unit)).is_some_and(|counter| counter.raises.contains(raise))
    }

    /// How the fleet stands, as this member knows it; `None` without one.
    pub fn fleet_state(&self) -> Option<(&Arc<str>, &super::MemberState, Option<String>)> {
        self.fleet.as_ref().map(|side| (&side.id, &side.state, side.trouble()))
    }

    /// Whether a counter asks for more.
    pub fn asks_fleet(&self) -> bool {
        self.fleet.as_ref().is_some_and(|side| !side.queue.is_empty())
    }

    /// All counters of which something is or may be spent, for a report.
    pub(super) fn fleet_all(&self, now: Time) -> Vec<Line> {
        let counters = self.budgets.iter().flat_map(|budget| budget.counters.values().map(move |counter| (budget, counter)));
        let lines = counters.flat_map(|(budget, counter)| {
            let before = counter.before.as_deref().filter(|before| before.end + SWEPT_AFTER >= now.millis()).cloned();
            let present = (counter.claim() > 0 || counter.used() > Money::ZERO).then(|| line(&budget.spec, counter, now)).flatten();
            before.into_iter().chain(present)
        });
        lines.collect()
    }

    /// What is told next: of counters that ask for more, and with a beat of those that have something to tell.
    pub(super) fn fleet_lines(&mut self, beat: bool, closing: bool, now: Time) -> Vec<Line> {
        let Some(side) = &mut self.fleet else { return Vec::new() };
        let queue = std::mem::take(&mut side.queue);
        let (mut lines, mut late) = (Vec::new(), Vec::new());
        for part in queue {
            if lines.len() >= MAX_LINES {
                late.push(part);
            } else if let Some((spec, counter)) = self.find(&part) {
                lines.extend(line(spec, counter, now));
            }
        }
        if beat {
            self.fill(&mut lines, closing, now);
        }
        if let Some(side) = &mut self.fleet {
            side.queue = late;
        }
        lines
    }

    /// Fills a message up with counters that are not told of in it yet: first where the one before ended.
    fn fill(&mut self, lines: &mut Vec<Line>, closing: bool, now: Time) {
        let Some(side) = &mut self.fleet else { return };
        let total: usize = self.budgets.iter().map(|budget| budget.counters.len()).sum();
        let from = if side.place < total { side.place } else { 0 };
        for (begin, end) in [(from, total), (0, from)] {
            let counters = self.budgets.iter_mut().flat_map(|Budget { spec, counters, .. }| {
                let spec = &*spec;
                counters.values_mut().map(move |counter| (spec, counter))
            });
            for (place, (spec, counter)) in counters.enumerate().take(end).skip(begin) {
                if lines.len() >= MAX_LINES {
                    side.place = place;
                    return;
                }
                let Some(share) = counter.share.as_deref().filter(|share| !share.queued) else { continue };
                let (hungry, told) = (share.hungry, share.told);
                if closing || hungry {
                    counter.give_all_back();
                }
                let Some(line) = line(spec, counter, now) else { continue };
                let news = told.is_none_or(|(claim, used, at)| (claim, used) != (line.claim, line.used) || now.since(at) >= TOLD_EVERY);
                // Who holds something is to hear that somebody lacks it; all, now and then, what others have spent.
                if news || line.claim > line.used || line.want > line.claim || hungry {
                    lines.push(line);
                }
            }
        }
        side.place = total;
    }

    /// An answer came.
    pub(super) fn fleet_answers(&mut self) {
        if let Some(side) = &mut self.fleet {
            side.away = None;
            side.state.refused = None;
        }
    }

    /// No answer came: what was asked for is asked for again.
    pub(super) fn fleet_away(&mut self, why: &str, now: Time) {
        if let Some(side) = &mut self.fleet {
            let since = side.away.as_ref().map_or(now, |(since, _)| *since);
            side.away = Some((since, why.to_owned()));
        }
        self.fleet_again();
    }

    /// The fleet's place has lost its data.
    pub(super) fn fleet_lost(&mut self) {
        if let Some(side) = &mut self.fleet {
            side.state.losses += 1;
            (side.state.whole, side.state.joined) = (false, false);
        }
        // Calls wait anew for what is granted after this loss.
        let shares =
            self.budgets.iter_mut().flat_map(|budget| budget.counters.values_mut()).filter_map(|counter| counter.share.as_deref_mut());
        shares.for_each(|share| share.withheld = None);
        self.fleet_again();
    }

    /// This member is not let in.
    pub(super) fn fleet_refused(&mut self, why: Refused) {
        if let Some(side) = &mut self.fleet {
            side.state.refused = Some(why);
            (side.state.whole, side.state.joined) = (false, false);
        }
        self.fleet_again();
    }

    /// Puts counters whose question was not answered into the line again.
    pub(super) fn fleet_again(&mut self) {
        let Some(side) = &mut self.fleet else { return };
        let listed: std::collections::HashSet<_> = side.queue.iter().map(|(_, key, _)| Arc::as_ptr(key)).collect();
        for (index, budget) in self.budgets.iter().enumerate() {
            let asking = budget.counters.values().filter(|counter| counter.share.as_ref().is_some_and(|share| share.queued));
            let missing = asking.filter(|counter| !listed.contains(&Arc::as_ptr(&counter.key)));
            side.queue.extend(missing.map(|counter| (index, counter.key.clone(), counter.window.start)));
        }
    }

    /// Notes a generation that was heard of; what must be durable before anything is reported to it.
    pub(super) fn fleet_heard(&mut self, told: &Told) -> Option<Record> {
        let side = self.fleet.as_mut()?;
        side.heard = (told.generation.clone(), told.epoch);
        Some(Record::me(side))
    }

    /// Takes the list of members over; whether it says anything new.
    pub(super) fn fleet_meet(&mut self, told: &Told) -> bool {
        let Some(side) = &mut self.fleet else { return false };
        (side.state.members, side.state.server_now) = (told.members.clone(), told.now);
        (side.state.whole, side.state.joined) = (told.whole, told.joined);
        side.state.generation = Some(told.generation.clone());
        // Those that an operator has written off.
        let before = side.known.len();
        side.known.retain(|known| !told.members.iter().any(|view| view.known.id == known.id && view.known.until == 0));
        let mut changed = side.known.len() != before;
        for MemberView { known, .. } in told.members.iter().filter(|view| view.known.id != side.id && view.known.until > 0) {
            match side.known.iter_mut().find(|old| old.id == known.id) {
                Some(old) if !old.differs(known) => {}
                Some(old) => {
                    // Whoever may still hold something in one's own eyes does.
                    *old = Known { until: known.until.max(old.until), ..known.clone() };
                    changed = true;
                }
                None => {
                    side.known.push(known.clone());
                    changed = true;
                }
            }
        }
        let before = side.known.len();
        side.known.retain(|known| known.until >= told.now);
        changed || side.known.len() != before
    }

    /// Takes over what is told of counters: grants to be made durable, and whether somebody lacks what is held here.
    pub(super) fn fleet_told(&mut self, lines: &[Line], told: &Told, now: Time) -> (Vec<Grant>, bool) {
        let Some(side) = &self.fleet else { return (Vec::new(), false) };
        let (mut grants, mut again) = (Vec::new(), false);
        for (line, answer) in lines.iter().zip(&told.lines) {
            let Some((name, unit)) = rows::named(&line.field) else { continue };
            let budget = self.budgets.iter_mut().find(|budget| *budget.spec.name == *name);
            let counter = budget.and_then(|budget| budget.counters.get_mut(unit));
            let Some(counter) = counter.filter(|counter| counter.is_told_by(line)) else { continue };
            again |= counter.hear((line, answer), (side, told.now), now);
            let allowance = money(answer.allowance(&side.id));
            if allowance > counter.granted && allowance > counter.asked {
                counter.asked = allowance;
                grants.push(Grant { counter: counter.key.clone(), window: counter.window.start, total: allowance });
            }
        }
        (grants, again)
    }

    /// What cannot be made durable is not used; it is asked for again.
    pub fn ungranted(&mut self, grants: &[Grant]) {
        for grant in grants {
            if let Some(counter) = self.of_grant(grant) {
                counter.asked = counter.granted;
            }
        }
    }
}

fn others(me: &Arc<str>, answer: &LineTold, is_away: impl Fn(&str) -> bool) -> FleetTold {
    let mut told = FleetTold::default();
    for holder in &answer.holders {
        let (allowed, used) = (money(holder.allowance), money(holder.used));
        told.holders.push((holder.id.clone(), allowed, used));
        if holder.id != *me {
            told.allowed += allowed;
            told.used += used;
            if is_away(&holder.id) {
                told.quarantined += (allowed - used).max(Money::ZERO);
            }
        }
    }
    told
}

/// A counter as it is told now.
fn line(spec: &BudgetSpec, counter: &Counter, now: Time) -> Option<Line> {
    let share = counter.share.as_deref()?;
    let claim = counter.claim();
    let at_least = |money: Money| up(money).max(claim);
    Some(Line {
        field: share.field.clone(),
        start: counter.window.start.millis(),
        end: end_of(counter.window),
        limit: down(counter.limit(spec.limit, now)),
        claim,
        need: at_least(share.need),
        want: at_least(share.want),
        must: at_least(share.must),
        used: up(counter.used()),
        seen: up(share.fleet.allowed) + claim,
    })
}

pub(super) fn end_of(window: WindowSpan) -> i64 {
    window.end.map_or(FOREVER, Time::millis)
}

impl Counter {
    /// The most that it may spend in all by what is known here, in the fleet's unit.
    pub(super) fn claim(&self) -> i64 {
        up(self.granted.max(self.asked).max(self.held()))
    }

    /// Has it share a fleet's counter where `digest` tells which.
    pub(in crate::budget) fn shared(&mut self, digest: Option<&Arc<str>>) {
        let field = digest.map(|digest| rows::field(digest, &self.key, self.window));
        if self.share.as_ref().map(|share| &share.field) != field.as_ref() {
            self.share = field.map(|field| Box::new(Share::new(field)));
        }
    }

    /// Whether a line is of this counter in this window.
    fn is_told_by(&self, line: &Line) -> bool {
        self.share.as_ref().is_some_and(|share| share.field == line.field)
    }

    /// Takes over what is told of it by a line of its own; whether somebody lacks what it holds, which is news.
    fn hear(&mut self, (line, answer): (&Line, &LineTold), (side, server_now): (&FleetSide, i64), now: Time) -> bool {
        let idle = self.held() < self.granted;
        let granted = self.granted;
        let Some(share) = self.share.as_deref_mut() else { return false };
        let mine = answer.allowance(&side.id);
        // Calls that came while this was under way ask again.
        share.queued = false;
        (share.need, share.want, share.must) = (Money::ZERO, Money::ZERO, Money::ZERO);
        share.told = Some((line.claim, line.used, now));
        if answer.withheld {
            share.withheld = share.withheld.or(Some(now));
        } else if line.want > line.claim {
            share.withheld = None;
        }
        share.fleet = FleetTold { withheld: answer.withheld, ..others(&side.id, answer, |id| side.state.is_away(id)) };
        let others_hold = (share.fleet.allowed - share.fleet.used - share.fleet.quarantined).max(Money::ZERO);
        let since = share.short.map_or(now, |short| short.since);
        let short = Short { most: money(mine).max(granted), since, until: now + BELIEVED, others_hold };
        share.short = (line.need > mine && !answer.withheld).then_some(short);
        let hungry = answer.hungry > server_now && line.need <= mine;
        let news = hungry && !share.hungry && idle;
        share.hungry = hungry;
        news
    }

    /// What it tells of its window for the last time: nothing more is granted in it.
    pub(in crate::budget) fn last_line(&self) -> Option<Line> {
        let (field, claim) = (self.share.as_ref()?.field.clone(), self.claim());
        let (start, end) = (self.window.start.millis(), end_of(self.window));
        Some(Line { field, start, end, limit: 0, claim, need: claim, want: claim, must: claim, used: up(self.used()), seen: claim })
    }

    /// A counter asks its fleet for more: `bound` for a call, and some for those after it. Whether it did not ask already.
    pub(in crate::budget) fn ask_fleet(&mut self, bound: Option<Money>, limit: Money, (passes, now): (bool, Time)) -> bool {
        let held = self.held();
        let Some(share) = self.share.as_deref_mut() else { return false };
        let need = bound.map_or(Money::ZERO, |bound| held + bound);
        // Each of those that wait at the same time needs as much again.
        let want = share.want.max(held + slice(limit)) + bound.unwrap_or_default();
        share.ask((need, want, if passes { need } else { Money::ZERO }), now)
    }
}
