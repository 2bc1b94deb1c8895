//! One instance: its memory, what it has heard, what it still has to tell, its calls.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use farthing_fleet::{BusAsked, BusHeard, BusListener, BusNews, BusPlace, BusPosition, BusSaid, BusTold, BusTurn, EntryId};
use farthing_freshness::ticket::Event;
use farthing_freshness::{Entry, Facts, Subject};
use farthing_types::{CallId, Time};
use http::{HeaderMap, StatusCode};

use super::Without;
use crate::flight::Told;
use crate::l2::Looked;
use crate::purge::Since;
use crate::{Cache, CacheConfig, Cached, Hearing, Join, Joined, NoEvents, Purge, SharedHead, Ticket, tests};

/// A request: for which key, when it came.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub key: usize,
    /// On the clock of its instance.
    pub at: Time,
    /// In truth, us.
    pub came: u64,
}

/// A purge that is to be told: its ticket, what it is, of which key, and the version before which nothing is good any more.
#[derive(Clone, Debug)]
pub struct Untold {
    pub ticket: u64,
    /// The event that says so, which all instances read.
    pub event: Option<u64>,
    pub purge: Purge,
    pub key: usize,
    pub least: u64,
}

/// A call under way, or a look into L2 before it.
pub struct Calling {
    pub key: usize,
    ticket: Ticket,
    /// When the provider was asked, on the instance's clock.
    asked: Time,
    waiting: Vec<Request>,
}

/// What an instance answered, and whether from what it kept.
pub struct Answered {
    pub request: Request,
    pub version: u64,
    pub hit: bool,
}

/// What is to be done for a request.
pub enum Next {
    Answer(Answered),
    /// It leads: L2 is asked for this call.
    Lead(u64),
    Waits,
}

pub struct Instance {
    without: Without,
    pub run: u64,
    pub offset: i64,
    pub gains: i64,
    /// It does nothing before this, and is cut off from the bus until that.
    pub paused: u64,
    pub cut: u64,
    pub hearing: Arc<Hearing>,
    cache: Cache,
    listener: BusListener,
    pub outbox: VecDeque<Untold>,
    tickets: u64,
    nonces: u64,
    calls: u64,
    /// From which event to which one it has obeyed all.
    obeyed: Option<(u64, u64)>,
    pub calling: BTreeMap<u64, Calling>,
    /// The newest call of each key.
    current: BTreeMap<usize, u64>,
    /// When it has read all events that there are.
    pub read: u64,
    /// What it is telling at present, and how many of the outbox.
    pub telling: Option<(String, usize)>,
    /// When it asked for news last.
    pub asked: Time,
    /// What it has heard is being carried out; until that is done it does not ask again.
    pub carrying: bool,
}

/// What is to be carried out of what was heard.
pub struct Carry {
    purges: Vec<(Purge, bool)>,
    old: Vec<(Purge, bool)>,
    last: Option<BusPosition>,
    asked: Time,
    pub more: bool,
    /// Something may have been missed.
    pub lost: bool,
}

pub fn subject(key: usize) -> Arc<Subject> {
    tests::subject(key as u64)
}

fn tag(key: usize) -> Arc<str> {
    format!("t{key}").into()
}

pub fn purge_of(key: usize, kind: u64) -> Purge {
    match kind {
        0 => Purge::Tag(tag(key)),
        1 => Purge::Key(subject(key).key),
        2 => Purge::Within { route: "geo".into(), tenant: None, path: Some(subject(key).path.clone()), tag: None },
        _ => Purge::Prefix { route: Some("geo".into()), path: subject(key).path.clone() },
    }
}

pub fn version_of(entry: &Cached) -> u64 {
    std::str::from_utf8(&entry.body()).unwrap().parse().unwrap()
}

impl Instance {
    /// One that starts; its clock and its pauses are those of the run before.
    pub fn start(without: Without, run: u64, (offset, gains): (i64, i64)) -> Self {
        let hearing = Arc::new(Hearing::new(without != Without::Doubt));
        let config = CacheConfig { l1_bytes: 1 << 20, stats_bytes: 1 << 12, ..tests::config() };
        Self {
            without,
            run,
            offset,
            gains,
            paused: 0,
            cut: 0,
            cache: Cache::in_fleet(config, Arc::new(NoEvents), None, Some(Arc::clone(&hearing))),
            hearing,
            listener: BusListener::default(),
            outbox: VecDeque::new(),
            tickets: 0,
            nonces: 0,
            calls: 0,
            obeyed: None,
            calling: BTreeMap::new(),
            current: BTreeMap::new(),
            read: 0,
            telling: None,
            asked: Time::ZERO,
            carrying: false,
        }
    }

    pub fn clock(&self, now: u64) -> Time {
        let micros = now as i64 + now as i64 * self.gains / 1_000_000 + self.offset;
        Time::from_nanos(micros * 1_000)
    }

    pub fn nonce(&mut self, who: usize) -> String {
        self.nonces += 1;
        format!("{who}.{}-{}", self.run, self.nonces)
    }
    pub fn question(&self) -> BusAsked {
        let asks = self.listener.asks();
        if self.without == Without::Own { BusAsked { told: BusPosition::default(), ..asks } } else { asks }
    }

    /// As a request is looked up and joined.
    pub fn asks(&mut self, request: Request, now: Time) -> Next {
        let (subject, none) = (subject(request.key), HeaderMap::new());
        let usable = |entry: &Cached| !entry.soft_purged() && !self.hearing.doubts(entry, (request.at, self.hearing.is_silent(request.at)));
        let hit = |entry: &Cached| Next::Answer(Answered { request, version: version_of(entry), hit: true });
        let mut seen = self.cache.lookup(subject.key, &none, now);
        if let Some(entry) = seen.as_deref().filter(|entry| usable(entry)) {
            return hit(entry);
        }
        loop {
            match self.cache.join(Join { subject: &subject, headers: &none, seen: seen.as_ref(), now: request.at }) {
                Joined::Stored(entry) if usable(&entry) => return hit(&entry),
                Joined::Stored(entry) => seen = Some(entry),
                Joined::Follow(_) => {
                    let call = self.current[&request.key];
                    self.calling.get_mut(&call).unwrap().waiting.push(request);
                    return Next::Waits;
                }
                Joined::Lead(ticket) => {
                    self.calls += 1;
                    self.current.insert(request.key, self.calls);
                    self.calling.insert(self.calls, Calling { key: request.key, ticket, asked: now, waiting: vec![request] });
                    return Next::Lead(self.calls);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// What L2 had for a call. The requests that look again; nothing where the provider is to be asked.
    pub fn found(&mut self, call: u64, entry: Option<Entry>, now: Time) -> Option<Vec<Request>> {
        let soft = entry.as_ref().and_then(|entry| match self.hearing.judge_stored(entry, now) {
            _ if self.without == Without::Fence => Some(false),
            Ok(Since::Untouched) => Some(false),
            Ok(Since::Soft) => Some(true),
            Ok(Since::Hard) | Err(_) => None,
        });
        let calling = self.calling.get_mut(&call)?;
        calling.asked = now;
        if let Some((entry, soft_purged)) = entry.zip(soft) {
            let epoch = calling.ticket.epoch();
            if self.cache.0.promote(Looked { entry: Box::new(entry), soft_purged }, epoch, now).is_some() {
                let Calling { ticket, waiting, .. } = self.calling.remove(&call)?;
                ticket.end(Event::Fail, Told::Again);
                return Some(waiting);
            }
        }
        None
    }

    /// The provider has answered a call. What its requests get, and the entry for L2.
    pub fn answered(&mut self, call: u64, version: u64, now: Time) -> (Vec<Answered>, Option<Entry>) {
        let Some(Calling { key, ticket, asked, waiting }) = self.calling.remove(&call) else { return (Vec::new(), None) };
        let mark = ticket.flight.mark;
        let head = SharedHead { tags: Some(vec![tag(key)]), ..SharedHead::new(StatusCode::OK, HeaderMap::new(), CallId(call)) };
        let filled = ticket.share(head, now).finish(None);
        let stored = filled.store(entry(key, version, (asked, now)), now);
        let kept = match stored {
            Ok(stored) => Some(stored.entry.to_entry(&stored.entry.stats(), mark)),
            Err(_) if self.without == Without::Refusal => {
                Some(Entry { epoch: self.hearing.position(), ..entry(key, version, (asked, now)) })
            }
            Err(_) => None,
        };
        (waiting.into_iter().map(|request| Answered { request, version, hit: false }).collect(), kept)
    }

    /// As `State::purge` does: first what is below is not trusted any more, then memory is gone through.
    pub fn purges(&mut self, (key, least): (usize, u64), (purge, event): (Purge, Option<u64>), now: Time) {
        self.tickets += 1;
        if self.without != Without::Expectation {
            self.hearing.expect(self.tickets, &purge, false);
        }
        self.cache.purge(&purge, false, now);
        self.outbox.push_back(Untold { ticket: self.tickets, event, purge, key, least });
        if let Some(event) = event {
            self.obeyed = Some((self.obeyed.map_or(event, |(first, _)| first), event));
        }
    }

    /// What is to be told next.
    pub fn tells(&mut self, who: usize) -> Option<BusSaid> {
        // What was read is told by itself: it may have been told already.
        let read = self.outbox.front()?.event.is_some();
        let count = self.outbox.iter().take(5).take_while(|untold| untold.event.is_some() == read).count();
        let event = self.outbox.get(count - 1)?.event;
        let mut body = Vec::new();
        for untold in self.outbox.iter().take(count) {
            body.extend_from_slice(&untold.event.unwrap_or_default().to_le_bytes());
            untold.purge.write(&mut body);
        }
        let nonce = self.nonce(who);
        self.telling = Some((nonce.clone(), count));
        let of = event.map(|event| BusPlace { source: "events".to_owned(), place: EntryId(event, 0), anew: false });
        Some(BusSaid { nonce, body, of, ..BusSaid::default() })
    }

    /// It was told: what.
    pub fn told(&mut self, nonce: &str, told: &BusTold) -> Vec<Untold> {
        let Some((_, count)) = self.telling.take_if(|(telling, _)| telling == nonce) else { return Vec::new() };
        let done: Vec<Untold> = self.outbox.drain(..count).collect();
        for untold in done.iter().filter(|_| told.told || self.without != Without::Number) {
            self.hearing.note(told.number, &untold.purge, false);
        }
        self.hearing.settle(done.last().map_or(0, |last| last.ticket));
        let at = BusPosition { number: told.number, nonce: Bytes::copy_from_slice(nonce.as_bytes()) };
        if told.told && self.listener.told(&at, &told.after) {
            self.hearing.advance(at.number);
        }
        done
    }

    /// It has heard something: what is to be carried out, which takes its time.
    pub fn hears(&mut self, who: usize, (question, asked): (&BusAsked, Time), news: &BusNews, now: Time) -> Carry {
        let own = format!("{who}.{}-", self.run);
        let (turns, last) = self.listener.turns(news, (question, self.hearing.position()), |nonce| nonce.starts_with(own.as_bytes()));
        let mut carry = Carry { purges: Vec::new(), old: Vec::new(), last, asked, more: news.more, lost: false };
        for turn in turns {
            match turn {
                BusTurn::Lost { .. } if self.without == Without::Gap && question.after.number > 0 => {}
                BusTurn::Lost { before, news } => {
                    self.hearing.begin_anew(before);
                    self.cache.purge_memory(&[(Purge::All, false)], now);
                    carry.lost |= news;
                }
                BusTurn::Raise => {}
                BusTurn::Said { number, body, heard } => {
                    let mut rest = &body[..];
                    while let Some((event, after)) = rest.split_first_chunk::<8>() {
                        rest = after;
                        let (event, purge) = (u64::from_le_bytes(*event), Purge::read(&mut rest).unwrap());
                        // What it has read itself it has done.
                        let done = heard == BusHeard::News && self.obeyed.is_some_and(|(first, last)| (first..=last).contains(&event));
                        let heard = if done { BusHeard::Own } else { heard };
                        self.hearing.note(number, &purge, false);
                        match heard {
                            BusHeard::Own => {}
                            BusHeard::News => carry.purges.push((purge, false)),
                            BusHeard::Old => carry.old.push((purge, false)),
                        }
                    }
                }
            }
        }
        if self.without == Without::Order && !news.more {
            self.hearing.heard(asked);
        }
        self.carrying = true;
        carry
    }

    /// Carries that out.
    pub fn carries(&mut self, carry: Carry, now: Time) {
        self.cache.purge_heard(&carry.purges, now);
        self.cache.purge_memory(&carry.old, now);
        if let Some(last) = carry.last {
            self.listener.arrive(&last);
            self.hearing.advance(last.number);
        }
        if !carry.more {
            self.hearing.heard(carry.asked);
        }
        self.carrying = false;
    }
}

fn entry(key: usize, version: u64, (asked, now): (Time, Time)) -> Entry {
    Entry {
        fetched_at: now,
        facts: Facts { initial_age: now.since(asked), ..Facts::default() },
        call: CallId(version),
        tags: vec![tag(key)],
        ..tests::entry(&subject(key), version.to_string())
    }
}
