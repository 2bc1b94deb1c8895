//! What a variant of an experiment, or an operator, changes about a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Priority;

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
    /// How long the first call of a batch waits for others, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_window_ms: Option<u64>,
    /// Mean time before its expiry at which an entry that is still read is refreshed, in milliseconds; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_ahead_ms: Option<u64>,
    /// Least probability of use at which a call is made ahead, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefetch_confidence: Option<f64>,
    /// Choose among several providers by score; else the first that works is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing: Option<bool>,
    /// What counts in that choice, for the priorities that are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsByPriority>,
    /// Who chooses the TTL: `model`, `table`, `rule`, or `fixed:SECONDS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Base TTL of the rule, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_ttl_ms: Option<u64>,
    /// The version of the `ttl` predictor; the champion when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<u32>,
}

/// How much each part of a provider's score counts; none is negative, and one at least is not zero. Only their proportions matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutingWeights {
    /// Of what an answer costs.
    pub cost: f64,
    /// Of the time to it.
    pub latency: f64,
    /// Of its quality.
    pub quality: f64,
    /// Of getting one at all.
    pub reliability: f64,
}

/// Weights of some priorities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WeightsByPriority {
    /// Of high priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<RoutingWeights>,
    /// Of medium priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medium: Option<RoutingWeights>,
    /// Of low priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<RoutingWeights>,
}

impl WeightsByPriority {
    /// Those of a priority, where it is named.
    pub const fn of(&self, priority: Priority) -> Option<RoutingWeights> {
        match priority {
            Priority::High => self.high,
            Priority::Medium => self.medium,
            Priority::Low => self.low,
        }
    }

    /// Where those of a priority are.
    pub const fn of_mut(&mut self, priority: Priority) -> &mut Option<RoutingWeights> {
        match priority {
            Priority::High => &mut self.high,
            Priority::Medium => &mut self.medium,
            Priority::Low => &mut self.low,
        }
    }
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
    /// How long calls wait for each other.
    BatchWindow,
    /// Whether answers are fetched ahead.
    Prefetch,
    /// How long before their expiry entries are refreshed.
    RefreshAhead,
    /// How likely a use must be for a call ahead.
    PrefetchConfidence,
    /// Whether providers are chosen among.
    Routing,
    /// What counts in that choice.
    Weights,
    /// Who chooses the TTL.
    Ttl,
    /// Where the rule of TTLs begins.
    BaseTtl,
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
            Self::BatchWindow => "batch_window",
            Self::Prefetch => "prefetch",
            Self::RefreshAhead => "refresh_ahead",
            Self::PrefetchConfidence => "prefetch_confidence",
            Self::Routing => "routing",
            Self::Weights => "weights",
            Self::Ttl => "ttl",
            Self::BaseTtl => "base_ttl",
            Self::ModelVersion => "model_version",
        }
    }
}

impl Overrides {
    /// The fields that they change.
    pub fn fields(&self) -> impl Iterator<Item = PlanField> {
        let Self { cache, dedupe, batch, batch_window_ms, prefetch, refresh_ahead_ms, .. } = self;
        let Self { prefetch_confidence, routing, weights, ttl, base_ttl_ms, model_version, .. } = self;
        let given = [
            (cache.is_some(), PlanField::Cache),
            (dedupe.is_some(), PlanField::Dedupe),
            (batch.is_some(), PlanField::Batch),
            (batch_window_ms.is_some(), PlanField::BatchWindow),
            (prefetch.is_some(), PlanField::Prefetch),
            (refresh_ahead_ms.is_some(), PlanField::RefreshAhead),
            (prefetch_confidence.is_some(), PlanField::PrefetchConfidence),
            (routing.is_some(), PlanField::Routing),
            (weights.is_some(), PlanField::Weights),
            (ttl.is_some(), PlanField::Ttl),
            (base_ttl_ms.is_some(), PlanField::BaseTtl),
            (model_version.is_some(), PlanField::ModelVersion),
        ];
        given.into_iter().filter(|(given, _)| *given).map(|(_, field)| field)
    }
}

/// As a configuration would say it, on one line: `batch_window=20ms ttl=rule`; nothing where nothing is changed.
impl fmt::Display for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cache, dedupe, batch, batch_window_ms, prefetch, refresh_ahead_ms, .. } = self;
        let Self { prefetch_confidence, routing, weights, ttl, base_ttl_ms, model_version, .. } = self;
        let flags = [("cache", cache), ("dedupe", dedupe), ("batch", batch), ("prefetch", prefetch), ("routing", routing)];
        let mut parts: Vec<String> = flags.into_iter().filter_map(|(name, on)| on.map(|on| format!("{name}={on}"))).collect();
        parts.extend(batch_window_ms.map(|millis| format!("batch_window={millis}ms")));
        parts.extend(refresh_ahead_ms.map(|millis| format!("refresh_ahead={millis}ms")));
        parts.extend(prefetch_confidence.map(|share| format!("prefetch_confidence={share}")));
        parts.extend(ttl.as_ref().map(|ttl| format!("ttl={ttl}")));
        parts.extend(base_ttl_ms.map(|millis| format!("base_ttl={millis}ms")));
        parts.extend(model_version.map(|version| format!("model_version={version}")));
        for priority in Priority::ALL {
            let given = weights.and_then(|weights| weights.of(*priority));
            parts.extend(given.map(|RoutingWeights { cost, latency, quality, reliability }| {
                format!("weights.{priority}=cost:{cost},latency:{latency},quality:{quality},reliability:{reliability}")
            }));
        }
        f.write_str(&parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_is_said() {
        let low = RoutingWeights { cost: 0.9, reliability: 0.1, ..RoutingWeights::default() };
        let overrides = Overrides {
            cache: Some(false),
            batch_window_ms: Some(20),
            refresh_ahead_ms: Some(250),
            prefetch_confidence: Some(0.6),
            base_ttl_ms: Some(1_500),
            weights: Some(WeightsByPriority { low: Some(low), ..WeightsByPriority::default() }),
            ..Overrides::default()
        };
        let said = "cache=false batch_window=20ms refresh_ahead=250ms prefetch_confidence=0.6 base_ttl=1500ms weights.low=cost:0.9,latency:0,quality:0,reliability:0.1";
        assert_eq!((overrides.to_string().as_str(), Overrides::default().to_string().as_str()), (said, ""));
        let fields: Vec<&str> = overrides.fields().map(PlanField::as_str).collect();
        assert_eq!(fields, ["cache", "batch_window", "refresh_ahead", "prefetch_confidence", "weights", "base_ttl"]);
    }
}
