//! The place where shares are granted, as a model: what [`super::script`] does in Redis, step by step, for simulations and as the measure of the script.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::wire::{Known, Line, LineTold, MemberView, Message, Reply, Told};
use super::{CLOSED, FRESH, KEPT, LEASE, MAX_MEMBERS, MAX_WANTED, PATIENCE, SETTLE, TERM, fair};
use crate::limit::bucket::WHOLE;
use crate::place::{Here, millis};

const ALL: i64 = WHOLE as i64;

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
    /// The run of the server in which the generation began.
    run: Arc<str>,
    began: i64,
    /// Greater than those of all that went before, as far as its first member knew.
    epoch: i64,
    /// Nobody has told that it had a share before.
    fresh: bool,
    members: BTreeMap<Arc<str>, Seat>,
    counters: BTreeMap<u128, BTreeMap<Arc<str>, Entry>>,
    wanted: BTreeMap<u128, i64>,
}

#[derive(Clone, Debug)]
struct Seat {
    life: Arc<str>,
    start: i64,
    seq: i64,
    seen: i64,
    until: i64,
    here: bool,
    /// It has ended in order.
    closed: bool,
    parts: [i64; 2],
    /// What it held before, until then: others may still have some of its rate.
    held: [i64; 2],
    held_until: i64,
    /// Until when it has lent some.
    lent_until: i64,
    /// Until when another process by this name had.
    ready: i64,
}

/// What a member uses of a counter's rate instead of its standing share, until then.
#[derive(Clone, Debug)]
struct Entry {
    rate: i64,
    end: i64,
    want: i64,
    lent: bool,
}

impl Server {
    /// Forgets all.
    pub fn flush(&mut self) {
        self.state = None;
    }

    /// Takes a message.
    pub fn take(&mut self, here: Here<'_>, message: &Message) -> Reply {
        let now = here.now;
        let lost = self.state.as_ref().is_none_or(|state| {
            // The latter is a server that comes back with what it had before another one took its place.
            *state.run != *here.run || (state.generation != message.generation && state.epoch <= message.epoch)
        });
        if lost {
            self.begun += 1;
            let before = self.state.as_ref().map_or(0, |state| state.epoch);
            self.state = Some(State {
                generation: format!("{}-{}", here.run, self.begun).into(),
                run: here.run.into(),
                began: now,
                epoch: before.max(message.epoch) + 1,
                fresh: true,
                members: BTreeMap::new(),
                counters: BTreeMap::new(),
                wanted: BTreeMap::new(),
            });
        }
        let Some(state) = &mut self.state else { return Reply::Stale };
        let seat = state.members.get(&message.id);
        let known = message.generation == state.generation && (message.report || seat.is_some_and(|seat| seat.here));
        if !known {
            return Reply::Lost(state.generation.clone(), state.epoch);
        }
        if let Some(seat) = seat.filter(|seat| seat.here) {
            let other = seat.life != message.life;
            if other && (!message.report || (message.start < seat.start && seat.lives(now))) {
                return Reply::Twin;
            }
            if !other && message.seq <= seat.seq {
                return Reply::Stale;
            }
        }
        state.members.retain(|id, seat| seat.until >= now || *id == message.id);
        if message.report && !state.meet(message, now) {
            return Reply::Full;
        }
        Reply::Fine(state.exchange(message, now))
    }
}

impl State {
    /// Takes a report; whether there is room for all whom it names.
    fn meet(&mut self, message: &Message, now: i64) -> bool {
        let ids = message.known.iter().map(|known| &known.id).chain([&message.id]);
        let strangers = ids.filter(|id| !self.members.contains_key(*id)).count();
        if self.members.len() + strangers > MAX_MEMBERS {
            return false;
        }
        self.fresh &= message.fresh;
        for Known { id, parts, left } in message.known.iter().filter(|known| known.id != message.id) {
            let seat = self.members.entry(id.clone()).or_insert_with(|| Seat::absent(*parts, 0));
            if !seat.here {
                seat.parts = [0, 1].map(|part| seat.parts[part].max(parts[part]));
                seat.until = seat.until.max(now + left);
            }
        }
        let seat = self.members.entry(message.id.clone()).or_insert_with(|| Seat::absent(message.parts, 0));
        if seat.here && seat.life != message.life {
            seat.ready = seat.lent_until;
        }
        if !seat.here {
            // What others have heard of it is older than what it says itself.
            seat.parts = message.parts;
        }
        (seat.life, seat.start, seat.here) = (message.life.clone(), message.start, true);
        true
    }

    fn exchange(&mut self, message: &Message, now: i64) -> Told {
        let settled = now >= self.began + millis(SETTLE);
        if let Some(seat) = self.members.get_mut(&message.id) {
            seat.tells(message, now);
        }
        if message.sweep.is_some() {
            self.counters.retain(|_, entries| entries.values().any(|entry| entry.end > now));
        }
        self.wanted.retain(|_, until| *until > now);
        let all = self.members.values().all(|seat| seat.here);
        let whole = settled && all;
        let open = settled && (all || now >= self.began + millis(PATIENCE));
        let targets = self.targets(message, now);
        let ready = self.members.get(&message.id).is_some_and(|seat| now >= seat.ready);
        if open && ready && !message.closing {
            self.grow(&message.id, targets, now);
        }
        let lends = settled && ready && !message.closing;
        let lines = message.lines.iter().map(|line| self.line(&message.id, line, (lends, now))).collect();
        let parts = self.members.get(&message.id).map_or([0; 2], |seat| seat.parts);
        let mut wanted: Vec<(i64, u128)> = self.wanted.iter().map(|(mark, until)| (*until, *mark)).collect();
        wanted.sort_unstable_by(|a, b| b.cmp(a));
        wanted.truncate(MAX_WANTED);
        self.wanted = wanted.iter().map(|(until, mark)| (*mark, *until)).collect();
        Told {
            generation: self.generation.clone(),
            epoch: self.epoch,
            now,
            fresh: self.fresh && self.epoch == 1 && now < self.began + millis(FRESH),
            whole,
            ready,
            parts,
            targets,
            swept: 0,
            members: self.members.iter().map(|(id, seat)| seat.view(id, now)).collect(),
            lines,
            wanted: wanted.into_iter().map(|(_, mark)| mark).collect(),
        }
    }

    /// What the member's standing shares are to be: as much as everyone who lives, of what is not held by those who are away.
    fn targets(&self, message: &Message, now: i64) -> [i64; 2] {
        let live = self.members.values().filter(|seat| seat.lives(now)).count();
        [0, 1].map(|part| {
            let away: i64 = self.members.values().filter(|seat| !seat.lives(now)).map(|seat| self.keeps(seat, part)).sum();
            ((ALL - away).max(0) / i64::try_from(live).unwrap_or(i64::MAX).max(1)).min(message.most)
        })
    }

    /// What a member may have of the whole: of one that has not told of itself others may have heard less than it was given last.
    fn keeps(&self, seat: &Seat, part: usize) -> i64 {
        let everyone = ALL / i64::try_from(self.members.len()).unwrap_or(i64::MAX).max(1);
        if seat.here { seat.parts[part] } else { seat.parts[part].max(everyone) }
    }

    /// Gives a member more, if there is some.
    fn grow(&mut self, id: &Arc<str>, targets: [i64; 2], now: i64) {
        for part in [0, 1] {
            let others =
                self.members.iter().filter(|(other, _)| *other != id).map(|(_, seat)| seat.holds(part, now).max(self.keeps(seat, part)));
            let share = targets[part].min(ALL - others.sum::<i64>());
            // With crumbs nobody could let a call through.
            if let Some(seat) = self.members.get_mut(id).filter(|_| share * 2 >= targets[part]) {
                seat.parts[part] = seat.parts[part].max(share);
            }
        }
    }

    /// A member tells of a counter, and asks for more.
    fn line(&mut self, id: &Arc<str>, line: &Line, (lends, now): (bool, i64)) -> LineTold {
        let entries = self.counters.entry(line.mark).or_default();
        entries.retain(|_, entry| entry.end > now);
        let part = self.members.get(id).map_or(0, |seat| seat.parts[0]);
        let all: i64 = self.members.values().map(|seat| seat.parts[0]).sum();
        let (mut used, mut silent, mut ends) = (0, 0, now + millis(TERM));
        let mut wants = vec![(line.want, &**id)];
        for (other, seat) in self.members.iter().filter(|(other, _)| *other != id) {
            let Some(entry) = entries.get(other) else {
                (used, silent) = (used + seat.parts[0], silent + seat.parts[0]);
                continue;
            };
            used += entry.uses(seat.parts[0]);
            wants.push((entry.want, other));
            if entry.lent {
                ends = ends.min(entry.end);
            }
        }
        let fair = fair::share(all - silent, &mut wants, id);
        let own = entries.get(id);
        let had = own.map_or(part, |entry| entry.uses(part));
        // What arrives after its time is no promise.
        let claim = if line.claim < part && line.until <= now { part } else { line.claim.min(had.max(part)) };
        let more = if lends { (fair - claim).min(all - used - claim).max(0) } else { 0 };
        let rate = claim + more;
        let lent = rate < part;
        let end = match (lent, own) {
            (true, _) => line.until,
            // It may not hear this answer, and go on with what it had.
            (false, Some(own)) if claim > part && !own.lent => ends.max(own.end),
            (false, _) => ends,
        };
        entries.insert(id.clone(), Entry { rate, end, want: line.want, lent });
        if let Some(seat) = self.members.get_mut(id).filter(|_| lent) {
            seat.lent_until = seat.lent_until.max(end);
        }
        if line.want > part {
            self.wanted.insert(line.mark, now + millis(TERM));
        }
        LineTold { rate, left: ends - now, fair }
    }
}

impl Seat {
    /// One that others know of.
    fn absent(parts: [i64; 2], until: i64) -> Self {
        Self {
            life: "-".into(),
            start: 0,
            seq: 0,
            seen: 0,
            until,
            here: false,
            closed: false,
            parts,
            held: [0; 2],
            held_until: 0,
            lent_until: 0,
            ready: 0,
        }
    }

    fn lives(&self, now: i64) -> bool {
        self.here && !self.closed && self.seen + millis(LEASE) > now
    }

    /// What it may be using of the whole, by itself or through others.
    fn holds(&self, part: usize, now: i64) -> i64 {
        if self.held_until > now { self.parts[part].max(self.held[part]) } else { self.parts[part] }
    }

    /// It tells of itself.
    fn tells(&mut self, message: &Message, now: i64) {
        self.seq = message.seq;
        let keeps = if message.closing { millis(CLOSED) } else { message.alone + millis(KEPT) };
        (self.seen, self.until, self.closed) = (now, now + keeps, message.closing);
        let less = [0, 1].map(|part| message.parts[part].min(self.parts[part]));
        if less != self.parts {
            self.held = [0, 1].map(|part| self.holds(part, now));
            (self.held_until, self.parts) = (now + millis(TERM), less);
        }
    }

    fn view(&self, id: &Arc<str>, now: i64) -> MemberView {
        let known = Known { id: id.clone(), parts: self.parts, left: (self.until - now).max(0) };
        MemberView { known, live: self.lives(now), here: self.here }
    }
}

impl Entry {
    /// What is used by it, beside that standing share.
    fn uses(&self, part: i64) -> i64 {
        if self.lent { self.rate } else { self.rate.max(part) }
    }
}
