//! Multiplies the route's base TTL by a factor for the share of fetches that found a change.

use farthing_types::UncachedReason;

use crate::plan::{RequestKind, RouteFacts};
use crate::registry::{Strategy, StrategyId};
use crate::ttl::TtlSource;

/// See the module.
pub struct TtlRule;

impl Strategy for TtlRule {
    fn id(&self) -> StrategyId {
        StrategyId::TtlRule
    }
    fn name(&self) -> &'static str {
        "rule"
    }
    fn summary(&self) -> &'static str {
        "Multiplies the route's base TTL by a factor for the share of fetches that found a change."
    }
    fn when_not(&self) -> &'static str {
        "When money or staleness matter and something is known about the route's changes."
    }
    fn eligible(&self, route: &RouteFacts, kind: RequestKind) -> Result<(), UncachedReason> {
        route.reusable(kind)
    }
    fn ttl_source(&self, argument: Option<&str>) -> Option<TtlSource> {
        argument.is_none().then_some(TtlSource::Rule)
    }
}
