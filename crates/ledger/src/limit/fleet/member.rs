//! An instance among those that share limits: what it tells, and takes over of what it is told.

use std::collections::HashMap;
use std::sync::Arc;

use farthing_types::{Span, Time};
use serde::{Deserialize, Serialize};

use super::wire::{Known, Line, LineTold, MemberView, Message, Reply, Told};
use super::{CLOSED, MARGIN, MAX_LINES, MAX_MOVED, TERM};
use crate::limit::Book;
use crate::limit::bucket::{Shares, WHOLE};
use crate::limit::counter::{Moved, Standing};
use crate::place::millis;

/// Slack for times that are told in whole milliseconds.
const ROUND: Span = Span::from_millis(2);
/// Longest time that an answer takes: who gets none in it gives up.
pub const ANSWER: Span = Span::from_millis(500);
/// A fair share that is less by so much is told at once.
const MUCH: u32 = WHOLE / 100;
/// Messages between looks for counters that are over.
const SWEEP: i64 = 2;

/// What does not change of a member.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Its name.
    pub id: Arc<str>,
    /// Which process it is.
    pub life: Arc<str>,
    /// When that began, in milliseconds of its own clock.
    pub start: i64,
    /// How long it goes on with its standing shares when it hears nothing.
    pub alone: Span,
    /// The most that it takes of the whole.
    pub most: u32,
    /// It has so much, of the whole, before it has ever heard anything.
    pub first: u32,
}

/// A message under way.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The message.
    pub message: Message,
    /// When it was made.
    pub sent: Time,
}

/// How a member stands.
#[derive(Clone, Debug, Default)]
pub struct MemberState {
    /// All members, this one among them.
    pub members: Vec<MemberView>,
    /// All have told of themselves.
    pub whole: bool,
    /// Why this one is not let in.
    pub refused: Option<&'static str>,
    /// Since when nothing is heard, and why.
    pub away: Option<(Time, String)>,
    /// Times that the place had lost its data.
    pub losses: u64,
}

/// What outlives the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its standing shares.
    pub parts: [i64; 2],
    /// Until when they may be used, by the system's clock.
    pub until: Time,
    /// Since when it has had which share of rates and bursts, by the system's clock.
    #[serde(default)]
    pub history: Vec<(Time, u32)>,
    /// Nobody had used anything at the begin of that.
    #[serde(default)]
    pub full: bool,
    /// The generation that it has heard of last.
    pub generation: Arc<str>,
    /// Its number.
    pub epoch: i64,
    /// Whom else it knows.
    pub known: Vec<Known>,
}

/// When the place has told its time.
#[derive(Clone, Copy, Debug)]
struct Heard {
    server: i64,
    sent: Time,
    received: Time,
}

/// A counter that is told of.
#[derive(Clone, Copy, Debug)]
struct Watch {
    want: u32,
    fair: Option<u32>,
    /// As long as somebody lacks some.
    until: Time,
    looked: Time,
}

/// See the module.
#[derive(Debug)]
pub struct Member {
    terms: Terms,
    began: Time,
    seq: i64,
    generation: Arc<str>,
    epoch: i64,
    report: bool,
    /// It has never had shares, nor heard of anybody.
    fresh: bool,
    /// What a process before this one has lent may not be back yet.
    early: bool,
    closing: bool,
    heard: Option<Heard>,
    /// When the list of members was told.
    listed: Time,
    targets: [u32; 2],
    /// The share of calls at a time that is told: no lower than what is under way.
    slots: u32,
    sweep: i64,
    watched: HashMap<u128, Watch>,
    state: MemberState,
}

impl Member {
    /// One that has heard nothing, with what a process before has left it at `wall`, by the system's clock.
    pub fn new(book: &mut Book, terms: Terms, kept: Option<Kept>, (now, wall): (Time, Time)) -> Self {
        let mut member = Self {
            terms,
            began: now,
            seq: 0,
            generation: "-".into(),
            epoch: 0,
            report: true,
            fresh: true,
            early: false,
            closing: false,
            heard: None,
            listed: now,
            targets: [WHOLE; 2],
            slots: 0,
            sweep: 0,
            watched: HashMap::new(),
            state: MemberState::default(),
        };
        book.enter_fleet();
        if let Some(kept) = kept {
            member.recall(book, kept, (now, wall));
        }
        if book.standing().rate == 0 && member.terms.first > 0 {
            member.stand(book, [member.terms.first; 2], (now + member.terms.alone, now));
        }
        member
    }

    fn recall(&mut self, book: &mut Book, kept: Kept, (now, wall): (Time, Time)) {
        let Kept { parts, until, history, full, generation, epoch, known } = kept;
        (self.generation, self.epoch, self.fresh) = (generation, epoch, false);
        self.state.members = known.into_iter().map(|known| MemberView { known, live: false, here: false }).collect();
        if until > wall {
            book.set_history(history.into_iter().map(|(at, share)| (now - wall.since(at), share)).collect(), full);
            // A clock that was put back gives no more than it would have had.
            self.early = true;
            let left = until.since(wall).min(self.terms.alone);
            self.stand(book, parts.map(share), (now + left, now));
        }
    }

    /// What is to outlive the process.
    pub fn kept(&self, book: &Book, (now, wall): (Time, Time)) -> Kept {
        let (standing, (history, full)) = (book.standing(), book.history());
        Kept {
            parts: [standing.rate, self.slots.max(standing.slots)].map(i64::from),
            until: wall + book.stands_until().since(now),
            history: history.iter().map(|(at, share)| (wall - now.since(*at), *share)).collect(),
            full,
            generation: self.generation.clone(),
            epoch: self.epoch,
            known: self.known(now),
        }
    }

    /// How it stands.
    pub const fn state(&self) -> &MemberState {
        &self.state
    }

    /// Who.
    pub const fn id(&self) -> &Arc<str> {
        &self.terms.id
    }

    /// From now on it uses nothing, and says so.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Whom else it knows, by what it was told last.
    fn known(&self, now: Time) -> Vec<Known> {
        let gone = millis(now.since(self.listed));
        let others = self.state.members.iter().map(|view| &view.known).filter(|known| known.id != self.terms.id && known.left > gone);
        others.map(|known| Known { left: known.left - gone, ..known.clone() }).collect()
    }

    /// Has these shares, until then.
    fn stand(&mut self, book: &mut Book, [rate, slots]: [u32; 2], (until, now): (Time, Time)) {
        self.slots = slots;
        self.early &= self.began + TERM + ANSWER > now;
        let Shares { rate, burst } = Shares::of(rate);
        let standing = Standing { rate, burst, slots: slots.min(self.targets[1]), closed: rate == 0 || self.early };
        book.set_standing(standing, until, now);
    }

    /// What is to be told now.
    pub fn next(&mut self, book: &mut Book, now: Time) -> Asked {
        book.keep_time(now);
        book.sweep_moved(now);
        self.lower(book, now);
        let lines = if self.report { Vec::new() } else { self.lines(book, now) };
        self.seq += 1;
        let Terms { id, life, start, alone, most, .. } = self.terms.clone();
        let standing = book.standing();
        if standing.rate == 0 {
            self.slots = 0;
        }
        if self.closing {
            // Whether that arrives or not.
            book.set_standing(Standing { closed: true, ..standing }, book.stands_until().min(now + CLOSED), now);
        }
        let message = Message {
            id,
            life,
            start,
            seq: self.seq,
            generation: self.generation.clone(),
            epoch: self.epoch,
            report: self.report,
            fresh: self.fresh,
            closing: self.closing,
            alone: millis(alone),
            most: i64::from(most),
            parts: [i64::from(standing.rate), i64::from(self.slots)],
            known: if self.report { self.known(now) } else { Vec::new() },
            sweep: (self.seq % SWEEP == 0).then_some(self.sweep),
            lines,
        };
        Asked { message, sent: now }
    }

    /// Uses no more than is meant for it, before that is told; and what it was left, once that is its own again.
    fn lower(&mut self, book: &mut Book, now: Time) {
        let (standing, until) = (book.standing(), book.stands_until());
        if standing.rate > 0 {
            let rate = standing.rate.min(self.targets[0]);
            if book.calls_fit(self.targets[1]) {
                self.slots = self.slots.min(self.targets[1]);
            }
            self.stand(book, [rate, self.slots], (until, now));
        }
    }

    /// Counters that somebody lacks some of, here or elsewhere: those first that were not told of for longest.
    fn lines(&mut self, book: &mut Book, now: Time) -> Vec<Line> {
        for mark in book.short_counters() {
            self.watch(mark, now);
        }
        self.watched.retain(|_, watch| watch.until > now);
        let mut marks: Vec<(Time, u128)> = self.watched.iter().map(|(mark, watch)| (watch.looked, *mark)).collect();
        marks.sort_unstable();
        marks.truncate(MAX_LINES);
        marks.into_iter().filter_map(|(_, mark)| self.line(book, mark, now)).collect()
    }

    /// Whether it was not watched before.
    fn watch(&mut self, mark: u128, now: Time) -> bool {
        let full = self.watched.len() >= MAX_MOVED;
        let began = now - TERM / 8;
        match self.watched.get_mut(&mark) {
            Some(watch) => watch.until = now + TERM,
            None if full => {}
            None => {
                self.watched.insert(mark, Watch { want: 0, fair: None, until: now + TERM, looked: began });
                return true;
            }
        }
        false
    }

    fn line(&mut self, book: &mut Book, mark: u128, now: Time) -> Option<Line> {
        let watch = self.watched.get_mut(&mark)?;
        let wanted = book.wanted(mark, now.since(watch.looked));
        watch.looked = now;
        // A little more than was asked for, and what was wanted before fades.
        watch.want = wanted.saturating_add(wanted / 4).min(WHOLE).max(watch.want / 4 * 3);
        let (standing, moved) = (book.standing().rate, book.moved(mark, now));
        let rate = moved.map_or(standing, |moved| moved.beside(standing));
        let claim = watch.fair.map_or(rate, |fair| fair.min(rate));
        let line = |claim: u32, until| Line { mark, claim: i64::from(claim), until, want: i64::from(watch.want) };
        if claim >= standing {
            if let Some(moved) = moved.filter(|moved| !moved.lent && claim < rate) {
                book.set_moved(mark, Some(Moved { rate: claim, ..moved }), now);
            }
            return Some(line(claim, 0));
        }
        // Without the place's time nothing can be promised.
        let Some(heard) = self.heard else { return Some(line(rate, 0)) };
        // The place's time is no later than by what has gone since it was asked; it is no earlier than by what has gone since it answered.
        let until = heard.server + millis(now.since(heard.sent) + TERM + ROUND);
        let lent = heard.received + Span::from_millis(u64::try_from(until - heard.server).unwrap_or_default()) + ROUND;
        if book.set_moved(mark, Some(Moved { rate: claim, until: lent, lent: true }), now) {
            Some(line(claim, until))
        } else {
            Some(line(rate, 0))
        }
    }

    /// An answer came; whether there is something to tell at once.
    pub fn answered(&mut self, book: &mut Book, asked: &Asked, (reply, now): (&Reply, Time)) -> bool {
        self.state.away = None;
        match reply {
            Reply::Stale => false,
            Reply::Twin => self.refused(book, "another process goes by this instance's name", now),
            Reply::Full => self.refused(book, "the fleet has too many instances", now),
            Reply::Lost(generation, epoch) => {
                let known = self.generation != *generation;
                self.state.losses += u64::from(known && *self.generation != *"-" && self.heard.is_some());
                (self.generation, self.epoch) = (generation.clone(), *epoch);
                (self.report, self.heard, self.state.whole) = (true, None, false);
                known
            }
            Reply::Fine(told) => self.told(book, asked, (told, now)),
        }
    }

    fn refused(&mut self, book: &mut Book, why: &'static str, now: Time) -> bool {
        (self.state.refused, self.state.whole) = (Some(why), false);
        (self.report, self.heard) = (true, None);
        book.set_standing(Standing::NOTHING, now, now);
        false
    }

    /// Nothing came.
    pub fn failed(&mut self, why: &str, now: Time) {
        let since = self.state.away.as_ref().map_or(now, |(since, _)| *since);
        self.state.away = Some((since, why.to_owned()));
    }

    fn told(&mut self, book: &mut Book, asked: &Asked, (told, now): (&Told, Time)) -> bool {
        (self.report, self.state.refused) = (false, None);
        self.early &= !told.ready;
        self.heard = Some(Heard { server: told.now, sent: asked.sent, received: now });
        (self.state.members, self.state.whole, self.listed) = (told.members.clone(), told.whole, now);
        (self.sweep, self.targets) = (told.swept, told.targets.map(share));
        if self.closing {
            return false;
        }
        let parts = told.parts.map(share);
        book.keep_time(now);
        let (had, begins) = (book.standing().rate, self.fresh && parts[0] > 0);
        self.stand(book, parts, (asked.sent + self.terms.alone, now));
        if begins {
            self.fresh = false;
            if told.fresh && had == 0 {
                book.begin_full(now);
            }
        }
        let mut again = parts[0] > self.targets[0].saturating_add(1);
        for (line, told) in asked.message.lines.iter().zip(&told.lines) {
            again |= self.line_told(book, line, (told, asked.sent, now));
        }
        for mark in &told.wanted {
            again |= self.watch(*mark, now);
        }
        again
    }

    fn line_told(&mut self, book: &mut Book, line: &Line, (told, sent, now): (&LineTold, Time, Time)) -> bool {
        let (rate, standing) = (share(told.rate), book.standing().rate);
        let fair = share(told.fair);
        if let Some(watch) = self.watched.get_mut(&line.mark) {
            watch.fair = Some(fair);
        }
        let moved = if rate < standing {
            // As long as it has said itself.
            book.moved(line.mark, now).filter(|moved| moved.lent).map(|moved| Moved { rate, ..moved })
        } else {
            let left = Span::from_millis(u64::try_from(told.left).unwrap_or_default());
            let until = sent + left.saturating_sub(MARGIN);
            (rate > standing && until > now).then_some(Moved { rate, until, lent: false })
        };
        book.set_moved(line.mark, moved, now);
        fair.saturating_add(MUCH) < rate
    }
}

fn share(part: i64) -> u32 {
    u32::try_from(part.max(0)).unwrap_or(WHOLE).min(WHOLE)
}
