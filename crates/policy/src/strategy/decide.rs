//! The strategy decision: model, then table, then rule; then thresholds and promises, dearest strategy first.

use std::sync::Arc;

use farthing_contract::features::{Latency, STRATEGY_FEATURES, STRATEGY_OUTPUTS, StrategyInput, strategy_features};
use farthing_types::{By, Choice, Span};

use super::mix::{Member, Mix};
use super::money::{self, Expected, Shares, Terms};
use super::rule;
use crate::guard::{Asked, Guarded, Levels};
use crate::plan::Steps;

/// Latency assumed before the first call.
const UNKNOWN: Latency = Latency { middle: Span::from_millis(200), high: Span::from_millis(1_000) };

/// How sure a strategy must be before it is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StrategyParams {
    /// Least probability that the cache saves; default 0.7.
    pub cache_threshold: f64,
    /// Least probability that batching saves; default 0.6.
    pub batch_threshold: f64,
    /// Batching needs a promised latency above this; default 50 ms.
    pub batch_min_sla: Span,
    /// Whether the rule asks for enough traffic and time for batches (default). Not where the batcher asks for both at each call, which
    /// follows bursts that a mean over minutes does not see.
    pub rule_asks_traffic: bool,
}

impl Default for StrategyParams {
    fn default() -> Self {
        Self { cache_threshold: 0.7, batch_threshold: 0.6, batch_min_sla: Span::from_millis(50), rule_asks_traffic: true }
    }
}

/// What may be done to the request at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Answers may be kept.
    pub cache: bool,
    /// Equal requests may be joined.
    pub dedupe: bool,
    /// The request may go out in a batch.
    pub batch: bool,
}

impl Allowed {
    /// From the plan's steps; `batch` where the route has a format for it and the request fits it.
    pub fn of(steps: &Steps, batch: bool) -> Self {
        Self { cache: steps.cache.is_ok(), dedupe: steps.dedupe.is_ok(), batch }
    }
    /// Whether nothing is.
    pub const fn is_none(self) -> bool {
        !self.cache && !self.dedupe && !self.batch
    }
    /// Whether the whole mix is.
    pub fn mix(self, mix: Mix) -> bool {
        (!mix.caches() || self.cache) && (!mix.joins() || self.dedupe || self.cache && mix.caches()) && (!mix.batches() || self.batch)
    }
}

/// A strategy decision to be made.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Live statistics of the route.
    pub input: StrategyInput<'a>,
    /// Prices and promises.
    pub terms: &'a Terms,
    /// Thresholds.
    pub params: &'a StrategyParams,
    /// What the plan allows for this request.
    pub allowed: Allowed,
}

/// Why a strategy was left out of a mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It would break the promised latency.
    Sla,
    /// It is not sure enough to save.
    Unsure,
}

impl Why {
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sla => "sla",
            Self::Unsure => "unsure",
        }
    }
}

/// A strategy that was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Which.
    pub member: Member,
    /// Why.
    pub why: Why,
}

/// A decision with what it was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct StrategyDecision {
    /// The mix and who chose it.
    pub choice: Choice<Mix>,
    /// What is expected of every mix, in the order of [`Mix::ALL`].
    pub expected: [Expected; Mix::COUNT],
    /// What the cheapest mix would have contained besides.
    pub dropped: Vec<Dropped>,
    /// Features in the order of the spec; `None` when no predictor was asked.
    pub features: Option<[f32; STRATEGY_FEATURES]>,
    /// Outputs of the predictor that decided; `None` when the rule did.
    pub outputs: Option<[f32; STRATEGY_OUTPUTS]>,
    /// Digest of the bundle that decided.
    pub digest: Option<Arc<str>>,
}

impl StrategyDecision {
    /// Expected net saving and latency of the chosen mix.
    pub fn chosen(&self) -> Expected {
        self.expected[self.choice.value.index()]
    }
}

/// Chooses the mix for a request.
pub fn decide(guarded: &Guarded, levels: &Levels, ask: &Ask<'_>) -> StrategyDecision {
    if levels.model.is_none() && levels.table.is_none() {
        return by_rule(ask, None, "no-model");
    }
    let features = strategy_features(&ask.input);
    match guarded.ask::<STRATEGY_OUTPUTS>(levels, &features) {
        Asked::None(reason) => by_rule(ask, Some(features), reason),
        Asked::Predicted(prediction) => {
            let shares = Shares::corrected(ask.input.stats.live(), &prediction.outputs);
            let all = money::expected(&shares, ask.terms, latency(ask));
            let (mix, dropped) = cheapest(ask, &all, &shares);
            StrategyDecision {
                choice: Choice { value: mix, by: prediction.by },
                expected: all,
                dropped,
                features: Some(features),
                outputs: Some(prediction.outputs),
                digest: Some(prediction.digest),
            }
        }
    }
}

fn by_rule(ask: &Ask<'_>, features: Option<[f32; STRATEGY_FEATURES]>, reason: &'static str) -> StrategyDecision {
    StrategyDecision { features, ..decide_by_rule(ask, By::Fallback(reason)) }
}

/// The rule's choice, less what would break the promised latency; `by` says why the rule decides.
pub fn decide_by_rule(ask: &Ask<'_>, by: By) -> StrategyDecision {
    let all = money::expected(&Shares::live(ask.input.stats.live()), ask.terms, latency(ask));
    let (mix, dropped) = within_sla(rule::mix(ask), ask, &all);
    let choice = Choice { value: mix, by };
    StrategyDecision { choice, expected: all, dropped, features: None, outputs: None, digest: None }
}

fn latency(ask: &Ask<'_>) -> Latency {
    ask.input.stats.latency().unwrap_or(UNKNOWN)
}

/// The cheapest allowed mix once each has lost what would break the promise and what is not sure enough.
fn cheapest(ask: &Ask<'_>, all: &[Expected; Mix::COUNT], shares: &Shares) -> (Mix, Vec<Dropped>) {
    let tidied = |mix: Mix| {
        let (mix, mut dropped) = within_sla(mix, ask, all);
        let mix = sure_of(mix, ask, (all, shares), &mut dropped);
        (mix, dropped)
    };
    let cost = |mix: Mix| all[mix.index()].cost;
    let allowed = || Mix::ALL.into_iter().filter(|mix| ask.allowed.mix(*mix));
    // The first of equals is the plainest.
    let chosen = allowed().map(|mix| tidied(mix).0).min_by_key(|mix| (cost(*mix), *mix)).unwrap_or_default();
    let wished = allowed().min_by_key(|mix| (cost(*mix), *mix)).unwrap_or_default();
    let dropped = tidied(wished).1.into_iter().filter(|d| !chosen.has(d.member)).collect();
    (chosen, dropped)
}

/// Takes strategies away, the dearest in latency first, until the promise is kept or nothing is left that adds to it.
fn within_sla(mut mix: Mix, ask: &Ask<'_>, all: &[Expected; Mix::COUNT]) -> (Mix, Vec<Dropped>) {
    let mut dropped = Vec::new();
    let breaks = |mix: Mix| {
        let short = mix.batches() && ask.terms.sla.is_some_and(|sla| sla <= ask.params.batch_min_sla);
        short || ask.terms.sla.is_some_and(|sla| all[mix.index()].high > sla)
    };
    while breaks(mix) {
        let dearest = Member::ALL.into_iter().filter(|m| mix.has(*m)).max_by_key(|m| money::adds(*m, ask.terms));
        let Some(member) = dearest.filter(|m| !money::adds(*m, ask.terms).is_zero()) else { break };
        mix = mix.without(member);
        dropped.push(Dropped { member, why: Why::Sla });
    }
    (mix, dropped)
}

/// Takes away what is below its threshold: the cache first, for without it batching looks different.
fn sure_of(mut mix: Mix, ask: &Ask<'_>, (all, shares): (&[Expected; Mix::COUNT], &Shares), dropped: &mut Vec<Dropped>) -> Mix {
    for (member, threshold) in [(Member::Cache, ask.params.cache_threshold), (Member::Batch, ask.params.batch_threshold)] {
        if mix.has(member) && money::score(mix, member, all, (shares, ask.terms)) < threshold {
            mix = mix.without(member);
            if !ask.allowed.dedupe {
                mix = mix.without(Member::Dedupe);
            }
            dropped.push(Dropped { member, why: Why::Unsure });
        }
    }
    mix
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
