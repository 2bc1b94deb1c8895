//! What is measured of a provider by the calls of one route. Everything fades by half each minute: a provider that was slow or failing is thought
//! well of again after a while, and so is measured anew.

use farthing_types::{Span, Time};

/// After this time a measurement counts half.
const HALF: Span = Span::from_secs(60);
/// Good calls that everybody is credited with before it was measured.
const CREDIT: f64 = 4.0;
/// Answers, faded, below which no time is told.
const TOO_FEW: f64 = 0.05;

/// One call, as it is noted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noted {
    /// How long it took to its answer; `None` where none came.
    pub took: Option<Span>,
    /// The provider failed it.
    pub failed: bool,
    /// The share of required fields that the answer has; `None` where that was not looked at.
    pub complete: Option<f64>,
}

/// Faded sums; of a fixed size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measures {
    calls: f64,
    failed: f64,
    answers: f64,
    seconds: f64,
    looked_at: f64,
    complete: f64,
    at: Time,
}

/// What is known of a provider.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Calls that it is known from, faded.
    pub calls: f64,
    /// The mean time to an answer.
    pub latency: Option<Span>,
    /// The share of calls that fail.
    pub errors: f64,
    /// The share of required fields that answers have.
    pub completeness: f64,
}

impl Measures {
    /// Notes a call that ended at `now`.
    pub fn note(&mut self, noted: Noted, now: Time) {
        *self = self.faded(now);
        self.calls += 1.0;
        self.failed += f64::from(u8::from(noted.failed));
        if let Some(took) = noted.took {
            self.answers += 1.0;
            self.seconds += took.as_secs_f64();
        }
        if let Some(share) = noted.complete {
            self.looked_at += 1.0;
            self.complete += share.clamp(0.0, 1.0);
        }
    }

    /// What is known at `now`.
    pub fn read(&self, now: Time) -> Measured {
        let Self { calls, failed, answers, seconds, looked_at, complete, .. } = self.faded(now);
        Measured {
            calls,
            latency: (answers >= TOO_FEW).then(|| Span::try_from_secs_f64(seconds / answers).unwrap_or(Span::MAX)),
            errors: failed / (calls + CREDIT),
            completeness: (complete + CREDIT) / (looked_at + CREDIT),
        }
    }

    fn faded(&self, now: Time) -> Self {
        let left = (-now.since(self.at).as_secs_f64() / HALF.as_secs_f64()).exp2();
        Self {
            calls: self.calls * left,
            failed: self.failed * left,
            answers: self.answers * left,
            seconds: self.seconds * left,
            looked_at: self.looked_at * left,
            complete: self.complete * left,
            at: self.at.max(now),
        }
    }
}
