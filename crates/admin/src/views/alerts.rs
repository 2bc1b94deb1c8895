//! Alerts about money, and where the month will end.

use farthing_types::Money;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Alerts and forecasts of this instance.
pub trait AlertsView: Send + Sync {
    /// The alerts that are kept, newest first.
    fn alerts(&self) -> Vec<AlertInfo>;
    /// What the running month will have cost, of all or of a tenant; `None` with less than two weeks known.
    fn month(&self, tenant: Option<&str>) -> Option<MonthForecast>;
}

/// An alert and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlertInfo {
    /// The same for the same matter.
    pub id: String,
    /// One more for each alert.
    pub number: u64,
    /// `budget-level`, `unpriced`, `spend-anomaly`, `predicted-overrun` or `billing-at-risk`.
    pub kind: String,
    /// When it was found.
    #[schema(example = "2026-11-01T00:00:00Z")]
    pub at: String,
    /// Whose money it is about.
    pub subject: String,
    /// What a person needs to know.
    pub summary: String,
    /// The same for programs.
    pub details: Value,
    /// `none` (there is no webhook), `pending`, `delivered` or `given-up`, with attempts and the last problem.
    pub delivery: Value,
}

/// What the running month will have cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MonthForecast {
    /// The month, UTC.
    #[schema(example = "2026-11")]
    pub month: String,
    /// Spent until the last hour that is over, dollars, as far as priced.
    #[schema(value_type = String)]
    pub so_far_usd: Money,
    /// Its end: not exceeded with a probability of 10 %, dollars.
    pub p10_usd: f64,
    /// With 50 %.
    pub p50_usd: f64,
    /// With 90 %.
    pub p90_usd: f64,
    /// Probability that it exceeds `alerts.per_month`; null without one, or of a tenant.
    pub over: Option<f64>,
}
