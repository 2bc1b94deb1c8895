//! Sums of rows. Integers of 128 bits: no log is long enough to overflow them.

use std::ops::AddAssign;

use farthing_types::Money;

/// Sums over requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestSums {
    /// Requests, each row with its weight.
    pub requests: i128,
    /// Of these, answered from the cache or from another request's call.
    pub hits: i128,
    /// Of these, failed.
    pub failed: i128,
    /// What they would have cost without Farthing, nano-dollars, as far as priced.
    pub base: i128,
    /// What they were charged, as far as priced.
    pub cost: i128,
    /// Saved by those that saved something and have both prices.
    pub saved: i128,
    /// Requests without a known price: of what they would have cost, or of what they cost.
    pub unpriced: i128,
}

/// Sums over attempts of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallSums {
    /// Attempts that were sent; one that was made for several calls counts once, with the first of them.
    pub calls: i128,
    /// What providers charge for them, nano-dollars, as far as priced.
    pub bill: i128,
    /// The part of it for calls that no client waited for.
    pub background: i128,
    /// The part of it for fetching ahead.
    pub prefetch: i128,
    /// Attempts without a known price, sent or not; one that was made for several calls counts with each of them, so that nobody's bill
    /// looks whole that is not.
    pub unpriced: i128,
}

/// Sums of a group; `None` for a table that does not know a name of the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostSums {
    /// Over requests.
    pub requests: Option<RequestSums>,
    /// Over calls.
    pub calls: Option<CallSums>,
}

impl AddAssign for RequestSums {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.hits += other.hits;
        self.failed += other.failed;
        self.base += other.base;
        self.cost += other.cost;
        self.saved += other.saved;
        self.unpriced += other.unpriced;
    }
}

impl AddAssign for CallSums {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.bill += other.bill;
        self.background += other.background;
        self.prefetch += other.prefetch;
        self.unpriced += other.unpriced;
    }
}

impl AddAssign for CostSums {
    fn add_assign(&mut self, other: Self) {
        fn add<T: AddAssign + Copy>(into: &mut Option<T>, from: Option<T>) {
            match (into.as_mut(), from) {
                (Some(into), Some(from)) => *into += from,
                (None, from) => *into = from,
                (Some(_), None) => {}
            }
        }
        add(&mut self.requests, other.requests);
        add(&mut self.calls, other.calls);
    }
}

impl CostSums {
    /// Nothing yet, of the tables that are read.
    pub(super) fn none((requests, calls): (bool, bool)) -> Self {
        Self { requests: requests.then(RequestSums::default), calls: calls.then(CallSums::default) }
    }

    /// What orders groups: bill, then what it would have been.
    pub(super) fn weight(&self) -> (i128, i128, i128) {
        let bill = self.calls.map_or(0, |calls| calls.bill);
        let (base, requests) = self.requests.map_or((0, 0), |requests| (requests.base, requests.requests));
        (bill, base, requests)
    }
}

/// A sum as money. Beyond 9.2e9 dollars it saturates, as money does.
pub fn money(nanos: i128) -> Money {
    Money::from_nanos(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
}
