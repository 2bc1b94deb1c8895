//! Decisions to fetch ahead, and what became of them, in the log.

use std::sync::{Arc, LazyLock};

use farthing_contract::features::PREFETCH_SPEC;
use farthing_contract::log;
use farthing_policy::prefetch::Likelihood;
use farthing_types::{DecisionId, Money, Time};

use super::mind::{Logged, Note, Offer};
use super::queue::Seen;
use crate::settle::millis;
use crate::state::State;

/// Name under which a predictor that may not act yet is logged.
const SHADOW: &str = "shadow";

static SPEC: LazyLock<Arc<str>> = LazyLock::new(|| PREFETCH_SPEC.hash().into());

/// Writes a decision down, where it is to be: whether there was a choice, and what was done.
pub(super) fn decision(state: &State, seen: &Seen, offer: &Offer, (able, done): (bool, bool)) {
    let (Some(log), Some(features)) = (&state.log, offer.features) else { return };
    let row = row(state, seen, offer);
    let p = offer.propensity as f32;
    let (eligible_mask, pmf) = if able { (0b11, vec![1.0 - p, p]) } else { (0b01, vec![1.0, 0.0]) };
    let said =
        |said: &Likelihood| log::Decision { by: said.choice.by.to_string().into(), model_digest: said.digest.clone(), ..row.clone() };
    log.write(log::Decision {
        decision_id: offer.decision.0,
        features: features.to_vec(),
        eligible_mask,
        pmf,
        action: i32::from(done),
        action_value: f64::from(offer.said.choice.value),
        outputs: vec![offer.said.raw],
        draw: offer.draw,
        ..said(&offer.said)
    });
    if let Some(shadow) = &offer.shadow {
        let wanted = f64::from(shadow.choice.value) > offer.threshold;
        log.write(log::Decision {
            decision_id: DecisionId(state.ids.next()).0,
            features: features.to_vec(),
            eligible_mask: 0b01,
            pmf: vec![1.0],
            action: i32::from(wanted),
            action_value: f64::from(shadow.choice.value),
            outputs: vec![shadow.raw],
            variant: Some(SHADOW.into()),
            ..said(shadow)
        });
    }
}

fn row(state: &State, seen: &Seen, offer: &Offer) -> log::Decision {
    let live = state.live();
    let route = live.numbered(offer.candidate.route);
    log::Decision {
        ts_ns: seen.account.at.nanos(),
        kind: "prefetch",
        request_id: Some(seen.account.id.0),
        route: route.map_or_else(|| "".into(), |route| route.route.name.clone()),
        key_hash: offer.known.key.short(),
        spec_hash: Some(SPEC.clone()),
        unit: Some(seen.account.key.short()),
        price_nanousd: offer.price.map(Money::nanos),
        ..log::Decision::default()
    }
}

/// Writes down what became of a decision that was.
pub(super) fn outcome(state: &State, note: &Note, (at, used): (Time, bool)) {
    let (Some(log), Some(logged)) = (&state.log, note.logged) else { return };
    let Logged { decision, key, at: opened, fetched } = logged;
    let live = state.live();
    let route = live.numbered(note.route);
    log.write(log::OutcomeRow {
        ts_ns: at.nanos(),
        decision_id: decision.0,
        route: route.map_or_else(|| "".into(), |route| route.route.name.clone()),
        key_hash: key.short(),
        opened_ns: opened.nanos(),
        closed_by: if used { "used" } else { "unused" },
        hits: i64::from(used),
        last_hit_ms: used.then(|| millis(at.since(opened))),
        paid_nanousd: Some(fetched.unwrap_or_default().nanos()),
        saved_nanousd: Some(fetched.filter(|_| used).unwrap_or_default().nanos()),
        ..log::OutcomeRow::default()
    });
}
