//! Features of the `prefetch` predictor: what followed in the past, how certain that is, and who else asks.
//!
//! [`Associations`] keeps decayed counts of what was asked for within the horizon after a request (order 1) and after two in a row
//! (order 2), per thing; and per route, as a back-off, which route follows, also with the same template parameters
//! (`/user/{id}` then `/user/{id}/orders`). It knows things by 64-bit hashes alone. All of it is bounded, each visit costs
//! a bounded number of steps, and the same code runs in the proxy and in the trainer.

mod associations;
mod calibration;
mod candidates;
mod slots;
mod state;

use farthing_types::Time;

use super::spec::FeatureSpec;

pub use associations::{Associations, Capacity};
pub use calibration::{LiveOdds, probability};
pub use candidates::{CANDIDATES, Candidate, prefetch_features};
pub use state::{STEPS, SUCCESSORS};

/// Number of features of the `prefetch` predictor.
pub const PREFETCH_FEATURES: usize = 26;
/// Number of its outputs.
pub const PREFETCH_OUTPUTS: usize = 1;

/// The spec of the `prefetch` predictor. Its output is the log odds that the thing is asked for, by anyone, within the horizon
/// *and* that this request would have missed the cache.
pub const PREFETCH_SPEC: FeatureSpec =
    FeatureSpec { kind: "prefetch", version: 2, names: &PREFETCH_NAMES, horizons: &[], answers: &["log_odds_used"] };

const PREFETCH_NAMES: [&str; PREFETCH_FEATURES] = [
    "ratio",
    "ratio_support",
    "ratio_2",
    "ratio_2_support",
    "ratio_2_missing",
    "ratio_earlier",
    "ratio_template",
    "ratio_route",
    "route_support",
    "delay_over_horizon",
    "delay_missing",
    "since_asked",
    "never_asked",
    "others_fast",
    "others_slow",
    "any_reason",
    "since_session_asked",
    "session_never_asked",
    "session_ever_asked",
    "trigger_asked_again",
    "session_visits",
    "session_gap",
    "trigger_missed",
    "same_route",
    "life_over_horizon",
    "log_horizon",
];

/// A request as the predictor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// When.
    pub at: Time,
    /// Who: a hash of tenant and session (or of whatever tells clients apart); zero when nobody can be told apart.
    pub session: u64,
    /// What: the cache key's hash, or [`thing_of`] where the template's parameters are known.
    pub thing: u64,
    /// Index of the route.
    pub route: u16,
    /// Hash of the template's parameters; zero when there are none or they are not known.
    pub params: u64,
    /// Whether it missed the cache.
    pub missed: bool,
}

/// The thing that a route gives for template parameters: lets a template name something nobody has asked for yet.
pub const fn thing_of(route: u16, params: u64) -> u64 {
    mix(mix(0x0074_6869_6e67, route as u64), params)
}

/// Who asks, as far as it can be told ([`Visit::session`]): a tenant with its team, service and tags. Never zero, as a tenant is always there.
pub fn session_of(tenant: &str, team: Option<&str>, service: Option<&str>, tags: Option<&str>) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    [Some(tenant), team, service, tags].hash(&mut hasher);
    hasher.finish().max(1)
}

/// Mixes two words (the finaliser of SplitMix64).
pub(crate) const fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.rotate_left(23) ^ b.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
