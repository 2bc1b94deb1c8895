//! The provider's own cache of prompts: what it makes of a bill, and when writing to it pays.
//!
//! A prompt is a list of blocks of equal length; a block stands for itself and everything before it, so equal ids mean equal prefixes. The
//! provider bills input that it has kept at a lower rate, and forgets a block some time after its last use.

use std::collections::HashMap;

use farthing_types::{Money, Span, Time};

use crate::cost::{Meters, Units};

/// How the provider keeps prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptCacheTerms {
    /// How long a block is kept after its last use.
    pub ttl: Span,
    /// Input units in a block.
    pub block: u64,
    /// Most blocks that are followed; what was used longest ago is forgotten first.
    pub capacity: usize,
}

/// Which blocks the provider has kept.
#[derive(Clone, Debug)]
pub struct PromptCache {
    terms: PromptCacheTerms,
    used: HashMap<u64, Time>,
}

impl PromptCache {
    /// Nothing kept.
    pub fn new(terms: PromptCacheTerms) -> Self {
        Self { terms, used: HashMap::new() }
    }

    /// A call at `now` with `input` units in `blocks`: how many of them the provider has kept. The call keeps all its blocks alive.
    pub fn call(&mut self, now: Time, blocks: &[u64], input: u64) -> u64 {
        let kept = self.kept(now, blocks, input);
        self.used.extend(blocks.iter().map(|block| (*block, now)));
        if self.used.len() > self.terms.capacity {
            self.forget(now);
        }
        kept
    }

    /// How many of `input` units in `blocks` the provider has kept, without a call.
    pub fn kept(&self, now: Time, blocks: &[u64], input: u64) -> u64 {
        let warm = |block: &&u64| self.used.get(*block).is_some_and(|used| now.since(*used) <= self.terms.ttl);
        let kept = blocks.iter().take_while(warm).count() as u64;
        kept.saturating_mul(self.terms.block).min(input)
    }

    /// Forgets what has expired, and of the rest the older half of what does not fit.
    fn forget(&mut self, now: Time) {
        let ttl = self.terms.ttl;
        self.used.retain(|_, used| now.since(*used) <= ttl);
        if self.used.len() > self.terms.capacity {
            let mut times: Vec<Time> = self.used.values().copied().collect();
            times.sort_unstable();
            let cut = times[times.len() - self.terms.capacity / 2];
            self.used.retain(|_, used| *used >= cut);
        }
    }

    /// Blocks followed.
    pub fn blocks(&self) -> usize {
        self.used.len()
    }
}

/// A bill with the provider's prompt cache, and what it would be without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptBill {
    /// Paid.
    pub bill: Money,
    /// Every input unit at the full rate.
    pub base: Money,
    /// Input units that were kept.
    pub cached: u64,
    /// All input units.
    pub input: u64,
}

impl PromptBill {
    /// Adds a call.
    pub fn add(&mut self, meters: &Meters, (input, cached): (u64, u64), output: u64) {
        let cached = cached.min(input);
        self.bill += meters.cost(Units { input: input - cached, cached_input: cached, output });
        self.base += meters.cost(Units { input, cached_input: 0, output });
        self.cached += cached;
        self.input += input;
    }

    /// Bill / base.
    pub fn share(&self) -> f64 {
        if self.base == Money::ZERO { 1.0 } else { self.bill.nanos() as f64 / self.base.nanos() as f64 }
    }
}

/// Prices of a prompt cache that bills writing, in thousandths of the price of plain input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WritePrices {
    /// An input unit that is written to the cache, such as 1,250.
    pub write: u32,
    /// An input unit that is read from it, such as 100.
    pub read: u32,
}

impl WritePrices {
    /// Reads of a prefix, expected before it is forgotten, above which writing it pays: `(write - 1) / (1 - read)`. Each read saves
    /// `1 - read`, the write costs `write - 1` more than plain input. `None` when no number of reads makes up for it.
    pub fn reads_to_pay(&self) -> Option<f64> {
        let saved = 1_000 - i64::from(self.read);
        (saved > 0).then(|| (i64::from(self.write) - 1_000).max(0) as f64 / saved as f64)
    }

    /// Whether writing pays when `expected_reads` are expected.
    pub fn write_pays(&self, expected_reads: f64) -> bool {
        self.reads_to_pay().is_some_and(|reads| expected_reads > reads)
    }

    /// Probability of another use within the next lifetime above which a call that keeps the prefix warm pays: it reads the prefix once
    /// (and costs `overhead` thousandths of plain input besides), and spares a new write when the use comes. `None` when it never pays.
    pub fn reuse_to_ping(&self, overhead: u32) -> Option<f64> {
        let spared = i64::from(self.write) - i64::from(self.read);
        let ping = i64::from(self.read) + i64::from(overhead);
        (spared > 0 && ping < spared).then(|| ping as f64 / spared as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use farthing_types::Rate;

    const TERMS: PromptCacheTerms = PromptCacheTerms { ttl: Span::from_secs(300), block: 512, capacity: 1_000 };

    fn meters() -> Meters {
        Meters {
            call: Money::ZERO,
            input: Rate::per_million(2_500_000_000),
            cached_input: Rate::per_million(1_250_000_000),
            output: Rate::per_million(10_000_000_000),
        }
    }

    #[test]
    fn the_longest_warm_prefix_is_cached_and_kept_alive() {
        let mut cache = PromptCache::new(TERMS);
        let at = |s: i64| Time::from_millis(s * 1_000);
        assert_eq!(cache.call(at(0), &[1, 2, 3], 1_400), 0);
        assert_eq!(cache.call(at(200), &[1, 2, 9], 1_400), 1_024);
        // Block 3 was last used at 0, its prefix at 200.
        assert_eq!(cache.call(at(400), &[1, 2, 3], 1_400), 1_024);
        assert_eq!(cache.call(at(500), &[1, 2, 3], 1_400), 1_400, "no more than there is");
        assert_eq!(cache.call(at(801), &[1, 2, 3], 1_400), 0);
        assert_eq!(cache.call(at(802), &[7, 2, 3], 1_400), 0, "a prefix begins at the beginning");
    }

    #[test]
    fn break_evens_are_those_of_the_formulas() {
        let five_minutes = WritePrices { write: 1_250, read: 100 };
        let one_hour = WritePrices { write: 2_000, read: 100 };
        assert!((five_minutes.reads_to_pay().unwrap() - 0.25 / 0.9).abs() < 1e-12);
        assert!((one_hour.reads_to_pay().unwrap() - 1.0 / 0.9).abs() < 1e-12);
        assert!(five_minutes.write_pays(0.3) && !five_minutes.write_pays(0.27) && !one_hour.write_pays(1.1) && one_hour.write_pays(1.2));
        assert!((five_minutes.reuse_to_ping(0).unwrap() - 0.1 / 1.15).abs() < 1e-12);
        assert_eq!(WritePrices { write: 1_000, read: 1_000 }.reads_to_pay(), None);
        assert_eq!(WritePrices { write: 1_000, read: 900 }.reuse_to_ping(0), None, "reading costs more than it spares");
        assert!(WritePrices { write: 1_000, read: 500 }.write_pays(0.01), "a free write pays with any read");
    }

    proptest! {
        #[test]
        fn the_bill_is_exact_and_memory_is_bounded(
            calls in proptest::collection::vec((0..100_000i64, proptest::collection::vec(0..400u64, 1..20), 1..20_000u64, 0..2_000u64), 1..200),
            capacity in 10..200usize,
        ) {
            let mut cache = PromptCache::new(PromptCacheTerms { capacity, ..TERMS });
            let (mut sum, mut now, mut exact) = (PromptBill::default(), 0, 0i128);
            for (wait, blocks, input, output) in calls {
                now += wait;
                let cached = cache.call(Time::from_millis(now), &blocks, input);
                prop_assert!(cached <= input && cache.blocks() <= capacity + 20);
                sum.add(&meters(), (input, cached), output);
                exact += i128::from(input - cached) * 2_500 + i128::from(cached) * 1_250 + i128::from(output) * 10_000;
            }
            prop_assert_eq!(i128::from(sum.bill.nanos()), exact);
            prop_assert!(sum.bill <= sum.base && sum.share() <= 1.0);
        }

        #[test]
        fn a_write_pays_exactly_when_it_lowers_the_bill(write in 1_000..3_000u32, read in 0..999u32, reads in 0..20u32) {
            let prices = WritePrices { write, read };
            let (with, without) = (i64::from(write) + i64::from(reads) * i64::from(read), 1_000 * (1 + i64::from(reads)));
            prop_assert_eq!(prices.write_pays(f64::from(reads)), with < without);
        }
    }
}
