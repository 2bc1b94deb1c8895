//! What is kept of a unit.

use farthing_types::Money;

use crate::assign::Assigned;
use crate::spec::MAX_VARIANTS;

/// A unit in the window that is open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Open {
    pub variant: usize,
    pub pmf: [f32; MAX_VARIANTS],
    pub inclusion: f64,
    pub bill: Money,
    pub stale: f64,
    pub stale_usd: f64,
    pub waiting: Money,
    pub requests: u32,
    pub errors: u32,
    pub late: u32,
    pub mixed: bool,
}

impl Open {
    pub const fn new(assigned: &Assigned) -> Self {
        Self {
            variant: assigned.variant,
            pmf: assigned.pmf,
            inclusion: assigned.inclusion,
            bill: Money::ZERO,
            stale: 0.0,
            stale_usd: 0.0,
            waiting: Money::ZERO,
            requests: 0,
            errors: 0,
            late: 0,
            mixed: false,
        }
    }

    /// Whether a client has asked: only then it is a unit-window, for what is called without one hangs on the variant.
    pub const fn is_asked(&self) -> bool {
        self.requests > 0
    }

    pub fn stale_share(&self) -> f64 {
        (self.stale / f64::from(self.requests.max(1))).min(1.0)
    }
}

/// What guards count of a unit from the beginning of a window: unlike its cost, failures in the burn-in are its variant's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watched {
    pub window: i64,
    pub variant: usize,
    pub pmf: [f32; MAX_VARIANTS],
    pub requests: u32,
    pub errors: u32,
    pub late: u32,
    /// Nothing more is taken from it: it was handed over, or its variant was switched off in between.
    pub done: bool,
}

/// One unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Unit {
    pub past: f64,
    pub past_windows: f64,
    pub variants_seen: u8,
    pub last_window: u64,
    pub open: Option<Open>,
    pub watched: Option<Watched>,
}

/// Units in a kept record: by their digests' halves, without the window that is open.
pub mod kept {
    use std::collections::HashMap;

    use farthing_types::KeyHash;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Unit;

    type Line = (u64, u64, f64, f64, u8, u64);

    pub fn serialize<S: Serializer>(units: &HashMap<KeyHash, Unit>, to: S) -> Result<S::Ok, S::Error> {
        let known = units.iter().filter(|(_, unit)| unit.past_windows > 0.0);
        let mut lines: Vec<Line> =
            known.map(|(key, u)| ((key.0 >> 64) as u64, key.0 as u64, u.past, u.past_windows, u.variants_seen, u.last_window)).collect();
        lines.sort_unstable_by_key(|line| (line.0, line.1));
        to.collect_seq(lines)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<HashMap<KeyHash, Unit>, D::Error> {
        let lines = Vec::<Line>::deserialize(from)?;
        let unit = |(high, low, past, past_windows, variants_seen, last_window): Line| {
            let unit = Unit { past, past_windows, variants_seen, last_window, ..Unit::default() };
            (KeyHash(u128::from(high) << 64 | u128::from(low)), unit)
        };
        Ok(lines.into_iter().map(unit).collect())
    }
}
