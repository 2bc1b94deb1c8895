//! Prices: which are in force, and what they did not cover.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ControlError;

/// Prices in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PricesReport {
    /// Digest of the prices: equal where they are, here, in metrics and in the log.
    pub digest: String,
    /// Attempts without a price since the start.
    pub unpriced: Vec<UnpricedTarget>,
    /// What monthly meters have counted.
    pub volumes: Vec<MonthlyVolume>,
    /// Calls whose usage was estimated, because the answer reported none or broke off.
    pub estimated: u64,
    /// Answers whose usage contradicts itself.
    pub contradictory: u64,
}

/// Attempts of one target without a price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnpricedTarget {
    /// The provider.
    pub provider: String,
    /// The target; empty where none was named.
    pub target: String,
    /// Why.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
    /// How many.
    pub attempts: u64,
}

/// What one meter has counted in one month.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MonthlyVolume {
    /// `provider:NAME` or `route:NAME`: whose prices they are.
    pub owner: String,
    /// The meter.
    pub meter: String,
    /// `YYYY-MM`, UTC.
    pub month: String,
    /// So much.
    pub amount: f64,
}

/// The prices.
pub trait PricesControl: Send + Sync {
    /// Those in force.
    fn prices(&self) -> PricesReport;

    /// Reads them again, all or nothing.
    ///
    /// # Errors
    /// [`ControlError::Refused`] with everything that is wrong; the old ones stay in force.
    fn reload(&self) -> Result<PricesReport, ControlError>;
}
