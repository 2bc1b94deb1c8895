//! Chooses the TTL that is cheapest under the change hazard of the survival table.

use farthing_types::UncachedReason;

use crate::plan::{RequestKind, RouteFacts};
use crate::registry::{Strategy, StrategyId};
use crate::ttl::TtlSource;

/// See the module.
pub struct TtlTable;

impl Strategy for TtlTable {
    fn id(&self) -> StrategyId {
        StrategyId::TtlTable
    }
    fn name(&self) -> &'static str {
        "table"
    }
    fn summary(&self) -> &'static str {
        "Chooses the TTL that is cheapest under the change hazard of the survival table."
    }
    fn when_not(&self) -> &'static str {
        "When a model has been trained on enough of the route's own log."
    }
    fn eligible(&self, route: &RouteFacts, kind: RequestKind) -> Result<(), UncachedReason> {
        route.reusable(kind)
    }
    fn ttl_source(&self, argument: Option<&str>) -> Option<TtlSource> {
        argument.is_none().then_some(TtlSource::Table)
    }
}
