//! Logged decisions.

use std::collections::BTreeMap;

use farthing_types::{DecisionId, RequestId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ControlError;
use super::explanations::{ExplanationView, PlanView};

/// The logged decisions.
pub trait DecisionsView: Send + Sync {
    /// One of them; `None` when it is unknown, or not yet in a finished file. May read files: it is called off the async
    /// threads.
    ///
    /// # Errors
    /// No log, or one that cannot be read.
    fn decision(&self, id: DecisionId) -> Result<Option<DecisionView>, ControlError>;

    /// Why a request was answered as it was. Reads files, as above.
    ///
    /// # Errors
    /// Unknown, or no decision stands behind it; no log, or one that cannot be read.
    fn explain(&self, request: RequestId) -> Result<ExplanationView, ControlError>;

    /// What was done for a request and why. Reads files, as above.
    ///
    /// # Errors
    /// Unknown; no log, or one that cannot be read.
    fn plan(&self, request: RequestId) -> Result<PlanView, ControlError>;
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
    /// First 64 bits of the cache key's digest, 16 hexadecimal digits.
    pub key: String,
    /// The call whose answer it is about, 16 hexadecimal digits.
    pub call_id: Option<String>,
    /// The value, such as a TTL in seconds.
    pub value: f64,
    /// Who decided: `model:3`, `rule:adaptive` ...
    pub by: String,
    /// The experiment.
    pub experiment: Option<String>,
    /// Its variant.
    pub variant: Option<String>,
    /// Features it was made from, by name (by number when they are of another build); empty when none were used.
    pub features: BTreeMap<String, f64>,
    /// Outputs of the predictor.
    pub outputs: Vec<f64>,
}
