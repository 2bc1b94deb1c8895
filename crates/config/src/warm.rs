//! When a route's copies are warmed by the clock.

use std::sync::Arc;

use farthing_types::{Money, Span};

/// When a route's copies are warmed by the clock, and by how much.
#[derive(Clone, Debug, PartialEq)]
pub struct WarmConfig {
    /// Times of the day, in minutes since midnight.
    pub at: Vec<u16>,
    /// IANA name of the zone in which they are read.
    pub zone: Arc<str>,
    /// Most that one time may cost.
    pub limit: Money,
    /// Most keys that are looked at, those that are asked for most first.
    pub keys: usize,
    /// Most calls a second.
    pub rate: f64,
    /// No call begins so long after the time.
    pub within: Span,
}
