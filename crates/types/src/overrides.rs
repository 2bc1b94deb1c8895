//! What a variant of an experiment, or an operator, changes about a plan.

use serde::{Deserialize, Serialize};

/// Plan overrides; `None` leaves the configured value. A variant is a named set of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    /// Use the cache at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<bool>,
    /// Join concurrent identical requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<bool>,
    /// Make calls together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<bool>,
    /// Who chooses the TTL: `model`, `table`, `rule`, or `fixed:SECONDS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// The version of the `ttl` predictor; the champion when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<u32>,
}
