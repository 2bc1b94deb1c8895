//! The running record of one experiment: observations of requests become unit-windows, unit-windows become evidence.

use std::collections::HashMap;
use std::sync::Arc;

use farthing_types::{KeyHash, Money};

use crate::effect::{Effect, Scaled};
use crate::guard::{Guard, GuardKind, SwitchOff, by_unit};
use crate::ratio::RatioTest;
use crate::report::{Comparison, Dropped, Interval, Report, VariantReport};
use crate::spec::{Assigned, Experiment, MAX_VARIANTS};

/// Rows that set the cap when none was declared.
const CALIBRATION_ROWS: usize = 200;
/// Unit-windows of both variants below which an asymptotic interval is not shown.
const MIN_ROWS: u64 = 200;
/// Errors of a unit-window are handed to the guardrail as soon as it has had so many requests, so that it acts within the window.
const GUARD_AFTER: u32 = 5;
/// Excess of a variant's stale or error share over control's that is tolerated.
const GUARD_MARGIN: f64 = 0.01;
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
}

#[derive(Clone, Copy, Debug)]
struct Open {
    variant: usize,
    pmf: [f32; MAX_VARIANTS],
    bill: Money,
    stale: f64,
    stale_usd: f64,
    requests: u32,
    errors: u32,
    mixed: bool,
    guarded: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Unit {
    past: f64,
    past_windows: f64,
    variants_seen: u8,
    last_window: u64,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    variant: usize,
    pmf: [f32; MAX_VARIANTS],
    usd: f64,
    before: Option<f64>,
}

#[derive(Clone, Debug, Default)]
struct Totals {
    units: u64,
    unit_windows: u64,
    requests: u64,
    errors: u64,
    stale: f64,
    bill: Money,
    cost_usd: f64,
}

/// The running record of one experiment. Memory is bounded by the experiment's `max_units`.
#[derive(Debug)]
pub struct Trial {
    name: Arc<str>,
    names: Vec<Arc<str>>,
    price_stale: f64,
    alpha: f64,
    min_units: u32,
    max_units: usize,
    cap: Option<f64>,
    window: i64,
    windows: u64,
    units: HashMap<KeyHash, Unit>,
    calibration: Vec<Row>,
    totals: Vec<Totals>,
    effects: Vec<Effect>,
    guards: Vec<[Guard; 2]>,
    off: Vec<Option<SwitchOff>>,
    ratio: RatioTest,
    capped: u64,
    tested: u64,
    dropped: Dropped,
}

impl Trial {
    /// An empty record of `experiment`.
    pub fn new(experiment: &Experiment) -> Self {
        let spec = experiment.spec();
        let challengers = spec.variants.len() - 1;
        let floors: Vec<f64> = spec.variants[1..].iter().map(|v| pair_floor(spec.variants[0].share, v.share)).collect();
        // Several challengers share the false alarms between them (Bonferroni).
        let alpha = spec.alpha / challengers as f64;
        Self {
            name: spec.name.clone(),
            names: spec.variants.iter().map(|v| v.name.clone()).collect(),
            price_stale: spec.price_stale.as_usd_f64(),
            alpha,
            min_units: spec.min_units,
            max_units: spec.max_units,
            cap: spec.cap.map(Money::as_usd_f64),
            window: i64::MIN,
            windows: 0,
            units: HashMap::new(),
            calibration: Vec::new(),
            totals: vec![Totals::default(); spec.variants.len()],
            effects: floors.iter().map(|&f| Effect::new(alpha, f)).collect(),
            guards: floors.iter().map(|&f| GuardKind::ALL.map(|_| Guard::new(GUARD_MARGIN, f))).collect(),
            off: vec![None; spec.variants.len()],
            ratio: RatioTest::new(spec.variants.len()),
            capped: 0,
            tested: 0,
            dropped: Dropped::default(),
        }
    }

    /// Adds what a request did to its unit. The first observation after the burn-in of a later window closes the window before:
    /// until then what is found out late about that window still counts.
    pub fn record(&mut self, unit: KeyHash, assigned: &Assigned, seen: Observation) {
        if assigned.variant >= self.names.len() || !assigned.in_slice {
            return;
        }
        if assigned.burn_in {
            self.dropped.burn_in += 1;
            return;
        }
        if assigned.window > self.window {
            self.close_window();
            self.window = assigned.window;
        } else if assigned.window < self.window {
            self.dropped.late += 1;
            return;
        }
        if !self.units.contains_key(&unit) && self.units.len() >= self.max_units {
            // Whether there is room does not depend on the variant, so leaving the unit out biases nothing.
            self.dropped.overflow += 1;
            return;
        }
        self.dropped.unpriced += u64::from(seen.bill.is_none());
        self.add(unit, assigned, seen);
    }

    fn add(&mut self, unit: KeyHash, assigned: &Assigned, seen: Observation) {
        let entry = self.units.entry(unit).or_default();
        let open = entry.open.get_or_insert_with(|| {
            self.ratio.add(assigned.variant, &assigned.pmf);
            Open {
                variant: assigned.variant,
                pmf: assigned.pmf,
                bill: Money::ZERO,
                stale: 0.0,
                stale_usd: 0.0,
                requests: 0,
                errors: 0,
                mixed: false,
                guarded: false,
            }
        });
        open.mixed |= open.variant != assigned.variant;
        open.bill += seen.bill.unwrap_or(Money::ZERO);
        let stale = if seen.stale.is_finite() { seen.stale.max(0.0) } else { 0.0 };
        open.stale += stale;
        open.stale_usd += stale * seen.stale_price.map_or(self.price_stale, Money::as_usd_f64);
        open.requests = open.requests.saturating_add(seen.requests);
        open.errors = open.errors.saturating_add(seen.errors);
        if !open.guarded && !open.mixed && open.requests >= GUARD_AFTER {
            open.guarded = true;
            let (variant, pmf, share) = (open.variant, open.pmf, error_share(open));
            self.guard(GuardKind::Errors, variant, &pmf, share);
        }
    }

    /// Ends the window that is open: its unit-windows become rows. Call it when time has passed without requests, or at the end.
    pub fn close_window(&mut self) {
        let mut open: Vec<(KeyHash, Open)> =
            self.units.iter_mut().filter_map(|(unit, state)| state.open.take().map(|open| (*unit, open))).collect();
        if open.is_empty() {
            return;
        }
        by_unit(&mut open);
        self.windows += 1;
        let mut rows = Vec::with_capacity(open.len());
        for (unit, open) in open {
            if open.mixed {
                self.dropped.mixed += 1;
            } else {
                rows.push(self.close_unit(unit, &open));
            }
        }
        self.make_room();
        self.test(rows);
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

    fn close_unit(&mut self, unit: KeyHash, open: &Open) -> Row {
        let usd = open.bill.as_usd_f64() + open.stale_usd;
        let totals = &mut self.totals[open.variant];
        totals.unit_windows += 1;
        totals.requests += u64::from(open.requests);
        totals.errors += u64::from(open.errors);
        totals.stale += open.stale;
        totals.bill += open.bill;
        totals.cost_usd += usd;
        let state = self.units.entry(unit).or_default();
        totals.units += u64::from(state.variants_seen & (1 << open.variant) == 0);
        state.variants_seen |= 1 << open.variant;
        state.last_window = self.windows;
        let before = (state.past_windows > 0.0).then_some(state.past);
        state.past_windows = (state.past_windows + 1.0).min(HISTORY);
        state.past += (usd - state.past) / state.past_windows;
        if !open.guarded {
            self.guard(GuardKind::Errors, open.variant, &open.pmf, error_share(open));
        }
        self.guard(GuardKind::Stale, open.variant, &open.pmf, (open.stale / f64::from(open.requests.max(1))).min(1.0));
        Row { variant: open.variant, pmf: open.pmf, usd, before }
    }

    fn guard(&mut self, kind: GuardKind, variant: usize, pmf: &[f32; MAX_VARIANTS], share: f64) {
        for challenger in 1..self.names.len() {
            if variant != 0 && variant != challenger {
                continue;
            }
            let Some(propensity) = pair_propensity(pmf, challenger) else { continue };
            let guard = &mut self.guards[challenger - 1][kind as usize];
            guard.add(variant == challenger, propensity, share);
            if guard.tripped() && self.off[challenger].is_none() {
                self.off[challenger] = Some(SwitchOff { variant: challenger, guard: kind, evidence: guard.evidence() });
            }
        }
    }

    fn test(&mut self, rows: Vec<Row>) {
        let Some(cap) = self.cap else {
            self.calibrate(rows);
            return;
        };
        self.tested += rows.len() as u64;
        self.capped += rows.iter().filter(|r| r.usd > cap).count() as u64;
        for challenger in 1..self.names.len() {
            let scaled = scaled(&rows, challenger, cap);
            self.effects[challenger - 1].window(&scaled);
        }
    }

    /// The first rows only set the cap and teach the regression; they are never tested, so the cap is declared before what it bounds.
    fn calibrate(&mut self, rows: Vec<Row>) {
        self.calibration.extend(rows);
        let top = self.calibration.iter().map(|r| r.usd).fold(0.0, f64::max);
        if self.calibration.len() >= CALIBRATION_ROWS && top > 0.0 {
            let rows = std::mem::take(&mut self.calibration);
            self.cap = Some(top);
            for challenger in 1..self.names.len() {
                let scaled = scaled(&rows, challenger, top);
                self.effects[challenger - 1].learn(&scaled);
            }
        } else if self.calibration.len() > self.max_units {
            self.calibration.clear();
        }
    }

    /// Variants whose guardrail has tripped.
    pub fn switch_off(&self) -> impl Iterator<Item = SwitchOff> + '_ {
        self.off.iter().flatten().copied()
    }

    /// The state of knowledge now. Cheap enough for a status call; the open window is not in it.
    pub fn report(&self) -> Report {
        Report {
            name: self.name.clone(),
            variants: (0..self.names.len()).map(|v| self.variant(v)).collect(),
            comparisons: (1..self.names.len()).map(|v| self.comparison(v)).collect(),
            windows: self.windows,
            cap_usd: self.cap,
            capped_share: self.capped as f64 / (self.tested as f64).max(1.0),
            ratio_evidence: self.ratio.evidence(),
            ratio_alarm: self.ratio.alarm(),
            switched_off: self.switch_off().collect(),
            dropped: self.dropped,
        }
    }

    fn variant(&self, index: usize) -> VariantReport {
        let totals = &self.totals[index];
        let (units_drawn, units_expected) = self.ratio.counts(index);
        VariantReport {
            name: self.names[index].clone(),
            units: totals.units,
            unit_windows: totals.unit_windows,
            units_drawn,
            units_expected,
            requests: totals.requests,
            bill_usd: totals.bill.as_usd_f64(),
            cost_usd: totals.cost_usd,
            stale_share: totals.stale / (totals.requests as f64).max(1.0),
            error_share: totals.errors as f64 / (totals.requests as f64).max(1.0),
            off: self.off[index].map(|off| off.guard),
        }
    }

    fn comparison(&self, challenger: usize) -> Comparison {
        let estimate = self.effects[challenger - 1].estimate();
        let units = self.totals[0].units.min(self.totals[challenger].units);
        let rows = estimate.map_or(0, |e| e.rows[0] + e.rows[1]);
        let enough = units >= u64::from(self.min_units) && rows >= MIN_ROWS && !self.ratio.alarm();
        let cap = self.cap.unwrap_or(0.0);
        let estimate = estimate.filter(|_| enough);
        let relative = |value: f64, control: f64| if control > 0.0 { value / control } else { 0.0 };
        Comparison {
            variant: self.names[challenger].clone(),
            control: self.names[0].clone(),
            effect_usd: estimate.map(|e| Interval { point: e.effect * cap, low: e.low * cap, high: e.high * cap }),
            relative: estimate.map(|e| Interval {
                point: relative(e.effect, e.means[0]),
                low: relative(e.low, e.means[0]),
                high: relative(e.high, e.means[0]),
            }),
            unweighted_usd: estimate.map(|e| e.unweighted * cap),
            evidence: estimate.map_or(1.0, |e| e.evidence),
            differs: estimate.is_some_and(|e| e.differs),
            note: self.note(units, rows),
            alpha: self.alpha,
        }
    }

    fn note(&self, units: u64, rows: u64) -> Option<&'static str> {
        if self.ratio.alarm() {
            Some("sample ratio mismatch")
        } else if self.cap.is_none() {
            Some("calibrating")
        } else if units < u64::from(self.min_units) || rows < MIN_ROWS {
            Some("not enough units")
        } else {
            None
        }
    }
}

fn error_share(open: &Open) -> f64 {
    (f64::from(open.errors) / f64::from(open.requests.max(1))).min(1.0)
}

fn pair_floor(control: f64, challenger: f64) -> f64 {
    control.min(challenger) / (control + challenger)
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
            Some(Scaled { treated: row.variant == challenger, propensity, outcome: unit(row.usd), before: row.before.map(unit) })
        })
        .collect()
}
