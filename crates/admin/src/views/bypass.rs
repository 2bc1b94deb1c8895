//! The bypass switch, and strategies that switch themselves off.

use farthing_types::Money;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ControlError;

/// The bypass switch of this instance.
pub trait BypassControl: Send + Sync {
    /// What passes by now.
    fn bypasses(&self) -> Vec<BypassInfo>;
    /// Lets everything pass by: of all routes, or of one. Blocks until that is written down.
    ///
    /// # Errors
    /// An unknown route, no reason, no time; a disk that does not take it (it is in force all the same, and the text says so).
    fn bypass_on(&self, request: &BypassRequest) -> Result<Vec<BypassInfo>, ControlError>;
    /// Ends it: of one route, or everywhere. Blocks until that is written down.
    ///
    /// # Errors
    /// As above, and where there is none.
    fn bypass_off(&self, request: &BypassRequest) -> Result<Vec<BypassInfo>, ControlError>;
}

/// An order to switch the bypass on or off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BypassRequest {
    /// The route; all of them without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// For how many seconds; until it is switched off without it. Of no meaning to an order that ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Why; kept with it and logged.
    pub reason: String,
}

/// What passes by, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BypassInfo {
    /// The route; null for all of them.
    pub route: Option<String>,
    /// Since when, RFC 3339.
    pub since: String,
    /// Until when; null: until it is switched off.
    pub until: Option<String>,
    /// Why.
    pub reason: String,
}

/// How a strategy that can switch itself off stands on a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SwitchInfo {
    /// `cache` (off where it costs more than it saves), `batch` (off where it breaks promises of time), `prompt_cache` (off where writes were not
    /// made up for by reads) or `optional` (what is not needed, off where Farthing's own time is above its limit).
    pub strategy: String,
    /// `on`, `off`, or `trial` (on for a short time after it was off).
    pub standing: String,
    /// Since when, RFC 3339; null since the start.
    pub since: Option<String>,
    /// Evidence that this should change; 1 is none.
    pub evidence: f64,
    /// When it is tried again; null where that is not a matter of time.
    pub tried_again: Option<String>,
    /// For the cache and for marks in prompts: requests that were judged since then.
    pub judged: Option<u64>,
    /// What they saved, in dollars: for the cache less renewals, stale answers and own cost, for marks less writes.
    #[schema(value_type = Option<String>)]
    pub net_usd: Option<Money>,
    /// How often it was switched off since the start.
    pub switched_off: u64,
    /// For `optional`: what is left out, by the part of own time that it takes: `l2`, `lists` (taken apart), `rest` (batches, compressed answers,
    /// fetching ahead, predictors).
    #[serde(default)]
    pub left_out: Vec<String>,
}

/// A part of Farthing's own time on the requests of a route that went to the provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OwnTimeInfo {
    /// `l2`, `lists` and `rest` are all of it; `identify`, `plan` and `lookup` are among the rest, measured on one request in 64.
    pub part: String,
    /// Mean of the requests that have it, microseconds.
    pub mean_us: f64,
    /// How many have it.
    pub requests: u64,
}
