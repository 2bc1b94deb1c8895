//! Several instances that know of each other.

use std::sync::Arc;

use farthing_types::Span;

use crate::L2Redis;

/// The fleet that this instance belongs to, and the Redis through which it does.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetConfig {
    /// The fleet's name, in all its keys.
    pub name: Arc<str>,
    /// How to reach its Redis.
    pub server: L2Redis,
    /// How long an operation on it may take that somebody waits for.
    pub deadline: Span,
    /// Whether a call for a key is made by one of the instances that share an L2 in Redis, and the others wait for it.
    pub fill_leases: bool,
    /// What becomes of answers with tags while this instance has heard nothing of the others for a second: not used unless younger than that, or
    /// used as ever.
    pub bypass_on_partition: bool,
    /// How long an instance that hears nothing of the others goes on with its share of limits, and how long the share of one that died is kept.
    pub limits_alone: Span,
    /// How many instances there are at most: each has this part of limits before it has heard of the others, and never more. At least one.
    pub instances: Option<u32>,
    /// Whether this instance takes the configuration that the fleet keeps, where there is one.
    pub shared_config: bool,
    /// This instance's name; `None`: one that was drawn and is kept in `state_dir`.
    pub instance: Option<Arc<str>>,
}
