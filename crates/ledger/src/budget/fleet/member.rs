//! A member of a fleet: what it tells next, and what follows from an answer.

use std::sync::Arc;

use farthing_types::{Span, Time};

use super::wire::{Exchange, Known, Line, MemberView, Reply, Report, Told};
use super::{LEASE, MAX_LINES, PATIENCE, PER_START};
use crate::budget::store::Record;
use crate::budget::{Book, Grant};

/// So many answers in a row may know of a later message.
const MOST_STALE: u32 = 3;

/// A message under way.
#[derive(Clone, Debug)]
pub enum Asked {
    /// Pages of a report.
    Report(Report),
    /// Counters.
    Exchange(Exchange),
}

/// What is to be made durable after an answer; then [`Book::granted`] and [`Member::noted`] are told.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// Grants.
    pub grants: Vec<Grant>,
    /// Records beside them.
    pub records: Vec<Record>,
    /// More is to be told at once.
    pub again: bool,
}

/// Why a member is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are too many.
    Full,
    /// Another process goes by a copy of its ledger.
    Twin,
    /// The fleet has heard more of it than its ledger knows.
    Old,
}

impl Refused {
    const fn text(self) -> &'static str {
        match self {
            Self::Full => "the fleet has too many members",
            Self::Twin => {
                "another process of the fleet goes by a copy of `budgets` in this instance's state_dir: give each its own, and remove the copy"
            }
            Self::Old => {
                "`budgets` in this instance's state_dir is older than what the fleet was told from it: put the newer one back; or remove it, which \
                 forgets what this instance has spent in the present windows"
            }
        }
    }
}

/// How a member stands, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberState {
    /// The generation that was told of last.
    pub generation: Option<Arc<str>>,
    /// Members as they were told last.
    pub members: Vec<MemberView>,
    /// The server's time then.
    pub server_now: i64,
    /// All members have reported.
    pub whole: bool,
    /// All who live know this one.
    pub joined: bool,
    /// Why this member is not let in.
    pub refused: Option<Refused>,
    /// Losses of Redis' data that were noticed.
    pub losses: u64,
}

impl MemberState {
    /// Members that have not reported since Redis lost its data.
    pub fn absent(&self) -> impl Iterator<Item = &MemberView> {
        self.members.iter().filter(|view| !view.here && view.known.until >= self.server_now)
    }

    /// Their names.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        self.absent().map(|view| &*view.known.name)
    }

    /// Whether a member counts as away.
    pub fn is_away(&self, id: &str) -> bool {
        self.members.iter().find(|view| *view.known.id == *id).is_none_or(|view| view.expires <= self.server_now)
    }

    /// The name of a member.
    pub fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.members.iter().find(|view| *view.known.id == *id).map_or(id, |view| &view.known.name)
    }

    /// Why nothing is granted; `None` where something is.
    pub fn trouble(&self) -> Option<String> {
        if let Some(refused) = self.refused {
            return Some(refused.text().to_owned());
        }
        if self.whole && self.joined {
            return None;
        }
        let missing: Vec<&str> = self.missing().collect();
        Some(match (missing.is_empty(), self.whole) {
            (false, _) => {
                format!("redis has lost what the fleet may spend, and these have not told yet what they spent: {}", missing.join(", "))
            }
            (true, false) => "the instances are still telling each other what they have spent".to_owned(),
            (true, true) => "not all of the fleet know this instance yet".to_owned(),
        })
    }
}

/// A member; see the module. One message is under way at a time.
#[derive(Debug)]
pub struct Member {
    name: Arc<str>,
    life: Arc<str>,
    /// Answers in a row that knew of a later message.
    stale: u32,
    /// How often it has begun; `None` before its ledger was read.
    starts: Option<i64>,
    sent: i64,
    phase: Phase,
    /// Version of the list of members that is noted durably.
    ack: i64,
    /// The same on its way.
    noting: Option<i64>,
    /// When the last answer came of a generation that knew this member.
    heard: Option<Time>,
    /// Whether what it tells in its report is of somebody who was in touch up to the loss.
    sure: bool,
    sweep: Option<i64>,
    beats: u32,
    /// The process ends.
    closing: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    /// It is to ask for the generation.
    Out,
    /// It has heard of this one, which is on its way to the disk, or there.
    Heard(Arc<str>, bool),
    /// It tells these counters, one page after the other, to this generation.
    Reporting(Vec<Line>, Arc<str>),
    /// It has told all to this generation.
    In(Arc<str>),
}

impl Member {
    /// One that has told nothing. `life` is another one for each process.
    pub const fn new(name: Arc<str>, life: Arc<str>) -> Self {
        Self {
            name,
            life,
            stale: 0,
            starts: None,
            sent: 0,
            phase: Phase::Out,
            ack: 0,
            noting: None,
            heard: None,
            sure: false,
            sweep: None,
            beats: 0,
            closing: false,
        }
    }

    /// From now on it only gives back.
    pub const fn close(&mut self) {
        self.closing = true;
    }

    /// What to tell next. `beat`: whatever there is; else only where something is asked for, or a report goes on. `candidate` names the generation that
    /// may begin with it; `now` is the book's time. `None`: nothing, or the ledger cannot be kept.
    pub fn next(&mut self, book: &mut Book, beat: bool, (candidate, now): (&str, Time)) -> Option<Asked> {
        let side = book.fleet.as_ref().filter(|side| side.starts > 0)?;
        let id = side.id.clone();
        if self.starts != Some(side.starts) {
            // The ledger was opened just now, or anew: all is told from it.
            (self.starts, self.sent, self.phase) = (Some(side.starts), 0, Phase::Out);
        }
        let starts = side.starts;
        let mut number = || {
            self.sent += 1;
            starts * PER_START + self.sent
        };
        let heard = side.heard.clone();
        if let Phase::Heard(generation, true) = &self.phase {
            // By what is known now: what is granted meanwhile is none of this generation's.
            self.phase = Phase::Reporting(book.fleet_all(now), generation.clone());
        }
        let (name, life, candidate, sure) = (self.name.clone(), self.life.clone(), candidate.into(), self.sure);
        let report = |generation, (known, lines, last)| {
            let seq = number();
            Some(Asked::Report(Report {
                id: id.clone(),
                name,
                life: life.clone(),
                seq,
                candidate,
                generation,
                heard,
                sure,
                known,
                lines,
                last,
            }))
        };
        match &self.phase {
            Phase::Out | Phase::Heard(..) => report(None, (Vec::new(), Vec::new(), false)),
            Phase::Reporting(all, generation) => {
                let (lines, last) = (all.iter().take(MAX_LINES).cloned().collect(), all.len() <= MAX_LINES);
                let known = if last { side.known.clone() } else { Vec::new() };
                report(Some(generation.clone()), (known, lines, last))
            }
            Phase::In(generation) => {
                let lines = book.fleet_lines(beat || self.closing, self.closing, now);
                if lines.is_empty() && !beat && !self.closing {
                    return None;
                }
                self.beats = self.beats.wrapping_add(u32::from(beat));
                let sweep = if beat && self.beats.is_multiple_of(16) { Some(self.sweep.unwrap_or_default()) } else { None };
                let (ack, closing, generation) = (self.ack, self.closing, generation.clone());
                Some(Asked::Exchange(Exchange { id, life, seq: number(), generation, ack, closing, sweep, lines }))
            }
        }
    }

    /// What follows from an answer.
    pub fn answered(&mut self, book: &mut Book, asked: &Asked, (reply, now): (&Reply, Time)) -> Orders {
        book.fleet_answers();
        let mut orders = Orders::default();
        if !matches!(reply, Reply::Stale) {
            self.stale = 0;
        }
        match (asked, reply) {
            (_, Reply::Lost) => {
                if matches!(self.phase, Phase::In(_)) {
                    // A lease and the patience after it: so long nobody could have joined without this one.
                    let most = LEASE + PATIENCE - Span::from_secs(5);
                    self.sure = self.heard.is_some_and(|heard| now.since(heard) < most);
                    book.fleet_lost();
                }
                (self.phase, self.ack, self.noting) = (Phase::Out, 0, None);
                orders.again = true;
            }
            // The number says that it was taken, and what it was answered is not known: a greater one tells.
            (_, Reply::Stale) => {
                self.stale += 1;
                book.fleet_again();
                // A message that ran twice is told so once. More tell that the ledger is an old one.
                orders.again = self.stale < MOST_STALE;
                if !orders.again {
                    book.fleet_refused(Refused::Old);
                }
            }
            (_, Reply::Twin) => book.fleet_refused(Refused::Twin),
            (_, Reply::Full) => book.fleet_refused(Refused::Full),
            (Asked::Report(report), Reply::Fine(told)) => {
                match &mut self.phase {
                    Phase::Out | Phase::Heard(..) => {
                        orders.records.extend(book.fleet_heard(told));
                        self.phase = Phase::Heard(told.generation.clone(), false);
                    }
                    Phase::Reporting(all, _) if !report.last => drop(all.drain(..report.lines.len().min(all.len()))),
                    Phase::Reporting(..) | Phase::In(_) => {
                        (self.heard, self.phase) = (Some(now), Phase::In(told.generation.clone()));
                        orders.records.extend(self.meet(book, told));
                    }
                }
                orders.again = true;
            }
            (Asked::Exchange(exchange), Reply::Fine(told)) => {
                self.heard = Some(now);
                self.sweep = exchange.sweep.map_or(self.sweep, |_| Some(told.swept));
                orders.records.extend(self.meet(book, told));
                let (grants, again) = book.fleet_told(&exchange.lines, told, now);
                orders.grants = grants;
                orders.again = again;
            }
        }
        orders
    }

    /// No answer came. What was asked for is asked for again.
    pub fn failed(&self, book: &mut Book, (why, now): (&str, Time)) {
        book.fleet_away(why, now);
    }

    /// What was ordered is durable.
    pub fn noted(&mut self) {
        if let Phase::Heard(_, durable) = &mut self.phase {
            *durable = true;
        }
        if let Some(version) = self.noting.take() {
            self.ack = self.ack.max(version);
        }
    }

    /// Takes the list of members over; what is to be written down of it.
    fn meet(&mut self, book: &mut Book, told: &Told) -> Option<Record> {
        let changed = book.fleet_meet(told);
        if told.version > self.ack {
            self.noting = Some(told.version);
        }
        // A version without anybody new is noted with what is written next.
        (changed || self.noting.is_some()).then(|| book.fleet.as_ref().map(|side| Record::known(&side.known))).flatten()
    }
}

impl Known {
    /// Whether it is worth writing down again: nothing else has changed than when it was heard of last, and not by days.
    pub(super) fn differs(&self, other: &Self) -> bool {
        self.id != other.id || self.name != other.name || (self.until - other.until).abs() > 86_400_000
    }
}
