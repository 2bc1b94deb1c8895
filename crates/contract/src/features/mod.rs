//! Features of the predictors: computed by this code alone, in the proxy at decision time and in the trainer.
//!
//! A feature is an `f32` of order one, never NaN; what is absent is zero with a flag beside it. Route effects enter only as
//! live statistics of the route ([`RouteStats`]), so a model holds no names and works on routes it has never seen.

mod calibration;
mod key;
mod rhythm;
mod route;
mod spec;
mod steering;
mod ttl;

pub use key::{KEY_FAST_MEMORY, KEY_RATE_MEMORY, KEY_SLOW_MEMORY, KEY_STATS_BYTES, KeyStats, Observation, PRIOR_EVENTS};
pub use rhythm::{Piece, RHYTHM_MEMORY, Rhythm};
pub use route::{DEFAULT_HAZARD, ROUTE_MEMORY, RouteStats};
pub use spec::{FeatureSpec, TTL_FEATURES, TTL_HORIZONS, TTL_OUTPUTS, TTL_SPEC};
pub use ttl::{HeadFacts, TtlInput, ttl_features};
