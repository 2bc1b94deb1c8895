//! Who paid what for an answer, and what that saved.
//!
//! The payer is the tenant who holds the ticket. Hits and followers cost nothing and are credited the whole price of
//! the call they did not cause; the leader pays the call, and members of a batch
//! share one. What the same request would have cost without Farthing is its
//! *base*: the price of one plain call. `saved = base - cost` may be negative: retries and dearer upstreams are not
//! hidden. An unknown price leaves the fields that need it `None`.

use std::fmt;

use farthing_types::{Money, Outcome};

/// What saved the money of an answer; `saved_by` in the log, `cause` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SavedBy {
    /// A fresh entry in memory.
    L1,
    /// A fresh entry out of the tier below memory.
    L2,
    /// A stale entry, where that is allowed.
    Stale,
    /// The provider confirmed the entry for less than a full answer costs.
    Revalidated,
    /// Another request's call was joined.
    Dedupe,
    /// The call was made together with others.
    Batch,
    /// Another provider than the route's first was asked.
    Route,
    /// A call made ahead had brought the answer, or was about to: its first use.
    Prefetch,
    /// The prompt was marked for the provider's own cache. A write that is not read back is its loss.
    PromptCache,
    /// The call could wait, and went to the provider's batch endpoint.
    Defer,
}

impl SavedBy {
    /// Every value, in the order of declaration.
    pub const ALL: &'static [Self] = &[
        Self::L1,
        Self::L2,
        Self::Stale,
        Self::Revalidated,
        Self::Dedupe,
        Self::Batch,
        Self::Route,
        Self::Prefetch,
        Self::PromptCache,
        Self::Defer,
    ];

    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Dedupe => "dedupe",
            Self::Batch => "batch",
            Self::Route => "route",
            Self::Prefetch => "prefetch",
            Self::PromptCache => "prompt_cache",
            Self::Defer => "defer",
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
    /// A fresh entry in memory.
    Hit,
    /// A fresh entry out of the tier below memory.
    HitL2,
    /// A stale entry.
    Stale,
    /// Another request's call.
    Follower,
    /// A call made ahead, by its first use.
    Ahead,
    /// A call of its own with a full answer; also bypasses and holdouts.
    Lead,
    /// A call of its own that confirmed the entry (304).
    Revalidated,
    /// A call that was made together with others, of which it bears a share.
    Batched,
    /// A call of its own at another provider than the route's first.
    Routed,
    /// A call of its own whose prompt was marked for the provider's cache.
    Marked,
    /// A call of its own through the provider's batch endpoint.
    Deferred,
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
    /// The cause, when something was saved or, unpriced, would have been; of marks in prompts also when they have cost.
    pub by: Option<SavedBy>,
}

impl CostRecord {
    /// Settles one answer.
    pub fn settle(served: Served, paid: Paid) -> Self {
        let (base, cost, cause) = match served {
            Served::Hit => (paid.full, Some(Money::ZERO), Some(SavedBy::L1)),
            Served::HitL2 => (paid.full, Some(Money::ZERO), Some(SavedBy::L2)),
            Served::Stale => (paid.full, Some(Money::ZERO), Some(SavedBy::Stale)),
            Served::Follower => (paid.full, Some(Money::ZERO), Some(SavedBy::Dedupe)),
            Served::Ahead => (paid.full, Some(Money::ZERO), Some(SavedBy::Prefetch)),
            Served::Lead => (paid.full, paid.attempts, None),
            Served::Revalidated => (paid.full, paid.attempts, Some(SavedBy::Revalidated)),
            Served::Batched => (paid.full, paid.attempts, Some(SavedBy::Batch)),
            Served::Routed => (paid.full, paid.attempts, Some(SavedBy::Route)),
            Served::Marked => (paid.full, paid.attempts, Some(SavedBy::PromptCache)),
            Served::Deferred => (paid.full, paid.attempts, Some(SavedBy::Defer)),
            Served::Refused => (Some(Money::ZERO), Some(Money::ZERO), None),
            // Without Farthing the same failed call would have been made and charged.
            Served::Failed => (paid.attempts, paid.attempts, None),
        };
        let saved = base.zip(cost).map(|(base, cost)| base - cost);
        // What a mark has cost is its cause's as much as what it has saved.
        let counts = |saved| saved > Money::ZERO || (served == Served::Marked && saved < Money::ZERO);
        let by = cause.filter(|_| saved.is_none_or(counts));
        Self { base, cost, saved, by }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Served; 13] = [
        Served::Hit,
        Served::HitL2,
        Served::Stale,
        Served::Follower,
        Served::Ahead,
        Served::Lead,
        Served::Revalidated,
        Served::Batched,
        Served::Routed,
        Served::Marked,
        Served::Deferred,
        Served::Refused,
        Served::Failed,
    ];

    fn money() -> impl Strategy<Value = Option<Money>> {
        proptest::option::of((0i64..1_000_000_000_000).prop_map(Money::from_nanos))
    }

    proptest! {
        /// base = cost + saved, exactly; what is not known is not made up, and only what saved something has a cause.
        #[test]
        fn base_is_cost_and_saving(served in proptest::sample::select(ALL.to_vec()), full in money(), attempts in money()) {
            let record = CostRecord::settle(served, Paid { full, attempts });
            match (record.base, record.cost) {
                (Some(base), Some(cost)) => {
                    prop_assert_eq!(record.saved.map(|saved| cost + saved), Some(base));
                    let lost = served == Served::Marked && record.saved < Some(Money::ZERO);
                    prop_assert!(record.by.is_none() || record.saved > Some(Money::ZERO) || lost);
                    prop_assert_eq!(record.by.is_some(), lost || (record.saved > Some(Money::ZERO) && served != Served::Lead));
                }
                _ => prop_assert_eq!(record.saved, None),
            }
            prop_assert!(record.base.is_some() || full.is_none() || attempts.is_none());
        }
    }

    #[test]
    fn each_tier_has_its_own_cause() {
        let paid = Paid { full: Some(Money::from_nanos(5)), attempts: None };
        let by = |served| CostRecord::settle(served, paid).by;
        assert_eq!((by(Served::Hit), by(Served::HitL2), by(Served::Stale)), (Some(SavedBy::L1), Some(SavedBy::L2), Some(SavedBy::Stale)));
        assert_eq!((by(Served::Follower), by(Served::Lead)), (Some(SavedBy::Dedupe), None));
        assert_eq!(by(Served::Ahead), Some(SavedBy::Prefetch));
    }
}
