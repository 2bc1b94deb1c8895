//! The cache.

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
}
