//! The decision which strategies a route uses, as views tell it.

use farthing_admin::{PlanInfo, ShadowPlan};
use farthing_ledger::costs::utc;
use farthing_proxy::{PlanMade, PlanReport, dropped};
use farthing_types::Span;

/// The decision in force; `None` before the first.
pub fn info(report: &PlanReport) -> Option<PlanInfo> {
    let made = report.made.as_deref()?;
    let acting = &made.decision.acting;
    let expected = acting.chosen();
    let ms = |span: Span| span.as_secs_f64() * 1e3;
    Some(PlanInfo {
        mix: acting.choice.value.to_string(),
        by: acting.choice.by.to_string(),
        decided: utc(made.at),
        decision_id: made.id.to_string(),
        saving_usd: expected.saving,
        latency_ms: ms(expected.latency),
        within_ms: ms(expected.high),
        dropped: dropped(acting),
        shadow: shadow(made),
        looked_on: report.looked_on,
        disagreed: report.disagreed,
        fell_back: report.fell_back,
    })
}

fn shadow(made: &PlanMade) -> Option<ShadowPlan> {
    let shadow = made.decision.shadow.as_ref()?;
    Some(ShadowPlan {
        mix: shadow.choice.value.to_string(),
        by: shadow.choice.by.to_string(),
        more_usd: made.decision.more()?,
        dropped: dropped(shadow),
    })
}
