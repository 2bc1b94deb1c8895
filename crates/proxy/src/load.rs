//! What is under way in the whole process, and who is refused when that is too much: first what matters least, and nobody for what another
//! tier sends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_config::OverloadConfig;
use farthing_types::Priority;
use http::StatusCode;
use parking_lot::Mutex;

use crate::problem::Problem;

/// Up to which part of the bounds there is room for high, medium and low priority.
const MARKS: [f64; 3] = [1.0, 0.95, 0.8];
/// Bytes that are counted at a time for bodies whose length nobody tells.
const GRAIN: u64 = 64 << 10;
/// The tier of everybody who has none.
const EVERYBODY: &str = "(others)";

/// An amount of requests and of bytes held for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Requests.
    pub requests: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Weight {
    fn both(self) -> [u64; 2] {
        [self.requests, self.bytes]
    }
}

/// The bounds, and how much of them is used by whom. The first tier is everybody else, which has no share of its own.
#[derive(Debug)]
struct Shares {
    /// What nobody else may use, by tier.
    own: Vec<Weight>,
    /// What everybody may use.
    common: Weight,
    used: Vec<Weight>,
}

impl Shares {
    fn new(bound: Weight, shares: impl Iterator<Item = f64>) -> Self {
        let part = |share: f64, whole: u64| (whole as f64 * share) as u64;
        let of = |share| Weight { requests: part(share, bound.requests), bytes: part(share, bound.bytes) };
        let own: Vec<Weight> = std::iter::once(Weight::default()).chain(shares.map(of)).collect();
        let sum = |pick: fn(&Weight) -> u64| own.iter().map(pick).sum::<u64>();
        let common = Weight {
            requests: bound.requests.saturating_sub(sum(|own| own.requests)),
            bytes: bound.bytes.saturating_sub(sum(|own| own.bytes)),
        };
        Self { used: vec![Weight::default(); own.len()], own, common }
    }

    /// Whether there is room for so much more of a tier; then it is counted.
    fn enter(&mut self, tier: usize, priority: Priority, weight: Weight) -> bool {
        let mark = |whole: u64| (whole as f64 * MARKS[priority as usize]) as u64;
        let fits = |kind: usize| {
            let [own, used, asked] = [self.own[tier], self.used[tier], weight].map(|weight| weight.both()[kind]);
            let after = used.saturating_add(asked);
            let beyond = |(own, used): (&Weight, &Weight)| used.both()[kind].saturating_sub(own.both()[kind]);
            let others: u64 = self.own.iter().zip(&self.used).map(beyond).sum::<u64>() - used.saturating_sub(own);
            asked == 0 || after <= mark(own) || others.saturating_add(after.saturating_sub(own)) <= mark(self.common.both()[kind])
        };
        if !(fits(0) && fits(1)) {
            return false;
        }
        let used = &mut self.used[tier];
        used.requests += weight.requests;
        used.bytes += weight.bytes;
        true
    }

    fn leave(&mut self, tier: usize, weight: Weight) {
        let used = &mut self.used[tier];
        used.requests -= weight.requests;
        used.bytes -= weight.bytes;
    }
}

/// What is under way in the whole process.
pub struct Load {
    shares: Mutex<Shares>,
    names: Vec<Arc<str>>,
    tiers: HashMap<Arc<str>, usize>,
    shed: Vec<[AtomicU64; 3]>,
}

/// What is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// By tier; everybody who has none comes first.
    pub tiers: Vec<TierLoad>,
    /// What everybody may use beyond the tiers' own.
    pub common: Weight,
}

/// What is told of a tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierLoad {
    /// Its name.
    pub name: Arc<str>,
    /// Under way.
    pub used: Weight,
    /// What nobody else may use.
    pub own: Weight,
    /// Requests refused since the start, of high, medium and low priority.
    pub shed: [u64; 3],
}

impl Load {
    /// Nothing under way yet.
    pub fn new(config: &OverloadConfig) -> Self {
        let bound = Weight { requests: config.max_requests as u64, bytes: config.max_bytes };
        let tiers = config.tiers.iter().enumerate();
        let names = std::iter::once(EVERYBODY.into()).chain(config.tiers.iter().map(|tier| tier.name.clone()));
        let names: Vec<Arc<str>> = names.collect();
        Self {
            shares: Mutex::new(Shares::new(bound, config.tiers.iter().map(|tier| tier.share))),
            tiers: tiers.flat_map(|(index, tier)| tier.tenants.iter().map(move |tenant| (tenant.clone(), index + 1))).collect(),
            shed: names.iter().map(|_| <[AtomicU64; 3]>::default()).collect(),
            names,
        }
    }

    /// Counts a request of `tenant` for which so many bytes are held, for as long as what is returned lives.
    ///
    /// # Errors
    /// 503 where there is too much under way.
    pub fn enter(self: &Arc<Self>, (tenant, priority): (&str, Priority), bytes: u64) -> Result<Loaded, Problem> {
        let tier = if self.tiers.is_empty() { 0 } else { self.tiers.get(tenant).copied().unwrap_or_default() };
        self.take((tier, priority), Weight { requests: 1, bytes })?;
        Ok(Loaded { load: self.clone(), tier, priority, bytes: AtomicU64::new(bytes) })
    }

    fn take(&self, (tier, priority): (usize, Priority), weight: Weight) -> Result<(), Problem> {
        if self.shares.lock().enter(tier, priority, weight) {
            return Ok(());
        }
        self.shed[tier][priority as usize].fetch_add(1, Relaxed);
        let detail = format!("too much is under way for a request of {priority} priority; try again in a moment");
        Err(Problem { retry_after: Some(1), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail) })
    }

    /// What is told of it.
    pub fn report(&self) -> LoadReport {
        let shares = self.shares.lock();
        let tier = |(index, name): (usize, &Arc<str>)| TierLoad {
            name: name.clone(),
            used: shares.used[index],
            own: shares.own[index],
            shed: std::array::from_fn(|priority| self.shed[index][priority].load(Relaxed)),
        };
        LoadReport { tiers: self.names.iter().enumerate().map(tier).collect(), common: shares.common }
    }
}

/// A request that is counted.
pub struct Loaded {
    load: Arc<Load>,
    tier: usize,
    priority: Priority,
    bytes: AtomicU64,
}

impl Loaded {
    /// Counts more bytes, where so many are held by now.
    ///
    /// # Errors
    /// 503 where there is too much under way.
    pub fn grow(&self, held: u64) -> Result<(), Problem> {
        let counted = self.bytes.load(Relaxed);
        if held <= counted {
            return Ok(());
        }
        // In pieces, so that not each frame asks.
        let bytes = held.next_multiple_of(GRAIN) - counted;
        self.load.take((self.tier, self.priority), Weight { requests: 0, bytes })?;
        self.bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.load.shares.lock().leave(self.tier, Weight { requests: 1, bytes: *self.bytes.get_mut() });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares() -> Shares {
        Shares::new(Weight { requests: 100, bytes: 10_000 }, [0.3, 0.2].into_iter())
    }

    const ONE: Weight = Weight { requests: 1, bytes: 10 };

    fn fill(shares: &mut Shares, tier: usize, priority: Priority) -> usize {
        (0..1_000).take_while(|_| shares.enter(tier, priority, ONE)).count()
    }

    #[test]
    fn what_matters_least_is_refused_first() {
        let mut shares = shares();
        assert_eq!(fill(&mut shares, 0, Priority::Low), 40, "of 50 that everybody may use");
        assert_eq!(fill(&mut shares, 0, Priority::Medium), 7);
        assert_eq!(fill(&mut shares, 0, Priority::High), 3);
        assert!(!shares.enter(0, Priority::High, ONE));
        shares.leave(0, ONE);
        assert!(!shares.enter(0, Priority::Medium, ONE));
        assert!(shares.enter(0, Priority::High, ONE));
    }

    #[test]
    fn no_flood_takes_what_another_tier_has_for_itself() {
        let mut shares = shares();
        assert_eq!(fill(&mut shares, 0, Priority::High), 50);
        assert_eq!(fill(&mut shares, 1, Priority::High), 30);
        assert_eq!(fill(&mut shares, 2, Priority::Low), 16);
        assert_eq!(fill(&mut shares, 2, Priority::High), 4);
        let big = Weight { requests: 1, bytes: 6_000 };
        assert!(!self::shares().enter(0, Priority::High, big), "bytes are shared like requests");
    }

    #[test]
    fn a_body_of_unknown_length_is_counted_as_it_comes() {
        let load = Arc::new(Load::new(&OverloadConfig { max_bytes: 10 * GRAIN, ..OverloadConfig::default() }));
        let used = || load.report().tiers[0].used;
        let loaded = load.enter(("acme", Priority::Medium), 0).unwrap();
        for held in [1, GRAIN, GRAIN + 1] {
            loaded.grow(held).unwrap();
        }
        assert_eq!(used(), Weight { requests: 1, bytes: 2 * GRAIN });
        assert_eq!(loaded.grow(11 * GRAIN).unwrap_err().kind, "overloaded");
        assert_eq!(used().bytes, 2 * GRAIN, "what was refused is not counted");
        drop(loaded);
        assert_eq!(used(), Weight::default());
    }

    proptest! {
        /// Whatever comes and goes, the bounds hold, and a tier always has its own.
        #[test]
        fn bounds_hold_and_shares_are_there(steps in proptest::collection::vec((0..3usize, 0..3usize, 1..900u64, any::<bool>()), 1..300)) {
            let mut shares = shares();
            let mut inside: Vec<(usize, Weight)> = Vec::new();
            for (tier, priority, bytes, goes) in steps {
                if goes && !inside.is_empty() {
                    let (tier, weight) = inside.swap_remove(inside.len() / 2);
                    shares.leave(tier, weight);
                    continue;
                }
                let weight = Weight { requests: 1, bytes };
                let (own, used) = (shares.own[tier], shares.used[tier]);
                let entered = shares.enter(tier, Priority::ALL[priority], weight);
                if entered {
                    inside.push((tier, weight));
                }
                let within = used.requests < own.requests && used.bytes + bytes <= own.bytes;
                prop_assert!(entered || priority > 0 || !within);
                let sum = |pick: fn(&Weight) -> u64| shares.used.iter().map(pick).sum::<u64>();
                prop_assert!(sum(|used| used.requests) <= 100 && sum(|used| used.bytes) <= 10_000);
            }
        }
    }
}
