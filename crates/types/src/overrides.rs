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
    /// Fetch ahead what is likely to be asked for next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefetch: Option<bool>,
    /// Choose among several providers by score; else the first that works is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing: Option<bool>,
    /// Who chooses the TTL: `model`, `table`, `rule`, or `fixed:SECONDS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// The version of the `ttl` predictor; the champion when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<u32>,
}

/// A field of a plan that overrides can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlanField {
    /// Whether the cache is used.
    Cache,
    /// Whether concurrent identical requests are joined.
    Dedupe,
    /// Whether calls are made together.
    Batch,
    /// Whether answers are fetched ahead.
    Prefetch,
    /// Whether providers are chosen among.
    Routing,
    /// Who chooses the TTL.
    Ttl,
    /// Which predictor does.
    ModelVersion,
}

impl PlanField {
    /// The name, as in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Dedupe => "dedupe",
            Self::Batch => "batch",
            Self::Prefetch => "prefetch",
            Self::Routing => "routing",
            Self::Ttl => "ttl",
            Self::ModelVersion => "model_version",
        }
    }
}

impl Overrides {
    /// The fields that they change.
    pub fn fields(&self) -> impl Iterator<Item = PlanField> {
        let Self { cache, dedupe, batch, prefetch, routing, ttl, model_version } = self;
        let given = [
            (cache.is_some(), PlanField::Cache),
            (dedupe.is_some(), PlanField::Dedupe),
            (batch.is_some(), PlanField::Batch),
            (prefetch.is_some(), PlanField::Prefetch),
            (routing.is_some(), PlanField::Routing),
            (ttl.is_some(), PlanField::Ttl),
            (model_version.is_some(), PlanField::ModelVersion),
        ];
        given.into_iter().filter(|(given, _)| *given).map(|(_, field)| field)
    }
}
