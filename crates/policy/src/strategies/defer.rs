//! Lets a request that can wait go to the provider's batch endpoint.

use farthing_types::UncachedReason;

use crate::plan::{RequestKind, RouteFacts};
use crate::registry::{Strategy, StrategyId};

/// See the module.
pub struct Defer;

impl Strategy for Defer {
    fn id(&self) -> StrategyId {
        StrategyId::Defer
    }
    fn name(&self) -> &'static str {
        "defer"
    }
    fn summary(&self) -> &'static str {
        "Sends requests that can wait to the provider's batch endpoint, at its lower price, and calls directly at the last safe time."
    }
    fn when_not(&self) -> &'static str {
        "Where no client can wait longer than the provider's batches take, or where answers must be of the moment."
    }
    /// Each request remains a call of its own and gets its own answer, so neither its method nor who asks matters.
    fn eligible(&self, route: &RouteFacts, _kind: RequestKind) -> Result<(), UncachedReason> {
        match (route.observe, route.defer && !route.realtime) {
            (true, _) => Err(UncachedReason::Observe),
            (false, false) => Err(UncachedReason::Disabled),
            (false, true) => Ok(()),
        }
    }
}
