//! Traces of reads and true changes: `ts_ms, key, endpoint, is_write, bytes`; a write is a change of the key's content.

use std::path::Path;

use farthing_contract::log::ColumnType;

use super::columns::Columns;
use super::files::{Opened, Wanted, digest, roughly};
use crate::error::TrainError;

/// One row of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceRow {
    /// When, ms.
    pub at_ms: i64,
    /// Which key.
    pub key: u64,
    /// Index in [`Trace::endpoints`].
    pub endpoint: u32,
    /// Whether the content changed; else it was read.
    pub is_write: bool,
    /// Bytes of the content after a change.
    pub bytes: u32,
}

/// A trace, by time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// Names of the endpoints.
    pub endpoints: Vec<String>,
    /// Reads and changes; at equal times changes come first.
    pub rows: Vec<TraceRow>,
    /// Digest of the file.
    pub digest: String,
}

const WANTED: [Wanted; 5] = [
    Wanted { name: "ts_ms", ty: ColumnType::I64, since: 1 },
    Wanted { name: "key", ty: ColumnType::U64, since: 1 },
    Wanted { name: "endpoint", ty: ColumnType::Text, since: 1 },
    Wanted { name: "is_write", ty: ColumnType::Bool, since: 1 },
    Wanted { name: "bytes", ty: ColumnType::I64, since: 1 },
];

/// Reads a trace.
///
/// # Errors
/// Names the column that is missing or of another type.
pub fn read_trace(path: &Path) -> Result<Trace, TrainError> {
    let remedy = "a trace has the columns ts_ms (integer), key (integer), endpoint (text), is_write (boolean), bytes (integer)";
    let frame = Opened::open(path)?.columns(&WANTED, roughly, remedy)?;
    let place = |e: polars::prelude::PolarsError| TrainError::Unreadable { path: path.to_path_buf(), reason: e.to_string() };
    let columns = Columns(&frame);
    let (endpoints, endpoint) = columns.texts("endpoint").map_err(place)?;
    let (at, key, bytes) =
        (columns.i64s("ts_ms").map_err(place)?, columns.u64s("key").map_err(place)?, columns.i64s("bytes").map_err(place)?);
    let writes = columns.bools("is_write").map_err(place)?;
    let mut rows = Vec::with_capacity(frame.height());
    for i in 0..frame.height() {
        let (Some(at_ms), Some(key), Some(endpoint)) = (at[i], key[i], endpoint[i]) else { continue };
        let bytes = bytes[i].and_then(|b| u32::try_from(b).ok()).unwrap_or(0);
        rows.push(TraceRow { at_ms, key, endpoint, is_write: writes[i].unwrap_or(false), bytes });
    }
    rows.sort_by_key(|row| (row.at_ms, !row.is_write));
    Ok(Trace { endpoints, rows, digest: digest(&[path.to_path_buf()])? })
}
