//! Features of the predictors: computed by this code alone, in the proxy at decision time and in the trainer.
//!
//! A feature is an `f32` of order one, never NaN; what is absent is zero with a flag beside it. Route effects enter only as
//! live statistics of the route ([`RouteStats`]), so a model holds no names and works on routes it has never seen.

mod ahead;
mod baseline;
mod calendar;
mod cost;
mod drawn;
mod informed;
mod key;
mod likeness;
mod passed;
mod persist;
mod prefetch;
mod rhythm;
mod route;
mod spec;
mod steering;
mod strategy;
mod strategy_stats;
mod suspicion;
mod ttl;
mod unit;

pub use ahead::{Ahead, Stretch};
pub use cost::{COST_FEATURES, COST_LEVELS, COST_OUTPUTS, COST_SPEC, CallFacts, CostInput, CostStats, cost_features, log_units};
pub use drawn::Draws;
pub use key::{KEY_FAST_MEMORY, KEY_RATE_MEMORY, KEY_SLOW_MEMORY, KEY_STATS_BYTES, KeyStats, Observation, PRIOR_EVENTS};
pub use prefetch::{
    Associations, CANDIDATES, Candidate, Capacity, LiveOdds, PREFETCH_FEATURES, PREFETCH_OUTPUTS, PREFETCH_SPEC, STEPS, SUCCESSORS, Visit,
    prefetch_features, probability, session_of, thing_of,
};
pub use rhythm::{Piece, RHYTHM_MEMORY, Rhythm};
pub use route::{DEFAULT_HAZARD, ROUTE_MEMORY, RouteStats};
pub use spec::{FeatureSpec, TTL_FEATURES, TTL_HORIZONS, TTL_OUTPUTS, TTL_SPEC};
pub use strategy::{CacheView, KeySeen, STRATEGY_FEATURES, STRATEGY_OUTPUTS, STRATEGY_SPEC, StrategyInput, strategy_features};
pub use strategy_stats::{
    BatchWindow, KeyShares, Latency, LiveShares, STRATEGY_FAST_MEMORY, STRATEGY_SLOW_MEMORY, StrategyMark, StrategyStats,
};
pub use suspicion::Doubt;
pub use ttl::{HeadFacts, TtlInput, rate_of_feature, ttl_features};
pub use unit::{UNIT_FEATURES, UNIT_SPEC, UnitHabits, UnitSeen, unit_features};
