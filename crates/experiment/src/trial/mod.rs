//! The running record of one experiment: observations of requests become unit-windows, unit-windows become evidence.

mod guarded;
mod learning;
mod parts;
mod reading;
mod rows;
mod spells;
#[cfg(test)]
mod tests;
mod units;

use std::collections::HashMap;
use std::sync::Arc;

use farthing_types::{KeyHash, Money};
use serde::{Deserialize, Serialize};

use crate::allocation::{AllocationKind, Belief, MIN_ADAPTIVE};
use crate::assign::{Assigned, Experiment};
use crate::effect::{Effect, Scaled};
use crate::fleet::Part;
use crate::guard::{GUARD_ALPHA, Guard, GuardKind, SwitchOff, by_unit};
use crate::ratio::RatioTest;
use crate::report::Dropped;
use crate::spec::{MAX_VARIANTS, Metric};
use crate::unit::UnitKind;

use learning::{Learning, Lesson};
pub use parts::{Counts, WholeWindow};
pub(crate) use reading::MIN_ROWS;
pub use rows::{COLUMNS, UnitWindow};
use units::{Open, Unit};

/// Rows that set the cap when none was declared.
const CALIBRATION_ROWS: usize = 200;
/// Windows over which a unit's past cost is averaged.
const HISTORY: f64 = 16.0;

/// What one request, refresh or other call added to its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observation {
    /// Paid to providers; `None` when the call is unpriced (counted, and 0 in the outcome).
    pub bill: Option<Money>,
    /// Stale answers, measured or expected; may come later than the requests it is about, with `requests` 0.
    pub stale: f64,
    /// Price of one of them where it is not the experiment's: units of several routes have prices of their own.
    pub stale_price: Option<Money>,
    /// Client requests: 1, or 0 for a background call.
    pub requests: u32,
    /// Of these, failed ones.
    pub errors: u32,
    /// Of these, ones that were answered later than promised.
    pub late: u32,
    /// Price of the time that clients have waited for them; zero where waiting has none.
    pub waiting: Money,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    variant: usize,
    pmf: [f32; MAX_VARIANTS],
    usd: f64,
    before: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Totals {
    units: u64,
    unit_windows: u64,
    requests: u64,
    errors: u64,
    late: u64,
    stale: f64,
    bill: Money,
    cost_usd: f64,
    #[serde(default)]
    square_usd: f64,
}

/// The running record of one experiment. Memory is bounded by the experiment's `max_units`.
///
/// Serialised, it is all that the evidence rests on, but for the window that is open: see [`Trial::resume`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    name: Arc<str>,
    names: Vec<Arc<str>>,
    unit: UnitKind,
    metric: Metric,
    price_stale: f64,
    alpha: f64,
    min_units: u32,
    max_units: usize,
    cap: Option<f64>,
    window: i64,
    /// The first window that is measured: the first one that is watched from its beginning, since the start or since a pause.
    whole_from: i64,
    /// The first window in which guards take evidence.
    guard_from: i64,
    windows: u64,
    watched: u64,
    /// The last window that is counted as watched.
    last_whole: i64,
    population: f64,
    calls: u64,
    #[serde(with = "units::kept")]
    units: HashMap<KeyHash, Unit>,
    calibration: Vec<Row>,
    totals: Vec<Totals>,
    effects: Vec<Effect>,
    guards: Vec<[Guard; 3]>,
    /// False-alarm probability of each of them.
    #[serde(skip, default = "full_alpha")]
    guard_alpha: f64,
    off: Vec<Option<SwitchOff>>,
    ratio: RatioTest,
    capped: u64,
    tested: u64,
    dropped: Dropped,
    /// Where allocation goes by context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    learning: Option<Learning>,
    /// Whether anything was added since a window was closed.
    #[serde(skip)]
    open: bool,
    /// Closed unit-windows that nobody has taken yet, where they are kept.
    #[serde(skip)]
    closed: Option<Vec<UnitWindow>>,
    /// Closed windows that somebody else counts, where it is so.
    #[serde(skip)]
    handed: Option<Vec<Part>>,
}

const fn full_alpha() -> f64 {
    GUARD_ALPHA
}

impl Trial {
    /// An empty record of `experiment`.
    pub fn new(experiment: &Experiment) -> Self {
        let spec = experiment.spec();
        let challengers = spec.variants.len() - 1;
        // Several challengers share the false alarms between them (Bonferroni).
        let alpha = spec.alpha / challengers as f64;
        Self {
            name: spec.name.clone(),
            names: spec.variants.iter().map(|v| v.name.clone()).collect(),
            unit: spec.unit,
            metric: spec.metric,
            price_stale: spec.price_stale.as_usd_f64(),
            alpha,
            min_units: spec.min_units,
            max_units: spec.max_units,
            cap: spec.cap.map(Money::as_usd_f64),
            window: i64::MIN,
            whole_from: i64::MIN,
            guard_from: i64::MIN,
            windows: 0,
            watched: 0,
            last_whole: i64::MIN,
            population: 0.0,
            calls: 0,
            units: HashMap::new(),
            calibration: Vec::new(),
            totals: vec![Totals::default(); spec.variants.len()],
            effects: (0..challengers).map(|_| Effect::new(alpha)).collect(),
            guards: (0..challengers).map(|_| GuardKind::ALL.map(|_| Guard::new(spec.margin))).collect(),
            guard_alpha: GUARD_ALPHA,
            off: vec![None; spec.variants.len()],
            ratio: RatioTest::new(spec.variants.len()),
            capped: 0,
            tested: 0,
            dropped: Dropped::default(),
            learning: match spec.allocation {
                AllocationKind::Contextual(contextual) => Some(Learning::new(spec, contextual)),
                AllocationKind::Fixed | AllocationKind::Thompson { .. } => None,
            },
            open: false,
            closed: None,
            handed: None,
        }
    }

    /// A record that was kept, taken up again in the middle of `window`. What came between the record and now, and the rest of this
    /// window, is left out for every unit whatever its variant: a window is either whole or absent, so nothing is biased. Guards begin
    /// again with the next window, too, for a unit's coin of this one may have been counted before.
    #[must_use]
    pub fn resume(mut self, window: i64) -> Self {
        self.whole_from = window.saturating_add(1).max(self.whole_from);
        self.guard_from = self.whole_from;
        self.window = self.window.max(window);
        self
    }

    /// The same record, which knows of variants that were switched off after it was kept.
    #[must_use]
    pub fn knowing(mut self, off: &[SwitchOff]) -> Self {
        self.know(off);
        self
    }

    /// The same record, which keeps closed unit-windows until they are [taken](Self::take_closed).
    #[must_use]
    pub fn keeping_rows(mut self) -> Self {
        self.closed = Some(Vec::new());
        self
    }

    /// The unit-windows closed since the last time.
    pub fn take_closed(&mut self) -> Vec<UnitWindow> {
        self.closed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes back unit-windows that could not be kept, for the next time.
    pub fn put_back(&mut self, mut rows: Vec<UnitWindow>) {
        if let Some(closed) = &mut self.closed {
            rows.append(closed);
            *closed = rows;
        }
    }

    /// Counts unit-windows that found no room in the export.
    pub const fn count_unexported(&mut self, rows: usize) {
        self.dropped.unexported = self.dropped.unexported.saturating_add(rows as u64);
    }

    /// Whether there are any.
    pub fn has_closed(&self) -> bool {
        self.closed.as_ref().is_some_and(|rows| !rows.is_empty())
    }

    /// Adds what a request did to its unit. The first observation after the burn-in of a later window closes the window before:
    /// until then what is found out late about that window still counts. Whether a guardrail has tripped by it.
    pub fn record(&mut self, unit: KeyHash, assigned: &Assigned, seen: Observation) -> bool {
        if assigned.variant >= self.names.len() || !assigned.in_slice {
            return false;
        }
        let tripped = self.has_room(unit) && self.watch(unit, assigned, seen);
        if assigned.burn_in {
            self.dropped.burn_in += 1;
            return tripped;
        }
        if assigned.window > self.window {
            self.close_window();
            self.window = assigned.window;
        } else if assigned.window < self.window {
            self.dropped.late += 1;
            return tripped;
        }
        if !self.has_room(unit) {
            // Whether there is room does not depend on the variant, so leaving the unit out biases nothing.
            self.dropped.overflow += 1;
            return tripped;
        }
        self.calls += u64::from(seen.requests == 0 && seen.stale == 0.0);
        self.open = true;
        self.dropped.unpriced += u64::from(seen.bill.is_none());
        self.add(unit, assigned, seen);
        tripped
    }

    fn has_room(&self, unit: KeyHash) -> bool {
        self.units.len() < self.max_units || self.units.contains_key(&unit)
    }

    fn add(&mut self, unit: KeyHash, assigned: &Assigned, seen: Observation) {
        let entry = self.units.entry(unit).or_default();
        let open = entry.open.get_or_insert_with(|| Open::new(assigned));
        // A coin of a window that was taken up again may have been counted before.
        if seen.requests > 0 && !open.is_asked() && assigned.window >= self.guard_from {
            self.ratio.add(assigned.variant, &assigned.pmf);
        }
        open.mixed |= open.variant != assigned.variant;
        open.bill += seen.bill.unwrap_or(Money::ZERO);
        let stale = if seen.stale.is_finite() { seen.stale.max(0.0) } else { 0.0 };
        open.stale += stale;
        open.stale_usd += stale * seen.stale_price.map_or(self.price_stale, Money::as_usd_f64);
        open.waiting += seen.waiting;
        open.requests = open.requests.saturating_add(seen.requests);
        open.errors = open.errors.saturating_add(seen.errors);
        open.late = open.late.saturating_add(seen.late);
    }

    /// Ends the window that is open: its unit-windows become rows. Call it when time has passed without requests, or at the end.
    pub fn close_window(&mut self) {
        let mut open: Vec<(KeyHash, Open)> =
            self.units.iter_mut().filter_map(|(unit, state)| state.open.take().map(|open| (*unit, open))).collect();
        self.flush_guards();
        self.open = false;
        if open.is_empty() {
            return;
        }
        by_unit(&mut open);
        if self.hand_over(&open) {
            return;
        }
        if self.window < self.whole_from {
            self.dropped.partial += open.len() as u64;
            return;
        }
        self.windows += 1;
        self.count_watched(self.window);
        let mut rows = Vec::with_capacity(open.len());
        let mut lessons: Vec<Lesson> = Vec::new();
        let calibrated_before = self.calibration.len();
        for (unit, open) in open {
            if open.mixed {
                self.dropped.mixed += 1;
            } else if !open.is_asked() {
                self.dropped.orphans += 1;
                self.dropped.orphans_usd += self.cost(&open);
            } else {
                let row = self.close_unit(unit, &open);
                if self.learning.is_some() {
                    lessons.push((unit, open, row));
                }
                if self.cap.is_some() { rows.push(row) } else { self.calibrate(row) }
            }
        }
        self.make_room();
        self.take_rows(calibrated_before, &rows);
        self.learn_contexts(&lessons);
    }

    /// Closes the window that is open when it is older than `window`, whose burn-in has ended.
    pub fn close_before(&mut self, window: i64) {
        if self.open && self.window < window {
            self.close_window();
        }
    }

    /// When there is no room left, units that were silent in the window just closed are forgotten with their past; if few were,
    /// half of the others as well (by a bit of their digest, which no variant depends on), so that new units always find room.
    fn make_room(&mut self) {
        if self.units.len() < self.max_units {
            return;
        }
        let window = self.windows;
        self.units.retain(|_, unit| unit.last_window == window);
        if self.units.len() > self.max_units / 2 {
            self.units.retain(|key, _| key.0 >> (window % 128) & 1 == 0);
        }
    }

    /// What a unit cost in a window, USD.
    fn cost(&self, open: &Open) -> f64 {
        let stale = if self.metric == Metric::Bill { 0.0 } else { open.stale_usd };
        let waiting = if self.metric == Metric::WithWaiting { open.waiting.as_usd_f64() } else { 0.0 };
        open.bill.as_usd_f64() + stale + waiting
    }

    fn close_unit(&mut self, unit: KeyHash, open: &Open) -> Row {
        let usd = self.cost(open);
        let totals = &mut self.totals[open.variant];
        totals.unit_windows += 1;
        totals.requests += u64::from(open.requests);
        totals.errors += u64::from(open.errors);
        totals.late += u64::from(open.late);
        totals.stale += open.stale;
        totals.bill += open.bill;
        totals.cost_usd += usd;
        totals.square_usd += usd * usd;
        self.population += 1.0 / open.inclusion.max(1e-6);
        let state = self.units.entry(unit).or_default();
        totals.units += u64::from(state.variants_seen & (1 << open.variant) == 0);
        state.variants_seen |= 1 << open.variant;
        state.last_window = self.windows;
        let before = (state.past_windows > 0.0).then_some(state.past);
        state.past_windows = (state.past_windows + 1.0).min(HISTORY);
        state.past += (usd - state.past) / state.past_windows;
        self.guard(GuardKind::Stale, (open.variant, &open.pmf), open.stale_share());
        self.export(unit, open, (usd, before));
        Row { variant: open.variant, pmf: open.pmf, usd, before }
    }

    fn export(&mut self, unit: KeyHash, open: &Open, (cost_usd, before_usd): (f64, Option<f64>)) {
        let tests = self.tests();
        let features = self.features_of(unit, self.window);
        let Some(closed) = &mut self.closed else { return };
        // A window's units at most are waiting, and those of the window before.
        if closed.len() >= self.max_units.saturating_mul(2) {
            self.dropped.unexported += 1;
            return;
        }
        closed.push(UnitWindow {
            window: self.window,
            unit,
            variant: open.variant,
            pmf: open.pmf,
            inclusion: open.inclusion,
            requests: open.requests,
            errors: open.errors,
            late: open.late,
            stale: open.stale,
            bill: open.bill,
            cost_usd,
            before_usd,
            tests,
            features,
        });
    }

    /// The challengers that are compared now, as bits by index; none while the cap is being found.
    fn tests(&self) -> u8 {
        let compared = |v: &usize| self.cap.is_some() && self.off[*v].is_none();
        (1..self.names.len()).filter(compared).map(|v| 1 << v).sum()
    }

    fn test(&mut self, rows: &[Row], cap: f64) {
        self.tested += rows.len() as u64;
        self.capped += rows.iter().filter(|r| r.usd > cap).count() as u64;
        for challenger in 1..self.names.len() {
            // Whose units went to control in the middle of a window is not compared from that window on.
            if self.off[challenger].is_none() {
                let scaled = scaled(rows, challenger, cap);
                self.effects[challenger - 1].window(&scaled);
            }
        }
    }

    /// The first rows only set the cap and teach the regression; they are never tested, so the cap is declared before what it bounds. Within
    /// a window they come in the order of their units' digests, which no variant depends on.
    fn calibrate(&mut self, row: Row) {
        self.calibration.push(row);
        let top = match self.calibration.len() {
            ..CALIBRATION_ROWS => return,
            CALIBRATION_ROWS => self.calibration.iter().map(|r| r.usd).fold(0.0, f64::max),
            // All before were for nothing.
            _ => row.usd,
        };
        self.cap = Some(top).filter(|top| *top > 0.0);
    }

    /// Tests the rows of a window. Where the cap was found in it, the regression that adjusts them knows of the windows before alone, as
    /// always; what was calibrated by in this one (from place `before` on) comes after.
    fn take_rows(&mut self, before: usize, rows: &[Row]) {
        let Some(cap) = self.cap else {
            if self.calibration.len() > self.max_units {
                self.calibration.clear();
            }
            return;
        };
        let mut earlier = std::mem::take(&mut self.calibration);
        let own = earlier.split_off(before.min(earlier.len()));
        self.learn(&earlier, cap);
        self.test(rows, cap);
        self.learn(&own, cap);
    }

    fn learn(&mut self, rows: &[Row], cap: f64) {
        for challenger in 1..self.names.len() {
            let scaled = scaled(rows, challenger, cap);
            self.effects[challenger - 1].learn(&scaled);
        }
    }

    /// What is believed of each challenger's effect, for allocation: `None` for all before there are enough unit-windows, and for those
    /// that do not compete.
    pub fn beliefs(&self) -> Option<Vec<Option<Belief>>> {
        let belief = |challenger: usize| self.effects[challenger - 1].belief().filter(|_| self.off[challenger].is_none());
        (self.tested >= MIN_ADAPTIVE).then(|| (1..self.names.len()).map(belief).collect())
    }
}

/// Probability of `challenger` given that it is that or control; `None` when one of them is off.
fn pair_propensity(pmf: &[f32; MAX_VARIANTS], challenger: usize) -> Option<f64> {
    let (control, own) = (f64::from(pmf[0]), f64::from(pmf[challenger]));
    (control > 0.0 && own > 0.0).then(|| own / (control + own))
}

fn scaled(rows: &[Row], challenger: usize, cap: f64) -> Vec<Scaled> {
    let of_pair = rows.iter().filter(|r| r.variant == 0 || r.variant == challenger);
    of_pair
        .filter_map(|row| {
            let propensity = pair_propensity(&row.pmf, challenger)?;
            let unit = |usd: f64| (usd / cap).clamp(0.0, 1.0);
            let among = f64::from(row.pmf[0]) + f64::from(row.pmf[challenger]);
            Some(Scaled { treated: row.variant == challenger, propensity, among, outcome: unit(row.usd), before: row.before.map(unit) })
        })
        .collect()
}
