//! What was foretold of copies that are held: a table of fixed size. Who finds no room is not judged; that says nothing about what will become of it,
//! given its gap, so what is judged stays fair.

use farthing_policy::Forecast;
use farthing_types::{KeyHash, Time};
use parking_lot::Mutex;

use super::SCORED;

/// Places, about 500 bytes each; made when the first is needed.
const PLACES: usize = 1 << 13;
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

/// What was foretold of the copy that is about to be stored, and of the one before it, whose end is told only then.
type Place = [Option<Fill>; 2];

/// See the module.
#[derive(Default)]
pub struct Fills([Mutex<Vec<Place>>; SHARDS]);

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
            places.resize(PLACES / SHARDS, [None; 2]);
        }
        let before = places[place][0].filter(|before| before.key == fill.key);
        places[place] = [Some(fill), before];
    }

    /// What was foretold of the copy of a key that was fetched then; entries from outside of memory know that to the millisecond.
    pub fn take(&self, key: KeyHash, at: Time) -> Option<Fill> {
        let (shard, place) = Self::place(key);
        let mut places = self.0[shard].lock();
        let is_it = |fill: &Fill| fill.key == key && fill.at.nanos() / 1_000_000 == at.nanos() / 1_000_000;
        places.get_mut(place)?.iter_mut().find(|fill| fill.as_ref().is_some_and(is_it))?.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(key: u128, at: i64) -> Fill {
        Fill {
            key: KeyHash(key << 64),
            at: Time::from_millis(at),
            rate: 1.0,
            settled: true,
            champion: None,
            ttl: 60.0,
            predicted: Forecast::default(),
            statistics: Forecast::default(),
            candidates: [None; SCORED.len()],
        }
    }

    #[test]
    fn a_copy_is_found_after_its_successor_was_foretold_and_once() {
        let fills = Fills::default();
        (1..=3).for_each(|at| fills.put(fill(7, at)));
        let taken = |at| fills.take(KeyHash(7 << 64), Time::from_millis(at)).is_some();
        assert_eq!([taken(1), taken(2), taken(2), taken(3)], [false, true, false, true]);
        (0..100_000).for_each(|key| fills.put(fill(key, 1)));
        let kept = (0..100_000).filter(|key| fills.take(KeyHash(key << 64), Time::from_millis(1)).is_some()).count();
        assert!(kept > PLACES / 2 && kept <= PLACES, "{kept}");
    }
}
