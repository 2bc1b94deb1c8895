//! Promises of time, as answered requests kept them.

use farthing_types::{SlaOutcome, Span, Spent, sla_outcome};

use crate::settle::{Account, Settled};

/// What became of the promise of a request's time.
pub fn kept(account: &Account, settled: &Settled) -> Option<SlaOutcome> {
    let spent = Spent {
        total: settled.took,
        upstream: settled.waited + account.failed,
        queue: account.queued,
        overhead: (settled.overhead + account.queued).saturating_sub(account.failed),
    };
    sla_outcome(account.sla?, settled.outcome, &spent)
}

/// The time of a request whose client has left, where the promise was missed by then: whoever gave up would else be left out.
pub fn missed_already(account: &Account, elapsed: Span) -> Option<Span> {
    account.sla.filter(|sla| elapsed > *sla).map(|_| elapsed)
}
