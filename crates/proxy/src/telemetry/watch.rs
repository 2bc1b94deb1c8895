//! Figures of what watches predictors: candidates, forecasts, features, audits, the freeze.

use farthing_policy::watch::{Stage, Trust};
use farthing_types::Money;
use prometheus_client::registry::Unit;

use super::Family;
use crate::audit::{RouteAudit, Skipped};
use crate::lifecycle::{CandidateView, DriftReport};

/// Candidates, how forecasts have come true, how far features have moved.
pub fn models<'a>(candidates: &'a [CandidateView], drift: &'a DriftReport, frozen: bool) -> Vec<Family<'a>> {
    let mut stage = Family::gauge("model_candidate_stage", "0.5 in shadow, 1 while it decides for some keys");
    let mut evidence = Family::gauge("model_candidate_evidence", "Evidence of harm by a guard; 1 is none, taken back at 1000");
    let mut bill = Family::gauge("model_candidate_bill_ratio", "What its copies would have cost over the champion's");
    let mut money = Family::gauge(
        "model_candidate_money_ratio",
        "What its keys cost over the champion's, calls and stale answers, as seen in the canary",
    );
    let mut shown = Family::gauge(
        "model_candidate_shown",
        "Evidence that its keys cost at most the margin more; 1 is none, the autopilot promotes at 100",
    );
    let mut left = Family::gauge("model_autopilot_left_seconds", "Time in which the autopilot must be sure of the challenger");
    for of in candidates {
        let alias = ("alias", of.alias.as_str());
        stage.add(vec![alias], if of.report.stage == Stage::Canary { 1.0 } else { 0.5 });
        if let Some(ratio) = of.report.bill {
            bill.add(vec![alias], ratio);
        }
        if let Some(ratio) = of.report.money.ratio {
            money.add(vec![alias], ratio);
        }
        shown.add(vec![alias], of.report.money.within);
        if let Some(time) = of.left {
            left.add(vec![alias], time.as_secs_f64());
        }
        evidence.add(vec![alias, ("guard", "changes")], of.report.candidate.evidence());
        for (guard, found) in &of.report.evidence {
            evidence.add(vec![alias, ("guard", guard.as_str())], *found);
        }
    }
    let mut trust =
        Family::gauge("predictor_trust", "1 it decides, 0.5 the live statistics do, 0 the rule does: changes came otherwise than foretold");
    let mut ratio = Family::gauge("predictor_changes_ratio", "Changes seen over those foretold, lately");
    let mut found =
        Family::gauge("predictor_drift_evidence", "Evidence that forecasts are off by more than a factor of two; acted upon at 100000");
    for route in &drift.routes {
        let labels = || vec![("route", &*route.route)];
        let trusted = match route.trust {
            Trust::Full => 1.0,
            Trust::Statistics => 0.5,
            Trust::Rule => 0.0,
        };
        trust.add(labels(), trusted);
        found.add(labels(), route.predictor.evidence());
        if let Some(seen) = route.predictor.ratio() {
            ratio.add(labels(), seen);
        }
    }
    let mut shift =
        Family::gauge("predictor_feature_shift", "Population stability index of a feature, less its noise; warned of above 0.25");
    for feature in &drift.features {
        shift.add(vec![("feature", feature.feature)], feature.shift);
    }
    let on = Family::gauge("frozen", "1 while an operator has frozen automation").with(vec![], f64::from(u8::from(frozen)));
    vec![stage, evidence, bill, money, shown, left, trust, ratio, found, shift, on]
}

/// What audits found, and what they did not look at.
pub fn audits<'a>(routes: &'a [RouteAudit], skipped: &[(Skipped, u64)], spent: Money) -> Vec<Family<'a>> {
    let mut checked = Family::counter("audit_checked", "Answers from the cache that were checked at the origin");
    let mut stale = Family::counter("audit_stale", "Of these, stale ones");
    let mut share = Family::gauge("audit_stale_share", "Share of stale answers under the present TTLs, with the ends of its interval");
    let mut scale = Family::gauge("audit_ttl_scale", "What chosen TTLs are multiplied by; less than 1 where too many answers were stale");
    for of in routes {
        let labels = || vec![("route", &*of.route)];
        checked.add(labels(), of.audit.total.0 as f64);
        stale.add(labels(), of.audit.total.1 as f64);
        scale.add(labels(), of.audit.scale);
        if let Some((point, (low, high))) = of.audit.share() {
            for (end, value) in [("point", point), ("low", low), ("high", high)] {
                share.add(vec![("route", &*of.route), ("end", end)], value);
            }
        }
    }
    let mut left = Family::counter("audit_skipped", "Answers that were drawn and not checked");
    for (why, count) in skipped {
        left.add(vec![("reason", why.as_str())], *count as f64);
    }
    let spent = Family { unit: Some(Unit::Other("usd".to_owned())), ..Family::gauge("audit_spent_today", "Spent on audits today, UTC") }
        .with(vec![], spent.as_usd_f64());
    vec![checked, stale, share, scale, left, spent]
}
