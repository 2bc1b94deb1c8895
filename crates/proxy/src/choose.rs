//! The TTL of each live variant, chosen when an answer is stored: off the clients' path, logged, never on a hit.

use std::sync::Arc;

use farthing_contract::features::{HeadFacts, KeyStats, RouteStats, TtlInput};
use farthing_contract::log;
use farthing_freshness::entry::{MAX_VARIANTS, VariantTtl};
use farthing_models::Generation;
use farthing_policy::ttl::TtlParams;
use farthing_policy::{Plan, TtlDecision, TtlSource};
use farthing_types::{By, Choice, DecisionId, Money, Time};

use crate::flight::Flight;
use crate::predictors::{levels, shipped};
use crate::state::State;

/// Name under which a predictor that may not act yet is logged.
const SHADOW: &str = "shadow";

/// What was chosen for an entry.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// One TTL for each live variant; the first for keys outside of any.
    pub variants: Vec<VariantTtl>,
    /// The logged decision of the variant in force.
    pub decision: Option<DecisionId>,
}

/// What a choice is made from.
pub struct Occasion<'a> {
    /// The call that brought the answer.
    pub flight: &'a Flight,
    /// Statistics of the key, this fetch included.
    pub key: &'a KeyStats,
    /// Statistics of the route.
    pub route: &'a RouteStats,
    /// Facts of the answer's head.
    pub head: HeadFacts,
    /// Price of one call.
    pub price: Option<Money>,
    /// When the answer came.
    pub now: Time,
}

impl State {
    /// Chooses a TTL for each live variant of the route.
    pub fn choose(&self, occasion: &Occasion<'_>) -> Chosen {
        let route = &occasion.flight.route;
        let Some(running) = route.experiment.load_full() else {
            let (ttl, decision) = self.choose_one(occasion, &route.plan, "");
            return Chosen { variants: vec![ttl], decision: Some(decision) };
        };
        let in_force = occasion.flight.variant.as_ref().map(|v| v.assigned.variant);
        let mut chosen = Chosen::default();
        for (index, (variant, plan)) in running.experiment.variants().iter().zip(&running.plans).take(MAX_VARIANTS).enumerate() {
            let (ttl, decision) = self.choose_one(occasion, plan, &variant.name);
            chosen.variants.push(ttl);
            if in_force == Some(index) || chosen.decision.is_none() {
                chosen.decision = Some(decision);
            }
        }
        chosen
    }

    fn choose_one(&self, occasion: &Occasion<'_>, plan: &Plan, variant: &str) -> (VariantTtl, DecisionId) {
        let generation = self.predictors.ttl(plan.model_version);
        let params = self.params(occasion, plan, generation.as_deref());
        let input = TtlInput { key: occasion.key, route: occasion.route, head: occasion.head, now: occasion.now };
        let decision = self.guarded.decide(&levels(generation.as_ref()), &params, &input);
        let learned = matches!(params.source, TtlSource::Model | TtlSource::Table);
        let barred =
            learned && variant.is_empty() && !occasion.flight.route.route.trust_shipped && generation.as_deref().is_some_and(shipped);
        let decision = if barred {
            self.log_decision(occasion, &decision, SHADOW);
            let choice = Choice { value: params.by_rule(&input), by: By::Fallback("shipped-untried") };
            TtlDecision { choice, features: decision.features, outputs: None, digest: None }
        } else {
            decision
        };
        self.totals.decision(&occasion.flight.route.route.name, &decision.choice.by);
        let id = self.log_decision(occasion, &decision, variant);
        let Choice { value, by } = decision.choice;
        (VariantTtl { variant: variant.into(), ttl: value.fresh, stale: value.stale, by }, id)
    }

    /// The plan's parameters with the prices of this occasion and the bundle's operating point.
    fn params(&self, occasion: &Occasion<'_>, plan: &Plan, generation: Option<&Generation>) -> TtlParams {
        let route = &occasion.flight.route.route;
        let stale_price = route.price_stale.zip(occasion.price).filter(|(_, call)| *call > Money::ZERO);
        TtlParams {
            stale_price: stale_price.map(|(stale, call)| stale.nanos() as f64 / call.nanos() as f64),
            kappa: generation.and_then(|g| g.manifest().kappa(route.stale_budget)),
            stale_share_of_ttl: share_of_ttl(route),
            ..plan.ttl
        }
    }

    fn log_decision(&self, occasion: &Occasion<'_>, decision: &TtlDecision, variant: &str) -> DecisionId {
        let id = DecisionId(self.ids.next());
        let Some(log) = &self.log else { return id };
        let flight = occasion.flight;
        let assigned = flight.variant.as_ref();
        log.write(log::Decision {
            ts_ns: occasion.now.nanos(),
            decision_id: id.0,
            kind: "ttl",
            call_id: Some(flight.id.0),
            request_id: None,
            route: flight.route.route.name.clone(),
            key_hash: flight.key.short(),
            spec_hash: decision.features.is_some().then(|| self.spec_hash.clone()),
            features: decision.features.map(Vec::from).unwrap_or_default(),
            outputs: decision.outputs.map(Vec::from).unwrap_or_default(),
            eligible_mask: 1,
            pmf: vec![1.0],
            action: 0,
            action_value: decision.choice.value.fresh.as_secs_f64(),
            draw: None,
            by: decision.choice.by.to_string().into(),
            model_digest: decision.digest.clone(),
            experiment: assigned.map(|v| v.experiment.name().clone()),
            variant: (!variant.is_empty()).then(|| Arc::from(variant)),
            unit: assigned.map(|_| flight.key.short()),
            window: assigned.map(|v| v.assigned.window),
            price_nanousd: occasion.price.map(Money::nanos),
        });
        id
    }
}

/// A configured stale-while-revalidate window as a share of the base TTL; it grows with the chosen TTL.
fn share_of_ttl(route: &farthing_config::Route) -> f64 {
    let base = route.base_ttl.as_secs_f64();
    if base > 0.0 { (route.stale_while_revalidate.as_secs_f64() / base).min(1.0) } else { 0.0 }
}
