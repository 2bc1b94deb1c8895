//! Latencies in logarithmic buckets: bounded memory, relative error below 3.2 %, recording without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets per power of two.
const SUB: usize = 32;
const SUB_BITS: u32 = SUB.trailing_zeros();
/// Values from 1 to 2^40 units.
const BUCKETS: usize = (41 - SUB_BITS as usize) * SUB;

/// A histogram of non-negative integers (the driver counts nanoseconds).
#[derive(Debug)]
pub struct Histogram {
    buckets: Vec<AtomicU64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&self, value: u64) {
        self.buckets[index(value)].fetch_add(1, Ordering::Relaxed);
    }
    /// Number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).sum()
    }
    /// The value below which a share `q` of the values lies (upper edge of its bucket); `None` without values.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let total = self.count();
        let rank = (q.clamp(0.0, 1.0) * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if seen >= rank {
                return Some(upper_edge(index));
            }
        }
        None
    }
}

/// Small values have a bucket each; above, `SUB` buckets share each power of two.
fn index(value: u64) -> usize {
    let value = value.min((1 << 40) - 1);
    if value < SUB as u64 {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    (shift as usize + 1) * SUB + ((value >> shift) as usize - SUB)
}

fn upper_edge(index: usize) -> u64 {
    if index < SUB {
        return index as u64;
    }
    let shift = index / SUB - 1;
    (((index % SUB + SUB + 1) as u64) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_within_the_error() {
        for value in (0..2_000).chain((0..40).map(|p| (1u64 << p) - 1)).chain((0..40).map(|p| 1u64 << p)) {
            let edge = upper_edge(index(value));
            assert!(edge >= value && edge as f64 <= value as f64 * (1.0 + 1.0 / SUB as f64), "{value}: {edge}");
        }
        let edges: Vec<u64> = (0..BUCKETS).map(upper_edge).collect();
        assert!(edges.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=10_000).for_each(|v| histogram.record(v));
        for (q, value) in [(0.5, 5_000.0), (0.95, 9_500.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let found = histogram.quantile(q).unwrap() as f64;
            assert!((found / value - 1.0).abs() < 0.033, "{q}: {found}");
        }
        histogram.record(u64::MAX);
        assert_eq!(histogram.count(), 10_001);
    }
}
