//! Finds a request's decision in the log.

use std::ops::ControlFlow;
use std::path::Path;

use farthing_contract::log::{CallRow, Decision, Request, Row, Table, Value};
use farthing_ledger::read::{self, ReadError};

/// The row of a request, as far as an explanation needs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// When, ns.
    pub at_ns: i64,
    /// Route.
    pub route: String,
    /// `hit`, `lead` ...
    pub outcome: String,
    /// Age of the served entry, ms.
    pub age_ms: Option<i64>,
    /// Why it was not served from the cache.
    pub uncached: Option<String>,
    decision: Option<u64>,
    call: Option<u64>,
}

/// The row of a decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decided {
    /// Id.
    pub id: u64,
    /// When, ns.
    pub at_ns: i64,
    /// `ttl` ...
    pub kind: String,
    /// Route.
    pub route: String,
    /// Key.
    pub key: u64,
    /// Hash of the feature spec.
    pub spec_hash: String,
    /// Features; empty when none were used.
    pub features: Vec<f32>,
    /// Outputs; empty when no predictor ran.
    pub outputs: Vec<f32>,
    /// The value: for `ttl` seconds.
    pub value: f64,
    /// Who decided.
    pub by: String,
    /// Digest of the bundle.
    pub digest: Option<String>,
    /// Experiment and variant.
    pub variant: Option<(String, String)>,
    /// Price of a call, nano-dollars.
    pub price_nanousd: Option<i64>,
}

/// The request with that id; `None` when the log has no such row.
///
/// # Errors
/// A file that cannot be read.
pub fn request(dir: &Path, id: u64) -> Result<Option<Asked>, ReadError> {
    const COLUMNS: [&str; 8] = ["request_id", "ts_ns", "route", "outcome", "entry_age_ms", "uncached_reason", "decision_id", "call_id"];
    first(dir, Request::TABLE, &COLUMNS, id, |cells| {
        Some(Asked {
            at_ns: whole(&cells[1]).unwrap_or(0),
            route: read::text(&cells[2]),
            outcome: read::text(&cells[3]),
            age_ms: whole(&cells[4]),
            uncached: text(&cells[5]),
            decision: word(&cells[6]),
            call: word(&cells[7]),
        })
    })
}

/// The decision behind a request: that of the entry it was served from, or that of the call which answered it.
///
/// # Errors
/// A file that cannot be read.
pub fn decision_of(dir: &Path, asked: &Asked) -> Result<Option<Decided>, ReadError> {
    let id = match (asked.decision, asked.call) {
        (Some(id), _) => Some(id),
        (None, Some(call)) => first(dir, CallRow::TABLE, &["call_id", "decision_id"], call, |cells| word(&cells[1]))?,
        (None, None) => None,
    };
    id.map_or(Ok(None), |id| decision(dir, id))
}

/// The decision with that id.
fn decision(dir: &Path, id: u64) -> Result<Option<Decided>, ReadError> {
    const COLUMNS: [&str; 14] = [
        "decision_id",
        "ts_ns",
        "kind",
        "route",
        "key_hash",
        "spec_hash",
        "features",
        "outputs",
        "action_value",
        "by",
        "model_digest",
        "experiment",
        "variant",
        "price_nanousd",
    ];
    first(dir, Decision::TABLE, &COLUMNS, id, |cells| {
        Some(Decided {
            id,
            at_ns: whole(&cells[1]).unwrap_or(0),
            kind: read::text(&cells[2]),
            route: read::text(&cells[3]),
            key: word(&cells[4]).unwrap_or(0),
            spec_hash: read::text(&cells[5]),
            features: list(&cells[6]),
            outputs: list(&cells[7]),
            value: if let Value::F64(value) = cells[8] { value } else { f64::NAN },
            by: read::text(&cells[9]),
            digest: text(&cells[10]),
            variant: text(&cells[11]).zip(text(&cells[12])),
            price_nanousd: whole(&cells[13]),
        })
    })
}

/// What `take` makes of the first row whose first column is `id` and that it wants.
pub(super) fn first<T>(
    dir: &Path,
    table: &'static Table,
    columns: &[&str],
    id: u64,
    take: impl Fn(&[Value<'_>]) -> Option<T>,
) -> Result<Option<T>, ReadError> {
    let mut found = None;
    let mut visit = |cells: &[Value<'_>]| {
        if word(&cells[0]) == Some(id) {
            found = take(cells);
        }
        if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    read::rows(dir, table, columns, &mut visit)?;
    Ok(found)
}

pub(super) fn word(cell: &Value<'_>) -> Option<u64> {
    if let Value::U64(word) = cell { Some(*word) } else { None }
}
pub(super) fn whole(cell: &Value<'_>) -> Option<i64> {
    if let Value::I64(number) = cell { Some(*number) } else { None }
}
pub(super) fn text(cell: &Value<'_>) -> Option<String> {
    if let Value::Text(text) = cell { Some((*text).to_owned()) } else { None }
}
fn list(cell: &Value<'_>) -> Vec<f32> {
    if let Value::F32List(list) = cell { list.to_vec() } else { Vec::new() }
}
