//! What happens between instances, and what must not.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use farthing_fleet::{BusAsked, BusNews, BusPosition, BusSaid, BusServer, BusTold};
use farthing_freshness::Entry;
use farthing_types::{KeyHash, Time};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Without;
use super::counts::Counts;
use super::instance::{Answered, Carry, Instance, Next, Request, Untold, purge_of, subject};

/// Faults end here, so that what follows can be asked for progress; us.
const CALM: u64 = 4_000_000;
const END: u64 = 7_000_000;
const EPOCH: u64 = 1_700_000_000_000_000;
const KEYS: usize = 3;
/// How long after a purge was told an older answer may be given, and by how much a clock may go wrong meanwhile.
const GRACE: u64 = 1_000_000 + 1_000;
/// How often news are asked for; how long an answer is waited for before something is told again.
const TURN: u64 = 100_000;
const AGAIN: u64 = 60_000;

/// How many instances.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    /// Two to four.
    Few,
    Hundred,
}

enum Event {
    /// An instance asks for news; only if it was not started anew since.
    Turn(usize, u64),
    Request(usize, u64, usize),
    HearAt(usize, u64, BusAsked, String, Time),
    News(usize, u64, BusAsked, Time, Box<BusNews>),
    Carry(usize, u64, Box<Carry>),
    TellAt(usize, u64, Box<BusSaid>, String, u64),
    Told(usize, u64, String, BusTold),
    TellAgain(usize, u64, String),
    /// A look reaches L2; its answer comes back.
    Look(usize, u64, u64, usize),
    Found(usize, u64, u64, Option<Box<Entry>>),
    /// A call reaches the provider; its answer comes back.
    Call(usize, u64, u64, usize),
    Answer(usize, u64, u64, u64),
    Written(Box<Entry>),
    Change,
    /// An instance reads an event: its number, of which key, and the version since.
    Read(usize, u64, u64, (usize, u64)),
    Fault,
}

impl Event {
    /// Whose it is, where it is one instance's.
    const fn of(&self) -> Option<(usize, u64)> {
        match self {
            Self::Turn(who, run)
            | Self::Request(who, run, _)
            | Self::News(who, run, ..)
            | Self::Told(who, run, ..)
            | Self::Carry(who, run, _)
            | Self::Read(who, run, ..)
            | Self::TellAgain(who, run, _)
            | Self::Found(who, run, ..)
            | Self::Answer(who, run, ..) => Some((*who, *run)),
            Self::HearAt(..) | Self::TellAt(..) | Self::Look(..) | Self::Call(..) | Self::Written(_) | Self::Change | Self::Fault => None,
        }
    }
}

/// A purge that was told.
struct Purged {
    key: usize,
    least: u64,
    at: BusPosition,
    /// The run that told it.
    by: (usize, u64),
    /// Since when everybody has to know.
    since: u64,
    /// Its server has lost it, and nobody has noticed: only these runs have to know, which did.
    lost: Option<Vec<(usize, u64)>>,
}

pub struct World {
    draws: StdRng,
    without: Without,
    size: Size,
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: HashMap<u64, Event>,
    instances: Vec<Instance>,
    server: BusServer,
    replica: BusServer,
    beginnings: usize,
    l2: HashMap<KeyHash, Entry>,
    versions: [u64; KEYS],
    /// Events that there were.
    happened: u64,
    purged: Vec<Purged>,
    counts: Counts,
    wrong: Option<String>,
}

impl World {
    pub fn new(seed: u64, size: Size, without: Without) -> Self {
        let mut world = Self {
            draws: StdRng::seed_from_u64(seed),
            without,
            size,
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            instances: Vec::new(),
            server: BusServer::default(),
            replica: BusServer::default(),
            beginnings: 0,
            l2: HashMap::new(),
            versions: [1; KEYS],
            happened: 0,
            purged: Vec::new(),
            counts: Counts::default(),
            wrong: None,
        };
        let count = match size {
            Size::Few => 2 + world.below(3),
            Size::Hundred => 100,
        };
        for who in 0..count as usize {
            let clock = ((EPOCH + world.below(1 << 34)) as i64, world.below(400) as i64 - 200);
            world.instances.push(Instance::start(without, 0, clock));
            world.begin(who);
        }
        for _ in 0..4 + world.below(10) {
            let at = world.below(END - 1_500_000);
            world.at(at, Event::Change);
        }
        for _ in 0..world.below(4) {
            let at = world.below(CALM);
            world.at(at, Event::Fault);
        }
        world
    }

    fn below(&mut self, n: u64) -> u64 {
        self.draws.random_range(0..n.max(1))
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    fn at(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((time.max(self.now), self.order)));
        self.events.insert(self.order, event);
    }
    fn after(&mut self, span: u64, event: Event) {
        self.at(self.now + span, event);
    }
    fn calm(&self) -> bool {
        self.now >= CALM
    }

    /// An instance starts to listen and to be asked.
    fn begin(&mut self, who: usize) {
        let run = self.instances[who].run;
        let (turn, asked) = (self.below(TURN), self.below(200_000));
        self.after(turn, Event::Turn(who, run));
        let key = self.below(KEYS as u64) as usize;
        self.after(asked, Event::Request(who, run, key));
    }

    /// A message between an instance and the bus, which may be lost, late, or come twice.
    fn send(&mut self, who: usize, event: Event) {
        if self.instances[who].cut > self.now {
            return;
        }
        let travel = match self.below(100) {
            _ if self.calm() => 100 + self.below(2_000),
            0..3 => return,
            3..8 => self.below(1_500_000),
            _ => 100 + self.below(20_000),
        };
        self.after(travel, event);
    }

    pub fn run(mut self) -> Result<Counts, String> {
        while let Some(Reverse((time, order))) = self.queue.pop() {
            if time > END || self.wrong.is_some() {
                break;
            }
            self.now = time;
            let Some(event) = self.events.remove(&order) else { continue };
            if let Some((who, run)) = event.of() {
                let instance = &self.instances[who];
                if instance.run != run {
                    continue;
                }
                // What comes while it stands still is met when it goes on.
                if instance.paused > time {
                    self.at(self.instances[who].paused, event);
                    continue;
                }
            }
            self.happens(event);
        }
        if self.wrong.is_none() {
            let silent = |instance: &Instance| instance.hearing.is_silent(instance.clock(END));
            if let Some(who) = self.instances.iter().position(|instance| silent(instance) || !instance.outbox.is_empty()) {
                self.wrong = Some(format!("{who} hears nothing, or cannot tell, in a calm"));
            }
            // Who has told it and lives knows that it is lost, and says so.
            let lives = |purged: &&Purged| self.instances[purged.by.0].run == purged.by.1;
            if let Some(purged) = self.purged.iter().filter(lives).find(|purged| purged.lost.is_some()) {
                self.wrong = Some(format!("{:?} is lost, and {:?} has not noticed", purged.at, purged.by));
            }
        }
        self.wrong.map_or(Ok(self.counts), Err)
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Turn(who, _) => self.turn(who),
            Event::Request(who, run, key) => {
                let request = Request { key, at: self.instances[who].clock(self.now), came: self.now };
                self.ask(who, request);
                let (next, pause) = (self.below(KEYS as u64) as usize, self.below(self.pause()));
                self.after(pause, Event::Request(who, run, next));
            }
            Event::HearAt(who, run, question, nonce, asked) => {
                let news = self.server.hear(&question, &nonce, EPOCH + self.now);
                self.serve();
                self.send(who, Event::News(who, run, question, asked, Box::new(news)));
            }
            Event::News(who, run, question, asked, news) => self.heard(who, run, (question, asked), &news),
            Event::Carry(who, _, carry) => {
                let (now, more) = (self.instances[who].clock(self.now), carry.more);
                self.instances[who].carries(*carry, now);
                if more {
                    self.hear(who);
                }
            }
            Event::TellAt(who, run, said, beginning, known) => {
                let told = self.server.tell(&said, &beginning, known, EPOCH + self.now);
                self.serve();
                self.send(who, Event::Told(who, run, said.nonce, told));
            }
            Event::Told(who, _, nonce, told) => {
                let done = self.instances[who].told(&nonce, &told);
                if told.told {
                    self.note_told(who, done, &BusPosition { number: told.number, nonce: nonce.into() });
                } else {
                    self.counts.known += done.len() as u64;
                }
                self.tell(who);
            }
            Event::TellAgain(who, _, nonce) => {
                if self.instances[who].telling.as_ref().is_some_and(|(telling, _)| *telling == nonce) {
                    self.instances[who].telling = None;
                    self.tell(who);
                }
            }
            Event::Look(who, run, call, key) => {
                let (found, travel) = (self.l2.get(&subject(key).key).cloned().map(Box::new), self.below(40_000));
                self.after(travel, Event::Found(who, run, call, found));
            }
            Event::Found(who, run, call, entry) => {
                let now = self.instances[who].clock(self.now);
                match self.instances[who].found(call, entry.map(|entry| *entry), now) {
                    Some(again) => {
                        self.counts.shared += 1;
                        again.into_iter().for_each(|request| self.ask(who, request));
                    }
                    None => self.call(who, run, call),
                }
            }
            Event::Call(who, run, call, key) => {
                let (version, travel) = (self.versions[key], self.travel());
                self.after(travel, Event::Answer(who, run, call, version));
            }
            Event::Answer(who, _, call, version) => {
                let now = self.instances[who].clock(self.now);
                let (answers, entry) = self.instances[who].answered(call, version, now);
                answers.into_iter().for_each(|answered| self.judge(who, &answered));
                if let Some(entry) = entry {
                    let behind = self.travel();
                    self.after(behind, Event::Written(Box::new(entry)));
                }
            }
            Event::Written(entry) => {
                self.l2.insert(entry.subject.key, *entry);
            }
            Event::Change => self.change(),
            Event::Read(who, _, event, changed) => self.purge(who, changed, Some(event)),
            Event::Fault => self.fault(),
        }
    }

    /// Between two requests of an instance at most, us.
    fn pause(&self) -> u64 {
        match self.size {
            Size::Few => 150_000,
            Size::Hundred => 400_000,
        }
    }

    /// How long an answer takes, or a write behind.
    fn travel(&mut self) -> u64 {
        if self.chance(15) { self.below(2_500_000) } else { self.below(80_000) }
    }

    fn turn(&mut self, who: usize) {
        if !self.calm() && self.chance(1) {
            return self.restart(who);
        }
        if !self.calm() && self.chance(2) {
            self.instances[who].paused = self.now + self.below(2_500_000);
        }
        if !self.calm() && self.chance(2) {
            self.instances[who].cut = self.now + self.below(2_500_000);
        }
        if !self.instances[who].carrying {
            self.hear(who);
        }
        let run = self.instances[who].run;
        self.after(TURN, Event::Turn(who, run));
    }

    fn hear(&mut self, who: usize) {
        let (now, instance) = (self.now, &mut self.instances[who]);
        let (run, question, nonce, asked) = (instance.run, instance.question(), instance.nonce(who), instance.clock(now));
        instance.asked = asked;
        self.send(who, Event::HearAt(who, run, question, nonce, asked));
    }

    fn heard(&mut self, who: usize, run: u64, (question, asked): (BusAsked, Time), news: &BusNews) {
        let now = self.instances[who].clock(self.now);
        // It has asked again since, or is not done with what came before: the question was given up.
        if self.instances[who].asked != asked || self.instances[who].carrying {
            return;
        }
        let carry = self.instances[who].hears(who, (&question, asked), news, now);
        self.counts.gaps += u64::from(carry.lost);
        // Going through a large memory, on a busy machine.
        let takes = if !self.calm() && self.chance(10) { self.below(1_800_000) } else { self.below(10_000) };
        self.after(takes, Event::Carry(who, run, Box::new(carry)));
    }

    fn ask(&mut self, who: usize, request: Request) {
        let (now, run) = (self.instances[who].clock(self.now), self.instances[who].run);
        match self.instances[who].asks(request, now) {
            Next::Answer(answered) => self.judge(who, &answered),
            Next::Lead(call) => {
                let travel = self.below(20_000);
                self.after(travel, Event::Look(who, run, call, request.key));
            }
            Next::Waits => {}
        }
    }

    fn call(&mut self, who: usize, run: u64, call: u64) {
        if let Some(calling) = self.instances[who].calling.get(&call) {
            let (key, travel) = (calling.key, self.below(30_000));
            self.after(travel, Event::Call(who, run, call, key));
        }
    }

    /// What must not be.
    fn judge(&mut self, who: usize, answered: &Answered) {
        let Answered { request, version, hit } = *answered;
        self.counts.answers += 1;
        self.counts.hits += u64::from(hit);
        for purged in self.purged.iter().filter(|purged| purged.key == request.key && version < purged.least) {
            let (since, instance) = (purged.since, &self.instances[who]);
            if request.came < since || purged.lost.as_ref().is_some_and(|knew| !knew.contains(&(who, instance.run))) {
                continue;
            }
            if request.came < since + GRACE {
                self.counts.late += 1;
                continue;
            }
            let (now, least, at) = (self.now, purged.least, &purged.at);
            self.wrong.get_or_insert(format!(
                "at {now} us {who} answers a request of {} us for key {} with version {version} (from memory: {hit}), purged below {least} as {at:?} since {since} us",
                request.came, request.key
            ));
        }
    }

    /// Something changes, and an instance is told to purge it; or an event says so, which all read, some late.
    fn change(&mut self) {
        let (key, who) = (self.below(KEYS as u64) as usize, self.below(self.instances.len() as u64) as usize);
        self.versions[key] += 1;
        let changed = (key, self.versions[key]);
        if self.chance(50) {
            if self.instances[who].paused <= self.now {
                self.purge(who, changed, None);
            }
            return;
        }
        self.happened += 1;
        for who in 0..self.instances.len() {
            let late = if self.chance(20) { self.below(2_500_000) } else { self.below(100_000) };
            let instance = &mut self.instances[who];
            // In order; and in time to be told before the end.
            instance.read = instance.read.max((self.now + late).min(END - 500_000));
            let (run, read) = (instance.run, instance.read);
            self.at(read, Event::Read(who, run, self.happened, changed));
        }
    }

    fn purge(&mut self, who: usize, changed: (usize, u64), event: Option<u64>) {
        let (now, kind) = (self.instances[who].clock(self.now), self.below(4));
        self.instances[who].purges(changed, (purge_of(changed.0, kind), event), now);
        if self.instances[who].telling.is_none() {
            self.tell(who);
        }
    }

    fn tell(&mut self, who: usize) {
        let Some(said) = self.instances[who].tells(who) else { return };
        let instance = &mut self.instances[who];
        let (run, known, beginning, nonce) = (instance.run, instance.hearing.position(), instance.nonce(who), said.nonce.clone());
        self.send(who, Event::TellAt(who, run, Box::new(said), beginning, known));
        self.after(AGAIN, Event::TellAgain(who, run, nonce));
    }

    fn note_told(&mut self, who: usize, done: Vec<Untold>, at: &BusPosition) {
        for Untold { key, least, .. } in done {
            let lost = self.has_lost(at).then(Vec::new);
            self.counts.told += 1;
            self.counts.lost += u64::from(lost.is_some());
            let by = (who, self.instances[who].run);
            self.purged.push(Purged { key, least, at: at.clone(), by, since: self.now, lost });
        }
    }

    /// The server has done something: a beginning tells all that what was told before may be lost. Its replica follows, a moment later.
    fn serve(&mut self) {
        let beginnings = self.server.beginnings();
        if beginnings > self.beginnings {
            for purged in self.purged.iter_mut().filter(|purged| purged.lost.is_some()) {
                (purged.since, purged.lost) = (self.now, None);
            }
        }
        self.beginnings = beginnings;
        if self.chance(if matches!(self.size, Size::Few) { 60 } else { 5 }) {
            self.replica = self.server.clone();
        }
    }

    fn fault(&mut self) {
        if self.chance(30) {
            (self.server, self.replica) = (BusServer::default(), BusServer::default());
        } else {
            self.server = self.replica.clone();
        }
        self.beginnings = self.server.beginnings();
        for at in 0..self.purged.len() {
            let purged = &self.purged[at];
            if purged.lost.is_some() || !self.has_lost(&purged.at) {
                continue;
            }
            let knows = |(_, instance): &(usize, &Instance)| instance.hearing.position() >= purged.at.number;
            let knew = self.instances.iter().enumerate().filter(knows).map(|(who, instance)| (who, instance.run)).collect();
            self.purged[at].lost = Some(knew);
            self.counts.lost += 1;
        }
    }

    /// Whether the server lacks a message, and nobody has noticed.
    fn has_lost(&self, at: &BusPosition) -> bool {
        !self.server.has(at) && !self.server.begun_after(at.number)
    }

    fn restart(&mut self, who: usize) {
        let old = &self.instances[who];
        let fresh = Instance::start(self.without, old.run + 1, (old.offset, old.gains));
        self.instances[who] = fresh;
        self.counts.restarts += 1;
        let pause = self.below(400_000);
        self.instances[who].paused = self.now + pause;
        self.begin(who);
    }
}
