//! What was foretold of copies that are held: a table of fixed size. Who finds no room is not judged; that says nothing about what will become of it,
//! given its gap, so what is judged stays fair.

use farthing_policy::Forecast;
use farthing_types::{KeyHash, Time};
use parking_lot::Mutex;

use super::SCORED;

/// Places, about 300 bytes each; made when the first is needed.
const PLACES: usize = 1 << 14;
const SHARDS: usize = 16;

/// What one predictor said.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// Which candidate; 0 for none.
    pub number: u64,
    /// Its TTL, seconds.
    pub ttl: f64,
    /// What it foretold.
    pub forecast: Forecast,
}

/// What was foretold of one copy.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// The key.
    pub key: KeyHash,
    /// When it was fetched.
    pub at: Time,
    /// Requests per second for the key.
    pub rate: f64,
    /// The live statistics of its route had settled.
    pub settled: bool,
    /// The champion's version; `None` where it said nothing.
    pub champion: Option<u32>,
    /// TTL in force outside of a canary, seconds.
    pub ttl: f64,
    /// What the champion foretold, or the live statistics where it said nothing.
    pub predicted: Forecast,
    /// What the live statistics foretold.
    pub statistics: Forecast,
    /// What the candidates said.
    pub candidates: [Option<Said>; SCORED.len()],
}

/// See the module.
#[derive(Default)]
pub struct Fills([Mutex<Vec<Option<Fill>>>; SHARDS]);

impl Fills {
    fn place(key: KeyHash) -> (usize, usize) {
        let mixed = key.short().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed >> 60) as usize % SHARDS, (mixed >> 20) as usize % (PLACES / SHARDS))
    }

    /// Keeps what was foretold; what stood in its place is forgotten.
    pub fn put(&self, fill: Fill) {
        let (shard, place) = Self::place(fill.key);
        let mut places = self.0[shard].lock();
        if places.is_empty() {
            places.resize(PLACES / SHARDS, None);
        }
        places[place] = Some(fill);
    }

    /// What was foretold of the copy of a key that was fetched then; entries from outside of memory know that to the millisecond.
    pub fn take(&self, key: KeyHash, at: Time) -> Option<Fill> {
        let (shard, place) = Self::place(key);
        let mut places = self.0[shard].lock();
        let slot = places.get_mut(place)?;
        let found = slot.filter(|fill| fill.key == key && fill.at.nanos() / 1_000_000 == at.nanos() / 1_000_000)?;
        *slot = None;
        Some(found)
    }
}
