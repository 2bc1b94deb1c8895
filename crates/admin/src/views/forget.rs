//! Forgetting tenants.

use std::collections::BTreeMap;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Removes everything of a tenant.
pub trait ForgetControl: Send + Sync {
    /// Forgets a tenant; waits for some seconds at most, and goes on afterwards.
    fn forget(&self, tenant: String) -> ForgetRunning;
}

/// A tenant being forgotten.
pub type ForgetRunning = Pin<Box<dyn Future<Output = ForgetReport> + Send>>;

/// Whom to forget.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// The tenant as the log names it; those of passed-through credentials are `p-` and a digest.
    pub tenant: String,
}

/// What was removed, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForgetReport {
    /// Whether all is done that can be. Where not, the work goes on: ask again.
    pub finished: bool,
    /// Answers in memory.
    pub cache_entries: u64,
    /// Values in L2; null without one.
    pub l2_values: Option<u64>,
    /// Rows of the log, by table.
    pub log_rows: BTreeMap<String, u64>,
    /// Files of the log removed or written anew.
    pub log_files: u64,
    /// Rows removed from sinks of the log, by sink.
    #[serde(default)]
    pub sink_rows: BTreeMap<String, u64>,
    /// Statistics of keys that only this tenant used.
    pub key_statistics: u64,
    /// Whether there were totals of it since start.
    pub totals: bool,
    /// Counters of budgets that it had for itself; their money begins anew.
    pub budget_counters: u64,
    /// What may still hold something of it, and what to do.
    pub left: Vec<String>,
}
