//! Figures of the traces.

use super::Family;
use crate::otlp::TraceStats;

/// What became of spans.
pub(super) fn families(stats: &TraceStats) -> Vec<Family<'static>> {
    let mut spans = Family::counter(
        "traces_spans",
        "Spans, by what became of them: sent, dropped for want of room, refused by the collector, given up",
    );
    for (outcome, count) in [("sent", stats.sent), ("dropped", stats.dropped), ("refused", stats.refused), ("given-up", stats.given_up)] {
        spans.add(vec![("outcome", outcome)], count as f64);
    }
    vec![
        spans,
        Family::counter("traces_faults", "Deliveries of spans that failed, each attempt").with(Vec::new(), stats.faults as f64),
        Family::gauge("traces_queue_bytes", "Bytes of spans that wait or are under way").with(Vec::new(), stats.held as f64),
        Family::gauge("traces_down", "1 while the collector has failed too often and is left alone, or has refused the last delivery")
            .with(Vec::new(), f64::from(u8::from(stats.down))),
    ]
}
