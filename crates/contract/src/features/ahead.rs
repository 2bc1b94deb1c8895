//! The change hazard of a copy from the moment of its fetch on, as the live statistics see it.

use farthing_types::Time;

use super::baseline::{BUCKETS, EDGES_S, bucket_of};
use super::rhythm::Rhythm;
use super::spec::{TTL_HORIZONS, TTL_OUTPUTS};

/// Hazard by age: what the route's keys do so long after a change, times the key's own factor, times the route's rhythm.
#[derive(Clone, Copy, Debug)]
pub struct Ahead<'a> {
    /// Hazards (1/s) by the time since the last change; the key's factor is in them.
    pub(super) hazards: [f64; BUCKETS],
    /// Time since the last change at age zero, seconds.
    pub(super) since_s: f64,
    /// The rhythm, and when age zero is.
    pub(super) rhythm: Option<(&'a Rhythm, Time)>,
}

/// A stretch of constant hazard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stretch {
    /// Age at its start, seconds.
    pub start: f64,
    /// Age at its end, seconds.
    pub end: f64,
    /// Hazard, 1/s.
    pub hazard: f64,
    /// Which interval of the time since the last change it lies in.
    pub(super) bucket: usize,
    /// The rhythm's share in the hazard.
    pub(super) factor: f64,
}

impl<'a> Ahead<'a> {
    /// A hazard that does not depend on age, 1/s.
    pub fn constant(hazard: f64) -> Self {
        Self { hazards: [hazard; BUCKETS], since_s: f64::MAX, rhythm: None }
    }

    /// The hazard now, without rhythm, 1/s.
    pub fn now(&self) -> f64 {
        self.hazards[bucket_of(self.since_s)]
    }

    /// Without rhythm.
    pub fn flat(&self) -> Ahead<'static> {
        Ahead { hazards: self.hazards, since_s: self.since_s, rhythm: None }
    }

    /// The stretches from age zero on, without end.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch> + 'a {
        let flat = self.rhythm.is_none().then_some((f64::INFINITY, 1.0));
        let pieces = self.rhythm.into_iter().flat_map(|(rhythm, start)| rhythm.pieces(start).map(|p| (p.end, p.factor)));
        let mut pieces = flat.into_iter().chain(pieces);
        let (mut start, mut piece_end, mut factor) = (0.0, 0.0, 1.0);
        let (hazards, since, mut bucket) = (self.hazards, self.since_s, bucket_of(self.since_s));
        std::iter::from_fn(move || {
            if start >= piece_end {
                (piece_end, factor) = pieces.next()?;
            }
            let edge = EDGES_S.get(bucket).map_or(f64::INFINITY, |edge| edge - since);
            let end = edge.min(piece_end);
            let stretch = Stretch { start, end, hazard: hazards[bucket] * factor, bucket, factor };
            bucket += usize::from(edge <= piece_end && bucket + 1 < BUCKETS);
            start = end;
            (stretch.start < f64::INFINITY).then_some(stretch)
        })
    }

    /// Changes expected between two ages (seconds), per age interval of [`TTL_HORIZONS`].
    pub fn expected(&self, from: f64, to: f64) -> [f64; TTL_OUTPUTS] {
        let mut sums = [0.0; TTL_OUTPUTS];
        let mut k = 0;
        for stretch in self.stretches().take_while(|s| s.start < to) {
            let (mut start, end) = (stretch.start.max(from), stretch.end.min(to));
            while start < end {
                while TTL_HORIZONS.get(k).is_some_and(|edge| *edge <= start) {
                    k += 1;
                }
                let stop = TTL_HORIZONS.get(k).map_or(end, |edge| edge.min(end));
                sums[k] += stretch.hazard * (stop - start);
                start = stop;
            }
        }
        sums
    }

    /// Changes expected between two ages, seconds.
    pub(super) fn between(&self, from: f64, to: f64) -> f64 {
        let stretches = self.stretches().take_while(|s| s.start < to);
        stretches.map(|s| s.hazard * (s.end.min(to) - s.start.max(from)).max(0.0)).sum()
    }
}
