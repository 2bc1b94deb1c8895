//! Tells the provider which part of a prompt to keep, where the reads that are expected pay for it.

use farthing_types::UncachedReason;

use crate::plan::{RequestKind, RouteFacts};
use crate::registry::{Strategy, StrategyId};

/// See the module.
pub struct PromptCache;

impl Strategy for PromptCache {
    fn id(&self) -> StrategyId {
        StrategyId::PromptCache
    }
    fn name(&self) -> &'static str {
        "prompt-cache"
    }
    fn summary(&self) -> &'static str {
        "Marks the part of a prompt that the provider is to keep, where the reads that are expected pay for the write."
    }
    fn when_not(&self) -> &'static str {
        "Where clients mark their prompts themselves, or where no two prompts begin alike."
    }
    /// Each request remains a call of its own and gets its own answer, so neither its method nor who asks matters.
    fn eligible(&self, route: &RouteFacts, _kind: RequestKind) -> Result<(), UncachedReason> {
        match (route.observe, route.prompt_cache) {
            (true, _) => Err(UncachedReason::Observe),
            (false, false) => Err(UncachedReason::Disabled),
            (false, true) => Ok(()),
        }
    }
}
