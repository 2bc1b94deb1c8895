//! The log as the trainer sees it: fetches with the features that were logged for them, and reads.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use farthing_contract::features::TTL_SPEC;
use farthing_contract::log::{CallRow, Decision, Request, Row, Table};
use polars::prelude::{DataFrame, IntoLazy, JoinArgs, JoinType, LazyFrame, PolarsError, SortMultipleOptions, UniqueKeepStrategy, col, lit};

use super::columns::Columns;
use super::files::{self, Opened, Wanted};
use crate::error::TrainError;

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
}

/// A client request of a key.
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
    /// Requests of clients, by time.
    pub reads: Vec<Read>,
    /// Digest of the files.
    pub digest: String,
    /// How many files were read.
    pub files: usize,
    /// Fetches whose features were logged under another spec, or not at all: they are computed anew.
    pub recomputed: usize,
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
const REQUESTS: &[&str] = &["ts_ns", "request_id", "weight", "route", "key_hash", "outcome"];

/// Reads the tables among the files that `pattern` matches.
///
/// # Errors
/// Names the file, and for foreign ones the column, with what to do about it.
pub fn read_log(pattern: &str) -> Result<Log, TrainError> {
    let files = files::find(pattern)?;
    let mut frames = Frames::default();
    for path in &files {
        frames.add(path)?;
    }
    let mut log = Log { digest: files::digest(&files)?, files: files.len(), ..Log::default() };
    let place = |e: PolarsError| TrainError::Unreadable { path: PathBuf::from(pattern), reason: e.to_string() };
    if let Some(calls) = frames.calls() {
        log.take_calls(calls.collect().map_err(place)?).map_err(place)?;
    }
    if let Some(requests) = frames.requests() {
        log.take_requests(requests.collect().map_err(place)?).map_err(place)?;
    }
    Ok(log)
}

/// Data frames of the tables, file by file.
#[derive(Default)]
struct Frames {
    calls: Vec<DataFrame>,
    decisions: Vec<DataFrame>,
    requests: Vec<DataFrame>,
}

impl Frames {
    fn add(&mut self, path: &Path) -> Result<(), TrainError> {
        let mut file = Opened::open(path)?;
        let table = file.table()?;
        let (names, frames) = match table.name {
            name if name == CallRow::TABLE.name => (CALLS, &mut self.calls),
            name if name == Decision::TABLE.name => (DECISIONS, &mut self.decisions),
            name if name == Request::TABLE.name => (REQUESTS, &mut self.requests),
            _ => return Ok(()),
        };
        frames.push(file.columns(&wanted(table, names), files::exact, files::CHANGED)?);
        Ok(())
    }

    /// One row per call that brought a whole answer, with the features logged for it.
    fn calls(&mut self) -> Option<LazyFrame> {
        let calls = stack(std::mem::take(&mut self.calls))?;
        // Errors and throttling say nothing about the content; 304 says that it is what it was.
        let status = || col("status");
        let told = status().lt(lit(500)).and(status().neq(lit(429)));
        let whole = col("canonical_hash").is_not_null().or(status().eq(lit(304)).and(col("prev_canonical_hash").is_not_null()));
        let calls = calls
            .filter(status().is_not_null().and(told).and(whole))
            .sort(["call_id", "attempt"], SortMultipleOptions::default())
            .unique_stable(Some(polars::prelude::cols(["call_id"])), UniqueKeepStrategy::Last);
        let joined = match stack(std::mem::take(&mut self.decisions)) {
            None => calls.with_column(lit(polars::prelude::NULL).cast(features_type()).alias("features")),
            Some(decisions) => {
                let logged = decisions
                    .filter(col("kind").eq(lit(TTL_KIND)).and(col("spec_hash").eq(lit(spec_hash()))))
                    .select([col("decision_id"), col("features")])
                    .unique_stable(Some(polars::prelude::cols(["decision_id"])), UniqueKeepStrategy::First);
                calls.join(logged, [col("decision_id")], [col("decision_id")], JoinArgs::new(JoinType::Left))
            }
        };
        Some(joined.sort(["ts_ns", "call_id"], SortMultipleOptions::default()))
    }

    /// Requests that asked for content, by time.
    fn requests(&mut self) -> Option<LazyFrame> {
        let requests = stack(std::mem::take(&mut self.requests))?;
        let refused = col("outcome").eq(lit("refused"));
        Some(requests.filter(refused.not()).sort(["ts_ns", "request_id"], SortMultipleOptions::default()))
    }
}

/// The kind of decisions that are about a TTL.
pub(super) const TTL_KIND: &str = "ttl";

/// Hash of the features that this build computes.
pub(super) fn spec_hash() -> &'static str {
    static HASH: LazyLock<String> = LazyLock::new(|| TTL_SPEC.hash());
    &HASH
}

fn features_type() -> polars::prelude::DataType {
    polars::prelude::DataType::List(Box::new(polars::prelude::DataType::Float32))
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

    fn take_calls(&mut self, frame: DataFrame) -> Result<(), PolarsError> {
        let columns = Columns(&frame);
        let (at, key, route) = (columns.i64s("ts_ns")?, columns.u64s("key_hash")?, self.route_places(&columns)?);
        let (hash, before) = (columns.u64s("canonical_hash")?, columns.u64s("prev_canonical_hash")?);
        let (bytes, modified, ttl) = (columns.i64s("bytes_in")?, columns.i64s("last_modified_ns")?, columns.i64s("origin_ttl_s")?);
        let (validators, cost) = (columns.bools("validator_changed")?, columns.i64s("cost_nanousd")?);
        let mut features = columns.lists("features")?;
        for i in 0..frame.height() {
            let (Some(at_ns), Some(key), Some(route), Some(hash)) = (at[i], key[i], route[i], hash[i].or(before[i])) else { continue };
            let features = features[i].take().filter(|f| f.len() == TTL_SPEC.names.len() && f.iter().all(|x| x.is_finite()));
            self.recomputed += usize::from(features.is_none());
            self.fetches.push(Fetch {
                at_ns,
                key,
                route,
                hash,
                bytes: bytes[i].and_then(|b| u64::try_from(b).ok()).unwrap_or(0),
                last_modified_ns: modified[i],
                origin_ttl_s: ttl[i].filter(|s| *s >= 0),
                validators: validators[i].is_some(),
                cost_nanousd: cost[i],
                features,
            });
        }
        Ok(())
    }

    fn take_requests(&mut self, frame: DataFrame) -> Result<(), PolarsError> {
        let columns = Columns(&frame);
        let (at, key, route) = (columns.i64s("ts_ns")?, columns.u64s("key_hash")?, self.route_places(&columns)?);
        let weight = columns.i64s("weight")?;
        for i in 0..frame.height() {
            let (Some(at_ns), Some(key), Some(route)) = (at[i], key[i], route[i]) else { continue };
            let weight = weight[i].and_then(|w| u32::try_from(w).ok()).unwrap_or(1).max(1);
            self.reads.push(Read { at_ns, key, route, weight });
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
        let known = self.routes.iter().position(|r| *r == name);
        known.unwrap_or_else(|| {
            self.routes.push(name);
            self.routes.len() - 1
        }) as u32
    }
}
