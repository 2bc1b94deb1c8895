//! What is known about one route: the pooled statistics from which a key that nobody knows yet starts.

use farthing_types::{Span, Time};

use super::calibration::{Calibration, intervals};
use super::key::{KeyStats, Observation, expected_events, seconds_between};
use super::persist::{Persist, persist};
use super::rhythm::Rhythm;
use super::spec::TTL_OUTPUTS;
use super::steering::Steering;

/// Time constant with which a route's statistics forget toward the prior.
pub const ROUTE_MEMORY: Span = Span::from_secs(7 * 86_400);
/// The hazard (1/s) assumed before anything was seen: one change in an hour.
pub const DEFAULT_HAZARD: f64 = 1.0 / 3_600.0;

/// Weight of [`DEFAULT_HAZARD`], in events.
const START_EVENTS: f64 = 0.5;
/// Weight of the route's hazard in each of its cells, in events.
const CELL_PRIOR: f64 = 2.0;
/// Refetches, and the share of them that found a change, from which a route counts as one whose answers always change.
const ALWAYS_AFTER: f64 = 30.0;
const ALWAYS_SHARE: f64 = 0.99;
const AGES: usize = 7;
const COUNTS: usize = 4;
const DAY_MS: i64 = 86_400_000;

/// Live statistics of one route; about 3 KiB. `Clone` is a snapshot for decisions made elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteStats {
    updated_ms: i64,
    first_ms: i64,
    pooled: Cell,
    cells: [[Cell; COUNTS]; AGES],
    keys: f64,
    requests: f64,
    fetches: f64,
    changed: f64,
    longest_gap_s: f64,
    rhythm: Rhythm,
    calibration: Calibration,
    steering: Steering,
}

/// Changes and observed seconds, decayed as of `at_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cell {
    events: f32,
    exposure_s: f32,
    at_ms: i64,
}

impl Cell {
    fn add(&mut self, now_ms: i64, events: f64, exposure_s: f64) {
        let keep = forget(self.at_ms, now_ms);
        self.events = (f64::from(self.events) * keep + events) as f32;
        self.exposure_s = (f64::from(self.exposure_s) * keep + exposure_s) as f32;
        self.at_ms = now_ms;
    }
    fn hazard(&self, weight: f64, prior: f64) -> f64 {
        (f64::from(self.events) + weight) / (f64::from(self.exposure_s) + weight / prior)
    }
}

impl Default for RouteStats {
    fn default() -> Self {
        Self {
            updated_ms: 0,
            first_ms: 0,
            pooled: Cell::default(),
            cells: Default::default(),
            keys: 0.0,
            requests: 0.0,
            fetches: 0.0,
            changed: 0.0,
            longest_gap_s: 0.0,
            rhythm: Rhythm::default(),
            calibration: Calibration::default(),
            steering: Steering::default(),
        }
    }
}

impl RouteStats {
    /// Notes a client request at `now`; `new_key` when nothing was known about its key.
    pub fn on_request(&mut self, now: Time, new_key: bool) {
        self.advance(now.millis());
        self.requests += 1.0;
        self.keys += f64::from(u8::from(new_key));
    }

    /// Notes a complete answer from the origin for a key, here and in the key's own statistics.
    /// The observation goes to the log and to training rows; `None` at the key's first fetch.
    pub fn on_fetch(&mut self, key: &mut KeyStats, now: Time, canonical_hash: u64) -> Option<Observation> {
        self.advance(now.millis());
        let before = *key;
        let observation = key.on_fetch(now, canonical_hash, self.hazard())?;
        self.observe(&before, observation, now.millis());
        Some(observation)
    }

    fn observe(&mut self, before: &KeyStats, seen: Observation, now_ms: i64) {
        let gap_s = seen.gap.as_secs_f64();
        let start = Time::from_millis(before.last_fetch_ms);
        let at_start = self.cell_hazard(before, start);
        let events = if seen.changed { expected_events(at_start, gap_s) } else { 0.0 };
        self.pooled.add(now_ms, events, gap_s);
        let (age, count) = cell_of(before, start);
        self.cells[age][count].add(now_ms, events, gap_s);
        let hazard = before.hazard(at_start);
        self.calibrate(before, &seen, hazard);
        self.rhythm.observe(start, seen.gap, seen.changed, hazard);
        if seen.steers {
            self.steering.note(seen.answers, self.probably_stale(start, &seen));
        }
        self.fetches += 1.0;
        self.changed += f64::from(u8::from(seen.changed));
        self.longest_gap_s = self.longest_gap_s.max(gap_s);
    }

    fn calibrate(&mut self, before: &KeyStats, seen: &Observation, hazard: f64) {
        let (start, gap) = (Time::from_millis(before.last_fetch_ms), seen.gap.as_secs_f64());
        let factors = self.calibration.factors(before);
        let mut expected = [0.0; TTL_OUTPUTS];
        for (k, from, to) in intervals().take_while(|(_, from, _)| *from < gap) {
            expected[k] = hazard * factors[k] * self.rhythm.weight_between(start, from, to.min(gap));
        }
        let total: f64 = expected.iter().sum();
        let changes = if seen.changed { expected_events(total / gap.max(1e-9), gap) } else { 0.0 };
        self.calibration.note(before, changes, &expected);
    }

    /// Factors on the live hazard of a copy of `key` just fetched, per age interval: observed / expected changes of such copies.
    pub fn calibration(&self, key: &KeyStats) -> [f64; TTL_OUTPUTS] {
        self.calibration.factors(key)
    }

    /// Expected number of stale answers among those given from a copy fetched at `start`. When something changed within the gap,
    /// it did so by age `a` with probability `W(a) / W(gap)`, `W` the integral of the rhythm's factor; the answers are taken as
    /// spread evenly over the ages up to twice their mean (Simpson's rule).
    fn probably_stale(&self, start: Time, seen: &Observation) -> f64 {
        let (mean, gap) = (seen.mean_age.as_secs_f64(), seen.gap.as_secs_f64());
        if !seen.changed || seen.answers < 2 || gap <= 0.0 {
            return 0.0;
        }
        let weight = |age: f64| self.rhythm.weight(start, age.min(gap));
        let share = (4.0 * weight(mean) + weight(2.0 * mean)) / 6.0 / weight(gap).max(1e-9);
        f64::from(seen.answers - 1) * share.min(1.0)
    }

    /// Decays the counts to `now_ms`.
    fn advance(&mut self, now_ms: i64) {
        if self.first_ms == 0 {
            self.first_ms = now_ms;
            self.updated_ms = now_ms;
        }
        // Once a minute is exact enough for a memory of days, and keeps the exponential off the request path.
        if now_ms.saturating_sub(self.updated_ms) >= 60_000 {
            let keep = forget(self.updated_ms, now_ms);
            for count in [&mut self.keys, &mut self.requests, &mut self.fetches, &mut self.changed] {
                *count *= keep;
            }
            self.updated_ms = now_ms;
        }
    }

    /// Change hazard (1/s) of the route's keys taken together, weighted by the time they were watched.
    pub fn hazard(&self) -> f64 {
        self.pooled.hazard(START_EVENTS, DEFAULT_HAZARD)
    }

    /// Change hazard (1/s) of the route's keys of the same age and number of changes as `key`.
    pub fn cell_hazard(&self, key: &KeyStats, now: Time) -> f64 {
        let (age, count) = cell_of(key, now);
        self.cells[age][count].hazard(CELL_PRIOR, self.hazard())
    }

    /// Share of refetches that found a change, decayed; `None` before the first refetch.
    pub fn changed_share(&self) -> Option<f64> {
        (self.fetches > 0.0).then(|| self.changed / self.fetches)
    }

    /// Whether (nearly) every refetch of the last days found another answer, as with sampled texts: then a copy is stale as
    /// soon as it is made, whatever its age, and a hazard cannot describe it.
    pub fn always_changes(&self) -> bool {
        self.fetches >= ALWAYS_AFTER && self.changed >= ALWAYS_SHARE * self.fetches
    }

    /// Requests per second and key at `now`, averaged over the route's keys.
    pub fn rate_per_key(&self, now: Time) -> f64 {
        let seen = seconds_between(self.first_ms, now.millis());
        let memory = ROUTE_MEMORY.as_secs_f64();
        let window = memory * -(-seen / memory).exp_m1() + 60.0;
        ((self.requests + 1.0) / self.keys.max(1.0) / window).clamp(1e-9, 1e6)
    }

    /// Longest time between two fetches of one key that was ever seen: nothing is known about older copies.
    pub fn longest_gap(&self) -> Span {
        Span::try_from_secs_f64(self.longest_gap_s).unwrap_or_default()
    }

    /// Statistics of a route whose share of stale answers is to stay below `stale_budget`.
    pub fn with_stale_budget(stale_budget: f64) -> Self {
        let mut stats = Self::default();
        stats.set_stale_budget(stale_budget);
        stats
    }

    /// Changes the budget that the route is steered to.
    pub fn set_stale_budget(&mut self, stale_budget: f64) {
        self.steering.budget = stale_budget.clamp(1e-6, 1.0);
    }

    /// Factor on the operating point's kappa that keeps the stale share at the budget; 1 before anything was seen.
    pub fn steering(&self) -> f64 {
        self.steering.factor()
    }

    /// Share of answers that were probably stale, as the refetches show; `None` before the first.
    pub fn stale_share(&self) -> Option<f64> {
        self.steering.stale_share()
    }

    /// When in the day and the hour its answers change.
    pub fn rhythm(&self) -> &Rhythm {
        &self.rhythm
    }

    /// Refetches in memory (decayed).
    pub fn refetches(&self) -> f64 {
        self.fetches
    }
}

persist!(Cell { events, exposure_s, at_ms });
persist!(RouteStats {
    updated_ms,
    first_ms,
    pooled,
    cells,
    keys,
    requests,
    fetches,
    changed,
    longest_gap_s,
    rhythm,
    calibration,
    steering,
});

impl RouteStats {
    /// All of it as bytes, in the layout that [`crate::statistics::LAYOUT`] counts.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4_096);
        self.put(&mut out);
        out
    }

    /// Reads what [`RouteStats::encode`] wrote; `None` for anything else.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        Self::take(&mut bytes).filter(|_| bytes.is_empty())
    }
}

fn forget(since_ms: i64, now_ms: i64) -> f64 {
    (-seconds_between(since_ms, now_ms) / ROUTE_MEMORY.as_secs_f64()).exp()
}

/// Cell by the key's age and its number of changes.
fn cell_of(key: &KeyStats, now: Time) -> (usize, usize) {
    const EDGES_MS: [i64; AGES - 1] = [600_000, 3_600_000, 4 * 3_600_000, 12 * 3_600_000, DAY_MS, 7 * DAY_MS];
    let age_ms = now.millis().saturating_sub(i64::from(key.first_seen_s) * 1_000);
    let age = EDGES_MS.iter().filter(|edge| age_ms >= **edge).count();
    let count = match key.changes {
        0 => 0,
        1 => 1,
        2..=4 => 2,
        _ => 3,
    };
    (age, count)
}
