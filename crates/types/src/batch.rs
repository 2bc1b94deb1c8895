//! A call that is made for several calls at once, and the part of each in it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::HeaderMap;

use crate::{CallId, CallReport, Money, Span, TraceContext};

/// Under which terms a call may be made together with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchTerms {
    /// Whose calls it may be put together with: those of an equal text. Empty where principals share answers.
    pub owner: Arc<str>,
    /// How long whoever waits for it is ready to wait in all.
    pub patience: Span,
    /// How long a call that it is a part of may go on, although whoever waits for this part has gone: as long as its route lets calls.
    pub lasts: Span,
    /// How long the first of a batch waits for others; `None` as its route says.
    pub window: Option<Span>,
}

/// An answer as its provider gave it, to be priced by: to a batch call, or to one that is mapped into another shape.
#[derive(Clone, Debug)]
pub struct BatchAnswer {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body as far as it came.
    pub body: Bytes,
    /// Whether it came whole.
    pub complete: bool,
}

/// What a batch call costs as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchPrice {
    /// What each attempt costs; `None` is unpriced.
    pub costs: Vec<Option<Money>>,
    /// What meters counted, for the log: of the whole, so to be told once.
    pub metered: Option<Arc<str>>,
    /// Why the last attempt has no price.
    pub unpriced: Option<&'static str>,
}

/// For each attempt the share of each member; `None` is unpriced.
type Shares = Box<[Option<Vec<Money>>]>;

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
    /// The span of each member, where it is recorded.
    pub spans: Box<[Option<TraceContext>]>,
    priced: OnceLock<(BatchPrice, Shares)>,
}

impl Batch {
    /// A batch call that has ended and is not priced yet.
    pub fn new(id: CallId, (weights, request_bytes): (Box<[u32]>, u64), attempts: Box<[CallReport]>, answer: Option<BatchAnswer>) -> Self {
        Self { id, weights, request_bytes, attempts, answer, spans: Box::default(), priced: OnceLock::new() }
    }

    /// Whose spans its members are.
    pub fn traced(self, spans: Box<[Option<TraceContext>]>) -> Self {
        Self { spans, ..self }
    }

    /// Which member's trace has the batch call itself: the first that is recorded, and the span of its first attempt there.
    pub fn span(spans: &[Option<TraceContext>]) -> Option<(usize, TraceContext)> {
        spans.iter().enumerate().find_map(|(index, span)| Some((index, (*span)?.together())))
    }

    /// What it costs as a whole. `price` tells it, and is asked once for all members, by whoever comes first.
    pub fn price(&self, price: impl FnOnce(&Self) -> BatchPrice) -> &BatchPrice {
        let priced = self.priced.get_or_init(|| {
            let price = price(self);
            let shares = price.costs.iter().map(|cost| cost.map(|cost| cost.split_by(&self.weights))).collect();
            (price, shares)
        });
        &priced.0
    }

    /// What member `index` bears of attempt `attempt`; `None` where that is unpriced, or nobody has asked for the price yet. The shares of an
    /// attempt sum to its price exactly.
    pub fn share(&self, attempt: usize, index: usize) -> Option<Money> {
        self.priced.get()?.1.get(attempt)?.as_ref()?.get(index).copied()
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
        assert_eq!(batch.share(0, 0), None, "nobody has asked yet");
        let costs = |nanos| BatchPrice { costs: vec![Some(Money::from_nanos(nanos)), None], ..BatchPrice::default() };
        batch.price(|_| costs(100));
        assert_eq!(batch.price(|_| costs(700)), &costs(100));
        let shares: Vec<_> = (0..3).map(|index| batch.share(0, index).unwrap().nanos()).collect();
        assert_eq!(shares, [14, 29, 57]);
        assert_eq!((batch.share(1, 0), batch.share(0, 3), batch.share(2, 0)), (None, None, None), "unpriced, nobody's, and no attempt");
    }
}
