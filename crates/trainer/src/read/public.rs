//! Public traces with everything they have: keys may be absent, calls may have latencies, prices, tokens, blocks of their prompts.

use std::path::Path;

use farthing_contract::log::ColumnType;
use polars::prelude::{DataFrame, DataType, PolarsError};

use super::columns::Columns;
use super::files::{Opened, Wanted};
use crate::error::TrainError;

/// One row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublicRow {
    /// When, ms.
    pub at_ms: i64,
    /// Which key; `None`: a request like no other.
    pub key: Option<u64>,
    /// Index in [`PublicTrace::endpoints`].
    pub endpoint: u32,
    /// Whether the content changed; else it was asked for.
    pub is_write: bool,
    /// Bytes of the content.
    pub bytes: u32,
    /// Latency of the call, ms.
    pub latency_ms: Option<f64>,
    /// Input tokens.
    pub tokens_in: Option<u64>,
    /// Output tokens.
    pub tokens_out: Option<u64>,
    /// Blocks of the prompt, first to last.
    pub prefix: Vec<u64>,
}

/// A trace, by time; at equal times changes come first and requests keep their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublicTrace {
    /// Names of the endpoints.
    pub endpoints: Vec<String>,
    /// The rows.
    pub rows: Vec<PublicRow>,
}

const NEEDED: [&str; 3] = ["ts_ms", "endpoint", "is_write"];
const OTHERS: [&str; 6] = ["key", "bytes", "latency_ms", "tokens_in", "tokens_out", "prefix"];

/// Reads a public trace.
///
/// # Errors
/// Names the column that is missing.
pub fn read_public(path: &Path) -> Result<PublicTrace, TrainError> {
    let mut file = Opened::open(path)?;
    let names: Vec<String> = file.types().into_iter().map(|(name, _)| name).collect();
    let present = |name: &str| names.iter().any(|n| n == name);
    let wanted: Vec<Wanted> = NEEDED
        .iter()
        .copied()
        .chain(OTHERS.iter().copied().filter(|name| present(name)))
        .map(|name| Wanted { name, ty: ColumnType::I64, since: 1 })
        .collect();
    // Types are converted below: foreign writers choose their own.
    let any = |_: ColumnType, _: &DataType| true;
    let frame = file.columns(&wanted, any, "a public trace has at least ts_ms, endpoint and is_write (data/README.md)")?;
    rows(&frame, &present).map_err(|e| TrainError::Unreadable { path: path.to_path_buf(), reason: e.to_string() })
}

fn rows(frame: &DataFrame, present: &dyn Fn(&str) -> bool) -> Result<PublicTrace, PolarsError> {
    let columns = Columns(frame);
    let n = frame.height();
    let whole = |name: &str| if present(name) { columns.i64s(name) } else { Ok(vec![None; n]) };
    let (at, key, bytes) = (columns.i64s("ts_ms")?, whole("key")?, whole("bytes")?);
    let (tokens_in, tokens_out) = (whole("tokens_in")?, whole("tokens_out")?);
    let latency = if present("latency_ms") { columns.f64s("latency_ms")? } else { vec![None; n] };
    let mut prefix = if present("prefix") { columns.id_lists("prefix")? } else { vec![Vec::new(); n] };
    let (endpoints, endpoint) = columns.texts("endpoint")?;
    let writes = columns.bools("is_write")?;
    let unsigned = |x: Option<i64>| x.and_then(|x| u64::try_from(x).ok());
    let mut rows = Vec::with_capacity(n);
    for i in 0..n {
        let (Some(at_ms), Some(endpoint)) = (at[i], endpoint[i]) else { continue };
        rows.push(PublicRow {
            at_ms,
            key: unsigned(key[i]),
            endpoint,
            is_write: writes[i].unwrap_or(false),
            bytes: bytes[i].and_then(|b| u32::try_from(b).ok()).unwrap_or(0),
            latency_ms: latency[i].filter(|l| l.is_finite()),
            tokens_in: unsigned(tokens_in[i]),
            tokens_out: unsigned(tokens_out[i]),
            prefix: std::mem::take(&mut prefix[i]),
        });
    }
    rows.sort_by_key(|row| (row.at_ms, !row.is_write));
    Ok(PublicTrace { endpoints, rows })
}
