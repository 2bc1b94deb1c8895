//! Experiments.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::ControlError;

/// The experiments of this instance.
pub trait ExperimentsView: Send + Sync {
    /// All of them.
    fn list(&self) -> Vec<ExperimentSummary>;
    /// One with what is known about it.
    fn show(&self, name: &str) -> Option<ExperimentDetail>;
    /// Carries out an order (`shadow`, `start`, `stop`, `decide`, `traffic`). Blocks.
    ///
    /// # Errors
    /// There is no such experiment or order, or where it stands does not allow it; or it is in force but not written down.
    fn order(&self, name: &str, order: &str, request: &ExperimentRequest) -> Result<ExperimentDetail, ControlError>;
    /// What was done with it, the latest last. Blocks.
    ///
    /// # Errors
    /// There is no such experiment, or the file cannot be read.
    fn audit(&self, name: &str) -> Result<Vec<ExperimentAudit>, ControlError>;
    /// Its closed unit-windows from byte `from` on. Blocks.
    ///
    /// # Errors
    /// As above.
    fn export(&self, name: &str, from: u64) -> Result<ExperimentRows, ControlError>;
}

/// What goes with an order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentRequest {
    /// Why; kept in the audit.
    pub reason: String,
    /// `decide`: the variant that every unit has from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// `traffic`: the share of the slice that takes part, 0 to 1; without it the ramp goes on by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

/// Something that was done with an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExperimentAudit {
    /// When, RFC 3339.
    pub at: String,
    /// Who: `operator`, `configuration`, `guardrail`, `evidence`, `ramp`, `budget`.
    pub by: String,
    /// What.
    pub what: String,
    /// Why, as the operator said.
    pub reason: Option<String>,
}

/// A piece of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExperimentRows {
    /// Lines of a CSV file; the first piece begins with the names of the columns.
    pub csv: String,
    /// Where the next piece begins, as `from`; null after the last.
    pub next: Option<u64>,
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
    /// How long a unit keeps its variant, in seconds.
    pub window_s: f64,
    /// Variants; the first is the control.
    pub variants: Vec<ExperimentVariant>,
    /// Where it stands: `draft`, `shadow`, `running`, `stopped`, `decided`.
    pub stage: String,
    /// What the best challenger's verdict is: `better`, `worse`, `no worthwhile difference`, `keep running (...)`, `not valid: ...`.
    pub verdict: String,
    /// What its coin is tossed for.
    pub unit: String,
    /// Share of the measurement slice that takes part.
    pub traffic: f64,
    /// Whether that goes on by itself.
    pub ramps: bool,
    /// Closed windows.
    pub windows: u64,
    /// The variant that units outside the measurement slice get.
    pub leader: String,
    /// Since when it is measured, ns since 1970 UTC; null before.
    pub started_ns: Option<i64>,
    /// When it ended; null before.
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
    /// Its probability in the slice now.
    pub probability: f64,
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
    /// The answer about each challenger, the most telling first: verdict, dollars per month, guarded shares, what they are about.
    pub answers: Value,
    /// Figures by variant and comparisons with intervals, as the experiment engine reports them.
    pub report: Value,
    /// Where the instances of a fleet share it: version, age and author of what was published, windows that count and those that do not, by reason.
    #[serde(default)]
    pub fleet: Value,
}
