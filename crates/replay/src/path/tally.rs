//! Sums of a replay, per route.

use std::collections::BTreeMap;

use farthing_types::{By, Money, Outcome, Purpose};

/// What came of a route's requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteTally {
    /// Requests.
    pub requests: u64,
    /// Requests by outcome, in the order of `Outcome::ALL`.
    pub outcomes: [u64; Outcome::ALL.len()],
    /// What the requests would have cost without a proxy; unpriced ones are left out.
    pub base: Money,
    /// Requests without a known price.
    pub unpriced_requests: u64,
    /// Calls.
    pub calls: u64,
    /// Attempts that reached the provider.
    pub attempts: u64,
    /// Paid for calls.
    pub bill: Money,
    /// Calls without a known price.
    pub unpriced_calls: u64,
    /// Calls that the log does not have.
    pub modelled_calls: u64,
    /// Answers from the cache of which it is known what the provider would have said.
    pub judged: u64,
    /// Of these, answers that differed from it.
    pub stale: u64,
    /// Copies that never answered a second request.
    pub unused: u64,
    /// Paid for them.
    pub unused_paid: Money,
    /// Refreshes made in the background.
    pub refreshes: u64,
    /// Of these, refreshes whose copy answered nobody.
    pub unused_refreshes: u64,
    /// TTL decisions by who made them.
    pub deciders: BTreeMap<String, u64>,
    /// The same while counting: few, and made into text at the end.
    counts: Vec<(By, u64)>,
}

impl RouteTally {
    /// Requests with this outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// Answers that differed from the provider's, over all answers; those of the provider itself are never stale.
    pub fn stale_share(&self) -> f64 {
        self.stale as f64 / self.requests.max(1) as f64
    }

    /// 1 - bill / base; `None` without a base.
    pub fn saving(&self) -> Option<f64> {
        (self.base > Money::ZERO).then(|| 1.0 - self.bill.nanos() as f64 / self.base.nanos() as f64)
    }

    /// The 95 % interval of the stale share (Wilson 1927).
    pub fn stale_interval(&self) -> (f64, f64) {
        let (n, p, z) = (self.requests.max(1) as f64, self.stale_share(), 1.959_964);
        let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        ((centre - half).max(0.0), (centre + half).min(1.0))
    }

    pub(super) fn request(&mut self, outcome: Outcome, weight: u32, base: Option<Money>) {
        self.requests += u64::from(weight);
        self.outcomes[outcome as usize] += u64::from(weight);
        match base {
            Some(base) => self.base += base.times(i64::from(weight)),
            None => self.unpriced_requests += u64::from(weight),
        }
    }

    pub(super) fn call(&mut self, purpose: Purpose, (paid, attempts): (Option<Money>, u32), modelled: bool) {
        self.calls += 1;
        self.attempts += u64::from(attempts);
        self.refreshes += u64::from(purpose == Purpose::Refresh);
        self.modelled_calls += u64::from(modelled);
        match paid {
            Some(paid) => self.bill += paid,
            None => self.unpriced_calls += 1,
        }
    }

    pub(super) fn decided(&mut self, by: &By) {
        match self.counts.iter_mut().find(|(known, _)| known == by) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((by.clone(), 1)),
        }
    }

    pub(super) fn finish(&mut self) {
        for (by, count) in self.counts.drain(..) {
            *self.deciders.entry(by.to_string()).or_default() += count;
        }
    }

    /// Adds another route's sums.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.outcomes.iter_mut().zip(other.outcomes).for_each(|(sum, n)| *sum += n);
        self.base += other.base;
        self.unpriced_requests += other.unpriced_requests;
        self.calls += other.calls;
        self.attempts += other.attempts;
        self.bill += other.bill;
        self.unpriced_calls += other.unpriced_calls;
        self.modelled_calls += other.modelled_calls;
        self.judged += other.judged;
        self.stale += other.stale;
        self.unused += other.unused;
        self.unused_paid += other.unused_paid;
        self.refreshes += other.refreshes;
        self.unused_refreshes += other.unused_refreshes;
        for (by, count) in &other.deciders {
            *self.deciders.entry(by.clone()).or_default() += count;
        }
    }
}

/// Sums of a replay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Per route, in the log's order.
    pub routes: Vec<RouteTally>,
}

impl Tally {
    /// All routes together.
    pub fn total(&self) -> RouteTally {
        let mut total = RouteTally::default();
        self.routes.iter().for_each(|route| total.add(route));
        total
    }
}
