//! Status, readiness and money.

use std::collections::BTreeMap;

use farthing_types::Money;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::config::InstanceConfig;

/// Status, readiness, costs.
pub trait StatusView: Send + Sync {
    /// Whether the data port can answer. Must touch nothing slow.
    fn readiness(&self) -> Readiness;
    /// The instance at a glance.
    fn status(&self) -> Status;
    /// Money by route and tenant.
    fn costs(&self) -> Costs;
}

/// Where the instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The data port cannot answer yet.
    Starting,
    /// It answers and everything works.
    Ok,
    /// It answers; some part has fallen back.
    Degraded,
    /// It is shutting down.
    Draining,
}

impl Phase {
    /// Whether the data port can answer.
    pub const fn answers(self) -> bool {
        matches!(self, Self::Ok | Self::Degraded)
    }
}

/// One part of the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Part {
    /// Its name: `models`, `log`, an upstream ...
    pub name: String,
    /// Whether it works without a fallback.
    pub ok: bool,
    /// What is wrong, or what it is doing.
    pub detail: String,
}

/// Whether the instance can serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// The state of the whole.
    pub status: Phase,
    /// Its parts.
    pub parts: Vec<Part>,
}

/// A count and the money that goes with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Their money in dollars, as far as priced.
    #[schema(value_type = String, example = "0.002")]
    pub usd: Money,
    /// How many have no known price.
    pub unpriced: u64,
}

/// Quantiles in milliseconds; null before the first value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Quantiles {
    /// Median.
    pub p50: Option<f64>,
    /// 95 % are below.
    pub p95: Option<f64>,
    /// 99 % are below.
    pub p99: Option<f64>,
}

/// Totals since start of one route, or of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    /// Requests answered.
    pub requests: u64,
    /// Share served from the cache or from another request's call; null without requests.
    pub hit_ratio: Option<f64>,
    /// Requests by outcome.
    pub outcomes: BTreeMap<String, Tally>,
    /// Requests not served from the cache, by reason.
    pub uncached: BTreeMap<String, Tally>,
    /// What they would have cost without Farthing, in dollars, as far as priced.
    #[schema(value_type = String, example = "1.25")]
    pub base_usd: Money,
    /// Paid to providers, in dollars, as far as priced.
    #[schema(value_type = String, example = "0.5")]
    pub bill_usd: Money,
    /// 1 - bill / base; null while the base is zero.
    pub saving_share: Option<f64>,
    /// Savings by cause.
    pub saved: BTreeMap<String, Tally>,
    /// Calls by purpose.
    pub calls: BTreeMap<String, Tally>,
    /// Requests and calls without a known price.
    pub unpriced: u64,
    /// TTL decisions by kind of decider.
    pub decisions: BTreeMap<String, u64>,
    /// Share of them made by a model; null without decisions.
    pub by_model_share: Option<f64>,
    /// Answers from the cache that were later checked against the origin.
    pub checked: u64,
    /// Of these, how many had been stale.
    pub stale: u64,
    /// Requests with an SLA: `met`, or missed, by whose time it was.
    #[serde(default)]
    pub sla: BTreeMap<String, u64>,
    /// Share of them that were met; null without any.
    #[serde(default)]
    pub sla_share: Option<f64>,
    /// From head to last byte.
    pub latency_ms: Quantiles,
    /// The part of it spent in Farthing.
    pub overhead_ms: Quantiles,
}

/// The instance at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of Farthing.
    pub version: String,
    /// Whether it can serve.
    pub readiness: Readiness,
    /// Address of the data port.
    pub data_addr: String,
    /// When it started, ns since 1970 UTC.
    pub started_ns: i64,
    /// How long it has run, in seconds.
    pub uptime_s: f64,
    /// Totals of all routes.
    pub total: Totals,
    /// The predictor that decides TTLs: `ttl 3 (model)`; null when rules decide.
    pub predictor: Option<String>,
    /// The proven saving with its interval; null before there is one.
    pub saving: Option<Value>,
    /// Its place in a fleet; null when it is alone.
    #[serde(default)]
    pub fleet: Option<FleetInfo>,
}

/// An instance's place in its fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetInfo {
    /// The fleet.
    pub name: String,
    /// This instance's name.
    pub instance: String,
    /// Whether the fleet's Redis answers.
    pub connected: bool,
    /// Whether nothing was heard of the others for a second.
    pub silent: bool,
    /// Names of the instances that were heard of in the last five seconds, this one included.
    pub members: Vec<String>,
    /// Which configuration each has in force, where the fleet keeps one.
    #[serde(default)]
    pub configs: Vec<InstanceConfig>,
}

/// Money by route and tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Costs {
    /// All routes together.
    pub total: Totals,
    /// Each route.
    pub routes: Vec<RouteCosts>,
    /// Each tenant; `(other)` beyond the bound.
    pub tenants: Vec<TenantCosts>,
    /// The proven saving with its interval; null before there is one.
    pub saving: Option<Value>,
}

/// Money of one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteCosts {
    /// The route.
    pub route: String,
    /// Its totals.
    pub totals: Totals,
}

/// Money of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantCosts {
    /// The tenant.
    pub tenant: String,
    /// Requests answered.
    pub requests: u64,
    /// What they would have cost, in dollars.
    #[schema(value_type = String)]
    pub base_usd: Money,
    /// Paid, in dollars.
    #[schema(value_type = String)]
    pub bill_usd: Money,
    /// Requests and calls without a known price.
    pub unpriced: u64,
}
