//! Promises of time, as answered requests kept them.

use farthing_types::{SlaOutcome, Span, Spent, sla_outcome};

use crate::settle::{Account, Settled};

/// What became of the promise of a request's time.
pub fn kept(account: &Account, settled: &Settled) -> Option<SlaOutcome> {
    let spent = Spent {
        total: settled.took,
        upstream: settled.waited + account.failed + account.elsewhere,
        queue: account.queued,
        overhead: (settled.overhead + account.queued).saturating_sub(account.failed),
    };
    sla_outcome(account.sla?, settled.outcome, &spent)
}

/// Whether an answer came later than promised or, where nothing is promised, than `latency`.
pub fn is_late(sla: Option<SlaOutcome>, latency: Option<Span>, settled: &Settled) -> bool {
    match sla {
        Some(outcome) => matches!(outcome, SlaOutcome::Farthing | SlaOutcome::Upstream | SlaOutcome::Queue),
        None => latency.zip(settled.took.or(settled.latency)).is_some_and(|(most, took)| took > most),
    }
}

/// The time of a request whose client has left, where the promise was missed by then: whoever gave up would else be left out.
pub fn missed_already(account: &Account, elapsed: Span) -> Option<Span> {
    account.sla.filter(|sla| elapsed > *sla).map(|_| elapsed)
}
