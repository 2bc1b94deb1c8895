//! People who ask because something changed: their requests come after the change, so from a held copy they get the old answer.
//!
//! Where a gap between two fetches saw a change, a route whose readers do not know of changes has as many requests in it as the
//! keys' rates say. What there is beyond that was drawn by the change, and comes after it.

use super::persist::persist;

/// Weight of "nobody knows", in requests.
const PRIOR: f64 = 20.0;
/// Both counts are halved at this many: some hundred changes are remembered.
const FULL: f64 = 2_000.0;
/// Most that is taken for drawn.
const MOST: f64 = 0.95;

/// What chance and shrunken rates may make of the ratio before a stale answer is taken for dearer than it looks.
const ALLOWED: f64 = 1.15;

/// Requests in gaps that saw a change, and as many as the rates would give.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Informed {
    requests: f64,
    expected: f64,
    plain: f64,
    stale: f64,
}

persist!(Informed { requests, expected, plain, stale });

impl Informed {
    /// Notes the requests of a gap that saw a change; `expected` by the key's rate.
    pub fn note(&mut self, requests: f64, expected: f64) {
        self.requests += requests;
        self.expected += expected;
        if self.requests > FULL {
            (self.requests, self.expected) = (self.requests * 0.5, self.expected * 0.5);
        }
    }

    /// Share of the requests in such a gap that the change has drawn.
    pub fn drawn(&self) -> f64 {
        (1.0 - (self.expected + PRIOR) / (self.requests + PRIOR)).clamp(0.0, MOST)
    }

    /// Notes the answers that would have been stale by the rates, and those that probably were.
    pub fn stale(&mut self, plain: f64, stale: f64) {
        self.plain += plain;
        self.stale += stale;
        if self.stale > FULL {
            (self.plain, self.stale) = (self.plain * 0.5, self.stale * 0.5);
        }
    }

    /// Stale answers by the rates over those that there probably are: at most 1.
    pub fn candour(&self) -> f64 {
        (ALLOWED * (self.plain + PRIOR) / (self.stale + PRIOR)).clamp(0.05, 1.0)
    }
}
