//! The plan of a route and variant: which strategies apply and with which parameters. Compiled at each change of configuration,
//! model or experiment, never per request.

use farthing_types::{Overrides, Span, UncachedReason, WeightsByPriority};

use crate::registry::{self, Strategy};
use crate::strategies::{batch::Batch, cache::Cache, dedupe::Dedupe, defer::Defer, prefetch::Prefetch, prompt_cache::PromptCache};
use crate::ttl::TtlParams;

/// What is configured about a route that bears on its plan.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteFacts {
    /// Caching is switched on.
    pub cache: bool,
    /// Joining is switched on.
    pub dedupe: bool,
    /// Making calls together is switched on.
    pub batch: bool,
    /// Fetching ahead is switched on.
    pub prefetch: bool,
    /// Marking prompts for the provider's cache is switched on.
    pub prompt_cache: bool,
    /// Letting what can wait go to the provider's batch endpoint is switched on.
    pub defer: bool,
    /// Answers must be exact at every moment.
    pub realtime: bool,
    /// Answers depend on who asks.
    pub personalised: bool,
    /// Several principals share one cache.
    pub shared: bool,
    /// Answers must not be kept.
    pub sensitive: bool,
    /// The same request gets another answer each time.
    pub nondeterministic: bool,
    /// `--mode observe`: nothing is changed.
    pub observe: bool,
    /// The provider's terms forbid keeping answers.
    pub terms_forbid: bool,
    /// The provider's terms forbid fetching what nobody asked for.
    pub terms_forbid_prefetch: bool,
    /// TTL parameters.
    pub ttl: TtlParams,
}

impl Default for RouteFacts {
    fn default() -> Self {
        Self {
            cache: true,
            dedupe: true,
            batch: true,
            prefetch: true,
            prompt_cache: true,
            defer: true,
            realtime: false,
            personalised: false,
            shared: false,
            sensitive: false,
            nondeterministic: false,
            observe: false,
            terms_forbid: false,
            terms_forbid_prefetch: false,
            ttl: TtlParams::default(),
        }
    }
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// GET or HEAD.
    Safe,
    /// Another method that the route marks as free of effects, keyed by its body.
    Idempotent,
    /// Anything else.
    Mutating,
}

impl RequestKind {
    /// By method; `marked` when the route keys the bodies of other methods (or the request carries `Idempotency-Key`).
    pub fn of(method: &str, marked: bool) -> Self {
        match method {
            "GET" | "HEAD" => Self::Safe,
            _ if marked => Self::Idempotent,
            _ => Self::Mutating,
        }
    }
}

impl RouteFacts {
    /// Whether a copy may answer other requests later.
    pub(crate) fn reusable(&self, kind: RequestKind) -> Result<(), UncachedReason> {
        let no = [
            (self.observe, UncachedReason::Observe),
            (!self.cache, UncachedReason::Disabled),
            (self.terms_forbid, UncachedReason::Terms),
            (kind == RequestKind::Mutating, UncachedReason::Method),
            (self.personalised && self.shared, UncachedReason::Private),
            (self.sensitive, UncachedReason::Private),
            (self.realtime, UncachedReason::NotWorth),
            (self.nondeterministic, UncachedReason::Nondeterministic),
        ];
        no.into_iter().find(|(forbidden, _)| *forbidden).map_or(Ok(()), |(_, reason)| Err(reason))
    }

    /// Whether concurrent identical requests may share one call.
    pub(crate) fn joinable(&self, kind: RequestKind) -> Result<(), UncachedReason> {
        let no = [
            (self.observe, UncachedReason::Observe),
            (!self.dedupe, UncachedReason::Disabled),
            (kind == RequestKind::Mutating, UncachedReason::Method),
            (self.personalised && self.shared, UncachedReason::Private),
            (self.nondeterministic, UncachedReason::Nondeterministic),
        ];
        no.into_iter().find(|(forbidden, _)| *forbidden).map_or(Ok(()), |(_, reason)| Err(reason))
    }

    /// Whether a call may be made together with others. Each gets its own answer, so what differs from call to call may be.
    pub(crate) fn batchable(&self, kind: RequestKind) -> Result<(), UncachedReason> {
        let no = [
            (self.observe, UncachedReason::Observe),
            (!self.batch, UncachedReason::Disabled),
            (kind == RequestKind::Mutating, UncachedReason::Method),
            (self.personalised && self.shared, UncachedReason::Private),
        ];
        no.into_iter().find(|(forbidden, _)| *forbidden).map_or(Ok(()), |(_, reason)| Err(reason))
    }
}

/// What is done to the requests of a route under a variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    facts: RouteFacts,
    /// TTL parameters with the variant's source.
    pub ttl: TtlParams,
    /// Version of the `ttl` predictor; the champion when `None`.
    pub model_version: Option<u32>,
    /// How long the first call of a batch waits for others; `None` as the route says.
    pub batch_window: Option<Span>,
    /// Mean time before its expiry at which an entry is refreshed; `None` as the route says.
    pub refresh_ahead: Option<Span>,
    /// Least probability of use at which a call is made ahead; `None` as the route says.
    pub prefetch_confidence: Option<f64>,
    /// Providers are chosen among, where the route has several.
    pub routing: bool,
    /// What counts in that choice, where it is not what the route says.
    pub weights: WeightsByPriority,
}

/// What is done to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Answer from the cache and fill it; else why not.
    pub cache: Result<(), UncachedReason>,
    /// Join concurrent identical requests; else why not.
    pub dedupe: Result<(), UncachedReason>,
    /// Make the call together with others; else why not.
    pub batch: Result<(), UncachedReason>,
}

impl Steps {
    /// Nothing is done, for one reason.
    pub const fn none(reason: UncachedReason) -> Self {
        Self { cache: Err(reason), dedupe: Err(reason), batch: Err(reason) }
    }

    /// What is left of them under the strategies chosen for the route. What is not chosen is left out; what the route forbids keeps its reason.
    pub fn within(self, cache: bool, batch: bool) -> Self {
        let chosen = |step: Result<(), UncachedReason>, on: bool| if on { step } else { step.and(Err(UncachedReason::NotChosen)) };
        Self { cache: chosen(self.cache, cache), dedupe: self.dedupe, batch: chosen(self.batch, batch) }
    }

    /// What is left of them while the operator's bypass switch is on: nothing. What the route itself forbids keeps its reason.
    pub fn bypassed(self) -> Self {
        let off = |step: Result<(), UncachedReason>| step.and(Err(UncachedReason::Bypassed));
        Self { cache: off(self.cache), dedupe: off(self.dedupe), batch: off(self.batch) }
    }
}

/// Overrides that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// `ttl` names no source.
    #[error("ttl = \"{given}\": no such source; write `model`, `table`, `rule` or `fixed:SECONDS`")]
    UnknownTtl {
        /// What was given.
        given: String,
    },
}

/// Compiles the plan of a route under the overrides of a variant. What is switched on and off while it runs comes later
/// ([`Steps::bypassed`]).
///
/// # Errors
/// [`PlanError::UnknownTtl`]. An override can switch a strategy off or choose its parameters; it cannot lift what the route
/// forbids.
pub fn compile(facts: &RouteFacts, overrides: &Overrides) -> Result<Plan, PlanError> {
    let mut facts = facts.clone();
    facts.cache &= overrides.cache.unwrap_or(true);
    facts.dedupe &= overrides.dedupe.unwrap_or(true);
    facts.batch &= overrides.batch.unwrap_or(true);
    facts.prefetch &= overrides.prefetch.unwrap_or(true);
    let mut ttl = facts.ttl;
    if let Some(text) = &overrides.ttl {
        ttl.source = registry::ttl_source(text).ok_or_else(|| PlanError::UnknownTtl { given: text.clone() })?;
    }
    if let Some(base) = overrides.base_ttl_ms {
        ttl.base = Span::from_millis(base).clamp(ttl.min, ttl.max.max(ttl.min));
    }
    Ok(Plan {
        facts,
        ttl,
        model_version: overrides.model_version,
        batch_window: overrides.batch_window_ms.map(Span::from_millis),
        refresh_ahead: overrides.refresh_ahead_ms.map(Span::from_millis),
        prefetch_confidence: overrides.prefetch_confidence,
        routing: overrides.routing.unwrap_or(true),
        weights: overrides.weights.unwrap_or_default(),
    })
}

impl Plan {
    /// What is done to a request of this kind.
    pub fn steps(&self, kind: RequestKind) -> Steps {
        let facts = &self.facts;
        Steps { cache: Cache.eligible(facts, kind), dedupe: Dedupe.eligible(facts, kind), batch: Batch.eligible(facts, kind) }
    }

    /// Whether answers to requests of this kind may be fetched ahead.
    ///
    /// # Errors
    /// The reason why they may not.
    pub fn prefetch(&self, kind: RequestKind) -> Result<(), UncachedReason> {
        Prefetch.eligible(&self.facts, kind)
    }

    /// Whether prompts of this kind may be marked for the provider's cache.
    ///
    /// # Errors
    /// The reason why they may not.
    pub fn prompt_cache(&self, kind: RequestKind) -> Result<(), UncachedReason> {
        PromptCache.eligible(&self.facts, kind)
    }

    /// Whether requests of this kind may go to the provider's batch endpoint.
    ///
    /// # Errors
    /// The reason why they may not.
    pub fn defer(&self, kind: RequestKind) -> Result<(), UncachedReason> {
        Defer.eligible(&self.facts, kind)
    }
}

#[cfg(test)]
mod tests {
    use farthing_types::{Priority, RoutingWeights};

    use super::*;
    use crate::ttl::TtlSource;

    #[test]
    fn a_variant_chooses_but_cannot_lift_a_ban() {
        let facts = RouteFacts { cache: false, ..RouteFacts::default() };
        let overrides = Overrides { cache: Some(true), ttl: Some("fixed:5".into()), model_version: Some(3), ..Overrides::default() };
        let plan = compile(&facts, &overrides).unwrap();
        let steps = Steps { cache: Err(UncachedReason::Disabled), dedupe: Ok(()), batch: Ok(()) };
        assert_eq!(plan.steps(RequestKind::Safe), steps);
        assert_eq!((plan.ttl.source, plan.model_version), (TtlSource::Fixed(Span::from_secs(5)), Some(3)));
    }

    #[test]
    fn a_variant_switches_prefetch_and_routing_off() {
        let overrides = Overrides { prefetch: Some(false), routing: Some(false), ..Overrides::default() };
        let (with, without) = (compile(&RouteFacts::default(), &Overrides::default()), compile(&RouteFacts::default(), &overrides));
        let ahead = |plan: &Plan| plan.prefetch(RequestKind::Safe);
        assert_eq!((ahead(&with.clone().unwrap()), with.unwrap().routing), (Ok(()), true));
        assert_eq!((ahead(&without.clone().unwrap()), without.unwrap().routing), (Err(UncachedReason::Disabled), false));
    }

    #[test]
    fn a_variant_gives_values_within_what_the_route_allows() {
        let facts = RouteFacts { ttl: TtlParams { max: Span::from_secs(90), ..TtlParams::default() }, ..RouteFacts::default() };
        let low = RoutingWeights { cost: 1.0, ..RoutingWeights::default() };
        let overrides = Overrides {
            batch_window_ms: Some(20),
            base_ttl_ms: Some(120_000),
            weights: Some(WeightsByPriority { low: Some(low), ..WeightsByPriority::default() }),
            ..Overrides::default()
        };
        let plan = compile(&facts, &overrides).unwrap();
        assert_eq!((plan.batch_window, plan.ttl.base), (Some(Span::from_millis(20)), Span::from_secs(90)), "never above the longest TTL");
        assert_eq!((plan.weights.of(Priority::Low), plan.weights.of(Priority::High)), (Some(low), None));
        let plain = compile(&facts, &Overrides::default()).unwrap();
        assert_eq!((plain.batch_window, plain.ttl.base, plain.weights), (None, facts.ttl.base, WeightsByPriority::default()));
    }

    #[test]
    fn an_unknown_source_is_named() {
        let overrides = Overrides { ttl: Some("magic".into()), ..Overrides::default() };
        let error = compile(&RouteFacts::default(), &overrides).unwrap_err();
        assert!(error.to_string().contains("magic") && error.to_string().contains("fixed:SECONDS"));
    }

    #[test]
    fn the_bypass_switch_turns_everything_off() {
        let plan = compile(&RouteFacts::default(), &Overrides::default()).unwrap();
        assert_eq!(plan.steps(RequestKind::Safe).bypassed(), Steps::none(UncachedReason::Bypassed));
        assert_eq!(
            plan.steps(RequestKind::Mutating).bypassed(),
            Steps::none(UncachedReason::Method),
            "what is never done is not saved by it"
        );
    }

    #[test]
    fn a_choice_leaves_out_and_lifts_no_ban() {
        for (cache, batch) in [(false, false), (false, true), (true, false), (true, true)] {
            let steps = compile(&RouteFacts::default(), &Overrides::default()).unwrap().steps(RequestKind::Safe).within(cache, batch);
            assert_eq!((steps.cache.is_ok(), steps.dedupe, steps.batch.is_ok()), (cache, Ok(()), batch));
            for facts in [
                RouteFacts { realtime: true, ..RouteFacts::default() },
                RouteFacts { sensitive: true, ..RouteFacts::default() },
                RouteFacts { personalised: true, shared: true, ..RouteFacts::default() },
                RouteFacts { terms_forbid: true, ..RouteFacts::default() },
                RouteFacts { observe: true, ..RouteFacts::default() },
            ] {
                let plain = compile(&facts, &Overrides::default()).unwrap().steps(RequestKind::Safe);
                let chosen = plain.within(cache, batch);
                assert_eq!((plain.cache.is_err(), chosen.cache), (true, plain.cache), "{facts:?}");
            }
            let mutating = compile(&RouteFacts::default(), &Overrides::default()).unwrap().steps(RequestKind::Mutating);
            assert_eq!(mutating.within(cache, batch), mutating);
        }
    }

    #[test]
    fn methods_are_sorted_into_kinds() {
        assert_eq!(RequestKind::of("GET", false), RequestKind::Safe);
        assert_eq!(RequestKind::of("POST", false), RequestKind::Mutating);
        assert_eq!(RequestKind::of("POST", true), RequestKind::Idempotent);
    }
}
