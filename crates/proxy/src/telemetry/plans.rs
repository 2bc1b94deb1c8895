//! Figures of the decision which strategies a route uses.

use farthing_experiment::tuning::Knob;
use farthing_policy::Heat;
use farthing_policy::strategy::Mix;

use super::Family;
use crate::experiments::TuningView;
use crate::plans::PlanReport;

/// One row for each route, and for each mix or kind of decider.
pub fn families(reports: &[PlanReport]) -> [Family<'_>; 9] {
    let mut heat =
        Family::gauge("route_heat", "1 for the class of the route's rate: cold, warm from 10 requests a second on, hot from 100");
    let mut rate = Family::gauge("route_requests_per_second", "Requests of the route a second, over some ten minutes");
    let mut mix = Family::gauge("plan", "1 for the combination of strategies that the route uses");
    let mut saving = Family::gauge("plan_saving_per_request", "What the combination is expected to save per request").usd();
    let mut decided = Family::counter("plan_decisions", "Decisions about a route's strategies by kind of decider");
    let mut looked_on = Family::counter("plan_shadow_decisions", "Of these, decisions that a predictor looked on at");
    let mut disagreed = Family::counter("plan_disagreements", "Of these, decisions where it would have chosen otherwise");
    let mut fell_back = Family::counter("plan_fallbacks", "Decisions for which a predictor was wanted that could not choose");
    let mut beyond =
        Family::counter("plan_requests_untold", "Requests that the decision only counted, because more came than are told apart");
    for of in reports {
        let route = || vec![("route", &*of.route)];
        if let Some((class, requests)) = of.heat {
            for one in Heat::ALL {
                heat.add(vec![("route", &*of.route), ("class", one.as_str())], f64::from(u8::from(one == class)));
            }
            rate.add(route(), requests);
        }
        if let Some(made) = &of.made {
            let acting = &made.decision.acting;
            for one in Mix::ALL {
                mix.add(vec![("route", &*of.route), ("mix", one.as_str())], f64::from(u8::from(one == acting.choice.value)));
            }
            saving.add(route(), acting.chosen().saving.nanos() as f64 / 1e9);
        }
        for (by, count) in of.decisions.iter().filter(|(_, count)| *count > 0) {
            decided.add(vec![("route", &*of.route), ("by", by)], *count as f64);
        }
        looked_on.add(route(), of.looked_on as f64);
        disagreed.add(route(), of.disagreed as f64);
        fell_back.add(route(), of.fell_back as f64);
        beyond.add(route(), of.beyond as f64);
    }
    [heat, rate, mix, saving, decided, looked_on, disagreed, fell_back, beyond]
}

/// Values of plans that experiments may move; times in seconds.
pub fn tuned(routes: &[TuningView]) -> Vec<Family<'_>> {
    let mut value = Family::gauge("tuned_value", "A value of the plan that experiments may move, as it is in force; times in seconds");
    let mut tried = Family::gauge("tuned_trying", "1 while an experiment tries another value");
    for of in routes {
        for knob in &of.knobs {
            let labels = || vec![("route", &*of.route), ("value", knob.knob.as_str())];
            value.add(labels(), if knob.knob == Knob::PrefetchConfidence { knob.value } else { knob.value / 1e3 });
            tried.add(labels(), f64::from(u8::from(of.trying.as_ref().is_some_and(|trying| trying.knob == knob.knob))));
        }
    }
    vec![value, tried]
}
