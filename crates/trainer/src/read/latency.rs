//! How long calls take, per route, as the log has it.

use std::collections::BTreeMap;

use farthing_contract::log::{CallRow, ColumnType, Row};
use farthing_types::Span;
use polars::prelude::PolarsError;

use super::columns::Columns;
use super::files::{self, Files, Opened, Wanted};
use crate::error::TrainError;

const WANTED: [Wanted; 2] =
    [Wanted { name: "route", ty: ColumnType::Text, since: 1 }, Wanted { name: "latency_us", ty: ColumnType::I64, since: 1 }];

/// Middle latency of the calls of each route.
///
/// # Errors
/// Names the file and the column.
pub fn read_latencies(from: &(impl Files + ?Sized)) -> Result<BTreeMap<String, Span>, TrainError> {
    let mut seen: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for path in from.files()? {
        let mut file = Opened::open(&path)?;
        if file.table()?.name != CallRow::TABLE.name {
            continue;
        }
        let frame = file.columns(&WANTED, files::exact, "the file says it is of this log but was changed by another program")?;
        let place = |e: PolarsError| TrainError::Unreadable { path: from.name(), reason: e.to_string() };
        let columns = Columns(&frame);
        let (names, routes) = columns.texts("route").map_err(place)?;
        let latencies = columns.i64s("latency_us").map_err(place)?;
        for (route, latency) in routes.into_iter().zip(latencies) {
            if let (Some(name), Some(latency)) = (route.and_then(|r| names.get(r as usize)), latency.filter(|l| *l >= 0)) {
                seen.entry(name.clone()).or_default().push(latency);
            }
        }
    }
    let middle = |mut all: Vec<i64>| {
        all.sort_unstable();
        Span::from_micros(all.get(all.len() / 2).copied().unwrap_or(0).unsigned_abs())
    };
    Ok(seen.into_iter().map(|(name, all)| (name, middle(all))).collect())
}
