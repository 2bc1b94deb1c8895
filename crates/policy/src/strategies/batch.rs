//! Puts several calls into one that the provider bills once.

use farthing_types::UncachedReason;

use crate::plan::{RequestKind, RouteFacts};
use crate::registry::{Strategy, StrategyId};

/// See the module.
pub struct Batch;

impl Strategy for Batch {
    fn id(&self) -> StrategyId {
        StrategyId::Batch
    }
    fn name(&self) -> &'static str {
        "batch"
    }
    fn summary(&self) -> &'static str {
        "Puts several calls into one that the provider bills once; each waits a short time for others."
    }
    fn when_not(&self) -> &'static str {
        "Where the provider bills each part of a batch like a call, or where few calls come within what a client can wait."
    }
    fn eligible(&self, route: &RouteFacts, kind: RequestKind) -> Result<(), UncachedReason> {
        route.batchable(kind)
    }
}
