//! Routes.

use std::collections::BTreeMap;

use farthing_types::Money;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::bypass::{BypassInfo, OwnTimeInfo, SwitchInfo};
use super::plans::PlanInfo;
use super::status::{Tally, Totals};

/// The configured routes.
pub trait RoutesView: Send + Sync {
    /// In the order in which they are tried.
    fn routes(&self) -> Vec<RouteInfo>;
    /// Where the answers of a route differ when they are fetched at once; `None` when there is no such route.
    fn volatile(&self, route: &str) -> Option<VolatileReport>;
}

/// Where the answers of a route differ when they are fetched at once: such fields say nothing about change. They are left out
/// only when they stand under `volatile` of the route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VolatileReport {
    /// The route.
    pub route: String,
    /// Pairs of answers to the same request, fetched within ten seconds.
    pub pairs: u64,
    /// Of these, pairs that differed although the confirmed fields were left out.
    pub differing: u64,
    /// Of these, pairs that differed as a whole, or in too many places.
    pub apart: u64,
    /// Of those that differed, pairs that would have been equal without the fields proposed then.
    pub explained: u64,
    /// Fields that the configuration already leaves out.
    pub confirmed: Vec<String>,
    /// Fields to look at, those that differed most often first.
    pub proposed: Vec<VolatileField>,
}

/// A field that differed in nearly every pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VolatileField {
    /// JSON pointer; `*` stands for every element of an array.
    pub pointer: String,
    /// Pairs in which it differed.
    pub differed: u64,
    /// What its values look like: `time`, `id` or `other`.
    pub looks: String,
    /// Two of its values, shortened.
    pub examples: Vec<String>,
}

/// Answers of a route that were not served from the cache, or not kept for the next request, for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NotSaved {
    /// The closed reason.
    pub reason: String,
    /// How many, and what they cost.
    #[serde(flatten)]
    pub tally: Tally,
    /// The key of the configuration that would change it, in the route's table unless it names another; null where none would.
    pub key: Option<String>,
    /// What to do, or why nothing is to be done.
    pub advice: String,
}

/// How fetching ahead stands on a route, since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AheadInfo {
    /// `off` with a reason; else `shadow` (scored, nothing is paid), `live`, or `lost` (it lost money and is scored again).
    pub state: String,
    /// Why it is off; null where it is not.
    pub reason: Option<String>,
    /// Calls made ahead.
    pub started: u64,
    /// Of these, used while fresh.
    pub used: u64,
    /// Of these, not used while fresh.
    pub wasted: u64,
    /// Of these, without an answer that is kept.
    pub failed: u64,
    /// What they cost, in dollars, as far as priced.
    #[schema(value_type = String, example = "0.002")]
    pub spent_usd: Money,
    /// What those that were used would have cost their clients, in dollars.
    #[schema(value_type = String, example = "0.002")]
    pub saved_usd: Money,
    /// Likely things that were not fetched, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// One of a route's several providers, as a choice sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderInfo {
    /// Its name.
    pub provider: String,
    /// Its scores for calls of high, medium and low priority, at the price of the last call, 0 to 1.
    pub scores: Vec<f64>,
    /// What the last call would have cost there, in dollars; null is unknown.
    #[schema(value_type = Option<String>, example = "0.002")]
    pub price_usd: Option<Money>,
    /// Mean time to an answer, milliseconds; null where it was not measured lately.
    pub latency_ms: Option<f64>,
    /// Share of its calls that it fails.
    pub errors: f64,
    /// The operator's word times the measured share of required fields.
    pub quality: f64,
    /// Whether that is at least the route's floor.
    pub meets_floor: bool,
    /// `closed`, `half-open` or `open`: with an open one it gets no calls.
    pub breaker: String,
    /// Attempts that it got since the start, by reason.
    pub chosen: BTreeMap<String, u64>,
    /// Of these, attempts that it failed.
    pub failed: u64,
    /// Of these, answers that could not be brought into the route's shape.
    pub unmapped: u64,
    /// Calls that it has no way to be asked for.
    pub unfit: u64,
}

/// One route: configuration and totals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteInfo {
    /// Its name.
    pub name: String,
    /// The provider; of several the first.
    pub provider: String,
    /// Where there are several: each of them.
    #[serde(default)]
    pub providers: Vec<ProviderInfo>,
    /// Where requests go.
    pub base_url: String,
    /// Hosts it takes; empty means any.
    pub hosts: Vec<String>,
    /// The path prefix it takes.
    pub path_prefix: String,
    /// Methods it takes; empty means any.
    pub methods: Vec<String>,
    /// `respect`, `learned`, `override` or `observe`.
    pub mode: String,
    /// One cache for all principals.
    pub shared: bool,
    /// Whether answers are cached.
    pub cache: bool,
    /// Whether running calls are shared.
    pub dedupe: bool,
    /// Who chooses the TTL.
    pub ttl: String,
    /// Share of answers that may be stale.
    pub stale_budget: f64,
    /// The experiment that runs on it.
    pub experiment: Option<String>,
    /// The order by which everything passes by; null where nothing does.
    #[serde(default)]
    pub bypass: Option<BypassInfo>,
    /// How much it is asked: `cold`, `warm` (more than 10 requests a second) or `hot` (more than 100); null before its first request.
    #[serde(default)]
    pub heat: Option<String>,
    /// Requests a second, over some ten minutes.
    #[serde(default)]
    pub requests_per_second: Option<f64>,
    /// Which strategies it uses; null before its first request, and where nothing may be done.
    #[serde(default)]
    pub plan: Option<PlanInfo>,
    /// Strategies that can switch themselves off.
    #[serde(default)]
    pub switches: Vec<SwitchInfo>,
    /// What Farthing's own time consists of.
    #[serde(default)]
    pub own_time: Vec<OwnTimeInfo>,
    /// What audits found; null where no answer was checked.
    #[serde(default)]
    pub audit: Option<AuditInfo>,
    /// Fetching ahead.
    pub prefetch: AheadInfo,
    /// Totals since start.
    pub totals: Totals,
    /// Why answers were not served from the cache, dearest first.
    pub not_saved: Vec<NotSaved>,
    /// Why the answers of calls were not kept for the next request, dearest first.
    pub not_kept: Vec<NotSaved>,
}

/// Answers from the cache that were checked at the origin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditInfo {
    /// Checked since the route is known.
    pub checked: u64,
    /// Of these, stale.
    pub stale: u64,
    /// Share of stale answers under the present TTLs; null before any was checked under them.
    pub share: Option<f64>,
    /// The interval holds at all times together with 95 %.
    pub low: Option<f64>,
    /// See `low`.
    pub high: Option<f64>,
    /// What chosen TTLs are multiplied by; less than 1 where too many answers were stale.
    pub ttl_scale: f64,
}
