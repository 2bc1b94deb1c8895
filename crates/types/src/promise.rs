//! Promises of time: whether a request was answered within its SLA, and whose time it was where not.

use crate::{Outcome, Span, reasons};

reasons! {
    /// What became of a promise of time.
    SlaOutcome {
        /// It was kept.
        Met = "met",
        /// Missed: most of the time was ours.
        Farthing = "farthing",
        /// Missed: most of the time was the provider's, or it failed.
        Upstream = "upstream",
        /// Missed: most of the time the request waited for its turn under a limit or for room in a budget.
        Queue = "queue",
        /// Missed: most of the time the client took to read.
        Client = "client",
    }
}

/// Where the time of an answered request went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// All of it, as the promise counts; `None` when the client left first.
    pub total: Option<Span>,
    /// Waiting for the provider.
    pub upstream: Span,
    /// Waiting for its turn under a limit or for room in a budget.
    pub queue: Span,
    /// In Farthing until the head, the waits for a turn and for room included.
    pub overhead: Span,
}

/// What became of the promise to answer within `sla`; `None` where that is not the question: the request was refused, or its client left
/// before the time was over.
pub fn sla_outcome(sla: Span, outcome: Outcome, spent: &Spent) -> Option<SlaOutcome> {
    let total = match outcome {
        Outcome::Refused => return None,
        Outcome::Failed => return spent.total.map(|_| SlaOutcome::Upstream),
        _ => spent.total?,
    };
    if total <= sla {
        return Some(SlaOutcome::Met);
    }
    let farthing = spent.overhead.saturating_sub(spent.queue);
    let client = total.saturating_sub(farthing).saturating_sub(spent.queue).saturating_sub(spent.upstream);
    let parts = [
        (farthing, SlaOutcome::Farthing),
        (client, SlaOutcome::Client),
        (spent.queue, SlaOutcome::Queue),
        (spent.upstream, SlaOutcome::Upstream),
    ];
    parts.into_iter().max_by_key(|(part, _)| *part).map(|(_, whose)| whose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_promise_is_told_of_whoever_took_most_of_the_time() {
        let ms = Span::from_millis;
        let spent = |total: u64, upstream: u64, queue: u64, overhead: u64| Spent {
            total: Some(ms(total)),
            upstream: ms(upstream),
            queue: ms(queue),
            overhead: ms(overhead),
        };
        for (spent, outcome, whose) in [
            (spent(100, 90, 0, 10), Outcome::Lead, Some(SlaOutcome::Met)),
            (spent(101, 90, 0, 11), Outcome::Lead, Some(SlaOutcome::Upstream)),
            (spent(500, 90, 300, 310), Outcome::Bypass, Some(SlaOutcome::Queue)),
            (spent(500, 90, 0, 350), Outcome::Bypass, Some(SlaOutcome::Farthing)),
            (spent(500, 90, 0, 1), Outcome::Follow, Some(SlaOutcome::Client)),
            (spent(200, 0, 0, 200), Outcome::Hit, Some(SlaOutcome::Farthing)),
            (spent(1, 0, 0, 1), Outcome::Failed, Some(SlaOutcome::Upstream)),
            (spent(1, 0, 0, 1), Outcome::Refused, None),
            (Spent::default(), Outcome::Bypass, None),
            (Spent::default(), Outcome::Failed, None),
        ] {
            assert_eq!(sla_outcome(ms(100), outcome, &spent), whose, "{spent:?} {outcome}");
        }
    }
}
