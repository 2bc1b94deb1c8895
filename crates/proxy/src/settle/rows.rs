//! Rows of the log: one for each answered request, one for each attempt of a call.

use farthing_contract::log;
use farthing_ledger::CostRecord;
use farthing_types::{CallReport, FailureKind, KeyHash, Money, Priority, SlaOutcome, Span, Time, UncachedReason};

use super::{Account, CallEnd, Settled};
use crate::flight::Flight;
use crate::lifecycle::CHALLENGER;
use crate::state::State;
use crate::stats::Entered;
use crate::texts::method_text;

pub(super) fn attempt_row(flight: &Flight, report: &CallReport, cost: Option<Money>) -> log::CallRow {
    log::CallRow {
        ts_ns: report.started.nanos(),
        call_id: flight.id.0,
        attempt: i32::from(report.attempt),
        tenant: flight.payer.clone(),
        route: flight.route.route.name.clone(),
        provider: flight.provider(report).clone(),
        upstream: report.upstream.clone(),
        target: flight.target.clone(),
        key_hash: flight.key.short(),
        purpose: flight.purpose.as_str(),
        fetch_reason: flight.fetch_reason,
        status: report.status.map(|s| i32::from(s.as_u16())),
        error_class: report.failure.map(FailureKind::as_str),
        sent: report.sent,
        latency_us: micros(report.head_after),
        cost_nanousd: cost.map(Money::nanos),
        batch_id: report.batch.as_ref().map(|part| part.batch.id.0),
        batch_size: report.batch.as_ref().and_then(|part| i64::try_from(part.size()).ok()),
        prompt_cache: flight.prompted.as_ref().map(|prompted| prompted.why().as_str()),
        prompt_read_expected: flight.prompted.as_ref().filter(|of| of.is_marked()).and_then(|of| i64::try_from(of.read).ok()),
        deferred: flight.deferred.as_ref().map(|deferred| deferred.became()),
        routed_by: report.routed.as_ref().map(|routed| routed.by),
        ..log::CallRow::default()
    }
}

impl State {
    /// Writes into a call's row how the answer entered the live statistics, and what a decision about it saw.
    pub(super) fn enter(&self, row: &mut log::CallRow, flight: &Flight, end: &CallEnd) {
        row.query_parameters = Some(i64::from(flight.query_parameters));
        if let Some(head) = &end.head {
            row.has_etag = Some(head.has_etag);
            row.body_bytes = i64::try_from(head.body_bytes).ok();
            row.last_modified_ns = head.last_modified.map(Time::nanos);
            row.origin_ttl_s = head.origin_ttl.map(|ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
        }
        let Some(Entered { noted, at, hash, steers }) = end.entered else { return };
        row.stat_epoch = Some(self.stat_epoch);
        row.stat_seq = Some(noted.seq);
        row.stat_key = Some(noted.key.short()).filter(|key| *key != row.key_hash);
        row.stat_known = Some(noted.known);
        row.stat_at_ns = Some(at.nanos());
        row.stat_hash = Some(hash);
        row.steers = Some(steers);
    }

    pub(super) fn request_row(&self, account: &Account, settled: &Settled, came_to: (&CostRecord, Option<SlaOutcome>)) -> log::Request {
        log::Request {
            stat_epoch: account.noted.map(|_| self.stat_epoch),
            stat_seq: account.noted.map(|noted| noted.seq),
            stat_key: account.noted.map(|noted| noted.key.short()).filter(|key| *key != account.key.short()),
            stat_known: account.noted.map(|noted| noted.known),
            ..request_row(account, settled, came_to)
        }
    }
}

fn request_row(account: &Account, settled: &Settled, (cost, sla): (&CostRecord, Option<SlaOutcome>)) -> log::Request {
    let variant = account.variant.as_ref();
    let challenger = account.side.is_some_and(|side| side.challenger);
    log::Request {
        ts_ns: account.at.nanos(),
        request_id: account.id.0,
        weight: 1,
        tenant: account.identity.tenant.clone(),
        team: account.identity.team.clone(),
        service: account.identity.service.clone(),
        tags: account.tags.clone(),
        route: account.route.route.name.clone(),
        method: method_text(&account.method),
        key_hash: account.key.short(),
        outcome: settled.outcome.as_str(),
        uncached_reason: settled.uncached.map(UncachedReason::as_str),
        tier: settled.tier,
        status: i32::from(settled.status),
        bytes_out: settled.bytes_out.and_then(|n| i64::try_from(n).ok()),
        entry_age_ms: settled.age.map(millis),
        ttl_ms: settled.ttl.as_ref().map(|(ttl, _)| millis(*ttl)),
        ttl_by: settled.ttl.as_ref().map(|(_, by)| by.clone()),
        call_id: settled.call.map(|c| c.0),
        decision_id: settled.decision.map(|d| d.0),
        base_nanousd: cost.base.map(Money::nanos),
        cost_nanousd: cost.cost.map(Money::nanos),
        saved_by: cost.by.map(farthing_ledger::SavedBy::as_str),
        latency_us: settled.latency.map(micros),
        overhead_us: Some(micros(settled.overhead)),
        experiment: variant.map(|v| v.experiment().name().clone()),
        variant: variant.map(|v| v.name().clone()).or_else(|| challenger.then(|| CHALLENGER.into())),
        unit: variant.map(|v| v.unit.short()),
        window: variant.map(|v| v.assigned.window),
        propensity: variant.map(|v| v.assigned.propensity),
        holdout: account.holdout,
        error_class: settled.error,
        asked: account.asked.clone(),
        invalidates: account.invalidates.map(KeyHash::short),
        provider: Some(settled.provider.as_ref().unwrap_or(&account.route.provider.name).clone()),
        trace_id: account.trace.map(|trace| trace.trace_id().into()),
        priority: account.priority.map(Priority::as_str),
        sla_ms: account.sla.map(millis),
        sla: sla.map(SlaOutcome::as_str),
        plan_id: account.plan.map(|id| id.0),
        ..log::Request::default()
    }
}

/// Whole milliseconds, for the log.
pub fn millis(span: Span) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Whole microseconds, for the log.
pub fn micros(span: Span) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
