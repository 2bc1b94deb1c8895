//! What routes know for the strategy decision, as one checksummed file.

use farthing_types::Time;
use sha2::{Digest, Sha256};

use super::framing::{Reader, put_bytes, put_count};
use crate::features::StrategyStats;

/// Names the layout, too: another one gets another name.
const MAGIC: &[u8; 8] = b"FPLANS01";
const CHECKSUM: usize = 32;

/// Name of the file with which the next process starts, for an instance's name.
pub fn plans_file(instance: &str) -> String {
    format!("plans-{instance}.stats")
}

/// The statistics of the strategy decision, by route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedPlans {
    /// When they were saved, on the proxy's clock.
    pub at: Time,
    /// Of each route.
    pub routes: Vec<(String, StrategyStats)>,
}

impl SavedPlans {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.at.nanos().to_le_bytes());
        put_count(&mut out, self.routes.len());
        for (name, stats) in &self.routes {
            put_bytes(&mut out, name.as_bytes());
            put_bytes(&mut out, &stats.encode());
        }
        let checksum = Sha256::digest(&out);
        out.extend_from_slice(&checksum);
        out
    }

    /// What [`SavedPlans::encode`] wrote; `None` for a file that is foreign, of another layout, cut off or changed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
        let mut from = Reader(content.strip_prefix(MAGIC)?);
        if Sha256::digest(content).as_slice() != checksum {
            return None;
        }
        let at = Time::from_nanos(i64::from_le_bytes(from.chunk()?));
        let mut routes = Vec::new();
        for _ in 0..from.count()? {
            routes.push((String::from_utf8(from.bytes()?.to_vec()).ok()?, StrategyStats::decode(from.bytes()?)?));
        }
        from.0.is_empty().then_some(Self { at, routes })
    }
}

#[cfg(test)]
mod tests {
    use farthing_types::Span;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_whole_file_comes_back_and_no_other(calls in 0..50u64, at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let mut stats = StrategyStats::default();
            (0..calls).for_each(|n| stats.on_call(Span::from_millis(n), n));
            let saved = SavedPlans { at: Time::from_millis(5), routes: vec![("geo".into(), stats), ("empty".into(), StrategyStats::default())] };
            let bytes = saved.encode();
            prop_assert_eq!(SavedPlans::decode(&bytes), Some(saved));
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= 1 << bit;
            prop_assert_eq!(SavedPlans::decode(&changed), None);
            prop_assert_eq!(SavedPlans::decode(&bytes[..at.index(bytes.len())]), None);
        }
    }
}
