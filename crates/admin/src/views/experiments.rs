//! Experiments.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The experiments of this instance.
pub trait ExperimentsView: Send + Sync {
    /// All of them.
    fn list(&self) -> Vec<ExperimentSummary>;
    /// One with what is known about it.
    fn show(&self, name: &str) -> Option<ExperimentDetail>;
}

/// One experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExperimentSummary {
    /// Its name.
    pub name: String,
    /// What it is to show.
    pub hypothesis: String,
    /// Routes it runs on; empty means all.
    pub routes: Vec<String>,
    /// How long a key keeps its variant, in seconds.
    pub window_s: f64,
    /// Variants; the first is the control.
    pub variants: Vec<ExperimentVariant>,
    /// Closed windows.
    pub windows: u64,
    /// The variant that keys outside the measurement slice get.
    pub leader: String,
    /// Since when it runs, ns since 1970 UTC.
    pub started_ns: i64,
    /// When it was stopped; null while it runs.
    pub stopped_ns: Option<i64>,
    /// Whether the evidence has been enough at some time to say that variants differ.
    pub differs: bool,
}

/// One variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExperimentVariant {
    /// Its name.
    pub name: String,
    /// Its configured share.
    pub share: f64,
    /// What it changes.
    pub overrides: Value,
    /// The guardrail that switched it off.
    pub off: Option<String>,
}

/// One experiment with its report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExperimentDetail {
    /// The experiment.
    pub summary: ExperimentSummary,
    /// Figures by variant and comparisons with intervals, as the experiment engine reports them.
    pub report: Value,
}
