//! Requests that were met before, known by the bytes of their heads: what the upper half made of one is remembered, so that an answer
//! from memory needs no second parsing.
//!
//! Remembered is only what follows from the bytes and the configuration: who asks, the key, what the rules of HTTP leave. Whatever may
//! differ between two equal requests is asked each time: whether what the client has shown still holds, the entry and its age, the holdout, experiments, refreshes that are due. Where
//! any of them wants more than a plain answer, the request takes the usual way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use farthing_cache::Cached;
use farthing_freshness::RequestFacts;
use farthing_freshness::entry::Packed;
use farthing_freshness::index::{Index, Weighed};
use farthing_freshness::semantics::coding::may_code;
use farthing_freshness::semantics::{Judged, Verdict, acceptable};
use farthing_types::{Coding, KeyHash, RequestId, Time};
use http::header::{
    ACCEPT_RANGES, AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, DATE, EXPECT, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE,
    TRANSFER_ENCODING, UPGRADE, VARY,
};
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use parking_lot::Mutex;

use crate::answer::{Notes, REPLACED};
use crate::audit;
use crate::compress;
use crate::edge::{RawHead, Recalled, Wire};
use crate::identify::Identity;
use crate::lookup::{Usable, judged_now};
use crate::plans::How;
use crate::prefetch::{self, Seen};
use crate::reply::{notes_from, settled_from};
use crate::request::{CacheControl, Planned};
use crate::route::RouteState;
use crate::serve::is_due_ahead;
use crate::settle::Account;
use crate::state::State;

/// Bytes that all of them together take.
const BYTES: usize = 8 << 20;
const SHARDS: usize = 16;
/// Heads that came once and are not remembered yet, by a part of their names.
const SEEN: usize = 1 << 13;
/// Beside an answer that takes longer to send than to find, parsing is nothing.
const LARGEST: usize = 64 << 10;
/// Fields that make an answer depend on more than the entry, or say something about the connection.
const TELLING: [HeaderName; 8] = [CONTENT_LENGTH, EXPECT, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE, TRANSFER_ENCODING, UPGRADE];

/// What is remembered of requests, bounded in bytes.
pub struct Shortcuts {
    shards: Box<[Mutex<Index<Known>>]>,
    seen: Box<[AtomicU32]>,
}

impl Default for Shortcuts {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Index::new(BYTES / SHARDS))).collect(),
            seen: (0..SEEN).map(|_| AtomicU32::new(0)).collect(),
        }
    }
}

impl Shortcuts {
    /// Forgets all of them.
    pub fn clear(&self) {
        self.shards.iter().for_each(|shard| *shard.lock() = Index::new(BYTES / SHARDS));
    }

    fn shard(&self, name: KeyHash) -> &Mutex<Index<Known>> {
        &self.shards[(name.0 >> 96) as usize % SHARDS]
    }

    fn get(&self, name: KeyHash) -> Option<Arc<Shortcut>> {
        self.shard(name).lock().get(name).map(|known| Arc::clone(&known.0))
    }

    /// Whether a head came lately; it has now. Most come once, and are not worth the room.
    fn saw(&self, name: KeyHash) -> bool {
        let (place, mark) = (name.0 as usize % SEEN, (name.0 >> 32) as u32);
        self.seen[place].swap(mark, Ordering::Relaxed) == mark
    }

    fn put(&self, shortcut: Shortcut, now: Time) {
        // Dropped when the lock is free again.
        let _out = self.shard(shortcut.name).lock().insert(Known(Arc::new(shortcut)), now);
    }
}

/// What the bytes of a head come to: a plain GET that the cache may answer.
struct Shortcut {
    /// The keyed digest of the bytes.
    name: KeyHash,
    account: Account,
    /// What it asks for, where answers may have to be asked for once more.
    target: Option<Uri>,
    facts: RequestFacts,
    headers: Arc<HeaderMap>,
    /// The coding that an answer gets, where it may have one.
    coding: Option<Coding>,
    /// The configuration that it follows from, by how often it was another one.
    turn: u64,
}

/// What the map holds: whoever answers by it keeps it meanwhile.
struct Known(Arc<Shortcut>);

impl Weighed for Known {
    fn key(&self) -> KeyHash {
        self.0.name
    }
    fn bytes(&self) -> usize {
        let Shortcut { account, headers, .. } = &*self.0;
        let texts = [&account.identity.tenant, &account.identity.principal].map(|text| text.len() + 16);
        let optional =
            [&account.identity.team, &account.identity.service, &account.asked].map(|text| text.as_ref().map_or(0, |t| t.len() + 16));
        // A field's place in the map is about as large as the slots that lead to it.
        let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let map = headers.capacity() * 128
            + self.0.target.as_ref().map_or(0, |target| target.path_and_query().map_or(0, |path| path.as_str().len()));
        size_of::<Shortcut>() + 16 + texts.iter().chain(&optional).sum::<usize>() + fields + map
    }
    fn worth(&self, _now: Time) -> f64 {
        1.0
    }
}

/// A request that was answered by its head alone, as an audit needs it.
pub struct Told<'a> {
    /// Its id.
    pub id: RequestId,
    /// Its route.
    pub route: &'a Arc<RouteState>,
    /// Its client.
    pub identity: &'a Identity,
    /// Its key.
    pub key: KeyHash,
    /// What it asks for; `None` where nothing is audited.
    pub target: Option<&'a Uri>,
    /// With which headers.
    pub headers: &'a HeaderMap,
}

impl Shortcut {
    /// What is remembered of a request that was answered from the cache; `None` for one whose like may need more than that.
    fn of(name: KeyHash, planned: &Planned, audits: bool, turn: u64) -> Option<Self> {
        let Planned { account, facts, headers, cache, control, debug, .. } = planned;
        let plain = account.method == Method::GET
            && cache.is_ok()
            && *control == CacheControl::On
            && !debug
            && account.tags.is_none()
            // Each such head comes once.
            && account.trace.is_none()
            && account.variant.is_none()
            && account.side.is_none()
            && !account.holdout
            && !TELLING.iter().any(|name| headers.contains_key(name))
            // Many clients say what is so anyway.
            && headers.get_all(CONNECTION).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"));
        plain.then(|| Self {
            name,
            account: Account { noted: None, ..account.clone() },
            target: audits.then(|| planned.outbound.target.clone()),
            facts: facts.clone(),
            headers: Arc::new(headers.clone()),
            coding: compress::wanted(&account.route, headers),
            turn,
        })
    }

    /// The answer to one more such request.
    fn answer(&self, state: &Arc<State>) -> Option<Wire> {
        let Account { route, key, .. } = &self.account;
        let (at, started) = (state.clock.now(), state.real_now());
        if route.switches.keeps_from_hits() || !self.account.identity.holds(at) {
            return None;
        }
        // A key on a side of a canary goes by that side's TTL, and is counted there.
        if state.side(route, *key, at).is_some() {
            return None;
        }
        if route.experiment.load().is_some() || state.proof.holds(&state.draw, &route.route.name, *key, at) {
            return None;
        }
        let usable = |entry: &Arc<Cached>| self.usable(state, entry, at);
        let (usable, noted) =
            state.cache.lookup_if(*key, &self.headers, usable, |key, stats| route.note_request((key, stats), (at, How::Kept)))?;
        let id = RequestId(state.ids.next());
        let account = Account { id, at, started, noted: Some(noted), plan: route.planning.id(), ..self.account.clone() };
        let settled = settled_from(state, (&account, ""), &usable, (StatusCode::OK, usable.entry.body_len() as u64));
        let may_code = self.may_code(&usable.entry);
        let coded = self.coding.filter(|_| may_code).and_then(|coding| Some((coding, usable.entry.form(coding)?.clone())));
        let body = coded.as_ref().map_or_else(|| usable.entry.body(), |(_, small)| small.clone());
        let mut head = head(&usable, (body.len(), coded.is_some()), id, &notes_from(&settled, &usable));
        if may_code && compress::vary_is_silent(usable.entry.headers().all(&VARY)) {
            line(&mut head, VARY.as_str().as_bytes(), compress::VARIES.as_bytes());
        }
        if let Some((coding, _)) = coded {
            state.counters.compressed.count_reused(coding);
            line(&mut head, CONTENT_ENCODING.as_str().as_bytes(), coding.as_str().as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        state.settle_request(&account, &settled);
        let Account { id, route, identity, key, .. } = &account;
        audit::look_again(state, &Told { id: *id, route, identity, key: *key, target: self.target.as_ref(), headers: &self.headers });
        if route.ahead.is_ok() {
            prefetch::hand_over(state, Seen { account, headers: self.headers.clone(), target: None, missed: false });
        }
        Some(Wire { head, body })
    }

    /// Whether an answer from the entry may be compressed for some client.
    fn may_code(&self, entry: &Packed) -> bool {
        let may = || may_code(entry.status(), Some(entry.body_len() as u64), self.account.route.compress_min, || entry.headers().iter());
        !self.account.route.compress.is_empty() && may()
    }

    /// The entry, where it is fresh and nothing else is to be done about it.
    fn usable(&self, state: &State, entry: &Arc<Cached>, at: Time) -> Option<Usable> {
        let simple = entry.status() == StatusCode::OK && entry.body_len() <= LARGEST && entry.headers().get(&DATE).is_some();
        // One that must be compressed first takes the usual way.
        let simple = simple && self.coding.is_none_or(|coding| entry.form(coding).is_some() || !self.may_code(entry));
        if !simple || !acceptable(entry, &self.headers) || state.cache.will_be_due(entry, at) {
            return None;
        }
        // Looked for under a lock that whoever purges needs, too: nothing is heard in between.
        let heard = (at, self.account.route.is_silent(at));
        let judged = Judged::new(entry, "", entry.soft_purged());
        let Verdict::Fresh { age, left } = judged_now(&self.account.route, &self.facts, (entry, &judged), heard) else { return None };
        if self.account.route.would_doubt(&entry.stats(), at) {
            return None;
        }
        let usable = Usable { entry: Arc::clone(entry), age, left: Ok(left) };
        (!is_due_ahead(state, &self.account, &usable, left)).then_some(usable)
    }
}

/// The head of a whole answer from an entry, as the usual way gives it, but for the empty line.
fn head(usable: &Usable, (length, coded): (usize, bool), id: RequestId, notes: &Notes<'_>) -> Vec<u8> {
    let Usable { entry, age, .. } = usable;
    let mut out = Vec::with_capacity(768);
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    for (name, value) in entry.headers().iter() {
        let dropped = coded && name == ACCEPT_RANGES.as_str().as_bytes();
        if !dropped && !REPLACED.iter().chain(&[CONTENT_LENGTH, AGE]).any(|replaced| replaced.as_str().as_bytes() == name) {
            line(&mut out, name, value);
        }
    }
    line(&mut out, CONTENT_LENGTH.as_str().as_bytes(), itoa::Buffer::new().format(length).as_bytes());
    line(&mut out, AGE.as_str().as_bytes(), itoa::Buffer::new().format(age.as_secs()).as_bytes());
    notes.fields(id, |name, _, text| line(&mut out, name.as_str().as_bytes(), text.as_bytes()));
    out
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

impl State {
    /// The answer to a request that is known by the bytes of its head.
    pub fn recall_head(self: &Arc<Self>, head: &[u8]) -> Recalled {
        let (name, turn) = (self.keyer.raw_head(head), self.turns.load(Ordering::Acquire));
        let Some(shortcut) = self.shortcuts.get(name).filter(|shortcut| shortcut.turn == turn) else {
            // The turn is read before anything of the configuration is.
            return if self.shortcuts.saw(name) { Recalled::Wanted(RawHead(name, turn)) } else { Recalled::Unknown };
        };
        let Some(wire) = shortcut.answer(self) else { return Recalled::Unknown };
        self.counters.recalled.fetch_add(1, Ordering::Relaxed);
        Recalled::Answer(wire)
    }

    /// Remembers a request that is being answered from a fresh entry.
    pub fn remember_head(&self, planned: &Planned) {
        if let Some(RawHead(name, turn)) = planned.raw
            && let Some(shortcut) = Shortcut::of(name, planned, self.live().config.audit.share > 0.0, turn)
        {
            self.shortcuts.put(shortcut, planned.account.at);
        }
    }
}
