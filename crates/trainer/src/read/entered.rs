//! What entered the live statistics, as the log tells it: by run of the proxy and by route, in the order of the statistics.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use farthing_contract::features::HeadFacts;
use farthing_contract::log::{CallRow, Decision, Request, Row};
use farthing_contract::statistics::{Entry, FOLDER, Saved, What, run_file};
use farthing_types::{Span, Time};
use polars::prelude::{DataFrame, PolarsError};

use super::columns::Columns;
use super::files::{self, Files, Opened};
use super::log::{TTL_KIND, spec_hash, wanted};
use crate::error::TrainError;

const REQUESTS: &[&str] = &["ts_ns", "route", "key_hash", "stat_epoch", "stat_seq", "stat_key", "stat_known"];
const CALLS: &[&str] = &[
    "call_id",
    "route",
    "key_hash",
    "last_modified_ns",
    "origin_ttl_s",
    "stat_epoch",
    "stat_seq",
    "stat_key",
    "stat_known",
    "stat_at_ns",
    "stat_hash",
    "steers",
    "has_etag",
    "query_parameters",
    "body_bytes",
];
const DECISIONS: &[&str] = &["call_id", "kind", "spec_hash", "features"];

/// One entry; for an answer the call that brought it and what a decision saw of its head.
#[derive(Clone, Debug, PartialEq)]
pub struct Entered {
    /// What entered, and how.
    pub entry: Entry,
    /// Call and head of an answer; requests are many more, so they do not hold the room.
    pub answer: Option<Box<(u64, HeadFacts)>>,
}

/// The features logged with a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    /// The call whose answer was decided about.
    pub call: u64,
    /// The features.
    pub features: Vec<f32>,
}

/// Everything of a log that entered the live statistics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnteredLog {
    /// By run and route, each in the order of the statistics.
    pub parts: BTreeMap<(u64, String), Vec<Entered>>,
    /// Features under the present spec, by call; a call has one for each variant and shadow.
    pub logged: Vec<Logged>,
    /// Rows read.
    pub rows: u64,
    /// Rows of requests and calls that say nothing of the statistics: they entered none, or are of an older release.
    pub outside: u64,
    roots: Vec<PathBuf>,
}

/// Reads it from files, one file at a time.
///
/// # Errors
/// As [`super::read_log`].
pub fn read_entered(from: &(impl Files + ?Sized)) -> Result<EnteredLog, TrainError> {
    let mut log = EnteredLog::default();
    for path in from.files()? {
        log.add(&path)?;
    }
    for part in log.parts.values_mut() {
        part.sort_by_key(|entered| entered.entry.seq);
    }
    log.logged.sort_by_key(|logged| logged.call);
    Ok(log)
}

impl EnteredLog {
    fn add(&mut self, path: &Path) -> Result<(), TrainError> {
        let mut file = Opened::open(path)?;
        let table = file.table()?;
        type Take = fn(&mut EnteredLog, &DataFrame) -> Result<(), PolarsError>;
        let (names, take): (_, Take) = match table.name {
            name if name == Request::TABLE.name => (REQUESTS, Self::take_requests),
            name if name == CallRow::TABLE.name => (CALLS, Self::take_calls),
            name if name == Decision::TABLE.name => (DECISIONS, Self::take_decisions),
            _ => return Ok(()),
        };
        let frame = file.columns(&wanted(table, names), files::exact, files::CHANGED)?;
        self.rows += frame.height() as u64;
        take(self, &frame).map_err(|e| TrainError::Unreadable { path: path.to_path_buf(), reason: e.to_string() })?;
        // <root>/<table>/date=.../hour=.../file
        if let Some(root) = path.ancestors().nth(4).filter(|root| !self.roots.iter().any(|known| known == root)) {
            self.roots.push(root.to_path_buf());
        }
        Ok(())
    }

    fn take_requests(&mut self, frame: &DataFrame) -> Result<(), PolarsError> {
        let columns = Columns(frame);
        let places = Places::of(&columns)?;
        let at = columns.i64s("ts_ns")?;
        for i in 0..frame.height() {
            let (Some((part, entry)), Some(at)) = (places.entry(i), at[i]) else {
                self.outside += 1;
                continue;
            };
            let entry = Entry { at: Time::from_nanos(at), ..entry };
            self.part(part).push(Entered { entry, answer: None });
        }
        Ok(())
    }

    fn take_calls(&mut self, frame: &DataFrame) -> Result<(), PolarsError> {
        let columns = Columns(frame);
        let places = Places::of(&columns)?;
        let (call, at, hash) = (columns.u64s("call_id")?, columns.i64s("stat_at_ns")?, columns.u64s("stat_hash")?);
        let (steers, etag) = (columns.bools("steers")?, columns.bools("has_etag")?);
        let (modified, ttl) = (columns.i64s("last_modified_ns")?, columns.i64s("origin_ttl_s")?);
        let (query, bytes) = (columns.i64s("query_parameters")?, columns.i64s("body_bytes")?);
        for i in 0..frame.height() {
            let (Some((part, entry)), Some(call), Some(at), Some(hash)) = (places.entry(i), call[i], at[i], hash[i]) else {
                self.outside += 1;
                continue;
            };
            let entry = Entry { at: Time::from_nanos(at), what: What::Answer { hash, steers: steers[i].unwrap_or(true) }, ..entry };
            let head = HeadFacts {
                body_bytes: bytes[i].and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
                last_modified: modified[i].map(Time::from_nanos),
                origin_ttl: ttl[i].and_then(|s| u64::try_from(s).ok()).map(Span::from_secs),
                has_etag: etag[i].unwrap_or(false),
                query_parameters: query[i].and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            };
            self.part(part).push(Entered { entry, answer: Some(Box::new((call, head))) });
        }
        Ok(())
    }

    fn take_decisions(&mut self, frame: &DataFrame) -> Result<(), PolarsError> {
        let columns = Columns(frame);
        let (call, kind, spec) = (columns.u64s("call_id")?, columns.texts("kind")?, columns.texts("spec_hash")?);
        let mut features = columns.lists("features")?;
        let is = |texts: &(Vec<String>, Vec<Option<u32>>), i: usize, wanted: &str| {
            texts.1[i].and_then(|place| texts.0.get(place as usize)).is_some_and(|text| text == wanted)
        };
        for i in 0..frame.height() {
            if !is(&kind, i, TTL_KIND) || !is(&spec, i, spec_hash()) {
                continue;
            }
            if let (Some(call), Some(features)) = (call[i], features[i].take()) {
                self.logged.push(Logged { call, features });
            }
        }
        Ok(())
    }

    fn part(&mut self, (run, route): (u64, &str)) -> &mut Vec<Entered> {
        self.parts.entry((run, route.to_owned())).or_default()
    }

    /// The state from which a run started; `None` when it is not beside the log, or cannot be read.
    pub fn start(&self, run: u64) -> Option<Saved> {
        let read = |root: &PathBuf| std::fs::read(root.join(FOLDER).join(run_file(run))).ok();
        self.roots.iter().find_map(read).and_then(|bytes| Saved::decode(&bytes).ok())
    }
}

/// The columns that requests and calls share.
struct Places {
    run: Vec<Option<u64>>,
    seq: Vec<Option<i64>>,
    key: Vec<Option<u64>>,
    selected: Vec<Option<u64>>,
    known: Vec<Option<bool>>,
    routes: (Vec<String>, Vec<Option<u32>>),
}

impl Places {
    fn of(columns: &Columns<'_>) -> Result<Self, PolarsError> {
        Ok(Self {
            run: columns.u64s("stat_epoch")?,
            seq: columns.i64s("stat_seq")?,
            key: columns.u64s("key_hash")?,
            selected: columns.u64s("stat_key")?,
            known: columns.bools("stat_known")?,
            routes: columns.texts("route")?,
        })
    }

    /// Run and route of a row, and its entry but for the time.
    fn entry(&self, i: usize) -> Option<((u64, &str), Entry)> {
        let key = self.selected[i].or(self.key[i])?;
        let route = self.routes.0.get(self.routes.1[i]? as usize)?;
        let entry = Entry { seq: self.seq[i]?, key, known: self.known[i].unwrap_or(true), at: Time::ZERO, what: What::Request };
        Some(((self.run[i]?, route), entry))
    }
}
