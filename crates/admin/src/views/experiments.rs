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
    /// How the numbers of plans stand that experiments may move, by route.
    fn tunings(&self) -> Vec<RouteTuning>;
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
    /// Who: `operator`, `configuration`, `guardrail`, `evidence`, `ramp`, `budget`, `tuning`.
    pub by: String,
    /// What.
    pub what: String,
    /// Why, as the operator said.
    pub reason: Option<String>,
}

/// The numbers of one route's plan that experiments may move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteTuning {
    /// The route.
    pub route: String,
    /// Its numbers.
    pub values: Vec<TunedValue>,
    /// The experiment under way.
    pub trying: Option<TuningTrial>,
    /// Why nothing is under way: `frozen`, `waiting for experiment NAME`, `waiting for the canary on the route`, or, until the next round, `settled`.
    pub waits: Option<String>,
    /// What was tried, the latest last.
    pub past: Vec<TunedPast>,
}

/// One number. Values are as a configuration would say them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TunedValue {
    /// Its key: `batch_window`, `refresh_ahead`, `prefetch_confidence`.
    pub key: String,
    /// As configured, where it began.
    pub configured: String,
    /// In force.
    pub value: String,
    /// The least that it may be.
    pub low: String,
    /// The most.
    pub high: String,
    /// Since when nothing is left to try in this round, RFC 3339.
    pub settled: Option<String>,
    /// Rounds that have begun.
    pub rounds: u32,
}

/// The experiment under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TuningTrial {
    /// Its name among the experiments.
    pub experiment: String,
    /// Which number.
    pub key: String,
    /// The value in force.
    pub against: String,
    /// The value that is tried.
    pub value: String,
    /// Why that one.
    pub why: String,
    /// The verdict as it stands.
    pub verdict: String,
    /// Time that is left to show something, seconds.
    pub left_s: f64,
}

/// An experiment that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TunedPast {
    /// When it ended, RFC 3339.
    pub at: String,
    /// Its name.
    pub experiment: String,
    /// Which number.
    pub key: String,
    /// The value that was in force.
    pub against: String,
    /// The value that was tried.
    pub value: String,
    /// Why that one.
    pub why: String,
    /// `promoted`, `worse`, `same`, `untold`.
    pub outcome: String,
    /// The verdict, as it stood.
    pub verdict: String,
    /// What a month would cost more under it, dollars; null where that was not known.
    pub usd_per_month: Option<f64>,
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
    /// In the list of all: the challengers that are found to differ among those of all experiments, of which at most 5 % do not, on average (e-BH).
    #[serde(default)]
    pub found: Vec<String>,
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
