//! Worlds with a known truth: when each key of each route changes.
//!
//! A change is a function of (seed, route, key) alone, and can be asked for at any time in constant expected time, so simulated
//! providers and generated traces agree without sharing state. The version at a time is the time of the last change before it.

use farthing_types::{Draw, DrawKind, Time};

use crate::recipe::{Process, Recipe, RecipeRoute};

/// The truth of a recipe under a seed.
#[derive(Clone, Debug)]
pub struct World {
    recipe: Recipe,
    seed: u64,
}

/// A key of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorldKey {
    /// Index of the route in the recipe.
    pub route: u16,
    /// Number of the key within its route, by falling popularity.
    pub index: u32,
}

/// Most changes placed in one block of a Poisson process; more have a probability below 1e-9.
const BLOCK_CHANGES: u32 = 16;
/// Expected changes per block.
const BLOCK_MEAN: f64 = 2.0;
/// Blocks searched for the last or next change before it counts as none: the chance of so many empty ones is below 1e-25.
const BLOCKS: i64 = 30;

impl World {
    /// The truth of `recipe` under its own seed, or another one.
    pub fn new(recipe: Recipe, seed: u64) -> Self {
        Self { recipe, seed }
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Version of the key's answer at `at`: equal versions mean equal answers. Zero before the first change.
    pub fn version_at(&self, key: WorldKey, at: Time) -> u64 {
        let Some(route) = self.recipe.routes.get(usize::from(key.route)) else { return 0 };
        if matches!(route.process, Process::Nondeterministic) {
            return self.bits(key, 9, at.nanos()) | 1;
        }
        self.last_change(key, at).map_or(0, |t| t.nanos() as u64)
    }

    /// The last change at or before `at`; `None` for keys without one.
    pub fn last_change(&self, key: WorldKey, at: Time) -> Option<Time> {
        self.changes_around(key, at, true)
    }

    /// The first change after `at`.
    pub fn next_change(&self, key: WorldKey, at: Time) -> Option<Time> {
        self.changes_around(key, at, false)
    }

    fn changes_around(&self, key: WorldKey, at: Time, back: bool) -> Option<Time> {
        let route = self.recipe.routes.get(usize::from(key.route))?;
        let at = at.millis();
        let found = match route.process {
            Process::Never | Process::Nondeterministic => None,
            Process::Periodic { period_s, offset_s, jitter_s } => self.periodic(key, at, (period_s, offset_s, jitter_s), back),
            Process::Poisson { .. } | Process::Drifting { .. } | Process::Informative { .. } => self.poisson(key, route, at, back),
        };
        found.map(Time::from_millis)
    }

    /// Change hazard of the key at a time, 1/s, averaged over its phase where it is periodic.
    pub fn hazard(&self, key: WorldKey, at: Time) -> f64 {
        let Some(route) = self.recipe.routes.get(usize::from(key.route)) else { return 0.0 };
        match route.process {
            Process::Never => 0.0,
            Process::Nondeterministic => f64::INFINITY,
            Process::Periodic { period_s, .. } => 1.0 / period_s,
            Process::Poisson { .. } | Process::Informative { .. } => self.base_hazard(key, route),
            Process::Drifting { every_s, .. } => self.drifted(key, route, (at.secs_f64() / every_s).floor() as i64),
        }
    }

    /// Log-normal within the route: `median` in the middle, `sigma` the standard deviation of the log.
    fn base_hazard(&self, key: WorldKey, route: &RecipeRoute) -> f64 {
        let (mean_interval_s, sigma) = match route.process {
            Process::Poisson { mean_interval_s, sigma }
            | Process::Drifting { mean_interval_s, sigma, .. }
            | Process::Informative { mean_interval_s, sigma, .. } => (mean_interval_s, sigma),
            _ => return 0.0,
        };
        (sigma * self.normal(key, 1, 0)).exp() / mean_interval_s
    }

    fn drifted(&self, key: WorldKey, route: &RecipeRoute, epoch: i64) -> f64 {
        let Process::Drifting { factor, .. } = route.process else { return self.base_hazard(key, route) };
        let up = self.uniform(key, 2, epoch) < 0.5;
        self.base_hazard(key, route) * if up { factor } else { 1.0 / factor }
    }

    /// Poisson process by blocks: each block's count and places come from its own draws. A drifting hazard is thinned from
    /// its highest value. Times in whole milliseconds, so that asking from a change on finds the next one.
    fn poisson(&self, key: WorldKey, route: &RecipeRoute, at_ms: i64, back: bool) -> Option<i64> {
        let (factor, epoch_s) = match route.process {
            Process::Drifting { factor, every_s, .. } => (factor, every_s),
            _ => (1.0, f64::INFINITY),
        };
        let top = self.base_hazard(key, route) * factor;
        let block_ms = BLOCK_MEAN / top * 1e3;
        let first = (at_ms as f64 / block_ms).floor() as i64;
        let kept = |ms: i64| {
            let epoch = (ms as f64 / 1e3 / epoch_s).floor() as i64;
            factor <= 1.0 || self.uniform(key, 5, ms) * top < self.drifted(key, route, epoch)
        };
        // Thinning keeps at least one in factor^2. Rounding may move a change over the border of its block: start one early.
        let reach = BLOCKS.saturating_mul((factor * factor).ceil() as i64);
        for step in -1..reach {
            let block = if back { first - step } else { first + step };
            let times = (0..self.block_count(key, block)).map(|i| ((block as f64 + self.place(key, block, i)) * block_ms).ceil() as i64);
            let times = times.filter(|t| if back { *t <= at_ms } else { *t > at_ms }).filter(|t| kept(*t));
            let found = if back { times.max() } else { times.min() };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn block_count(&self, key: WorldKey, block: i64) -> u32 {
        let (mut u, mut p, mut n) = (self.uniform(key, 3, block), (-BLOCK_MEAN).exp(), 0);
        while u >= p && n < BLOCK_CHANGES {
            u -= p;
            n += 1;
            p *= BLOCK_MEAN / f64::from(n);
        }
        n
    }

    fn place(&self, key: WorldKey, block: i64, i: u32) -> f64 {
        self.uniform(key, 4, block.wrapping_mul(64).wrapping_add(i64::from(i)))
    }

    /// One change per period, uniformly up to `jitter` late; all keys of the route share the schedule.
    fn periodic(&self, key: WorldKey, at_ms: i64, (period, offset, jitter): (f64, f64, f64), back: bool) -> Option<i64> {
        let slot = ((at_ms as f64 / 1e3 - offset) / period).floor() as i64;
        let time = |n: i64| ((offset + n as f64 * period + jitter.min(period * 0.99) * self.uniform(key, 6, n)) * 1e3).ceil() as i64;
        if back {
            [slot + 1, slot, slot - 1].into_iter().map(time).find(|t| *t <= at_ms)
        } else {
            [slot - 1, slot, slot + 1, slot + 2].into_iter().map(time).find(|t| *t > at_ms)
        }
    }

    fn bits(&self, key: WorldKey, kind: u64, n: i64) -> u64 {
        let unit = (u128::from(key.route) << 96) | (u128::from(key.index) << 64) | u128::from(kind);
        Draw::new(self.seed).bits(DrawKind::Sample, "world", unit, n)
    }

    fn uniform(&self, key: WorldKey, kind: u64, n: i64) -> f64 {
        (self.bits(key, kind, n) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    fn normal(&self, key: WorldKey, kind: u64, n: i64) -> f64 {
        let (u, v) = (self.uniform(key, kind, n).max(1e-300), self.uniform(key, kind + 100, n));
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}
