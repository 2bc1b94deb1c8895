//! What the cache of a route came to.

use std::sync::atomic::Ordering::Relaxed;

use farthing_types::{Money, Outcome, Purpose, UncachedReason};

use super::RouteTotals;
use crate::cost::SavedBy;

/// What the cache saves by.
const SAVED: [SavedBy; 4] = [SavedBy::L1, SavedBy::L2, SavedBy::Stale, SavedBy::Revalidated];
/// Why a request is none that the cache could have answered.
const NO_PART: [UncachedReason; 13] = [
    UncachedReason::Method,
    UncachedReason::PassThrough,
    UncachedReason::TooLarge,
    UncachedReason::Disabled,
    UncachedReason::Bypassed,
    UncachedReason::Unprofitable,
    UncachedReason::NotChosen,
    UncachedReason::Observe,
    UncachedReason::Holdout,
    UncachedReason::Terms,
    UncachedReason::OverBudget,
    UncachedReason::OverLimit,
    UncachedReason::Overload,
];

/// What the cache of a route came to since the start, as far as priced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheWorth {
    /// Requests of the route.
    pub all: u64,
    /// Of these, requests that the cache could answer and whose saving is known.
    pub requests: u64,
    /// What it has saved.
    pub saved: Money,
    /// What calls cost that renewed its entries in the background.
    pub renewed: Money,
    /// Stale answers that came to light.
    pub stale: u64,
    /// The largest price that a request would have had.
    pub largest: Money,
}

/// What a route came to since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CameTo {
    /// Requests answered from the cache.
    pub hits: u64,
    /// Of these, requests answered with an older copy.
    pub stale: u64,
    /// What its calls cost, whatever they were made for, as far as priced.
    pub bill: Money,
    /// Calls without a price.
    pub unpriced_calls: u64,
    /// What its requests have saved, by whatever cause, as far as priced.
    pub saved: Money,
    /// Requests whose saving is not known.
    pub unpriced_savings: u64,
}

/// How a request was answered that would have cost a call without Farthing.
const ANSWERED: [Outcome; 5] = [Outcome::Hit, Outcome::Stale, Outcome::Lead, Outcome::Follow, Outcome::Bypass];

impl RouteTotals {
    /// The mean of what answered requests would have cost without Farthing, of those with a price; `None` without any.
    pub fn mean_base(&self) -> Option<Money> {
        let answered = ANSWERED.map(|outcome| &self.outcomes[outcome as usize]);
        let priced = |counted: &super::totals::Counted| counted.count.load(Relaxed).saturating_sub(counted.unpriced.load(Relaxed));
        let requests = i64::try_from(answered.iter().map(|counted| priced(counted)).sum::<u64>()).unwrap_or(i64::MAX);
        let nanos: i64 = answered.iter().fold(0, |sum, counted| sum.saturating_add(counted.nanos.load(Relaxed)));
        (requests > 0).then(|| Money::from_nanos(nanos / requests))
    }

    /// What the route came to.
    pub fn came_to(&self) -> CameTo {
        let sum = |of: &[super::totals::Counted]| {
            let nanos = of.iter().map(|counted| Money::from_nanos(counted.nanos.load(Relaxed))).sum();
            (nanos, of.iter().map(|counted| counted.unpriced.load(Relaxed)).sum())
        };
        let answered = |outcome: Outcome| self.outcomes[outcome as usize].count.load(Relaxed);
        let ((bill, unpriced_calls), (saved, unpriced_savings)) = (sum(&self.calls), sum(&self.saved));
        let stale = answered(Outcome::Stale);
        CameTo { hits: answered(Outcome::Hit) + stale, stale, bill, unpriced_calls, saved, unpriced_savings }
    }

    /// What the cache came to.
    pub fn cache_worth(&self) -> CacheWorth {
        let count = |counted: &super::totals::Counted| counted.count.load(Relaxed);
        let all: u64 = self.outcomes.iter().map(count).sum();
        // Refused ones have a reason or were never asked about; failed ones are whoever's fault.
        let aside = count(&self.outcomes[Outcome::Failed as usize]);
        let aside: u64 = aside + NO_PART.iter().map(|reason| count(&self.uncached[*reason as usize])).sum::<u64>();
        let saved = SAVED.map(|by| &self.saved[by as usize]);
        let unpriced: u64 = saved.iter().map(|counted| counted.unpriced.load(Relaxed)).sum();
        CacheWorth {
            all,
            requests: all.saturating_sub(aside).saturating_sub(unpriced),
            saved: saved.iter().map(|counted| Money::from_nanos(counted.nanos.load(Relaxed))).sum(),
            renewed: Money::from_nanos(self.calls[Purpose::Refresh as usize].nanos.load(Relaxed)),
            stale: self.stale.load(Relaxed),
            largest: Money::from_nanos(self.largest.load(Relaxed)),
        }
    }
}

impl CameTo {
    /// What came since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            hits: self.hits.saturating_sub(earlier.hits),
            stale: self.stale.saturating_sub(earlier.stale),
            bill: self.bill - earlier.bill,
            unpriced_calls: self.unpriced_calls.saturating_sub(earlier.unpriced_calls),
            saved: self.saved - earlier.saved,
            unpriced_savings: self.unpriced_savings.saturating_sub(earlier.unpriced_savings),
        }
    }

    /// The bill; `None` where that of a call is not known.
    pub fn whole_bill(&self) -> Option<Money> {
        (self.unpriced_calls == 0).then_some(self.bill)
    }

    /// The saving; `None` where that of a request is not known.
    pub fn whole_saving(&self) -> Option<Money> {
        (self.unpriced_savings == 0).then_some(self.saved)
    }
}

impl CacheWorth {
    /// What came since `earlier`; the largest price is that until now.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            all: self.all.saturating_sub(earlier.all),
            requests: self.requests.saturating_sub(earlier.requests),
            saved: self.saved - earlier.saved,
            renewed: self.renewed - earlier.renewed,
            stale: self.stale.saturating_sub(earlier.stale),
            largest: self.largest,
        }
    }
}

#[cfg(test)]
mod tests {
    use farthing_types::{RouteName, Tenant};

    use super::*;
    use crate::aggregate::{Aggregates, CallSettled, RequestSettled};
    use crate::cost::{CostRecord, Paid, Served};

    #[test]
    fn only_what_the_cache_could_answer_counts_and_only_what_it_did_is_its_saving() {
        let (totals, route, tenant) = (Aggregates::default(), RouteName::from("geo"), Tenant::from("t"));
        let price = Money::from_nanos(700);
        let request = |outcome: Outcome, served: Served, uncached: Option<UncachedReason>, full: Option<Money>| {
            let cost = CostRecord::settle(served, Paid { full, attempts: full });
            totals.request(&RequestSettled {
                route: &route,
                tenant: &tenant,
                outcome,
                uncached,
                cost,
                latency: None,
                overhead: None,
                sla: None,
            });
        };
        request(Outcome::Lead, Served::Lead, Some(UncachedReason::Cold), Some(price));
        request(Outcome::Hit, Served::Hit, None, Some(price));
        request(Outcome::Hit, Served::Hit, None, None);
        request(Outcome::Follow, Served::Follower, Some(UncachedReason::Cold), Some(price));
        request(Outcome::Bypass, Served::Lead, Some(UncachedReason::Unprofitable), Some(price.times(2)));
        totals.call(&CallSettled {
            route: &route,
            tenant: &tenant,
            purpose: Purpose::Refresh,
            attempts: 1,
            cost: Some(price),
            unkept: None,
        });
        assert_eq!(totals.route(&route).mean_base(), Some(Money::from_nanos((700 * 3 + 1_400) / 4)), "the unpriced one is no zero");
        totals.verdicts(&route, 5, 2);
        let first = totals.route(&route).cache_worth();
        assert_eq!(first, CacheWorth { all: 5, requests: 3, saved: price, renewed: price, stale: 2, largest: price.times(2) });
        request(Outcome::Hit, Served::Hit, None, Some(price));
        let later = totals.route(&route).cache_worth().since(&first);
        assert_eq!(later, CacheWorth { all: 1, requests: 1, saved: price, largest: price.times(2), ..CacheWorth::default() });
        let came = totals.route(&route).came_to();
        // Two hits and a follower with a price.
        assert_eq!(
            (came.hits, came.bill, came.saved, came.whole_saving()),
            (3, price, price.times(3), None),
            "one of the savings is not known"
        );
        request(Outcome::Stale, Served::Hit, None, Some(price));
        let later = totals.route(&route).came_to().since(&came);
        assert_eq!((later.hits, later.stale, later.whole_bill(), later.whole_saving()), (1, 1, Some(Money::ZERO), Some(price)));
        assert!(totals.is_told_apart(&route));
    }
}
