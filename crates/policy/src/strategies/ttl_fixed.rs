//! Keeps every answer for the same number of seconds.

use farthing_types::{Span, UncachedReason};

use crate::plan::{RequestKind, RouteFacts};
use crate::registry::{Strategy, StrategyId};
use crate::ttl::TtlSource;

/// As long as a configuration may name.
const LONGEST: Span = Span::from_secs(36_525 * 86_400);

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
        let seconds = argument.filter(|text| text.bytes().all(|b| b.is_ascii_digit() || b == b'.'))?;
        Span::try_from_secs_f64(seconds.parse().ok()?).ok().filter(|span| *span <= LONGEST).map(TtlSource::Fixed)
    }
}
