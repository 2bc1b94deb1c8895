//! The log as the trainer sees it: fetches with the features that were logged for them, and reads.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::LazyLock;

use farthing_contract::features::TTL_SPEC;
use farthing_contract::log::{CallRow, Decision, Request, Row, Table};
use polars::prelude::{DataFrame, IntoLazy, LazyFrame, PolarsError, col};

use super::asked::Asked;
use super::columns::Columns;
use super::files::{self, Files, Opened, Wanted};
use crate::error::TrainError;
use crate::verify;

/// A whole answer that came from the origin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fetch {
    /// When the call began, ns.
    pub at_ns: i64,
    /// Cache key.
    pub key: u64,
    /// Index in [`Log::routes`].
    pub route: u32,
    /// Digest of the canonical body.
    pub hash: u64,
    /// Body bytes.
    pub bytes: u64,
    /// `Last-Modified`, ns.
    pub last_modified_ns: Option<i64>,
    /// Explicit freshness lifetime, seconds.
    pub origin_ttl_s: Option<i64>,
    /// Whether the answer was seen to carry validators.
    pub validators: bool,
    /// Price of the call, nano-dollars.
    pub cost_nanousd: Option<i64>,
    /// Features logged with the decision about this answer, under the present spec.
    pub features: Option<Vec<f32>>,
    /// The call.
    pub call: u64,
}

/// A client request of a key that a cache may answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Read {
    /// When it came, ns.
    pub at_ns: i64,
    /// Cache key.
    pub key: u64,
    /// Index in [`Log::routes`].
    pub route: u32,
    /// Requests that the row stands for.
    pub weight: u32,
}

/// What the log holds for the `ttl` task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    /// Names of the routes.
    pub routes: Vec<String>,
    /// Answers from origins, by time.
    pub fetches: Vec<Fetch>,
    /// Requests of clients that a cache may answer, by time.
    pub reads: Vec<Read>,
    /// Digest of the files.
    pub digest: String,
    /// How many files were read.
    pub files: usize,
    /// Fetches whose features were logged under another spec, or not at all: they are computed anew.
    pub recomputed: usize,
    /// Of these, fetches whose features are exactly those that the proxy had: the log tells how they came about.
    pub repeated: usize,
    /// Rows with times that cannot be; they are left out.
    pub impossible: usize,
    /// Requests that no cache may answer, as those by POST on most routes; they and what they fetched are left out.
    pub passed: u64,
}

const CALLS: &[&str] = &[
    "ts_ns",
    "call_id",
    "attempt",
    "route",
    "key_hash",
    "status",
    "bytes_in",
    "canonical_hash",
    "prev_canonical_hash",
    "validator_changed",
    "last_modified_ns",
    "origin_ttl_s",
    "decision_id",
    "cost_nanousd",
];
const DECISIONS: &[&str] = &["decision_id", "kind", "spec_hash", "features"];
const REQUESTS: &[&str] = &["ts_ns", "request_id", "weight", "route", "method", "key_hash", "outcome", "uncached_reason"];

/// Most routes of a log; the replay numbers them with 16 bits.
const MAX_ROUTES: usize = 65_535;

/// Reads the tables among files, one file at a time.
///
/// # Errors
/// Names the file, and for foreign ones the column, with what to do about it.
pub fn read_log(from: &(impl Files + ?Sized)) -> Result<Log, TrainError> {
    let files = from.files()?;
    let mut gathered = Gathered::default();
    for path in &files {
        gathered.add(path)?;
    }
    if gathered.routes.len() > MAX_ROUTES {
        let reason = format!("{} routes, at most {MAX_ROUTES} can be learned from at once: name fewer files", gathered.routes.len());
        return Err(TrainError::Unreadable { path: from.name(), reason });
    }
    let mut log = Log { digest: files::digest(&files)?, files: files.len(), ..gathered.log() };
    if log.recomputed > 0 {
        log.repeat(from)?;
    }
    Ok(log)
}

/// A call's answer before it is known which of its attempts counts.
struct Answer {
    fetch: Fetch,
    attempt: i64,
    decision: Option<u64>,
}

/// A request before it is known whether its route answers such from a cache.
struct Question {
    read: Read,
    /// Its id, for an order of its own.
    id: u64,
    asked: Asked,
}

/// Rows of the tables as they come, file by file.
#[derive(Default)]
struct Gathered {
    routes: Vec<String>,
    numbers: HashMap<String, u32>,
    /// By call: the last attempt that told something.
    answers: HashMap<u64, Answer>,
    features: HashMap<u64, Vec<f32>>,
    reads: Vec<Question>,
    /// Routes that answer other methods than GET and HEAD from the cache.
    any_method: HashSet<u32>,
    impossible: usize,
}

/// Times that can be subtracted from each other: of this epoch, before the year 2116.
fn possible(at_ns: i64) -> bool {
    (1..i64::MAX / 2).contains(&at_ns)
}

impl Gathered {
    fn add(&mut self, path: &Path) -> Result<(), TrainError> {
        let mut file = Opened::open(path)?;
        let table = file.table()?;
        type Take = fn(&mut Gathered, &DataFrame) -> Result<(), PolarsError>;
        let (names, take): (_, Take) = match table.name {
            name if name == CallRow::TABLE.name => (CALLS, Self::take_calls),
            name if name == Decision::TABLE.name => (DECISIONS, Self::take_decisions),
            name if name == Request::TABLE.name => (REQUESTS, Self::take_requests),
            _ => return Ok(()),
        };
        let frame = file.columns(&wanted(table, names), files::exact, files::CHANGED)?;
        take(self, &frame).map_err(|e| TrainError::Unreadable { path: path.to_path_buf(), reason: e.to_string() })
    }

    /// Of each call the last attempt that brought a whole answer.
    fn take_calls(&mut self, frame: &DataFrame) -> Result<(), PolarsError> {
        let columns = Columns(frame);
        let (at, key, route) = (columns.i64s("ts_ns")?, columns.u64s("key_hash")?, self.route_places(&columns)?);
        let (call, attempt, status) = (columns.u64s("call_id")?, columns.i64s("attempt")?, columns.i64s("status")?);
        let (hash, before) = (columns.u64s("canonical_hash")?, columns.u64s("prev_canonical_hash")?);
        let (bytes, modified, ttl) = (columns.i64s("bytes_in")?, columns.i64s("last_modified_ns")?, columns.i64s("origin_ttl_s")?);
        let (validators, cost, decision) =
            (columns.bools("validator_changed")?, columns.i64s("cost_nanousd")?, columns.u64s("decision_id")?);
        for i in 0..frame.height() {
            // Errors and throttling say nothing about the content; 304 says that it is what it was.
            let Some(status) = status[i].filter(|s| *s < 500 && *s != 429) else { continue };
            let hash = hash[i].or(before[i].filter(|_| status == 304));
            let (Some(call), Some(at_ns), Some(key), Some(route), Some(hash)) = (call[i], at[i], key[i], route[i], hash) else { continue };
            if !possible(at_ns) {
                self.impossible += 1;
                continue;
            }
            let fetch = Fetch {
                at_ns,
                key,
                route,
                hash,
                bytes: bytes[i].and_then(|b| u64::try_from(b).ok()).unwrap_or(0),
                last_modified_ns: modified[i],
                origin_ttl_s: ttl[i].filter(|s| *s >= 0),
                validators: validators[i].is_some(),
                cost_nanousd: cost[i],
                features: None,
                call,
            };
            let answer = Answer { fetch, attempt: attempt[i].unwrap_or(0), decision: decision[i] };
            let last = self.answers.entry(call);
            match last {
                Entry::Vacant(place) => {
                    place.insert(answer);
                }
                Entry::Occupied(mut place) if answer.is_after(place.get()) => {
                    place.insert(answer);
                }
                Entry::Occupied(_) => {}
            }
        }
        Ok(())
    }

    fn take_decisions(&mut self, frame: &DataFrame) -> Result<(), PolarsError> {
        let columns = Columns(frame);
        let (id, kind, spec) = (columns.u64s("decision_id")?, columns.texts("kind")?, columns.texts("spec_hash")?);
        let mut features = columns.lists("features")?;
        let is = |texts: &(Vec<String>, Vec<Option<u32>>), i: usize, wanted: &str| {
            texts.1[i].and_then(|place| texts.0.get(place as usize)).is_some_and(|text| text == wanted)
        };
        for i in (0..frame.height()).filter(|i| is(&kind, *i, TTL_KIND) && is(&spec, *i, spec_hash())) {
            if let (Some(id), Some(features)) = (id[i], features[i].take()) {
                self.features.entry(id).or_insert(features);
            }
        }
        Ok(())
    }

    /// Requests that asked for content.
    fn take_requests(&mut self, frame: &DataFrame) -> Result<(), PolarsError> {
        let columns = Columns(frame);
        let (at, key, route) = (columns.i64s("ts_ns")?, columns.u64s("key_hash")?, self.route_places(&columns)?);
        let (id, weight, outcome) = (columns.u64s("request_id")?, columns.i64s("weight")?, columns.texts("outcome")?);
        let refused = outcome.0.iter().position(|text| text == "refused").map(|place| place as u32);
        let asked = Asked::rows(&columns.texts("method")?, &columns.texts("uncached_reason")?);
        self.reads.reserve(frame.height());
        for i in 0..frame.height() {
            let (Some(at_ns), Some(key), Some(route)) = (at[i], key[i], route[i]) else { continue };
            if outcome.1[i].is_none() || outcome.1[i] == refused {
                continue;
            }
            if !possible(at_ns) {
                self.impossible += 1;
                continue;
            }
            let weight = weight[i].and_then(|w| u32::try_from(w).ok()).unwrap_or(1).max(1);
            if asked[i] == Asked::Proof {
                self.any_method.insert(route);
            }
            self.reads.push(Question { read: Read { at_ns, key, route, weight }, id: id[i].unwrap_or(0), asked: asked[i] });
        }
        Ok(())
    }

    /// Places of the frame's routes among all routes of the log.
    fn route_places(&mut self, columns: &Columns<'_>) -> Result<Vec<Option<u32>>, PolarsError> {
        let (names, rows) = columns.texts("route")?;
        let places: Vec<u32> = names.into_iter().map(|name| self.route_place(name)).collect();
        Ok(rows.into_iter().map(|row| row.and_then(|r| places.get(r as usize).copied())).collect())
    }

    fn route_place(&mut self, name: String) -> u32 {
        let next = self.routes.len() as u32;
        let place = *self.numbers.entry(name.clone()).or_insert(next);
        if place == next {
            self.routes.push(name);
        }
        place
    }

    /// Takes out the requests that no cache may answer, with what was fetched for them; how many they are.
    fn leave_out_passed(&mut self) -> u64 {
        let Self { reads, any_method, answers, .. } = self;
        let (mut keys, mut passed) = (HashSet::new(), 0);
        reads.retain(|Question { read, asked, .. }| {
            let kept = match asked {
                Asked::Answerable | Asked::Proof => true,
                Asked::Untold => any_method.contains(&read.route),
                Asked::Never => false,
            };
            if !kept {
                keys.insert(read.key);
                passed += u64::from(read.weight);
            }
            kept
        });
        // A range of an answer that is kept has its key.
        for Question { read, .. } in reads.iter() {
            keys.remove(&read.key);
        }
        answers.retain(|_, answer| !keys.contains(&answer.fetch.key));
        passed
    }

    /// All of it in an order that does not depend on how the rows were spread over files: routes by name, the rest by time and id.
    fn log(mut self) -> Log {
        let passed = self.leave_out_passed();
        let Self { routes, answers, mut features, mut reads, impossible, .. } = self;
        let mut order: Vec<u32> = (0..routes.len() as u32).collect();
        order.sort_by(|a, b| routes[*a as usize].cmp(&routes[*b as usize]));
        let mut place = vec![0; routes.len()];
        for (new, old) in order.iter().enumerate() {
            place[*old as usize] = new as u32;
        }
        let mut log = Log { routes: order.iter().map(|old| routes[*old as usize].clone()).collect(), impossible, passed, ..Log::default() };
        reads.sort_unstable_by_key(|Question { read, id, .. }| (read.at_ns, *id, read.key, read.weight));
        log.reads = reads.into_iter().map(|Question { read, .. }| Read { route: place[read.route as usize], ..read }).collect();
        let mut answers: Vec<Answer> = answers.into_values().collect();
        answers.sort_unstable_by_key(|answer| (answer.fetch.at_ns, answer.fetch.call));
        for Answer { fetch, decision, .. } in answers {
            let features = decision.and_then(|id| features.remove(&id));
            let features = features.filter(|f| f.len() == TTL_SPEC.names.len() && f.iter().all(|x| x.is_finite()));
            log.recomputed += usize::from(features.is_none());
            log.fetches.push(Fetch { route: place[fetch.route as usize], features, ..fetch });
        }
        log
    }
}

impl Answer {
    /// Whether it is the later attempt; of equal ones (a row that is there twice) the later time.
    fn is_after(&self, other: &Self) -> bool {
        (self.attempt, self.fetch.at_ns, self.fetch.hash) > (other.attempt, other.fetch.at_ns, other.fetch.hash)
    }
}

/// The kind of decisions that are about a TTL.
pub(super) const TTL_KIND: &str = "ttl";

/// Hash of the features that this build computes.
pub(super) fn spec_hash() -> &'static str {
    static HASH: LazyLock<String> = LazyLock::new(|| TTL_SPEC.hash());
    &HASH
}

pub(super) fn wanted(table: &Table, names: &[&str]) -> Vec<Wanted> {
    let find = |name: &&str| table.columns.iter().find(|c| c.name == *name);
    names.iter().filter_map(find).map(|c| Wanted { name: c.name, ty: c.ty, since: c.since }).collect()
}

/// All frames below each other, text as plain strings (dictionaries differ from file to file).
pub(super) fn stack(frames: Vec<DataFrame>) -> Option<LazyFrame> {
    use polars::prelude::{DataType, UnionArgs, concat};
    if frames.is_empty() {
        return None;
    }
    let plain = |frame: DataFrame| {
        let texts = frame.columns().iter().filter(|c| matches!(c.dtype(), DataType::Categorical(..)));
        let casts: Vec<_> = texts.map(|c| col(c.name().clone()).cast(DataType::String)).collect();
        frame.lazy().with_columns(casts)
    };
    concat(frames.into_iter().map(plain).collect::<Vec<_>>(), UnionArgs::default()).ok()
}

impl Log {
    /// The part of the log before a moment.
    pub fn before(&self, ns: i64) -> Self {
        let fetches = self.fetches.iter().filter(|f| f.at_ns < ns).cloned().collect();
        let reads = self.reads.iter().filter(|r| r.at_ns < ns).copied().collect();
        Self { routes: self.routes.clone(), fetches, reads, digest: self.digest.clone(), ..*self }
    }

    /// Time of the first and last row; zeros for an empty log.
    pub fn range_ns(&self) -> (i64, i64) {
        let times = || self.fetches.iter().map(|f| f.at_ns).chain(self.reads.iter().map(|r| r.at_ns));
        (times().min().unwrap_or(0), times().max().unwrap_or(0))
    }

    /// Requests for keys that no fetch tells the content of.
    pub fn unknown(&self) -> u64 {
        let known: HashSet<u64> = self.fetches.iter().map(|f| f.key).collect();
        self.reads.iter().filter(|read| !known.contains(&read.key)).map(|read| u64::from(read.weight)).sum()
    }

    /// Gives fetches without logged features those that the log itself gives, where it tells how answers entered the statistics.
    fn repeat(&mut self, from: &(impl Files + ?Sized)) -> Result<(), TrainError> {
        let mut given = verify::features(&super::read_entered(from)?);
        for fetch in self.fetches.iter_mut().filter(|fetch| fetch.features.is_none()) {
            fetch.features = given.remove(&fetch.call).map(Vec::from);
            self.repeated += usize::from(fetch.features.is_some());
        }
        Ok(())
    }
}
