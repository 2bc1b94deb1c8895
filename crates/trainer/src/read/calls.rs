//! Calls with their units, for the `cost` task.

use std::path::PathBuf;

use farthing_contract::features::CallFacts;
use farthing_contract::log::{CallRow, ColumnType, Row};
use farthing_types::Time;
use polars::prelude::{DataFrame, PolarsError};

use super::columns::Columns;
use super::files::{self, Files, Opened, Wanted};
use crate::cost::Call;
use crate::error::TrainError;

const WANTED: [Wanted; 8] = [
    Wanted { name: "ts_ns", ty: ColumnType::I64, since: 1 },
    Wanted { name: "route", ty: ColumnType::Text, since: 1 },
    Wanted { name: "target", ty: ColumnType::Text, since: 1 },
    Wanted { name: "status", ty: ColumnType::I32, since: 1 },
    Wanted { name: "bytes_in", ty: ColumnType::I64, since: 1 },
    Wanted { name: "tokens_input", ty: ColumnType::I64, since: 1 },
    Wanted { name: "tokens_cached_input", ty: ColumnType::I64, since: 1 },
    Wanted { name: "tokens_output", ty: ColumnType::I64, since: 1 },
];

/// The calls of a log.
#[derive(Clone, Debug, Default)]
pub struct CallLog {
    /// By time.
    pub calls: Vec<Call>,
    /// Names of routes, with their targets.
    pub routes: Vec<String>,
    /// Digest of the files.
    pub digest: String,
}

/// Reads the whole answers of a log.
///
/// # Errors
/// Names the file, and the column that is missing or of another type.
pub fn read_calls(from: &(impl Files + ?Sized)) -> Result<CallLog, TrainError> {
    let files = from.files()?;
    let mut log = CallLog { digest: files::digest(&files)?, ..CallLog::default() };
    for path in &files {
        let mut file = Opened::open(path)?;
        if file.table()?.name != CallRow::TABLE.name {
            continue;
        }
        let frame = file.columns(&WANTED, files::exact, "the file says it is of this log but was changed by another program")?;
        log.take(&frame).map_err(|e| TrainError::Unreadable { path: PathBuf::from(path), reason: e.to_string() })?;
    }
    log.calls.sort_by_key(|call| (call.at, call.route, call.output));
    Ok(log)
}

impl CallLog {
    fn take(&mut self, frame: &DataFrame) -> Result<(), PolarsError> {
        let columns = Columns(frame);
        let (at, status, bytes) = (columns.i64s("ts_ns")?, columns.i64s("status")?, columns.i64s("bytes_in")?);
        let (input, cached, output) = (columns.i64s("tokens_input")?, columns.i64s("tokens_cached_input")?, columns.i64s("tokens_output")?);
        let ((route_names, routes), (target_names, targets)) = (columns.texts("route")?, columns.texts("target")?);
        for i in 0..frame.height() {
            let whole = status[i].is_some_and(|s| (200..300).contains(&s));
            let Some(units) = output[i].or(bytes[i]).and_then(|u| u64::try_from(u).ok()).filter(|_| whole) else { continue };
            let (Some(at), Some(route)) = (at[i], routes[i].and_then(|r| route_names.get(r as usize))) else { continue };
            let target = targets[i].and_then(|t| target_names.get(t as usize));
            let name = target.map_or_else(|| route.clone(), |target| format!("{route} {target}"));
            let prompt = input[i].map(|n| n.saturating_add(cached[i].unwrap_or(0)).max(0).unsigned_abs());
            let facts = CallFacts { prompt, ..CallFacts::default() };
            let route = self.place(name);
            self.calls.push(Call { at: Time::from_nanos(at), route, facts, output: units });
        }
        Ok(())
    }

    fn place(&mut self, name: String) -> u32 {
        let known = self.routes.iter().position(|r| *r == name);
        known.unwrap_or_else(|| {
            self.routes.push(name);
            self.routes.len() - 1
        }) as u32
    }
}
