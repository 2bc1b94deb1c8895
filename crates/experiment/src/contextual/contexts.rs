//! The probabilities of each unit in a window, published before it begins.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use farthing_contract::features::UNIT_FEATURES;
use serde::{Deserialize, Serialize};

use super::explain::Leaning;
use crate::spec::MAX_VARIANTS;

/// Units with a context of their own, those that cost most; the others are drawn as units of which nothing is known. Each takes about 100 bytes, in three windows
/// at most.
pub const MAX_CONTEXTS: usize = 16_384;

/// A unit's context and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// Its features, in the order of `UNIT_SPEC`.
    pub features: [f32; UNIT_FEATURES],
    /// Probability of each variant.
    pub pmf: [f32; MAX_VARIANTS],
    /// What these probabilities lose on average against the variant that is predicted to be the cheapest, as a share of the cap.
    pub loss: f32,
}

/// Contexts by the half of their units' digests that is logged.
pub(crate) type Units = HashMap<u64, Placed, BuildHasherDefault<DigestIsHash>>;

/// All contexts of a window. Immutable; looking one up takes no lock and allocates nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contexts {
    pub(crate) window: i64,
    pub(crate) units: Units,
    pub(crate) fresh: Placed,
    pub(crate) pmf: [f64; MAX_VARIANTS],
    pub(crate) planned_usd: f64,
    pub(crate) appetite: f64,
    pub(crate) leanings: Vec<Leaning>,
}

impl Contexts {
    /// The first window that they are for.
    pub const fn window(&self) -> i64 {
        self.window
    }
    /// That of a unit, by the half of its digest that is logged.
    pub fn of(&self, unit: u64) -> &Placed {
        self.units.get(&unit).unwrap_or(&self.fresh)
    }
    /// Units with a context of their own.
    pub fn len(&self) -> usize {
        self.units.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }
    /// Share of what SquareCB would explore that the budget leaves; 1 is all.
    pub const fn appetite(&self) -> f64 {
        self.appetite
    }
    /// What exploration is expected to lose in a window, USD.
    pub const fn planned_usd(&self) -> f64 {
        self.planned_usd
    }
    /// What was learned, in words' reach.
    pub fn leanings(&self) -> &[Leaning] {
        &self.leanings
    }
    /// Probability of each variant on average over the units.
    pub const fn pmf(&self) -> [f64; MAX_VARIANTS] {
        self.pmf
    }
}

/// Probability of each variant on average over the units; that of a unit of which nothing is known where there are none.
pub(crate) fn mean_pmf(units: &Units, fresh: &Placed) -> [f64; MAX_VARIANTS] {
    let all = units.values().chain(units.is_empty().then_some(fresh));
    // Sums of floats must not hang on the order of a hash map: sixteen digits of them do, and nothing is drawn by this mean while there are contexts.
    let (sums, count) = all.fold(([0.0; MAX_VARIANTS], 0.0), |(mut sums, count), placed| {
        sums.iter_mut().zip(placed.pmf).for_each(|(sum, p)| *sum += f64::from(p));
        (sums, count + 1.0)
    });
    sums.map(|sum| (sum / count * 1e9).round() / 1e9)
}

/// Half of a keyed digest is spread as a hash should be.
#[derive(Clone, Copy, Debug, Default)]
pub struct DigestIsHash(u64);

impl Hasher for DigestIsHash {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }
    fn write_u64(&mut self, digest: u64) {
        // The lowest bits choose the place and the highest seven tell apart: units that tests number by hand have only some of them.
        self.0 = digest.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
