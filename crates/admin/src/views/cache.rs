//! The cache.

use std::collections::BTreeMap;
use std::pin::Pin;

use farthing_types::Money;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ControlError;

/// The cache of this instance.
pub trait CacheControl: Send + Sync {
    /// Its figures.
    fn stats(&self) -> CacheStats;
    /// Purges what the request names.
    ///
    /// # Errors
    /// A key that is no digest, or a route that does not exist.
    fn purge(&self, request: &PurgeRequest) -> Result<PurgeReport, ControlError>;
    /// Fetches what the request names into the cache, for some seconds at most.
    ///
    /// # Errors
    /// A route that does not exist, or an order that cannot be carried out.
    fn warm(&self, request: WarmRequest) -> Warming;
}

/// A running order to warm.
pub type Warming = Pin<Box<dyn Future<Output = Result<WarmReport, ControlError>> + Send>>;

/// What to fetch into the cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WarmRequest {
    /// The route.
    pub route: String,
    /// Paths as clients ask for them, or URLs or paths of the provider; in order, at most 1,000.
    pub targets: Vec<String>,
    /// The tenant whose copies to warm, where the route is private and has keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Headers as clients send them, for answers that vary.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Most dollars that may be spent. No call begins that could go beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1.50")]
    pub limit_usd: Option<Money>,
    /// Most calls per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Fetch although the price of a call is not known beforehand.
    #[serde(default)]
    pub unpriced_ok: bool,
    /// Look only.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an order to warm did. Targets that are not listed were not come to: they can be ordered again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WarmReport {
    /// The targets that were come to, in order.
    pub warmed: Vec<WarmedTarget>,
    /// Dollars spent; calls that had not ended are counted with their whole price.
    #[schema(value_type = String, example = "0.002")]
    pub spent_usd: Money,
    /// Most dollars that one call can cost; null when unknown.
    #[schema(value_type = Option<String>, example = "0.002")]
    pub price_usd: Option<Money>,
    /// The next call could have gone beyond the limit.
    pub limit_reached: bool,
}

/// What became of a target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WarmedTarget {
    /// The target as ordered.
    pub target: String,
    /// `fetched`, `wanted` (dry run), `fresh`, `under-way`, `failed`, `unfinished`, or why its answer is not kept.
    pub outcome: String,
    /// What its call cost; null without a call, or unpriced.
    #[schema(value_type = Option<String>, example = "0.002")]
    pub cost_usd: Option<Money>,
    /// How often it is asked for, per second; 0 when nothing is known.
    pub rate: f64,
}

/// Figures of the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CacheStats {
    /// Entries held.
    pub entries: u64,
    /// Their bytes, heads and overhead included.
    pub bytes: u64,
    /// Most bytes that may be held.
    pub capacity_bytes: u64,
    /// Calls under way that others may join.
    pub flights: u64,
    /// Bytes that running answers hold.
    pub in_flight_bytes: u64,
    /// Entries dropped for room since start.
    pub evictions: u64,
    /// Entries stored since start.
    pub stored: u64,
}

/// What to purge: at least one of `tags`, `keys`, `prefix`, `route`, `tenant`, `all`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PurgeRequest {
    /// Everything with one of these tags (`Surrogate-Key`, `Cache-Tag`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Keys by their digest, 32 hexadecimal digits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Everything whose path begins so, of `route` when that is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Everything of this route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Everything of this tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Everything.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Make entries stale instead of removing them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
    /// Count only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

impl PurgeRequest {
    /// Whether it names anything.
    pub fn names_something(&self) -> bool {
        self.all
            || !self.tags.is_empty()
            || !self.keys.is_empty()
            || [&self.prefix, &self.route, &self.tenant].iter().any(|name| name.is_some())
    }
}

/// What a purge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurgeReport {
    /// Entries removed, made stale, or (dry run) found.
    pub entries: u64,
    /// Calls under way whose answers will not be stored.
    pub flights: u64,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Whether the other instances of the fleet have been told: `told`, or `untold`, which they still will be as soon as may be. Null without a fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetTold>,
}

/// Whether other instances know of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FleetTold {
    /// They know within a moment, or as soon as they hear anything.
    Told,
    /// Not yet.
    Untold,
}
