//! All strategies: one file each in `strategies/`, one variant of [`StrategyId`] and one line in [`ALL`].

use std::fmt;

use farthing_types::UncachedReason;

use crate::plan::{RequestKind, RouteFacts};
use crate::strategies::{
    batch::Batch, cache::Cache, dedupe::Dedupe, defer::Defer, prefetch::Prefetch, prompt_cache::PromptCache, ttl_fixed::TtlFixed,
    ttl_model::TtlModel, ttl_rule::TtlRule, ttl_table::TtlTable,
};
use crate::ttl::TtlSource;

/// Which strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StrategyId {
    /// Answer from the cache.
    Cache,
    /// Join concurrent identical requests.
    Dedupe,
    /// Make several calls as one.
    Batch,
    /// Fetch ahead.
    Prefetch,
    /// Mark prompts for the provider's own cache.
    PromptCache,
    /// Let what can wait go to the provider's batch endpoint.
    Defer,
    /// TTL by the ONNX model.
    TtlModel,
    /// TTL by the survival table.
    TtlTable,
    /// TTL by the rule.
    TtlRule,
    /// A fixed TTL.
    TtlFixed,
}

/// An action that a plan may contain.
pub trait Strategy: Sync {
    /// Its variant.
    fn id(&self) -> StrategyId;
    /// Its stable name, unique in [`ALL`]; for TTL strategies the word in `Overrides::ttl`.
    fn name(&self) -> &'static str;
    /// What it does, in one sentence.
    fn summary(&self) -> &'static str;
    /// When not to use it, in one sentence.
    fn when_not(&self) -> &'static str;
    /// Whether a request of this kind on this route may get it.
    ///
    /// # Errors
    /// The reason why it may not.
    fn eligible(&self, route: &RouteFacts, kind: RequestKind) -> Result<(), UncachedReason>;
    /// For TTL strategies: the source that a word of `Overrides::ttl` (`argument` after the colon) names.
    fn ttl_source(&self, argument: Option<&str>) -> Option<TtlSource> {
        let _ = argument;
        None
    }
}

/// Every strategy, in the order of the reference page.
pub static ALL: &[&dyn Strategy] = &[&Cache, &Dedupe, &Batch, &Prefetch, &PromptCache, &Defer, &TtlModel, &TtlTable, &TtlRule, &TtlFixed];

impl fmt::Display for StrategyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALL.iter().find(|s| s.id() == *self).map_or("unknown", |s| s.name()))
    }
}

/// The TTL source that a text of `Overrides::ttl` names; `None` for an unknown one.
pub fn ttl_source(text: &str) -> Option<TtlSource> {
    let (word, argument) = text.split_once(':').map_or((text, None), |(word, argument)| (word, Some(argument)));
    ALL.iter().find(|s| s.name() == word).and_then(|s| s.ttl_source(argument))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_ids_are_unique_and_told_apart() {
        let names: BTreeSet<_> = ALL.iter().map(|s| s.name()).collect();
        let ids: BTreeSet<_> = ALL.iter().map(|s| s.id()).collect();
        assert_eq!((names.len(), ids.len()), (ALL.len(), ALL.len()));
        for strategy in ALL {
            assert!(strategy.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", strategy.name());
            assert!(strategy.summary().ends_with('.') && strategy.when_not().ends_with('.'), "{}", strategy.name());
            assert_eq!(strategy.id().to_string(), strategy.name());
        }
    }

    #[test]
    fn nothing_is_done_to_requests_that_change_something() {
        let route = RouteFacts::default();
        // Marks in a prompt neither save nor share a call, nor does it if that waits.
        let own = [StrategyId::PromptCache, StrategyId::Defer];
        for strategy in ALL.iter().filter(|strategy| !own.contains(&strategy.id())) {
            assert!(strategy.eligible(&route, RequestKind::Mutating).is_err(), "{}", strategy.name());
            assert!(strategy.eligible(&route, RequestKind::Safe).is_ok(), "{}", strategy.name());
            assert!(strategy.eligible(&RouteFacts { personalised: true, shared: true, ..route.clone() }, RequestKind::Safe).is_err());
        }
    }

    #[test]
    fn each_ttl_word_names_one_source() {
        assert_eq!(ttl_source("model"), Some(TtlSource::Model));
        assert_eq!(ttl_source("table"), Some(TtlSource::Table));
        assert_eq!(ttl_source("rule"), Some(TtlSource::Rule));
        assert_eq!(ttl_source("fixed:90"), Some(TtlSource::Fixed(farthing_types::Span::from_secs(90))));
        assert_eq!(ttl_source("fixed:0.5"), Some(TtlSource::Fixed(farthing_types::Span::from_millis(500))));
        assert_eq!(ttl_source("fixed:3155760000"), Some(TtlSource::Fixed(farthing_types::Span::from_secs(3_155_760_000))));
        for wrong in [
            "",
            "fixed",
            "fixed:",
            "fixed:.",
            "fixed:1.2.3",
            "fixed:1s",
            "fixed:-1",
            "fixed:+1",
            "fixed:inf",
            "fixed:9999999999",
            "fixed:nan",
            "fixed:1e99",
            "model:3",
            "cache",
            "Model",
        ] {
            assert_eq!(ttl_source(wrong), None, "{wrong}");
        }
    }
}
