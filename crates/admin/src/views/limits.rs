//! Limits, and what is under way.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The limits of this instance.
pub trait LimitsControl: Send + Sync {
    /// All of them with their busiest counters, and the load of the process.
    fn limits(&self) -> LimitsView;
}

/// All limits, and what is under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LimitsView {
    /// The limits, in the order of the configuration.
    pub limits: Vec<LimitRow>,
    /// What is under way, by tier; `(others)` are all that have none.
    pub load: Vec<LoadRow>,
}

/// A limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LimitRow {
    /// Its name.
    pub name: String,
    /// `tenant`, `team`, `service`, `key`, `route` or `provider`.
    pub scope: String,
    /// Whom it is about; empty: everybody.
    #[serde(rename = "match")]
    pub names: Vec<String>,
    /// All share one counter.
    pub shared: bool,
    /// Requests in a time, as in `100/s`.
    pub requests: Option<String>,
    /// Tokens in a time.
    pub tokens: Option<String>,
    /// Calls at a time.
    pub concurrency: Option<u32>,
    /// What becomes of calls beyond it, of high, medium and low priority.
    pub on_limit: Vec<String>,
    /// Calls that it let through since the start.
    pub admitted: u64,
    /// Of these, over it.
    pub passed_over: u64,
    /// Of these, after a wait.
    pub waited: u64,
    /// The mean of their waits, milliseconds.
    pub wait_ms_mean: Option<f64>,
    /// Calls that it refused, by reason.
    pub refused: Vec<RefusedCount>,
    /// Calls that wait now.
    pub waiting: u64,
    /// Counters in use.
    pub counters: u64,
    /// The busiest of them, at most 100.
    pub busiest: Vec<LimitCounter>,
}

/// How many calls were refused for a reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusedCount {
    /// `exceeded`, `deadline`, `queue-full` or `displaced`.
    pub why: String,
    /// How many.
    pub calls: u64,
}

/// A counter of a limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LimitCounter {
    /// Whose; empty where all share one.
    pub unit: String,
    /// Requests that may go now.
    pub requests_left: Option<u64>,
    /// Tokens that may be used now.
    pub tokens_left: Option<u64>,
    /// Calls under way.
    pub running: u32,
    /// Calls that wait.
    pub waiting: u64,
    /// How long the provider wants to be left alone yet, milliseconds.
    pub held_ms: u64,
}

/// What is under way of a tier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LoadRow {
    /// Its name.
    pub tier: String,
    /// Requests under way that memory could not answer.
    pub requests: u64,
    /// Bytes of bodies that are held for them.
    pub bytes: u64,
    /// Requests that nobody else may use the room of.
    pub own_requests: u64,
    /// Requests refused since the start, of high, medium and low priority.
    pub shed: Vec<u64>,
}
