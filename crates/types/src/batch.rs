//! A call that is made for several calls at once, and the part of each in it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::HeaderMap;

use crate::{CallId, CallReport, Money, Span};

/// Under which terms a call may be made together with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchTerms {
    /// Whose calls it may be put together with: those of an equal text. Empty where principals share answers.
    pub owner: Arc<str>,
    /// How long whoever waits for it is ready to wait in all.
    pub patience: Span,
}

/// The answer to a batch call.
#[derive(Clone, Debug)]
pub struct BatchAnswer {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body as far as it came.
    pub body: Bytes,
    /// Whether it came whole.
    pub complete: bool,
}

/// A batch call that has ended: what it is to be priced by, once, and how its price is shared.
pub struct Batch {
    /// Its id: that of the first call in it.
    pub id: CallId,
    /// What each member bears of its price, in proportion; one for each member.
    pub weights: Box<[u32]>,
    /// Bytes of its request's body.
    pub request_bytes: u64,
    /// Its attempts.
    pub attempts: Box<[CallReport]>,
    /// Its answer; `None` when no head came.
    pub answer: Option<BatchAnswer>,
    shares: OnceLock<Box<[Option<Vec<Money>>]>>,
}

impl Batch {
    /// A batch call that has ended and is not priced yet.
    pub fn new(id: CallId, (weights, request_bytes): (Box<[u32]>, u64), attempts: Box<[CallReport]>, answer: Option<BatchAnswer>) -> Self {
        Self { id, weights, request_bytes, attempts, answer, shares: OnceLock::new() }
    }

    /// What member `index` bears of attempt `attempt`; `None` where that is unpriced. `price` tells what each attempt costs as a whole, and
    /// is asked once for all members, by whoever comes first. The shares of an attempt sum to its price exactly.
    pub fn share(&self, (attempt, index): (usize, usize), price: impl FnOnce(&Self) -> Vec<Option<Money>>) -> Option<Money> {
        let shares =
            self.shares.get_or_init(|| price(self).into_iter().map(|cost| cost.map(|cost| cost.split_by(&self.weights))).collect());
        shares.get(attempt)?.as_ref()?.get(index).copied()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No headers and no body: they are the members' business.
        f.debug_struct("Batch").field("id", &self.id).field("members", &self.weights.len()).finish_non_exhaustive()
    }
}

/// A member's part in an attempt of a batch call.
#[derive(Clone, Debug)]
pub struct BatchPart {
    /// The batch call.
    pub batch: Arc<Batch>,
    /// Which of its members, from 0.
    pub index: usize,
    /// Which of its attempts, from 0.
    pub attempt: usize,
}

impl BatchPart {
    /// How many calls were made together.
    pub fn size(&self) -> usize {
        self.batch.weights.len()
    }

    /// Whether this member stands for the attempt where each attempt is to be counted once.
    pub const fn counts(&self) -> bool {
        self.index == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_priced_once_and_its_shares_are_the_bill() {
        let batch = Batch::new(CallId(1), ([1, 2, 4].into(), 0), Box::default(), None);
        let price = |_: &Batch| vec![Some(Money::from_nanos(100)), None];
        let shares: Vec<_> = (0..3).map(|index| batch.share((0, index), price)).collect();
        assert_eq!(shares, [Some(Money::from_nanos(14)), Some(Money::from_nanos(29)), Some(Money::from_nanos(57))]);
        let dearer = |_: &Batch| vec![Some(Money::from_nanos(700)), Some(Money::ZERO)];
        assert_eq!((batch.share((0, 0), dearer), batch.share((1, 0), dearer)), (Some(Money::from_nanos(14)), None));
        assert_eq!((batch.share((0, 3), dearer), batch.share((2, 0), dearer)), (None, None), "nobody's, and no attempt");
    }
}
