//! The strategy decision of a running route: who decides, and who only looks on (SPEC C1, C2).
//!
//! The decision narrows what the plan allows and lifts nothing. Joining equal requests is never left out: it costs nothing, and the stampede
//! that it is there for stands in no statistics of quiet times.

use farthing_types::{By, Money};

use super::decide::{Allowed, Ask, StrategyDecision, decide, decide_by_rule};
use super::mix::Mix;
use crate::guard::{Guarded, Levels};

/// Requests that the statistics must hold before a predictor may act.
pub const FEWEST: f64 = 100.0;

/// Who decides about the strategies of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decider {
    /// The rule; no predictor is asked.
    Rule,
    /// The rule; what the predictor would have chosen is written down beside it.
    #[default]
    Shadow,
    /// The predictor where it learned from this deployment's own log; the rule, with a shipped predictor in shadow, elsewhere.
    Auto,
    /// The predictor, wherever it comes from.
    Model,
}

impl Decider {
    /// Whether a predictor may act; `shipped`: it came with the program.
    pub const fn acts(self, shipped: bool) -> bool {
        match self {
            Self::Rule | Self::Shadow => false,
            Self::Auto => !shipped,
            Self::Model => true,
        }
    }
}

/// A decision for a route, and what was only written down.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveDecision {
    /// What holds.
    pub acting: StrategyDecision,
    /// What the predictor would have chosen; why it could not choose, where its `by` is a fallback.
    pub shadow: Option<StrategyDecision>,
}

impl LiveDecision {
    /// Whether a predictor looked on and chose otherwise.
    pub fn disagrees(&self) -> bool {
        let other = self.shadow.as_ref().filter(|shadow| !matches!(shadow.choice.by, By::Fallback(_)));
        other.is_some_and(|shadow| shadow.choice.value != self.acting.choice.value)
    }

    /// What the one that looked on expects to be saved per request by its choice, beyond what it expects of the one in force.
    pub fn more(&self) -> Option<Money> {
        let shadow = self.shadow.as_ref()?;
        Some(shadow.chosen().saving - shadow.expected[self.acting.choice.value.index()].saving)
    }
}

/// Decides for a route. Where a predictor was to act and cannot, the rule decides with the reason: none is loaded, it is late or fails, there
/// is no price to weigh by (`no-price`), too little was seen (`few-requests`).
pub fn live(guarded: &Guarded, levels: &Levels, (decider, shipped): (Decider, bool), ask: &Ask<'_>) -> LiveDecision {
    if decider == Decider::Rule {
        return LiveDecision { acting: joining(decide_by_rule(ask, By::Rule("mix")), ask.allowed), shadow: None };
    }
    let predicted = match unready(ask) {
        Some(reason) => decide_by_rule(ask, By::Fallback(reason)),
        None => decide(guarded, levels, ask),
    };
    let predicted = joining(predicted, ask.allowed);
    if decider.acts(shipped) {
        return LiveDecision { acting: predicted, shadow: None };
    }
    LiveDecision { acting: joining(decide_by_rule(ask, By::Rule("mix")), ask.allowed), shadow: Some(predicted) }
}

/// Why a predictor could not be right yet.
fn unready(ask: &Ask<'_>) -> Option<&'static str> {
    if ask.terms.price <= Money::ZERO {
        // All mixes would be equally cheap.
        return Some("no-price");
    }
    (ask.input.stats.requests() < FEWEST).then_some("few-requests")
}

fn joining(mut decision: StrategyDecision, allowed: Allowed) -> StrategyDecision {
    let mix = decision.choice.value;
    decision.choice.value = Mix::of(mix.caches(), mix.joins() || allowed.dedupe, mix.batches());
    decision
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
