//! What of the statistics outlives a process: sums and means. Calls in flight and batches that are filling are of the moment.

use super::{StrategyStats, Sums};

/// Bytes of [`StrategyStats::encode`].
pub const STRATEGY_STATS_BYTES: usize = 2 * 8 + 2 * super::SUMS * 8 + 8 + 3 * 8;

impl StrategyStats {
    /// Fixed length, little endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(STRATEGY_STATS_BYTES);
        for ms in [self.first_ms, self.last_ms] {
            out.extend_from_slice(&ms.to_le_bytes());
        }
        let means = [self.log_latency, self.log_latency_square, self.log_bytes];
        for number in self.fast.values().into_iter().chain(self.slow.values()).chain(means) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&u64::from(self.calls).to_le_bytes());
        out
    }

    /// What [`StrategyStats::encode`] wrote; `None` for other bytes, and for numbers that no statistics have.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        if bytes.len() != STRATEGY_STATS_BYTES || !rest.is_empty() {
            return None;
        }
        let mut words = words.iter().copied();
        let (first_ms, last_ms) = (i64::from_le_bytes(words.next()?), i64::from_le_bytes(words.next()?));
        let (fast, slow) = (sums(&mut words)?, sums(&mut words)?);
        let (log_latency, log_latency_square, log_bytes) = (number(&mut words)?, number(&mut words)?, number(&mut words)?);
        let calls = u32::try_from(u64::from_le_bytes(words.next()?)).ok()?;
        Some(Self { first_ms, last_ms, fast, slow, calls, log_latency, log_latency_square, log_bytes, ..Self::default() })
    }
}

fn sums(words: &mut impl Iterator<Item = [u8; 8]>) -> Option<Sums> {
    let mut sums = Sums::default();
    for sum in sums.each() {
        *sum = number(words).filter(|number| *number >= 0.0)?;
    }
    Some(sums)
}

fn number(words: &mut impl Iterator<Item = [u8; 8]>) -> Option<f64> {
    words.next().map(f64::from_le_bytes).filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use farthing_types::{Span, Time};
    use proptest::prelude::*;

    use super::*;
    use crate::features::{BatchWindow, CacheView, KeySeen};

    proptest! {
        #[test]
        fn sums_and_means_come_back_and_damage_does_not(
            steps in proptest::collection::vec((0..5_000i64, 0..5u64, 0.0..1.0f32), 0..60), cut in 0..STRATEGY_STATS_BYTES,
        ) {
            let (mut stats, mut ms) = (StrategyStats::default(), 1_700_000_000_000);
            for (wait, key, needs_call) in steps {
                ms += wait;
                let view = CacheView { needs_call, stale: 0.01, cached: true };
                let batch = Some(BatchWindow { window: Span::from_millis(50), max: 3 });
                stats.on_request(Time::from_millis(ms), key, (KeySeen::Never, view), batch);
                stats.on_call(Span::from_millis(wait.unsigned_abs()), 100);
            }
            let bytes = stats.encode();
            let back = StrategyStats::decode(&bytes).unwrap();
            prop_assert_eq!((back.live(), back.fast(), back.latency(), back.requests()), (stats.live(), stats.fast(), stats.latency(), stats.requests()));
            prop_assert_eq!(back.encode(), bytes.clone());
            prop_assert_eq!(StrategyStats::decode(&bytes[..cut]), None);
            let mut wrong = bytes;
            wrong[16..24].copy_from_slice(&f64::NAN.to_le_bytes());
            prop_assert_eq!(StrategyStats::decode(&wrong), None);
        }
    }
}
