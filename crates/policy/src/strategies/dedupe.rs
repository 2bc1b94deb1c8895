//! Joins concurrent identical requests: one call, and its answer for all.

use farthing_types::UncachedReason;

use crate::plan::{RequestKind, RouteFacts};
use crate::registry::{Strategy, StrategyId};

/// See the module.
pub struct Dedupe;

impl Strategy for Dedupe {
    fn id(&self) -> StrategyId {
        StrategyId::Dedupe
    }
    fn name(&self) -> &'static str {
        "dedupe"
    }
    fn summary(&self) -> &'static str {
        "Joins concurrent identical requests: one call, and its answer for all."
    }
    fn when_not(&self) -> &'static str {
        "Calls with an effect, or sampled answers of which each caller wants its own."
    }
    fn eligible(&self, route: &RouteFacts, kind: RequestKind) -> Result<(), UncachedReason> {
        route.joinable(kind)
    }
}
