//! Which strategies a route uses, as decided in the background.

use farthing_types::Money;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The decision about a route's strategies that is in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanInfo {
    /// `bypass`, `dedupe`, `batch`, `dedupe+batch`, `cache` or `cache+batch`.
    pub mix: String,
    /// Who decided: `rule:mix`, `model:3`, `fallback:no-price` ...
    pub by: String,
    /// Since when, RFC 3339.
    pub decided: String,
    /// Its row in the log, 16 hexadecimal digits.
    pub decision_id: String,
    /// What is expected to be saved per request, in dollars: bill, priced staleness and priced waiting.
    #[schema(value_type = String, example = "0.0004")]
    pub saving_usd: Money,
    /// Expected mean time until an answer, milliseconds.
    pub latency_ms: f64,
    /// Time within which nineteen of twenty answers are expected, milliseconds.
    pub within_ms: f64,
    /// What was left out and why: `batch=sla,cache=unsure`; null when nothing was.
    pub dropped: Option<String>,
    /// What a predictor that only looks on would choose; null where none does.
    pub shadow: Option<ShadowPlan>,
    /// Decisions that one has looked on at since the start.
    pub looked_on: u64,
    /// Of these, those where it would have chosen otherwise.
    pub disagreed: u64,
    /// Decisions for which a predictor was wanted that could not choose.
    pub fell_back: u64,
}

/// What a predictor that only looks on would choose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShadowPlan {
    /// The combination.
    pub mix: String,
    /// Who it is: `model:3`; `fallback:...` where it could not choose.
    pub by: String,
    /// What it expects to be saved per request by that, beyond what it expects of the combination in force, in dollars.
    #[schema(value_type = String, example = "0.0004")]
    pub more_usd: Money,
    /// What it leaves out and why.
    pub dropped: Option<String>,
}
