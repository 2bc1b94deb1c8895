//! The TTL of each live variant, chosen when an answer is stored: off the clients' path, logged, never on a hit.

use std::sync::Arc;

use farthing_contract::features::{Doubt, HeadFacts, KeyStats, RouteStats, TtlInput};
use farthing_contract::log;
use farthing_freshness::entry::{MAX_VARIANTS, VariantTtl};
use farthing_policy::{Champion, Decided, Plan, TtlDecision};
use farthing_types::{Choice, DecisionId, Money, Time};

use crate::flight::Flight;
use crate::route::RouteState;
use crate::state::State;

/// Name under which a predictor that may not act yet is logged.
pub const SHADOW: &str = "shadow";

/// What was chosen for an entry.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// One TTL for each live variant; the first for keys outside of any.
    pub variants: Vec<VariantTtl>,
    /// The logged decision of the variant in force.
    pub decision: Option<DecisionId>,
    /// When the entry is doubted; never where there are several TTLs, each with a doubt of its own.
    pub doubt: Doubt,
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
        let Some(in_force) = occasion.flight.variant.as_ref().filter(|variant| variant.keeps().is_some()) else {
            return self.choose_plain(occasion, &route.plan);
        };
        let running = &in_force.running;
        let mut chosen = Chosen::default();
        for (index, (variant, plan)) in running.experiment.variants().iter().zip(&running.plans).take(MAX_VARIANTS).enumerate() {
            let (ttl, decision) = self.choose_one(occasion, plan, &variant.name);
            chosen.variants.push(ttl);
            if in_force.assigned.variant == index || chosen.decision.is_none() {
                chosen.decision = Some(decision);
            }
        }
        chosen
    }

    /// Outside of experiments on TTLs, candidates are asked as well; a challenger that decides for some keys has its TTL beside the champion's.
    fn choose_plain(&self, occasion: &Occasion<'_>, plan: &Plan) -> Chosen {
        let decided = self.decide_ttl(occasion, plan, "");
        let challenger = self.score(occasion, &decided);
        let doubt = if challenger.is_none() { decided.acting.choice.value.doubt } else { Doubt::NEVER };
        let (ttl, decision) = self.note_choice(occasion, decided, "");
        let mut chosen = Chosen { variants: vec![ttl], decision: Some(decision), doubt };
        if let Some((ttl, id)) = challenger {
            chosen.variants.push(ttl);
            let flight = occasion.flight;
            if self.side(&flight.route, flight.key, occasion.now).is_some_and(|side| side.challenger) {
                chosen.decision = Some(id);
            }
        }
        chosen
    }

    fn choose_one(&self, occasion: &Occasion<'_>, plan: &Plan, variant: &str) -> (VariantTtl, DecisionId) {
        let decided = self.decide_ttl(occasion, plan, variant);
        self.note_choice(occasion, decided, variant)
    }

    fn decide_ttl(&self, occasion: &Occasion<'_>, plan: &Plan, variant: &str) -> Decided {
        let route = &occasion.flight.route;
        let champion = self.ttl_champion(route, plan.model_version);
        let input = TtlInput { key: occasion.key, route: occasion.route, head: occasion.head, now: occasion.now };
        let money = (occasion.price, !variant.is_empty());
        let mut decided = self.guarded.choose((plan, &route.economics), &champion, money, &input);
        route.switches.name_lean(&mut decided.acting.choice.by);
        decided
    }

    fn note_choice(&self, occasion: &Occasion<'_>, decided: Decided, variant: &str) -> (VariantTtl, DecisionId) {
        let Decided { acting: decision, shadow } = decided;
        if let Some(shadow) = shadow {
            self.log_decision(occasion, &shadow, SHADOW);
        }
        self.totals.decision(&occasion.flight.route.route.name, &decision.choice.by);
        let id = self.log_decision(occasion, &decision, variant);
        let Choice { value, by } = decision.choice;
        (VariantTtl { variant: variant.into(), ttl: value.fresh, stale: value.stale, by }, id)
    }

    /// The predictor of TTLs that may be asked on a route; none where what is not needed is left out.
    pub fn ttl_champion(&self, route: &RouteState, version: Option<u32>) -> Champion {
        if route.switches.is_lean() {
            return Champion::default();
        }
        self.trusted(route, version)
    }

    pub(crate) fn log_decision(&self, occasion: &Occasion<'_>, decision: &TtlDecision, variant: &str) -> DecisionId {
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
            experiment: assigned.map(|v| v.experiment().name().clone()),
            variant: (!variant.is_empty()).then(|| Arc::from(variant)),
            unit: assigned.map(|v| v.unit.short()),
            window: assigned.map(|v| v.assigned.window),
            price_nanousd: occasion.price.map(Money::nanos),
            ..log::Decision::default()
        });
        id
    }
}
