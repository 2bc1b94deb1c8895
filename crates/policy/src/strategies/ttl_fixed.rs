//! Keeps every answer for the same number of seconds.

use farthing_types::UncachedReason;

use crate::plan::{RequestKind, RouteFacts};
use crate::registry::{Strategy, StrategyId};
use crate::ttl::TtlSource;

/// See the module.
pub struct TtlFixed;

impl Strategy for TtlFixed {
    fn id(&self) -> StrategyId {
        StrategyId::TtlFixed
    }
    fn name(&self) -> &'static str {
        "fixed"
    }
    fn summary(&self) -> &'static str {
        "Keeps every answer for the same number of seconds."
    }
    fn when_not(&self) -> &'static str {
        "Whenever keys differ in how often they change or are asked for."
    }
    fn eligible(&self, route: &RouteFacts, kind: RequestKind) -> Result<(), UncachedReason> {
        route.reusable(kind)
    }
    fn ttl_source(&self, argument: Option<&str>) -> Option<TtlSource> {
        let seconds: u32 = argument?.parse().ok()?;
        Some(TtlSource::Fixed(farthing_types::Span::from_secs(u64::from(seconds))))
    }
}
