//! Requests on their way into the statistics of the strategy decision. On a hit one is a write into room that is there already, under the lock
//! that the route's statistics are noted under anyway; what follows is done in the background.

use farthing_contract::features::{KeySeen, KeyStats};
use farthing_types::{KeyHash, Span, Time, UncachedReason};

/// Room at first; each requests takes 32 bytes.
const FIRST: usize = 16;
/// Most room: 128 KiB, and as much for those that are being looked at.
const MOST: usize = 4_096;
/// The place of a request that found no room.
const NOWHERE: u64 = u64::MAX;

/// What came of a request, as far as the cache goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The cache was asked, and a copy or a call under way was enough.
    Kept,
    /// The cache was asked, and a call was needed.
    Led,
    /// The cache was left out, and a call was needed.
    Passed,
    /// The cache was left out, and a call under way was enough.
    Joined,
    /// Nothing of the cache is for this request, whatever is chosen.
    Never,
}

impl How {
    /// Of a request that the cache has no part in: whether it would have one if it were chosen.
    pub const fn without(reason: UncachedReason) -> Self {
        match reason {
            UncachedReason::NotChosen
            | UncachedReason::Unprofitable
            | UncachedReason::Bypassed
            | UncachedReason::Disabled
            | UncachedReason::Holdout => Self::Passed,
            _ => Self::Never,
        }
    }
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its key.
    pub key: KeyHash,
    at_ms: i64,
    /// Seconds since the key was asked for before.
    ago_s: u32,
    /// What came of it.
    pub how: How,
}

impl Arrival {
    /// When it came.
    pub const fn at(&self) -> Time {
        Time::from_millis(self.at_ms)
    }
    /// What was known of its key.
    pub fn seen(&self) -> KeySeen {
        if self.ago_s == u32::MAX { KeySeen::Never } else { KeySeen::Ago(Span::from_secs(u64::from(self.ago_s))) }
    }
}

/// Requests that wait, in the order in which they came.
#[derive(Debug)]
pub struct Seen {
    arrivals: Vec<Arrival>,
    /// Place of the first of them.
    first: u64,
    /// Requests since then that found no room.
    beyond: u64,
    /// Calls of requests that have gone on already.
    late: u64,
}

/// What was taken out.
#[derive(Debug, Default)]
pub struct Drained {
    /// Requests.
    pub arrivals: Vec<Arrival>,
    /// Requests after them that are only counted.
    pub beyond: u64,
    /// Calls of requests that had been taken out before.
    pub late: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Self { arrivals: Vec::with_capacity(FIRST), first: 0, beyond: 0, late: 0 }
    }
}

impl Seen {
    /// Takes a request; `stats` are its key's before it came. Answers its place.
    pub fn note(&mut self, now: Time, key: KeyHash, stats: &KeyStats, how: How) -> u64 {
        if self.arrivals.len() == self.arrivals.capacity() {
            self.beyond += 1;
            return NOWHERE;
        }
        let ago_s = match KeySeen::of(stats, now) {
            KeySeen::Never => u32::MAX,
            KeySeen::Ago(ago) => u32::try_from(ago.as_secs()).unwrap_or(u32::MAX - 1).min(u32::MAX - 1),
        };
        self.arrivals.push(Arrival { key, at_ms: now.millis(), ago_s, how });
        self.first + self.arrivals.len() as u64 - 1
    }

    /// The request in that place turned out to be otherwise.
    pub fn turned(&mut self, place: u64, how: How) {
        if place == NOWHERE {
            return;
        }
        match place.checked_sub(self.first).and_then(|index| self.arrivals.get_mut(usize::try_from(index).ok()?)) {
            Some(arrival) => arrival.how = how,
            None if how == How::Led => self.late += 1,
            None => {}
        }
    }

    /// Whether anything waits.
    pub const fn is_empty(&self) -> bool {
        self.arrivals.is_empty() && self.beyond == 0 && self.late == 0
    }

    /// How much room there should be: more where there was too little.
    pub fn wanted(&self) -> usize {
        let room = self.arrivals.capacity();
        if self.beyond > 0 { (room * 4).min(MOST) } else { room }
    }

    /// Takes all out; `empty` is the room for those to come.
    pub fn take(&mut self, empty: Vec<Arrival>) -> Drained {
        self.first += self.arrivals.len() as u64;
        let arrivals = std::mem::replace(&mut self.arrivals, empty);
        Drained { arrivals, beyond: std::mem::take(&mut self.beyond), late: std::mem::take(&mut self.late) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_to_its_bound_and_what_finds_none_is_counted() {
        assert_eq!(size_of::<Arrival>(), 32);
        let (mut seen, stats) = (Seen::default(), KeyStats::default());
        let note = |seen: &mut Seen, n: u128| seen.note(Time::from_millis(5_000), KeyHash(n), &stats, How::Kept);
        let mut rooms = Vec::new();
        for _ in 0..6 {
            for n in 0..10_000 {
                note(&mut seen, n);
            }
            rooms.push(seen.arrivals.len());
            let room = Vec::with_capacity(seen.wanted());
            let drained = seen.take(room);
            assert_eq!(drained.arrivals.len() as u64 + drained.beyond, 10_000);
        }
        assert_eq!(rooms, [16, 64, 256, 1_024, 4_096, 4_096]);
        assert!(seen.is_empty());
    }

    #[test]
    fn what_turns_out_later_finds_its_request_or_is_counted() {
        let (mut seen, stats) = (Seen::default(), KeyStats::default());
        let now = Time::from_millis(5_000);
        let first = seen.note(now, KeyHash(1), &stats, How::Kept);
        let second = seen.note(now, KeyHash(2), &stats, How::Passed);
        seen.turned(first, How::Led);
        seen.turned(second, How::Joined);
        let drained = seen.take(Vec::with_capacity(1));
        assert_eq!(drained.arrivals.iter().map(|a| a.how).collect::<Vec<_>>(), [How::Led, How::Joined]);
        assert_eq!(drained.arrivals[0].seen(), KeySeen::Never);
        let third = seen.note(now, KeyHash(3), &stats, How::Kept);
        let beyond = seen.note(now, KeyHash(4), &stats, How::Kept);
        for (place, how) in [(first, How::Led), (second, How::Joined), (third, How::Led), (beyond, How::Led)] {
            seen.turned(place, how);
        }
        let drained = seen.take(Vec::new());
        assert_eq!((drained.arrivals[0].how, drained.beyond, drained.late), (How::Led, 1, 1));
    }
}
