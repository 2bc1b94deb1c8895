//! Statistics of keys and routes as one checksummed file.

use sha2::{Digest, Sha256};

use farthing_types::Time;

use super::framing::{Reader, put_bytes, put_count};
use crate::features::{KEY_STATS_BYTES, KeyStats, RouteStats};

const MAGIC: &[u8; 8] = b"FSTATS01";
/// Version of the bytes of [`RouteStats::encode`]; counts every change of its fields.
pub const LAYOUT: u32 = 5;
const CHECKSUM: usize = 32;

/// What is known about one key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeyState {
    /// Upper half of the key, as in the log.
    pub key: u64,
    /// Its lowest bits: they place it in the proxy's table.
    pub place: u32,
    /// Its statistics.
    pub stats: KeyStats,
}

/// The statistics of a proxy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// The run that saved them; 0 for a state that nobody saved.
    pub run: u64,
    /// When, on the proxy's clock.
    pub at: Time,
    /// Of the routes, by name.
    pub routes: Vec<(String, RouteStats)>,
    /// Of the keys.
    pub keys: Vec<KeyState>,
}

/// Bytes that are no saved statistics of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedError {
    /// It does not begin as such a file does.
    #[error("not a file of saved statistics")]
    Foreign,
    /// It was written with other fields.
    #[error("layout {found}, this build reads layout {LAYOUT}")]
    Layout {
        /// Its layout.
        found: u32,
    },
    /// Cut off, or changed since it was written.
    #[error("damaged: the checksum does not fit")]
    Damaged,
}

impl Saved {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.routes.len() * 4_096 + self.keys.len() * (12 + KEY_STATS_BYTES));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&LAYOUT.to_le_bytes());
        out.extend_from_slice(&self.run.to_le_bytes());
        out.extend_from_slice(&self.at.nanos().to_le_bytes());
        put_count(&mut out, self.routes.len());
        for (name, stats) in &self.routes {
            put_bytes(&mut out, name.as_bytes());
            put_bytes(&mut out, &stats.encode());
        }
        put_count(&mut out, self.keys.len());
        for KeyState { key, place, stats } in &self.keys {
            out.extend_from_slice(&key.to_le_bytes());
            out.extend_from_slice(&place.to_le_bytes());
            out.extend_from_slice(&stats.encode());
        }
        let checksum = Sha256::digest(&out);
        out.extend_from_slice(&checksum);
        out
    }

    /// Reads what [`Saved::encode`] wrote.
    ///
    /// # Errors
    /// [`SavedError`]: foreign, of another layout, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, SavedError> {
        let after_magic = bytes.strip_prefix(MAGIC).ok_or(SavedError::Foreign)?;
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(SavedError::Damaged)?;
        let layout = after_magic.first_chunk().map(|head| u32::from_le_bytes(*head)).ok_or(SavedError::Damaged)?;
        if layout != LAYOUT {
            return Err(SavedError::Layout { found: layout });
        }
        if Sha256::digest(content).as_slice() != checksum {
            return Err(SavedError::Damaged);
        }
        content.get(MAGIC.len() + 4..).and_then(|rest| Self::take(&mut Reader(rest))).ok_or(SavedError::Damaged)
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let run = u64::from_le_bytes(from.chunk()?);
        let at = Time::from_nanos(i64::from_le_bytes(from.chunk()?));
        let mut routes = Vec::new();
        for _ in 0..from.count()? {
            let name = String::from_utf8(from.bytes()?.to_vec()).ok()?;
            routes.push((name, RouteStats::decode(from.bytes()?)?));
        }
        let mut keys = Vec::new();
        for _ in 0..from.count()? {
            let (key, place) = (u64::from_le_bytes(from.chunk()?), u32::from_le_bytes(from.chunk()?));
            keys.push(KeyState { key, place, stats: KeyStats::decode(&from.chunk()?) });
        }
        from.0.is_empty().then_some(Self { run, at, routes, keys })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn saved(steps: &[(u64, bool, i64, u64)]) -> Saved {
        let (mut route, mut keys, mut ms) = (RouteStats::with_stale_budget(0.01), vec![KeyStats::default(); 4], 1_700_000_000_000);
        for (key, request, wait, hash) in steps {
            ms += wait;
            let stats = &mut keys[*key as usize % 4];
            if *request {
                route.on_request(Time::from_millis(ms), stats.fetches() == 0);
                stats.on_request(Time::from_millis(ms));
            } else {
                route.on_fetch(stats, Time::from_millis(ms), *hash);
            }
        }
        let keys = (0..).zip(keys).map(|(key, stats)| KeyState { key, place: key as u32 * 77, stats }).collect();
        Saved { run: 7, at: Time::from_millis(ms), routes: vec![("geo".into(), route), ("empty".into(), RouteStats::default())], keys }
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, bool, i64, u64)>> {
        proptest::collection::vec((0..4u64, any::<bool>(), prop_oneof![0..5_000i64, 0..40_000_000i64], 0..3u64), 0..200)
    }

    proptest! {
        #[test]
        fn what_is_saved_comes_back_exactly(steps in steps()) {
            let saved = saved(&steps);
            prop_assert_eq!(Saved::decode(&saved.encode()), Ok(saved));
        }

        #[test]
        fn a_file_that_is_cut_or_changed_is_refused(steps in steps(), at in any::<prop::sample::Index>(), bit in 0..8u32, cut in any::<prop::sample::Index>()) {
            let bytes = saved(&steps).encode();
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= 1 << bit;
            prop_assert!(Saved::decode(&changed).is_err());
            prop_assert!(Saved::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn foreign_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Saved::decode(&bytes).is_err());
            let framed = [MAGIC.as_slice(), &LAYOUT.to_le_bytes(), &bytes].concat();
            prop_assert!(Saved::decode(&framed).is_err());
        }
    }

    /// A change of the fields without a new layout would read old files as something else.
    #[test]
    fn the_layout_is_that_of_the_fixture() {
        let steps: Vec<_> = (0..500u64).map(|i| (i * 7 % 4, i % 3 > 0, (i * 12_345 % 90_000) as i64, i / 40)).collect();
        let bytes = saved(&steps).encode();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/statistics/fixtures/layout-5.stats");
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(path, &bytes).unwrap();
        }
        let fixture = std::fs::read(path).unwrap();
        assert_eq!(fixture.len(), bytes.len(), "fields were added or removed: raise LAYOUT");
        let read = Saved::decode(&fixture).unwrap();
        assert_eq!((read.run, read.keys.len()), (7, 4));
        assert!(read.routes[0].1.refetches() > 100.0 && read.routes[0].1.longest_gap() > farthing_types::Span::from_secs(60));
    }

    #[test]
    fn another_layout_is_named() {
        let mut bytes = saved(&[]).encode();
        bytes[8] = 9;
        assert_eq!(Saved::decode(&bytes), Err(SavedError::Layout { found: 9 }));
    }
}
