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
    /// Where the instances of a fleet share them.
    pub fleet: Option<LimitsShared>,
}

/// How limits are shared, as this instance knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LimitsShared {
    /// This instance.
    pub instance: String,
    /// What it has of each rate and burst without asking, of 1.
    pub share: f64,
    /// The same of calls at a time.
    pub calls_share: f64,
    /// How long it may go on with that when it hears nothing, milliseconds.
    pub holds_ms: u64,
    /// Counters of whose rate it has more now, of what others do not need.
    pub borrowed: u64,
    /// Counters of whose rate it has less now.
    pub lent: u64,
    /// All instances.
    pub instances: Vec<LimitsInstance>,
    /// Instances that have not told of themselves since Redis lost its data: until they have, or a minute has gone, nobody is given more.
    pub missing: Vec<String>,
    /// How long Redis has not answered, milliseconds.
    pub away_ms: Option<u64>,
    /// What is wrong.
    pub problem: Option<String>,
}

/// An instance that shares limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LimitsInstance {
    /// Its name.
    pub name: String,
    /// What it has of each rate and burst, of 1.
    pub share: f64,
    /// It was not heard of lately: nobody else may use its share yet.
    pub away: bool,
    /// How long its share is kept for it, milliseconds.
    pub kept_ms: u64,
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
    /// What this instance has of its rate now, of 1, where a fleet shares it.
    pub share: Option<f64>,
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
