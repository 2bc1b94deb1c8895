//! Questions about money.

use std::collections::BTreeMap;

use farthing_types::Money;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::ControlError;

/// Money, as the log has it.
pub trait CostsView: Send + Sync {
    /// Answers a question. Reads files: not to be called on an async thread.
    ///
    /// # Errors
    /// A question that cannot be read, one too large, or too many at a time.
    fn ask(&self, question: &CostQuestion) -> Result<CostAnswer, ControlError>;
}

/// A question about money.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct CostQuestion {
    /// `7d`, `24h`, `30m`, `today`, `yesterday`, `month`, `lastmonth`, or two times `FROM,TO` (RFC 3339); 7d when absent. UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// Names to group by, with commas between: tenant, team, service, route, provider, target, upstream, purpose, experiment, variant,
    /// outcome, status, saved_by, tag:NAME.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<String>,
    /// `NAME:VALUE`, with commas between; values of the same name are alternatives, an empty one stands for rows without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Most groups, dearest first; the others become one. 1000 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<String>,
    /// Width of the steps of a series: `1h`, `1d`; no series when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

/// An answer. Figures of requests are null where a filter names what only calls know, and the other way round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostAnswer {
    /// Where the window begins.
    #[schema(example = "2026-11-01T00:00:00Z")]
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// Names of the groups.
    pub by: Vec<String>,
    /// Groups, dearest first.
    pub groups: Vec<CostRow>,
    /// How many groups there are in all.
    pub groups_in_all: usize,
    /// All of them together.
    pub total: CostFigures,
    /// All of them together by steps of time; empty without a step.
    pub series: Vec<CostPoint>,
    /// What each strategy saved, and what its own calls cost.
    pub strategies: Vec<StrategyImpact>,
    /// Paid for fetching ahead beyond what that saved, in dollars; null when calls are not in the answer.
    #[schema(value_type = Option<String>)]
    pub prefetch_waste_usd: Option<Money>,
    /// What remains after what Farthing itself costs; null without `[self_cost]`, or when the answer is not about everything.
    pub net: Option<NetSaving>,
    /// The saving as the holdout proves it, since start, with its interval; null where no proxy runs.
    pub proved: Option<Value>,
    /// Rows of the log that were taken.
    pub rows: u64,
    /// Files that were read.
    pub files: u64,
    /// What could not be read: the sums lack it.
    pub unreadable: Vec<String>,
    /// What clients sent through this instance past all routes, since its start and whatever the question: its cost is unknown, and in no sum.
    #[serde(default)]
    pub unobserved: Vec<UnobservedHost>,
}

/// What went unobserved to one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnobservedHost {
    /// The host; `(other)` for those beyond the first 256.
    pub host: String,
    /// Tunnels that CONNECT has opened.
    pub tunnels: u64,
    /// Requests that were passed on.
    pub passed: u64,
    /// Bytes sent to the host.
    pub bytes_up: u64,
    /// Bytes that came from it.
    pub bytes_down: u64,
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostRow {
    /// Its names; null for rows without one.
    pub names: BTreeMap<String, Option<String>>,
    /// Whether it is the group of all that are not among the dearest.
    pub others: bool,
    /// Its figures.
    pub figures: CostFigures,
    /// The same by steps of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<CostPoint>,
}

/// Figures of one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostPoint {
    /// Where the step begins.
    pub at: String,
    /// Its figures.
    pub figures: CostFigures,
}

/// Sums of rows. Money is in dollars, as far as priced; what is not is counted beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostFigures {
    /// What providers charge, to whom it is charged.
    #[schema(value_type = Option<String>, example = "12.5")]
    pub bill_usd: Option<Money>,
    /// What the same requests would have cost without Farthing.
    #[schema(value_type = Option<String>, example = "40")]
    pub base_usd: Option<Money>,
    /// 1 - bill / base; null while the base is zero.
    pub saving_share: Option<f64>,
    /// Credited to what saved it. Refreshes, audits and retries are in the bill, not taken off here.
    #[schema(value_type = Option<String>)]
    pub saved_usd: Option<Money>,
    /// Requests.
    pub requests: Option<u64>,
    /// Share answered from the cache or from another request's call.
    pub hit_ratio: Option<f64>,
    /// Requests that failed.
    pub failed: Option<u64>,
    /// Requests without a known price.
    pub unpriced_requests: Option<u64>,
    /// Attempts of calls that were sent; one that was made for several calls counts once.
    pub calls: Option<u64>,
    /// Attempts without a known price.
    pub unpriced_calls: Option<u64>,
    /// The part of the bill for calls that no client waited for.
    #[schema(value_type = Option<String>)]
    pub background_usd: Option<Money>,
    /// The part of it for fetching ahead.
    #[schema(value_type = Option<String>)]
    pub prefetch_usd: Option<Money>,
}

/// What a strategy was worth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StrategyImpact {
    /// The cause of savings, or the purpose of calls that no saving is credited to.
    pub name: String,
    /// Requests that it answered for less.
    pub requests: u64,
    /// Calls that were not made because of it.
    pub calls_avoided: u64,
    /// What it saved, in dollars.
    #[schema(value_type = String)]
    pub saved_usd: Money,
    /// The share of the base that this is; null while the base is zero.
    pub share_of_base: Option<f64>,
    /// Its own calls.
    pub calls: u64,
    /// What they cost, in dollars.
    #[schema(value_type = String)]
    pub bill_usd: Money,
    /// What remains, in dollars.
    #[schema(value_type = String)]
    pub net_usd: Money,
    /// Requests and calls of it without a known price.
    pub unpriced: u64,
}

/// What remains after what Farthing itself costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NetSaving {
    /// What Farthing cost in the window, in dollars.
    #[schema(value_type = String)]
    pub self_cost_usd: Money,
    /// Base less bill, less that, in dollars.
    #[schema(value_type = String)]
    pub net_usd: Money,
    /// Dollars saved for each dollar of own cost; null when it cost nothing.
    pub return_on_cost: Option<f64>,
}
