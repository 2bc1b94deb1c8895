//! What the bound of a refill needs to know of the run before: which copies there were, and how often providers were called.

use farthing_cache::SavedCopy;
use farthing_contract::statistics::framing::{Reader, put_bytes, put_count};
use farthing_types::Time;

const MAGIC: &[u8; 8] = b"FCOPIES1";
const CHECKSUM: usize = 32;

/// What a restart without the copies has lost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// When it was written, on the proxy's clock.
    pub at: Time,
    /// Calls per second by provider.
    pub rates: Vec<(String, f64)>,
    /// Size of the table that the copies are from.
    pub capacity: u64,
    /// Copies that should be fresh.
    pub copies: Vec<SavedCopy>,
}

impl Losses {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.copies.len() * 12);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.at.nanos().to_le_bytes());
        put_count(&mut out, self.rates.len());
        for (name, rate) in &self.rates {
            put_bytes(&mut out, name.as_bytes());
            out.extend_from_slice(&rate.to_le_bytes());
        }
        out.extend_from_slice(&self.capacity.to_le_bytes());
        put_count(&mut out, self.copies.len());
        for SavedCopy { place, slot } in &self.copies {
            out.extend_from_slice(&place.to_le_bytes());
            out.extend_from_slice(&slot.to_le_bytes());
        }
        let checksum = *blake3::hash(&out).as_bytes();
        out.extend_from_slice(&checksum);
        out
    }

    /// Reads what [`Losses::encode`] wrote; `None` for anything else, which is then not known.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
        let rest = content.strip_prefix(MAGIC)?;
        (blake3::hash(content).as_bytes() == checksum).then_some(())?;
        Self::take(&mut Reader(rest))
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let at = Time::from_nanos(i64::from_le_bytes(from.chunk()?));
        let mut rates = Vec::new();
        for _ in 0..from.count()? {
            let name = String::from_utf8(from.bytes()?.to_vec()).ok()?;
            rates.push((name, f64::from_le_bytes(from.chunk()?)));
        }
        let capacity = u64::from_le_bytes(from.chunk()?);
        let mut copies = Vec::new();
        for _ in 0..from.count()? {
            copies.push(SavedCopy { place: u32::from_le_bytes(from.chunk()?), slot: u64::from_le_bytes(from.chunk()?) });
        }
        from.0.is_empty().then_some(Self { at, rates, capacity, copies })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_saved_comes_back_and_nothing_else_is_read(
            rates in proptest::collection::vec(("[a-z]{0,9}", 0.0..1e6f64), 0..4),
            copies in proptest::collection::vec((any::<u32>(), any::<u64>()), 0..50),
            (at, bit) in (any::<prop::sample::Index>(), 0..8u32),
        ) {
            let copies: Vec<_> = copies.into_iter().map(|(place, slot)| SavedCopy { place, slot }).collect();
            let losses = Losses { at: Time::from_millis(5), rates, capacity: 512, copies };
            let bytes = losses.encode();
            prop_assert_eq!(Losses::decode(&bytes), Some(losses));
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= 1 << bit;
            prop_assert_eq!(Losses::decode(&changed), None);
            prop_assert_eq!(Losses::decode(&bytes[..at.index(bytes.len())]), None);
        }
    }
}
