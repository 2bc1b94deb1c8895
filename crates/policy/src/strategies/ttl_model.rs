//! Chooses the TTL that is cheapest under the change hazard predicted by the ONNX model.

use farthing_types::UncachedReason;

use crate::plan::{RequestKind, RouteFacts};
use crate::registry::{Strategy, StrategyId};
use crate::ttl::TtlSource;

/// See the module.
pub struct TtlModel;

impl Strategy for TtlModel {
    fn id(&self) -> StrategyId {
        StrategyId::TtlModel
    }
    fn name(&self) -> &'static str {
        "model"
    }
    fn summary(&self) -> &'static str {
        "Chooses the TTL that is cheapest under the change hazard predicted by the ONNX model."
    }
    fn when_not(&self) -> &'static str {
        "Before the route's own log has trained or validated a model: then the table or the rule decides."
    }
    fn eligible(&self, route: &RouteFacts, kind: RequestKind) -> Result<(), UncachedReason> {
        route.reusable(kind)
    }
    fn ttl_source(&self, argument: Option<&str>) -> Option<TtlSource> {
        argument.is_none().then_some(TtlSource::Model)
    }
}
