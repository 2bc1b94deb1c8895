//! Answers repeated requests from a stored copy while it is predicted to be unchanged.

use farthing_types::UncachedReason;

use crate::plan::{RequestKind, RouteFacts};
use crate::registry::{Strategy, StrategyId};

/// See the module.
pub struct Cache;

impl Strategy for Cache {
    fn id(&self) -> StrategyId {
        StrategyId::Cache
    }
    fn name(&self) -> &'static str {
        "cache"
    }
    fn summary(&self) -> &'static str {
        "Answers repeated requests from a stored copy while it is predicted to be unchanged."
    }
    fn when_not(&self) -> &'static str {
        "Answers that differ from call to call, or that must be exact at every moment."
    }
    fn eligible(&self, route: &RouteFacts, kind: RequestKind) -> Result<(), UncachedReason> {
        route.reusable(kind)
    }
}
