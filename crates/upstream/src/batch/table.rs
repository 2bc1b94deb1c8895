//! Batches that are being gathered, by what their members have in common. Bounded in groups and in bytes.

use std::collections::HashMap;
use std::sync::Arc;

use farthing_policy::batch::{Alone, Arrivals, BatchRule, Flush, Gathering, Load};
use farthing_types::{Call, Span, Time};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::format::Part;
use super::run::Verdict;
use crate::client::after;

/// Groups that are told apart; calls of further ones go alone.
const MAX_GROUPS: usize = 4_096;
/// Bytes of calls that wait; further ones go alone.
const MAX_WAITING: u64 = 64_000_000;
/// A group to which fewer calls come is forgotten when room is needed.
const FORGOTTEN_BELOW: f64 = 0.5;
/// Shortest time between two looks for groups to forget.
const SWEEP: Span = Span::from_millis(100);

/// What members of one batch have in common: a digest, because what it is of may be long.
pub type Group = [u8; 32];

/// A call in a batch.
pub struct Member {
    /// Names it within the table.
    pub id: u64,
    /// The call.
    pub call: Call,
    /// What it puts into the batch.
    pub part: Part,
    /// When it must have ended where it is made alone, and together with others.
    pub ends: Ends,
    /// Where its verdict goes.
    pub verdict: oneshot::Sender<Verdict>,
}

/// When a member must have ended.
#[derive(Clone, Copy)]
pub struct Ends {
    /// Made alone: whoever waits for it does not wait longer.
    pub alone: Instant,
    /// Made together with others, of whom one may wait longer.
    pub together: Instant,
}

impl Ends {
    /// Of a call that is made now.
    pub fn of(call: &Call) -> Self {
        let now = Instant::now();
        let alone = after(now, call.deadline);
        let together = call.batch.as_ref().map_or(alone, |terms| after(now, terms.lasts.max(call.deadline)));
        Self { alone, together }
    }
}

/// A batch that was gathered.
pub struct Flushed {
    /// Its members, in the order in which they came.
    pub members: Vec<Member>,
    /// What ended the waiting.
    pub reason: Flush,
}

struct Open {
    serial: u64,
    gathering: Gathering,
    members: Vec<Member>,
    flush: oneshot::Sender<Flushed>,
    sooner: Arc<Notify>,
}

#[derive(Default)]
struct Line {
    arrivals: Arrivals,
    open: Option<Open>,
}

/// See the module.
#[derive(Default)]
pub struct Table {
    lines: HashMap<Group, Line>,
    serial: u64,
    waiting: u64,
    swept: Time,
}

/// Which batch of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its group.
    pub group: Group,
    /// Its number.
    pub serial: u64,
}

/// What drives a batch that was just begun.
pub struct Begun {
    /// Which.
    pub place: Place,
    /// Where it comes when it is full.
    pub flushed: oneshot::Receiver<Flushed>,
    /// Woken when it is due sooner.
    pub sooner: Arc<Notify>,
}

/// When a call comes and how long whoever waits for it is ready to wait.
#[derive(Clone, Copy)]
pub struct Coming {
    /// Now.
    pub now: Time,
    /// The patience.
    pub patience: Span,
}

/// A member that is to be added, but for its place.
pub type Newcomer = (Call, Part, Ends, oneshot::Sender<Verdict>);

/// Where a member was put: its batch, its id, and what drives the batch when it is the first.
pub type Joined = (Place, u64, Option<Begun>);

impl Table {
    /// Puts a call into the batch of its group.
    ///
    /// # Errors
    /// Why it goes alone, with the call.
    pub fn join(&mut self, group: Group, rule: &BatchRule, coming: Coming, newcomer: Newcomer) -> Result<Joined, (Alone, Box<Call>)> {
        let Coming { now, patience } = coming;
        let load = newcomer.1.load();
        let bytes = held(&newcomer.0, &newcomer.1);
        let window = match self.admit(group, rule, coming, (load, bytes)) {
            Ok(window) => window,
            Err(reason) => return Err((reason, Box::new(newcomer.0))),
        };
        self.waiting += bytes;
        self.serial += 1;
        let id = self.serial;
        let line = self.lines.entry(group).or_default();
        if let Some(reason) = line.open.as_ref().and_then(|open| open.gathering.fits(rule, load).err()) {
            let left = line.open.take().map(|open| flush(open, reason));
            self.waiting -= left.unwrap_or_default();
        }
        let mut begun = None;
        let open = line.open.get_or_insert_with(|| {
            let (open, driven) = begin((group, id), Gathering::begin(now, window));
            begun = Some(driven);
            open
        });
        let (call, part, ends, verdict) = newcomer;
        let due = open.gathering.due();
        let full = open.gathering.add(rule, load, now + patience / 2);
        open.members.push(Member { id, call, part, ends, verdict });
        let place = Place { group, serial: open.serial };
        if full {
            let left = line.open.take().map(|open| flush(open, Flush::Size));
            self.waiting -= left.unwrap_or_default();
        } else if open.gathering.due() < due && begun.is_none() {
            open.sooner.notify_one();
        }
        Ok((place, id, begun))
    }

    fn admit(&mut self, group: Group, rule: &BatchRule, coming: Coming, (load, bytes): (Load, u64)) -> Result<Span, Alone> {
        if load.units > rule.max_size || load.bytes > rule.max_bytes {
            return Err(Alone::TooLarge);
        }
        if self.waiting + bytes > MAX_WAITING || !self.has_room(group, coming.now) {
            return Err(Alone::Crowded);
        }
        let rate = self.lines.entry(group).or_default().arrivals.note(coming.now);
        rule.window(rate, coming.patience)
    }

    fn has_room(&mut self, group: Group, now: Time) -> bool {
        if self.lines.len() >= MAX_GROUPS && !self.lines.contains_key(&group) && now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.lines.retain(|_, line| line.open.is_some() || line.arrivals.rate(now) >= FORGOTTEN_BELOW);
        }
        self.lines.len() < MAX_GROUPS || self.lines.contains_key(&group)
    }

    /// When a batch is sent at the latest; `None` when it is there no more.
    pub fn due(&self, place: Place) -> Option<Time> {
        let open = self.lines.get(&place.group)?.open.as_ref()?;
        (open.serial == place.serial).then(|| open.gathering.due().0)
    }

    /// Takes a batch that is due; `None` when it is there no more.
    pub fn take(&mut self, place: Place) -> Option<Flushed> {
        let open = self.lines.get_mut(&place.group)?.open.take_if(|open| open.serial == place.serial)?;
        self.waiting -= open.members.iter().map(|member| held(&member.call, &member.part)).sum::<u64>();
        Some(Flushed { reason: open.gathering.due().1, members: open.members })
    }

    /// Takes a member out whose client has left; nothing when its batch has gone. A batch without members goes.
    pub fn leave(&mut self, place: Place, id: u64) {
        let Some(line) = self.lines.get_mut(&place.group) else { return };
        let Some(open) = line.open.as_mut().filter(|open| open.serial == place.serial) else { return };
        let Some(index) = open.members.iter().position(|member| member.id == id) else { return };
        let member = open.members.remove(index);
        open.gathering.remove(member.part.load());
        self.waiting -= held(&member.call, &member.part);
        if open.members.is_empty() {
            line.open = None;
        }
    }
}

/// What a waiting call holds, about.
fn held(call: &Call, part: &Part) -> u64 {
    let headers: usize = call.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let body = call.body.as_full().map_or(0, |body| body.len());
    (headers + body + part.text.len() + part.group.len()) as u64
}

fn begin((group, serial): (Group, u64), gathering: Gathering) -> (Open, Begun) {
    let (flush, flushed) = oneshot::channel();
    let sooner = Arc::new(Notify::new());
    let open = Open { serial, gathering, members: Vec::new(), flush, sooner: sooner.clone() };
    (open, Begun { place: Place { group, serial }, flushed, sooner })
}

/// Hands a batch to its driver; the bytes that it held. Without a driver its members are told by the drop of their senders.
fn flush(open: Open, reason: Flush) -> u64 {
    let bytes = open.members.iter().map(|member| held(&member.call, &member.part)).sum();
    let _ = open.flush.send(Flushed { members: open.members, reason });
    bytes
}
