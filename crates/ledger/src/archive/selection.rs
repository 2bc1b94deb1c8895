//! Which rows are meant.

use arrow::array::{BooleanArray, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use farthing_contract::log::Table;
use serde::Serialize;

use super::HOUR_NS;
use super::batches::{begin_ns, column};
use super::traces::Traces;

/// Rows by time, route and tenant; what is not given does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Selection {
    /// From this time on, ns since 1970 UTC.
    pub since_ns: Option<i64>,
    /// Before this time.
    pub until_ns: Option<i64>,
    /// Of this route.
    pub route: Option<String>,
    /// Of this tenant. Decisions and outcomes name none: theirs are those of its calls and requests, and of the keys that no
    /// other tenant has used.
    pub tenant: Option<String>,
}

impl Selection {
    /// Whether rows of an hour since 1970 can be meant.
    pub(super) fn may_be_in(&self, hour: i64) -> bool {
        let begin = begin_ns(hour);
        self.until_ns.is_none_or(|until| begin < until) && self.since_ns.is_none_or(|since| begin.saturating_add(HOUR_NS) > since)
    }

    /// For each row of a batch whether it is meant.
    pub(super) fn mask(&self, table: &Table, batch: &RecordBatch, traces: Option<&Traces>) -> BooleanArray {
        let (ts, routes) = (column::<Int64Array>(batch, "ts_ns"), column::<StringArray>(batch, "route"));
        let of = traces.map(|traces| traces.of(table, batch));
        let meant = |row: usize| {
            let at = ts.map(|ts| ts.value(row));
            self.since_ns.is_none_or(|since| at.is_some_and(|at| at >= since))
                && self.until_ns.is_none_or(|until| at.is_some_and(|at| at < until))
                && self.route.as_deref().is_none_or(|route| routes.is_some_and(|routes| routes.value(row) == route))
                && of.as_ref().is_none_or(|of| of(row))
        };
        (0..batch.num_rows()).map(|row| Some(meant(row))).collect()
    }
}
