//! Logged decisions.

use std::collections::BTreeMap;

use farthing_types::DecisionId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The decisions that are still at hand.
pub trait DecisionsView: Send + Sync {
    /// One of them; `None` when it is unknown or too old.
    fn decision(&self, id: DecisionId) -> Option<DecisionView>;
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecisionView {
    /// Its id, 16 hexadecimal digits.
    pub id: String,
    /// When it was made, ns since 1970 UTC.
    pub at_ns: i64,
    /// What was decided: `ttl` ...
    pub kind: String,
    /// The route.
    pub route: String,
    /// Digest of the cache key.
    pub key: String,
    /// The value, such as a TTL in seconds.
    pub value: f64,
    /// Who decided: `model:3`, `rule:adaptive` ...
    pub by: String,
    /// The variant of an experiment.
    pub variant: Option<String>,
    /// Features it was made from, by name; empty when a rule decided without them.
    pub features: BTreeMap<String, f64>,
    /// Outputs of the predictor.
    pub outputs: Vec<f64>,
}
