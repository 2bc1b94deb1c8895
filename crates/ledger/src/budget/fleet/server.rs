//! The place of the counters, as a model: what [`super::script`] does in Redis, step by step, for simulations and as the measure of the script.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::wire::{Exchange, Holder, Known, Line, LineTold, MemberView, Reply, Report, Strike, Told};
use super::{FOREVER, HUNGRY, KEEP, LEASE, MAX_MEMBERS, NEXT, PATIENCE, PER_START, SETTLE, SWEPT_AFTER};
use crate::place::{Here, millis};

/// Who holds what members are taken to have spent that never told.
const WRITTEN_OFF: &str = "written-off";

/// The process of a member that has not told anything.
const NOBODY: &str = "-";

/// The place. All that it knows can be lost at any time.
#[derive(Clone, Debug, Default)]
pub struct Server {
    state: Option<State>,
    /// Generations begun: in Redis their names hold the time instead.
    begun: u64,
}

#[derive(Clone, Debug)]
struct State {
    generation: Arc<str>,
    /// Greater than those of all that went before, as far as its first member knew.
    epoch: i64,
    /// The run of the server in which the generation began.
    run: Arc<str>,
    began: i64,
    version: i64,
    /// Somebody has reported who knows all members.
    sure: bool,
    members: BTreeMap<Arc<str>, Seat>,
    counters: BTreeMap<Arc<str>, Count>,
}

#[derive(Clone, Debug)]
struct Seat {
    name: Arc<str>,
    life: Arc<str>,
    seq: i64,
    expires: i64,
    /// Version of the list with which it came.
    join: i64,
    ack: i64,
    until: i64,
    here: bool,
}

#[derive(Clone, Debug, Default)]
struct Count {
    end: i64,
    hungry: i64,
    /// The greatest sum of all allowances that somebody has seen before the generation began.
    seen: i64,
    holders: Vec<Holder>,
}

impl Server {
    /// Forgets all.
    pub fn flush(&mut self) {
        self.state = None;
    }

    /// Takes a page of a member's report.
    pub fn report(&mut self, here: Here<'_>, report: &Report) -> Reply {
        let now = here.now;
        let hello = report.generation.is_none();
        let lost = self.state.as_ref().is_none_or(|state| *state.run != *here.run);
        let (heard, epoch) = &report.heard;
        // A server that comes back with what it had before another one took its place.
        let obsolete = self.state.as_ref().is_some_and(|state| state.generation != *heard && state.epoch <= *epoch);
        if (lost || obsolete) && hello {
            self.begun += 1;
            self.state = Some(State {
                // A name that no message which is under way can bear.
                generation: format!("{}-{}-{}", here.run, self.begun, report.candidate).into(),
                epoch: epoch + 1,
                run: here.run.into(),
                began: now,
                version: 0,
                sure: false,
                members: BTreeMap::new(),
                counters: BTreeMap::new(),
            });
        }
        let Some(state) = self.state.as_mut().filter(|_| hello || !lost) else { return Reply::Lost };
        match &report.generation {
            None => return Reply::Fine(state.told(&report.id, now, Vec::new())),
            Some(generation) if *generation != state.generation => return Reply::Lost,
            Some(_) => {}
        }
        let strangers =
            report.known.iter().map(|known| &known.id).chain([&report.id]).filter(|id| !state.members.contains_key(*id)).count();
        if state.members.len() + strangers > MAX_MEMBERS {
            return Reply::Full;
        }
        let me = state.members.entry(report.id.clone()).or_insert_with(|| Seat::absent(&report.name, 0));
        if report.seq <= me.seq {
            return Reply::Stale;
        }
        // A process that takes the place of another has begun once more.
        let began_once_more = report.seq / PER_START > me.seq / PER_START;
        if me.life != report.life && *me.life != *NOBODY && !began_once_more {
            return Reply::Twin;
        }
        me.life = report.life.clone();
        (me.name, me.seq, me.expires, me.until) = (report.name.clone(), report.seq, now + millis(LEASE), me.until.max(now + millis(KEEP)));
        for Known { id, name, until } in &report.known {
            state.members.entry(id.clone()).or_insert_with(|| Seat::absent(name, *until));
        }
        for line in &report.lines {
            let count = state.counters.entry(line.field.clone()).or_default();
            (count.end, count.seen) = (line.end, count.seen.max(line.seen));
            count.set(&report.id, line.claim, line.used);
            state.keeps(&report.id, line, line.claim);
        }
        if report.last {
            state.sure |= report.sure;
            let version = state.version + 1;
            if let Some(me) = state.members.get_mut(&report.id).filter(|me| !me.here) {
                (me.here, me.join) = (true, version);
                state.version = version;
            }
        }
        Reply::Fine(state.told(&report.id, now, Vec::new()))
    }

    /// Takes a message of a member that has reported.
    pub fn exchange(&mut self, here: Here<'_>, exchange: &Exchange) -> Reply {
        let now = here.now;
        let found = self.state.as_mut().filter(|state| *state.run == *here.run && state.generation == exchange.generation);
        let Some(state) = found else { return Reply::Lost };
        let Some(me) = state.members.get_mut(&exchange.id).filter(|me| me.here) else { return Reply::Lost };
        if exchange.seq <= me.seq {
            return Reply::Stale;
        }
        if exchange.life != me.life {
            return Reply::Twin;
        }
        me.seq = exchange.seq;
        me.expires = if exchange.closing { 0 } else { now + millis(LEASE) };
        me.ack = me.ack.max(exchange.ack);
        me.until = me.until.max(now + millis(KEEP));
        if exchange.sweep.is_some() {
            state.counters.retain(|_, count| count.end + SWEPT_AFTER >= now);
            state.members.retain(|_, seat| seat.until >= now);
        }
        let lines = exchange.lines.iter().map(|line| state.count(&exchange.id, line, now)).collect();
        Reply::Fine(state.told(&exchange.id, now, lines))
    }
}

impl Server {
    /// Waits no longer for a member that has not told: what others have seen of all allowances, and nobody accounts for, counts as spent.
    pub fn strike(&mut self, here: Here<'_>, strike: &Strike) -> Reply {
        let found = self.state.as_mut().filter(|state| *state.run == *here.run && state.generation == strike.generation);
        let Some(state) = found else { return Reply::Lost };
        let Some(gone) = state.members.get_mut(&strike.id).filter(|seat| !seat.here) else { return Reply::Stale };
        gone.until = 0;
        for count in state.counters.values_mut() {
            let known: i64 = count.holders.iter().map(|holder| holder.allowance).sum();
            let before = count.holders.iter().find(|holder| *holder.id == *WRITTEN_OFF).map_or(0, |holder| holder.allowance);
            let lost = before + count.seen - known;
            if count.seen > known {
                count.set(&WRITTEN_OFF.into(), lost, lost);
            }
        }
        Reply::Fine(state.told(&strike.id, here.now, Vec::new()))
    }
}

impl Seat {
    fn absent(name: &Arc<str>, until: i64) -> Self {
        Self { name: name.clone(), life: NOBODY.into(), seq: 0, expires: 0, join: 0, ack: 0, until, here: false }
    }
}

impl Count {
    fn set(&mut self, id: &Arc<str>, allowance: i64, used: i64) {
        self.holders.retain(|holder| holder.id != *id);
        if allowance > 0 || used > 0 {
            self.holders.push(Holder { id: id.clone(), allowance, used });
        }
    }
}

impl State {
    /// Whether those that nobody has named yet have had their time to show up.
    fn is_settled(&self, now: i64) -> bool {
        now >= self.began + millis(SETTLE[usize::from(!self.sure)])
    }

    fn is_whole(&self, now: i64) -> bool {
        self.is_settled(now) && self.members.values().all(|seat| seat.here || seat.until < now)
    }

    /// Whether all others that live have noted a member.
    fn has_joined(&self, id: &str, now: i64) -> bool {
        let Some(me) = self.members.get(id) else { return false };
        let waits_for =
            |(other, seat): (&Arc<str>, &Seat)| **other != *id && seat.here && seat.expires + millis(PATIENCE) > now && seat.ack < me.join;
        !self.members.iter().any(waits_for)
    }

    fn keeps(&mut self, id: &str, line: &Line, allowance: i64) {
        if let Some(me) = self.members.get_mut(id).filter(|_| allowance > 0 && line.end >= FOREVER) {
            me.until = FOREVER;
        }
    }

    fn count(&mut self, id: &Arc<str>, line: &Line, now: i64) -> LineTold {
        let open = self.has_joined(id, now) && self.is_settled(now) && (self.is_whole(now) || line.start > self.began + millis(NEXT));
        let live = self.members.values().filter(|seat| seat.here && seat.expires > now).count().max(1);
        let count = self.counters.entry(line.field.clone()).or_default();
        let others: i64 = count.holders.iter().filter(|holder| holder.id != *id).map(|holder| holder.allowance).sum();
        let mut allowance = line.claim.max(line.must);
        let withheld = line.want > allowance && !open;
        if line.want > allowance && open {
            let room = (line.limit - others - allowance).max(0);
            let needed = (line.need - allowance).max(0);
            if needed > room {
                count.hungry = now + millis(HUNGRY);
            } else {
                // What is beyond the need is shared: near the end nobody takes all.
                let share = (room - needed) / (2 * i64::try_from(live).unwrap_or(i64::MAX));
                allowance += needed + (line.want - allowance - needed).clamp(0, share);
            }
        }
        count.end = line.end;
        count.set(id, allowance, line.used);
        let told = LineTold { withheld, hungry: count.hungry, holders: count.holders.clone() };
        self.keeps(id, line, allowance);
        told
    }

    fn told(&self, id: &str, now: i64, lines: Vec<LineTold>) -> Told {
        let view = |(id, seat): (&Arc<str>, &Seat)| MemberView {
            known: Known { id: id.clone(), name: seat.name.clone(), until: seat.until },
            expires: seat.expires,
            here: seat.here,
        };
        Told {
            generation: self.generation.clone(),
            epoch: self.epoch,
            now,
            version: self.version,
            whole: self.is_whole(now),
            joined: self.has_joined(id, now),
            swept: 0,
            members: self.members.iter().map(view).collect(),
            lines,
        }
    }
}
