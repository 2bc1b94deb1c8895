//! A histogram of durations with fixed logarithmic buckets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_types::Span;
use serde::Serialize;

/// Buckets per doubling: a quantile is off by at most 1/8 of its value.
const PER_OCTAVE: usize = 8;
/// The first bucket ends at 2^7 = 128 ns, the last regular one at 2^37 ns = 137 s.
const FIRST: u32 = 7;
const OCTAVES: usize = 30;
/// One bucket below the first octave and one above the last.
const BUCKETS: usize = PER_OCTAVE * OCTAVES + 2;

/// Counts durations; adding is two relaxed atomic additions.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Adds one duration.
    pub fn record(&self, span: Span) {
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get(bucket(ns)) {
            count.fetch_add(1, Relaxed);
        }
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    /// The counts as they are now.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut snapshot = HistogramSnapshot { sum_ns: self.sum_ns.load(Relaxed), ..HistogramSnapshot::default() };
        for (index, count) in self.counts.iter().enumerate() {
            let count = count.load(Relaxed);
            if count > 0 {
                snapshot.count += count;
                snapshot.buckets.push((upper(index), count));
            }
        }
        snapshot
    }
}

fn bucket(ns: u64) -> usize {
    let octave = ns.max(1).ilog2();
    match octave.checked_sub(FIRST).map(|octave| octave as usize) {
        None => 0,
        Some(above) if above >= OCTAVES => BUCKETS - 1,
        // The three bits below the leading one choose the part of the octave.
        Some(above) => 1 + above * PER_OCTAVE + (ns >> (octave - 3)) as usize % PER_OCTAVE,
    }
}

/// The exclusive upper edge of a bucket, ns; `u64::MAX` for the last.
fn upper(index: usize) -> u64 {
    match index.checked_sub(1) {
        None => 1 << FIRST,
        Some(above) if above >= PER_OCTAVE * OCTAVES => u64::MAX,
        Some(above) => ((above % PER_OCTAVE + PER_OCTAVE + 1) as u64) << (FIRST as usize + above / PER_OCTAVE - 3),
    }
}

/// A histogram at one moment; only buckets that hold something are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HistogramSnapshot {
    /// Durations counted.
    pub count: u64,
    /// Their sum, ns.
    pub sum_ns: u64,
    /// (exclusive upper edge in ns, count), ascending; the edge of the last regular bucket is 2^37, beyond it `u64::MAX`.
    pub buckets: Vec<(u64, u64)>,
}

impl HistogramSnapshot {
    /// The duration below or at which the share `q` of all lies, as the upper edge of its bucket (at most 1/8 too high).
    /// `None` without durations.
    pub fn quantile(&self, q: f64) -> Option<Span> {
        let rank = ((self.count as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        found.map(|(upper, _)| Span::from_nanos(*upper))
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        let mut all: std::collections::BTreeMap<u64, u64> = self.buckets.iter().copied().collect();
        for (upper, count) in &other.buckets {
            *all.entry(*upper).or_default() += count;
        }
        self.buckets = all.into_iter().collect();
        self.count += other.count;
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// What came in since `earlier`, a snapshot of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        let before: std::collections::BTreeMap<u64, u64> = earlier.buckets.iter().copied().collect();
        let rest = |(upper, count): &(u64, u64)| (*upper, count.saturating_sub(before.get(upper).copied().unwrap_or(0)));
        let buckets: Vec<_> = self.buckets.iter().map(rest).filter(|(_, count)| *count > 0).collect();
        Self { count: buckets.iter().map(|(_, count)| count).sum(), sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns), buckets }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_duration_lies_below_its_bucket_and_not_far(ns in 0u64..1 << 36) {
            let edge = upper(bucket(ns));
            prop_assert!(ns < edge);
            prop_assert!(ns < 128 || edge - ns <= ns / 8 + 1, "{ns} {edge}");
        }

        #[test]
        fn buckets_ascend(ns in 0u64..u64::MAX / 2) {
            prop_assert!(bucket(ns) <= bucket(ns * 2));
            prop_assert!(bucket(ns) < BUCKETS);
        }
    }

    #[test]
    fn quantiles_of_a_thousand() {
        let histogram = Histogram::default();
        for micros in 1..=1_000 {
            histogram.record(Span::from_micros(micros));
        }
        let snapshot = histogram.snapshot();
        for (q, micros) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0)] {
            let found = snapshot.quantile(q).unwrap().as_secs_f64() * 1e6;
            assert!((micros..=micros * 1.13).contains(&found), "{q}: {found}");
        }
        assert_eq!(HistogramSnapshot::default().quantile(0.5), None);
    }

    #[test]
    fn merge_and_since_are_inverse() {
        let (a, b) = (Histogram::default(), Histogram::default());
        a.record(Span::from_millis(3));
        b.record(Span::from_millis(3));
        b.record(Span::from_secs(500));
        let mut all = a.snapshot();
        all.merge(&b.snapshot());
        assert_eq!(all.count, 3);
        assert_eq!(all.since(&a.snapshot()), b.snapshot());
        assert_eq!(all.quantile(1.0), Some(Span::from_nanos(u64::MAX)));
    }
}
