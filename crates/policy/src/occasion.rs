//! The TTL decision of one occasion: the plan in force, what the route is worth, and the predictor that may act.

use farthing_contract::features::{TTL_OUTPUTS, TtlInput};
use farthing_types::{By, Choice, Money};

use crate::guard::{Guarded, Levels, TtlDecision};
use crate::plan::Plan;
use crate::ttl::{TtlParams, TtlSource};
use crate::watch::Trust;

/// What a route says about money and trust.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RouteEconomics {
    /// Price of one stale answer; `None` when the operator named none.
    pub price_stale: Option<Money>,
    /// Largest share of stale answers.
    pub stale_budget: f64,
    /// Share of the TTL that may be served stale while refreshing.
    pub stale_share_of_ttl: f64,
    /// Whether a shipped predictor may act before the route's own log has trained or validated one.
    pub trust_shipped: bool,
}

/// The predictor that is asked.
#[derive(Clone, Default)]
pub struct Champion {
    /// Model and table; both absent without a bundle.
    pub levels: Levels,
    /// Its operating point at the route's budget.
    pub kappa: Option<f64>,
    /// It came with the program instead of being trained on this deployment's log.
    pub shipped: bool,
    /// How far its forecasts have come true on the route.
    pub trust: Trust,
}

/// A decision, and the one that was only written down because its predictor may not act yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// What holds.
    pub acting: TtlDecision,
    /// What the predictor would have said.
    pub shadow: Option<TtlDecision>,
}

impl Guarded {
    /// Chooses the TTL of a copy. `price` is that of one call; `in_variant` tells that an experiment tries this plan, which a shipped
    /// predictor may always serve.
    pub fn choose(
        &self,
        (plan, route): (&Plan, &RouteEconomics),
        champion: &Champion,
        (price, in_variant): (Option<Money>, bool),
        input: &TtlInput<'_>,
    ) -> Decided {
        let stale_price = route.price_stale.zip(price).filter(|(_, call)| *call > Money::ZERO);
        let params = TtlParams {
            stale_price: stale_price.map(|(stale, call)| stale.nanos() as f64 / call.nanos() as f64),
            kappa: champion.kappa,
            stale_share_of_ttl: route.stale_share_of_ttl,
            ..plan.ttl
        };
        let decision = self.decide(&champion.levels, &params, input);
        let learned = matches!(params.source, TtlSource::Model | TtlSource::Table);
        let barred = learned && !in_variant && !route.trust_shipped && champion.shipped;
        let predicted = decision.outputs.is_some() && !in_variant;
        let choice = match champion.trust {
            _ if barred => Choice { value: params.by_rule(input), by: By::Fallback("shipped-untried") },
            Trust::Statistics if predicted => Choice { value: params.for_outputs(&[0.0; TTL_OUTPUTS], input), by: By::Fallback("drift") },
            Trust::Rule if predicted => Choice { value: params.by_rule(input), by: By::Fallback("drift") },
            _ => return Decided { acting: decision, shadow: None },
        };
        let acting = TtlDecision { choice, features: decision.features, outputs: None, digest: None };
        Decided { acting, shadow: Some(decision) }
    }
}
