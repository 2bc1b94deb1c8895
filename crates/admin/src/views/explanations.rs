//! Why a request was answered as it was.

use farthing_types::Money;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A request's decision, taken apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplanationView {
    /// The request, 16 hexadecimal digits.
    pub request_id: Option<String>,
    /// `hit`, `lead` ...
    pub outcome: Option<String>,
    /// Age of the entry that it was served from, ms.
    pub entry_age_ms: Option<i64>,
    /// The decision, 16 hexadecimal digits.
    pub decision_id: String,
    /// When it was made, ns since 1970 UTC.
    pub at_ns: i64,
    /// What was decided: `ttl` ...
    pub kind: String,
    /// The route.
    pub route: String,
    /// First 64 bits of the cache key's digest, 16 hexadecimal digits.
    pub key: String,
    /// Who decided: `model:3`, `rule:static` ...
    pub by: String,
    /// The bundle, as `ttl/3`; none when a rule decided or the bundle is not there any more.
    pub bundle: Option<String>,
    /// Its digest.
    pub digest: Option<String>,
    /// The experiment.
    pub experiment: Option<String>,
    /// Its variant.
    pub variant: Option<String>,
    /// The value: for `ttl` seconds.
    pub value: f64,
    /// What the predictor answered.
    pub intervals: Vec<IntervalView>,
    /// What it would answer where nothing is known, per output: the mean.
    pub start: Vec<f64>,
    /// Features, those that moved the answer most first. Start plus all moves is the answer.
    pub features: Vec<FeatureMove>,
    /// Why the answer was not taken apart, when it was not.
    pub not_taken_apart: Option<String>,
    /// Prices and rates.
    pub economics: EconomicsView,
}

/// One output of a predictor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IntervalView {
    /// Age interval of the copy, or name of the output.
    pub name: String,
    /// The output: for `ttl` the natural log of the hazard over the live one.
    pub output: f64,
    /// Changes per hour that it makes of the live hazard, before the route's rhythm and calibration.
    pub hazard_per_hour: Option<f64>,
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FeatureMove {
    /// Its name; a number when it is of another build.
    pub name: String,
    /// Its value, as scaled.
    pub value: f64,
    /// How far it moved each output; empty when the answer was not taken apart.
    pub moves: Vec<f64>,
}

/// What money had to do with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EconomicsView {
    /// Price of a call, nano-dollars; none when unpriced.
    pub price_nanousd: Option<i64>,
    /// Staleness budget of the route, where it is known.
    pub stale_budget: Option<f64>,
    /// The bundle's price of a call over that of a stale answer at the budget, before the route's steering.
    pub kappa: Option<f64>,
    /// Requests of the key per hour.
    pub requests_per_hour: Option<f64>,
    /// Changes of the answer per hour by the live statistics.
    pub live_hazard_per_hour: Option<f64>,
}

/// What was done for a request and why: strategy by strategy, from its rows of the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// The request, 16 hexadecimal digits.
    pub request_id: String,
    /// When, ns since 1970 UTC.
    pub at_ns: i64,
    /// The route.
    pub route: String,
    /// The method.
    pub method: String,
    /// `hit`, `lead` ...
    pub outcome: String,
    /// What each strategy did.
    pub steps: Vec<PlanStep>,
    /// The experiment and the variant in force; null without one.
    pub variant: Option<String>,
    /// The decision under which the copy is kept, 16 hexadecimal digits: `GET /api/v1/decisions/{id}`.
    pub decision_id: Option<String>,
    /// What it would have cost without Farthing, in dollars; null when unpriced.
    #[schema(value_type = Option<String>)]
    pub base_usd: Option<Money>,
    /// What it cost, in dollars; null when unpriced.
    #[schema(value_type = Option<String>)]
    pub cost_usd: Option<Money>,
}

/// What one strategy did for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanStep {
    /// `plan`, `cache`, `dedupe`, `batch`, `ttl` or `promise`.
    pub what: String,
    /// What it did, or why nothing.
    pub why: String,
    /// What would change that; null where nothing is to be done.
    pub advice: Option<String>,
}
