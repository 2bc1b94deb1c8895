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
        if !route.prefetch {
            return Err(UncachedReason::Disabled);
        }
        if route.terms_forbid_prefetch {
            return Err(UncachedReason::Terms);
        }
        route.reusable(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_and_the_terms_forbid_it() {
        let eligible = |route: RouteFacts| Prefetch.eligible(&route, RequestKind::Safe);
        assert_eq!(eligible(RouteFacts::default()), Ok(()));
        assert_eq!(eligible(RouteFacts { prefetch: false, ..RouteFacts::default() }), Err(UncachedReason::Disabled));
        assert_eq!(eligible(RouteFacts { terms_forbid_prefetch: true, ..RouteFacts::default() }), Err(UncachedReason::Terms));
        assert_eq!(eligible(RouteFacts { cache: false, ..RouteFacts::default() }), Err(UncachedReason::Disabled));
    }
}
