//! The interval of a paired difference: blocks of requests that belong together are resampled whole.
//!
//! Two policies that are replayed over the same requests differ block by block, a block being one key on one day: within it, requests
//! share copies, changes and statistics, so they are not independent. The difference of the totals is the sum of the blocks'
//! differences; its interval is the percentile bootstrap over blocks (Efron 1979; blocks for dependent data, Kuensch 1989), with
//! counter-based draws, so that the same data and seed give the same interval.

use std::collections::BTreeMap;

use farthing_types::{Draw, DrawKind, Time};

/// Nanoseconds of a day.
const DAY_NS: i64 = 86_400_000_000_000;
/// Resamples; the ends of a 95 % interval stand on 50 of them each.
const RESAMPLES: u32 = 2_000;
/// Blocks below which no interval is given: the bootstrap knows nothing of what it has not seen.
const MIN_BLOCKS: usize = 20;

/// Sums of two policies per key and day, in nano-dollars.
#[derive(Clone, Debug, Default)]
pub struct Paired {
    blocks: BTreeMap<(u64, i64), (i64, i64)>,
}

/// A difference of totals with its 95 % interval, in nano-dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Total of the first minus total of the second.
    pub point: i64,
    /// Interval; `None` with fewer than 20 blocks.
    pub interval: Option<(i64, i64)>,
    /// Blocks.
    pub blocks: usize,
}

impl Paired {
    /// Adds what the first policy paid for a key at a time.
    pub fn first(&mut self, key: u64, at: Time, nanos: i64) {
        self.block(key, at).0 += nanos;
    }

    /// Adds what the second policy paid.
    pub fn second(&mut self, key: u64, at: Time, nanos: i64) {
        self.block(key, at).1 += nanos;
    }

    fn block(&mut self, key: u64, at: Time) -> &mut (i64, i64) {
        self.blocks.entry((key, at.nanos().div_euclid(DAY_NS))).or_default()
    }

    /// Totals of both policies.
    pub fn totals(&self) -> (i64, i64) {
        self.blocks.values().fold((0, 0), |sum, block| (sum.0 + block.0, sum.1 + block.1))
    }

    /// First minus second, with its interval.
    pub fn difference(&self, seed: u64) -> Difference {
        let deltas: Vec<i64> = self.blocks.values().map(|block| block.0 - block.1).collect();
        let point = deltas.iter().sum();
        // Blocks without a difference only matter by their number: a resample draws how many of the others it gets.
        let interval = (deltas.len() >= MIN_BLOCKS).then(|| percentile(&deltas, seed));
        Difference { point, interval, blocks: deltas.len() }
    }
}

/// The 2.5 % and 97.5 % points of the resampled sums.
fn percentile(deltas: &[i64], seed: u64) -> (i64, i64) {
    let draw = Draw::new(seed);
    let resample = |round: u32| -> i64 {
        let mut state = draw.bits(DrawKind::Sample, "paired", u128::from(round), 0);
        (0..deltas.len()).map(|_| deltas[place(&mut state, deltas.len())]).sum()
    };
    let mut sums: Vec<i64> = (0..RESAMPLES).map(resample).collect();
    sums.sort_unstable();
    let at = |share: f64| sums[((sums.len() - 1) as f64 * share).round() as usize];
    (at(0.025), at(0.975))
}

/// The next place below `len`, by SplitMix64 and multiplication: a resample needs one draw per block, so a hash for each would be dear.
fn place(state: &mut u64, len: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut x = *state;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    ((u128::from(x) * len as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: i64) -> Time {
        Time::from_millis(n * 86_400_000 + 5)
    }

    #[test]
    fn few_blocks_give_no_interval() {
        let mut paired = Paired::default();
        paired.first(1, day(0), 5);
        paired.second(1, day(0), 3);
        paired.second(2, day(0), 3);
        assert_eq!(paired.difference(1), Difference { point: -1, interval: None, blocks: 2 });
        assert_eq!(paired.totals(), (5, 6));
    }

    #[test]
    fn the_interval_covers_the_truth_at_its_rate() {
        // Blocks with differences of mean -10 and spread 100: over many data sets the interval holds the mean in about 95 %.
        let (mut covered, sets) = (0, 200);
        for set in 0..sets {
            let (mut paired, draw) = (Paired::default(), Draw::new(set));
            for key in 0..150u64 {
                let u = draw.uniform(DrawKind::Sample, "data", u128::from(key), 0);
                paired.first(key, day(3), (u * 346.4 - 183.2) as i64);
                paired.second(key, day(3), 0);
            }
            let (low, high) = paired.difference(set).interval.unwrap();
            covered += i32::from((low..=high).contains(&-1_500));
        }
        assert!((180..=200).contains(&covered), "{covered} of {sets}");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let mut paired = Paired::default();
        (0..40).for_each(|key| paired.first(key, day(0), (key as i64 - 20) * 7));
        assert_eq!(paired.difference(4), paired.difference(4));
        assert_ne!(paired.difference(4).interval, paired.difference(5).interval);
    }
}
