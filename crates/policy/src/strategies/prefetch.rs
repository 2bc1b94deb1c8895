//! Fetches what is likely to be asked for next, where that pays.

use farthing_types::UncachedReason;

use crate::plan::{RequestKind, RouteFacts};
use crate::registry::{Strategy, StrategyId};

/// See the module.
pub struct Prefetch;

impl Strategy for Prefetch {
    fn id(&self) -> StrategyId {
        StrategyId::Prefetch
    }
    fn name(&self) -> &'static str {
        "prefetch"
    }
    fn summary(&self) -> &'static str {
        "Fetches what is likely to be asked for next, where a batch price, a free quota or saved waiting pays for it."
    }
    fn when_not(&self) -> &'static str {
        "To save money where each prefetch costs as much as a call: it cannot; off unless waiting has a price or the tariff is lower."
    }
    fn eligible(&self, route: &RouteFacts, kind: RequestKind) -> Result<(), UncachedReason> {
        route.reusable(kind)
    }
}
