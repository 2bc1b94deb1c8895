//! Going through what entered the statistics of a route once more.

use std::collections::HashMap;

use farthing_types::Time;

use super::Saved;
use crate::features::{HeadFacts, KeyStats, RouteStats, TTL_FEATURES, TtlInput, ttl_features};

/// Something that entered the statistics of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1 in each run.
    pub seq: i64,
    /// Key under which the statistics are kept (upper half).
    pub key: u64,
    /// Whether anything was known of the key before.
    pub known: bool,
    /// Under which time.
    pub at: Time,
    /// What it was.
    pub what: What,
}

/// What entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A client's request.
    Request,
    /// A whole answer.
    Answer {
        /// Its canonical digest.
        hash: u64,
        /// Whether the staleness of the copy steers the route.
        steers: bool,
    },
}

/// Why the statistics cannot be repeated from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Gap {
    /// Entries are missing: rows were thinned or dropped, or files removed.
    #[error("rows are missing (thinned above `log.row_rate`, dropped, or files removed)")]
    Missing,
    /// The state from which the run started is not there.
    #[error("the state from which the run started is missing")]
    NoStart,
    /// The proxy knew a key of which neither the log nor the state at the start says anything.
    #[error("a key was known of which the log says nothing")]
    UnknownKey,
}

/// Statistics of one route, repeated from the log of one run.
#[derive(Debug)]
pub struct Repeat<'a> {
    start: Option<&'a HashMap<u64, KeyStats>>,
    keys: HashMap<u64, KeyStats>,
    route: RouteStats,
    seq: i64,
    gap: Option<Gap>,
}

impl<'a> Repeat<'a> {
    /// The route `name` as it was when the run started. `start` is `None` where that is not known.
    pub fn new(name: &str, start: Option<(&'a Saved, &'a HashMap<u64, KeyStats>)>) -> Self {
        let route = start.and_then(|(saved, _)| saved.routes.iter().find(|(known, _)| known == name).map(|(_, stats)| stats.clone()));
        let gap = start.is_none().then_some(Gap::NoStart);
        Self { start: start.map(|(_, keys)| keys), keys: HashMap::new(), route: route.unwrap_or_default(), seq: 0, gap }
    }

    /// Lets the next entry in; answers the statistics of its key and of the route thereafter.
    ///
    /// # Errors
    /// [`Gap`], for this entry and all that follow: the statistics cannot be repeated any more.
    pub fn step(&mut self, entry: &Entry) -> Result<(&KeyStats, &RouteStats), Gap> {
        if self.gap.is_none() && entry.seq != self.seq + 1 {
            self.gap = Some(Gap::Missing);
        }
        if let Some(gap) = self.gap {
            return Err(gap);
        }
        self.seq = entry.seq;
        let start = self.start;
        let key = self.keys.entry(entry.key).or_insert_with(|| start.and_then(|keys| keys.get(&entry.key)).copied().unwrap_or_default());
        if !entry.known {
            *key = KeyStats::default();
        } else if !key.is_known() {
            self.gap = Some(Gap::UnknownKey);
            return Err(Gap::UnknownKey);
        }
        match entry.what {
            What::Request => {
                self.route.on_request_of(key, entry.at);
            }
            What::Answer { hash, steers } => {
                self.route.on_fetch(key, entry.at, hash);
                if !steers {
                    key.exempt_from_steering();
                }
            }
        }
        Ok((key, &self.route))
    }
}

/// The first feature, if any, that differs in a bit from what the statistics give.
pub fn differing(logged: &[f32], (key, route): (&KeyStats, &RouteStats), head: HeadFacts, now: Time) -> Option<usize> {
    let features = ttl_features(&TtlInput { key, route, head, now });
    if logged.len() != TTL_FEATURES {
        return Some(0);
    }
    logged.iter().zip(features).position(|(logged, computed)| logged.to_bits() != computed.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: i64, known: bool, what: What) -> Entry {
        Entry { seq, key: 5, known, at: Time::from_millis(1_700_000_000_000 + seq * 10_000), what }
    }

    fn answer(hash: u64) -> What {
        What::Answer { hash, steers: true }
    }

    #[test]
    fn the_statistics_are_those_of_the_proxy() {
        let (saved, keys) = (Saved::default(), HashMap::new());
        let mut repeat = Repeat::new("geo", Some((&saved, &keys)));
        let (mut key, mut route) = (KeyStats::default(), RouteStats::default());
        for seq in 1..40 {
            let now = entry(seq, seq > 1, What::Request);
            let now = Entry { what: if seq % 3 == 0 { answer(seq as u64 / 9) } else { What::Request }, ..now };
            match now.what {
                What::Request => {
                    route.on_request_of(&mut key, now.at);
                }
                What::Answer { hash, .. } => drop(route.on_fetch(&mut key, now.at, hash)),
            }
            assert_eq!(repeat.step(&now), Ok((&key, &route)));
        }
        let head = HeadFacts { body_bytes: 9, ..HeadFacts::default() };
        let now = Time::from_millis(1_700_000_500_000);
        let mut features = ttl_features(&TtlInput { key: &key, route: &route, head, now });
        assert_eq!(differing(&features, (&key, &route), head, now), None);
        features[4] = f32::from_bits(features[4].to_bits() + 1);
        assert_eq!(differing(&features, (&key, &route), head, now), Some(4), "one bit counts");
        assert_eq!(differing(&features[1..], (&key, &route), head, now), Some(0));
    }

    #[test]
    fn what_the_proxy_forgot_is_forgotten() {
        let (saved, keys) = (Saved::default(), HashMap::new());
        let mut repeat = Repeat::new("geo", Some((&saved, &keys)));
        repeat.step(&entry(1, false, What::Request)).unwrap();
        assert_eq!(repeat.step(&entry(2, true, answer(1))).unwrap().0.fetches(), 1);
        assert_eq!(repeat.step(&entry(3, false, answer(2))).unwrap().0.changes(), 0, "its slot was needed for another key");
    }

    #[test]
    fn gaps_are_said_and_last() {
        let (saved, keys) = (Saved::default(), HashMap::new());
        let mut repeat = Repeat::new("geo", Some((&saved, &keys)));
        repeat.step(&entry(1, false, What::Request)).unwrap();
        assert_eq!(repeat.step(&entry(3, true, What::Request)).unwrap_err(), Gap::Missing);
        assert_eq!(repeat.step(&entry(2, true, What::Request)).unwrap_err(), Gap::Missing);
        assert_eq!(Repeat::new("geo", None).step(&entry(1, false, What::Request)).unwrap_err(), Gap::NoStart);
        assert_eq!(Repeat::new("geo", Some((&saved, &keys))).step(&entry(1, true, answer(1))).unwrap_err(), Gap::UnknownKey);
    }

    #[test]
    fn a_run_goes_on_from_its_start() {
        let mut key = KeyStats::default();
        let mut route = RouteStats::default();
        key.on_request(Time::from_millis(1_600_000_000_000));
        route.on_fetch(&mut key, Time::from_millis(1_600_000_000_000), 4);
        let saved = Saved { routes: vec![("geo".into(), route)], ..Saved::default() };
        let keys = HashMap::from([(5, key)]);
        let mut repeat = Repeat::new("geo", Some((&saved, &keys)));
        let (key, route) = repeat.step(&entry(1, true, answer(9))).unwrap();
        assert_eq!((key.fetches(), key.changes(), route.changed_share()), (2, 1, Some(1.0)));
    }
}
