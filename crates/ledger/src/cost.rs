//! Who paid what for an answer, and what that saved.
//!
//! The payer is the tenant who holds the ticket. Hits and followers cost nothing and are credited the whole price of
//! the call they did not cause; the leader pays the call. What the same request would have cost without Farthing is its
//! *base*: the price of one plain call. `saved = base - cost` may be negative: retries and dearer upstreams are not
//! hidden. An unknown price leaves the fields that need it `None`.

use std::fmt;

use farthing_types::{Money, Outcome};

/// What saved the money of an answer; `saved_by` in the log, `cause` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SavedBy {
    /// A fresh entry in memory.
    L1,
    /// A stale entry, where that is allowed.
    Stale,
    /// The provider confirmed the entry for less than a full answer costs.
    Revalidated,
    /// Another request's call was joined.
    Dedupe,
}

impl SavedBy {
    /// Every value, in the order of declaration.
    pub const ALL: &'static [Self] = &[Self::L1, Self::Stale, Self::Revalidated, Self::Dedupe];

    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Dedupe => "dedupe",
        }
    }
}

impl fmt::Display for SavedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an answer came about, as far as money goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// A fresh entry.
    Hit,
    /// A stale entry.
    Stale,
    /// Another request's call.
    Follower,
    /// A call of its own with a full answer; also bypasses and holdouts.
    Lead,
    /// A call of its own that confirmed the entry (304).
    Revalidated,
    /// We refused it: nothing was bought, nothing is credited.
    Refused,
    /// Its call failed; attempts may have been charged all the same.
    Failed,
}

impl From<Outcome> for Served {
    /// The usual reading of an outcome; a lead that was answered by 304 is [`Served::Revalidated`].
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Hit => Self::Hit,
            Outcome::Stale => Self::Stale,
            Outcome::Follow => Self::Follower,
            Outcome::Lead | Outcome::Bypass => Self::Lead,
            Outcome::Refused => Self::Refused,
            Outcome::Failed => Self::Failed,
        }
    }
}

/// The prices a settlement needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paid {
    /// Price of one full answer: of the entry served, of the call joined, or of the call made.
    pub full: Option<Money>,
    /// Paid for this request's own call, all attempts together; `None` when unpriced. Not read where no call was made.
    pub attempts: Option<Money>,
}

/// What an answer cost and saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostRecord {
    /// What the request would have cost without Farthing; `None` when unpriced.
    pub base: Option<Money>,
    /// What it cost its payer; `None` when unpriced.
    pub cost: Option<Money>,
    /// `base - cost`; `None` when either is unknown.
    pub saved: Option<Money>,
    /// The cause, when something was saved or, unpriced, would have been.
    pub by: Option<SavedBy>,
}

impl CostRecord {
    /// Settles one answer.
    pub fn settle(served: Served, paid: Paid) -> Self {
        let (base, cost, cause) = match served {
            Served::Hit => (paid.full, Some(Money::ZERO), Some(SavedBy::L1)),
            Served::Stale => (paid.full, Some(Money::ZERO), Some(SavedBy::Stale)),
            Served::Follower => (paid.full, Some(Money::ZERO), Some(SavedBy::Dedupe)),
            Served::Lead => (paid.full, paid.attempts, None),
            Served::Revalidated => (paid.full, paid.attempts, Some(SavedBy::Revalidated)),
            Served::Refused => (Some(Money::ZERO), Some(Money::ZERO), None),
            // Without Farthing the same failed call would have been made and charged.
            Served::Failed => (paid.attempts, paid.attempts, None),
        };
        let saved = base.zip(cost).map(|(base, cost)| base - cost);
        let by = cause.filter(|_| saved.is_none_or(|saved| saved > Money::ZERO));
        Self { base, cost, saved, by }
    }
}
