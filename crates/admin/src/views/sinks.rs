//! Sinks of the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The places that the log is shipped to.
pub trait SinksView: Send + Sync {
    /// All of them.
    fn sinks(&self) -> Vec<SinkInfo>;
}

/// A sink of the log. Counts are since start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SinkInfo {
    /// Its name.
    pub name: String,
    /// `postgres`, `clickhouse` or `s3`.
    pub kind: String,
    /// Files shipped.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes in the log.
    pub bytes: u64,
    /// Files that had been there when they were shipped.
    pub repeated: u64,
    /// Cells that the sink cannot hold as they are.
    pub altered: u64,
    /// Files that it lacks, as far as the log has been looked through.
    pub waiting: u64,
    /// How long the oldest of them has waited, seconds; 0 when none does.
    pub lag_s: f64,
    /// Files that retention removed before they were shipped.
    pub missed: u64,
    /// Files that cannot be shipped for what is in them.
    pub set_aside: u64,
    /// Days removed for their age.
    pub expired_days: u64,
    /// Operations that were not done, by reason.
    pub faults: BTreeMap<String, u64>,
    /// Whether it takes nothing and is only probed.
    pub breaker_open: bool,
    /// What went wrong last; null when nothing did.
    pub last_fault: Option<String>,
    /// When that was, ns since 1970 UTC.
    pub last_fault_ns: Option<i64>,
    /// When everything had been shipped last, ns since 1970 UTC; null before.
    pub complete_ns: Option<i64>,
    /// What is wrong and what happens instead; null while all is well.
    pub problem: Option<String>,
}
