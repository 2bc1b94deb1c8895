//! Decisions in the log: one row for each, and one for what a predictor that looks on would have chosen.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use farthing_contract::features::STRATEGY_SPEC;
use farthing_contract::log;
use farthing_ledger::aggregate::CameTo;
use farthing_policy::strategy::{Mix, StrategyDecision};
use farthing_types::{DecisionId, Money, Span, Time};

use super::Made;
use crate::choose::SHADOW;
use crate::route::RouteState;
use crate::settle::micros;
use crate::state::State;

static SPEC: LazyLock<Arc<str>> = LazyLock::new(|| STRATEGY_SPEC.hash().into());

impl State {
    /// Writes down what a decision came to that was in force until now: what of the route was settled meanwhile. Routes whose totals are not told
    /// apart have none.
    pub(super) fn log_outcome(&self, route: &RouteState, made: &Made, (by, at, came): (&'static str, Time, &CameTo)) {
        let Some(log) = self.log.as_ref().filter(|_| self.totals.is_told_apart(&route.route.name)) else { return };
        let came = came.since(&made.began);
        log.write(log::OutcomeRow {
            ts_ns: at.nanos(),
            decision_id: made.id.0,
            route: route.route.name.clone(),
            opened_ns: made.at.nanos(),
            closed_by: by,
            hits: i64::try_from(came.hits).unwrap_or(i64::MAX),
            served_expired: i64::try_from(came.stale).unwrap_or(i64::MAX),
            paid_nanousd: came.whole_bill().map(Money::nanos),
            saved_nanousd: came.whole_saving().map(Money::nanos),
            ..log::OutcomeRow::default()
        });
    }

    pub(super) fn log_plan(&self, route: &RouteState, made: &Made) {
        let Some(log) = &self.log else { return };
        log.write(row(route, made, (made.id, &made.decision.acting, None)));
        if let Some(shadow) = &made.decision.shadow {
            log.write(row(route, made, (DecisionId(self.ids.next()), shadow, Some(SHADOW.into()))));
        }
    }
}

fn row(route: &RouteState, made: &Made, (id, decision, variant): (DecisionId, &StrategyDecision, Option<Arc<str>>)) -> log::Decision {
    let (mix, expected) = (decision.choice.value, decision.chosen());
    let allowed = Mix::ALL.into_iter().filter(|mix| made.allowed.mix(*mix));
    log::Decision {
        ts_ns: made.at.nanos(),
        decision_id: id.0,
        kind: "strategy",
        route: route.route.name.clone(),
        spec_hash: decision.features.is_some().then(|| SPEC.clone()),
        features: decision.features.map(Vec::from).unwrap_or_default(),
        outputs: decision.outputs.map(Vec::from).unwrap_or_default(),
        eligible_mask: allowed.fold(0, |mask, mix| mask | 1 << mix.index()),
        pmf: Mix::ALL.map(|one| f32::from(u8::from(one == mix))).to_vec(),
        action: mix.index() as i32,
        action_value: expected.saving.nanos() as f64,
        by: decision.choice.by.to_string().into(),
        model_digest: decision.digest.clone(),
        variant,
        price_nanousd: Some(made.terms.price).filter(|price| *price > Money::ZERO).map(Money::nanos),
        expected_latency_us: Some(micros(expected.latency)),
        expected_high_us: Some(micros(expected.high)),
        dropped: dropped(decision).map(Arc::from),
        ..log::Decision::default()
    }
}

impl Made {
    /// For a header: the combination, who chose it, and what is expected of it.
    pub fn told(&self) -> String {
        let acting = &self.decision.acting;
        let expected = acting.chosen();
        let ms = |span: Span| span.as_secs_f64() * 1e3;
        let mut text = format!(
            "{}; by={}; saving-usd={}; latency-ms={:.1}; within-ms={:.1}",
            acting.choice.value,
            acting.choice.by,
            expected.saving,
            ms(expected.latency),
            ms(expected.high)
        );
        if let Some(dropped) = dropped(acting) {
            let _ = write!(text, "; dropped=\"{dropped}\""); // cannot fail on a String
        }
        text
    }
}

/// `batch=sla,cache=unsure`; `None` where nothing was left out.
pub fn dropped(decision: &StrategyDecision) -> Option<String> {
    let mut text = String::new();
    for one in &decision.dropped {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{}={}", one.member.as_str(), one.why.as_str()); // cannot fail on a String
    }
    (!text.is_empty()).then_some(text)
}
