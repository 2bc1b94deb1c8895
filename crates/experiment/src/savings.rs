//! The savings holdout: some key-windows go past every optimisation, which shows what the requests would really have cost.
//!
//! saving = 1 - bill / base. The bill is known. The base is the ledger's claim (every request at its price) times the ratio of what
//! the holdout paid to what the ledger claimed for it. The interval is that of a ratio of sums over unit-windows, linearised, with
//! the boundary of a normal mixture so that it may be read at any time: it covers the saving rate of traffic of this kind, and it
//! contains the uncertainty of the correction.

use std::collections::HashMap;

use farthing_types::{Draw, DrawKind, KeyHash, Money, Span, Time};

use crate::effect::boundary;
use crate::report::{Interval, SavingReport};

/// Holdout unit-windows below which no interval is given.
const MIN_HOLDOUT: u64 = 20;
/// Unit-windows below which no interval is given.
const MIN_UNITS: u64 = 200;

/// Which key-windows are held out: a keyed hash, nothing stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Holdout {
    share: f64,
    window_ns: i64,
}

impl Holdout {
    /// Holds out `share` of the key-windows of length `window`; a share of 0 (or no number) holds out none.
    pub fn new(share: f64, window: Span) -> Self {
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        Self { share, window_ns: i64::try_from(window.as_nanos()).unwrap_or(i64::MAX).max(1) }
    }

    /// The probability.
    pub fn share(&self) -> f64 {
        self.share
    }
    /// The window of `now`.
    pub fn window(&self, now: Time) -> i64 {
        now.nanos().div_euclid(self.window_ns)
    }
    /// Whether `unit` is held out at `now`. `scope` names the route, so that routes are held out independently. Only what the log keeps
    /// of a key is drawn from.
    pub fn holds(&self, draw: &Draw, scope: &str, unit: KeyHash, now: Time) -> bool {
        self.share > 0.0 && draw.uniform(DrawKind::Holdout, scope, u128::from(unit.short()), self.window(now)) < self.share
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Open {
    base: i64,
    bill: i64,
    held: bool,
}

/// Sums over unit-windows, in USD.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    n: u64,
    base: f64,
    bill: f64,
    base2: f64,
    bill2: f64,
    cross: f64,
}

impl Sums {
    fn add(&mut self, base: f64, bill: f64) {
        self.n += 1;
        self.base += base;
        self.bill += bill;
        self.base2 += base * base;
        self.bill2 += bill * bill;
        self.cross += base * bill;
    }
    fn since(&self, earlier: &Self) -> Self {
        Self {
            n: self.n.saturating_sub(earlier.n),
            base: self.base - earlier.base,
            bill: self.bill - earlier.bill,
            base2: self.base2 - earlier.base2,
            bill2: self.bill2 - earlier.bill2,
            cross: self.cross - earlier.cross,
        }
    }
    /// Sum of squares of a * bill - b * base.
    fn square(&self, a: f64, b: f64) -> f64 {
        (a * a * self.bill2 - 2.0 * a * b * self.cross + b * b * self.base2).max(0.0)
    }
}

/// The running record of what was claimed and paid. Memory is bounded by `max_units`.
#[derive(Debug)]
pub struct Savings {
    alpha: f64,
    max_units: usize,
    window: i64,
    open: HashMap<KeyHash, Open>,
    treated: Sums,
    held: Sums,
    unpriced: u64,
    overflow: u64,
}

impl Savings {
    /// An empty record; `alpha` is the probability that the interval ever misses, `max_units` the keys followed within one window.
    pub fn new(alpha: f64, max_units: usize) -> Self {
        Self {
            alpha,
            max_units,
            window: i64::MIN,
            open: HashMap::new(),
            treated: Sums::default(),
            held: Sums::default(),
            unpriced: 0,
            overflow: 0,
        }
    }

    /// Adds a settled request or background call of `unit` in `window`: `base` is what the ledger claims it would have cost without
    /// Farthing (0 for a background call), `bill` what was paid. `None` is unpriced: counted, and left out of both sums.
    pub fn record(&mut self, unit: KeyHash, window: i64, held: bool, paid: (Option<Money>, Option<Money>)) {
        let (Some(base), Some(bill)) = paid else {
            self.unpriced += 1;
            return;
        };
        if window > self.window {
            self.close_window();
            self.window = window;
        }
        let late = window < self.window;
        if late || (self.open.len() >= self.max_units && !self.open.contains_key(&unit)) {
            self.overflow += 1;
            self.half(held).add(base.as_usd_f64(), bill.as_usd_f64());
            return;
        }
        let open = self.open.entry(unit).or_insert(Open { held, ..Open::default() });
        open.base = open.base.saturating_add(base.nanos());
        open.bill = open.bill.saturating_add(bill.nanos());
    }

    fn half(&mut self, held: bool) -> &mut Sums {
        if held { &mut self.held } else { &mut self.treated }
    }

    /// Ends the open window.
    pub fn close_window(&mut self) {
        let usd = |nanos: i64| Money::from_nanos(nanos).as_usd_f64();
        for open in std::mem::take(&mut self.open).into_values() {
            self.half(open.held).add(usd(open.base), usd(open.bill));
        }
    }

    /// Everything so far, the open window included.
    pub fn sums(&self) -> SavingSums {
        let mut sums = SavingSums { treated: self.treated, held: self.held, unpriced: self.unpriced, overflow: self.overflow };
        let usd = |nanos: i64| Money::from_nanos(nanos).as_usd_f64();
        for open in self.open.values() {
            if open.held { &mut sums.held } else { &mut sums.treated }.add(usd(open.base), usd(open.bill));
        }
        sums
    }

    /// The state of knowledge, the open window included.
    pub fn report(&self) -> SavingReport {
        self.sums().report(self.alpha)
    }
}

/// What a record held at some moment: the difference of two moments proves the saving of the time between them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SavingSums {
    treated: Sums,
    held: Sums,
    unpriced: u64,
    overflow: u64,
}

impl SavingSums {
    /// What came after `earlier`. A unit-window that was open then counts as two.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            treated: self.treated.since(&earlier.treated),
            held: self.held.since(&earlier.held),
            unpriced: self.unpriced.saturating_sub(earlier.unpriced),
            overflow: self.overflow.saturating_sub(earlier.overflow),
        }
    }

    /// The saving, with an interval that misses it at any time with probability `alpha` at most.
    pub fn report(&self, alpha: f64) -> SavingReport {
        let Self { treated, held, .. } = self;
        let claimed = treated.base + held.base;
        let correction = if held.base > 0.0 { held.bill / held.base } else { 1.0 };
        let n = treated.n + held.n;
        let note = if held.n < MIN_HOLDOUT || n < MIN_UNITS {
            Some("not enough units")
        } else if claimed <= 0.0 || correction <= 0.0 {
            Some("nothing was paid or claimed")
        } else {
            None
        };
        SavingReport {
            base_usd: claimed * correction,
            claimed_base_usd: claimed,
            bill_usd: treated.bill + held.bill,
            saving: note.is_none().then(|| interval(treated, held, correction, alpha)),
            unit_windows: n,
            holdout_unit_windows: held.n,
            note,
            unpriced: self.unpriced,
            overflow: self.overflow,
        }
    }
}

/// Linearised ratio: with base B = c * claims and R = bill / B, a unit adds (bill_i - R c claim_i) and a held unit besides
/// -R (bill_i - c claim_i) * (all claims / held claims), the error of c carried to the whole base.
fn interval(treated: &Sums, held: &Sums, c: f64, alpha: f64) -> Interval {
    let claimed = treated.base + held.base;
    let base = claimed * c;
    let ratio = (treated.bill + held.bill) / base;
    let lever = ratio * claimed / held.base;
    let squares = treated.square(1.0, ratio * c) + held.square(1.0 - lever, ratio * c - lever * c);
    let n = (treated.n + held.n) as f64;
    let half = boundary(n, alpha) / n.sqrt() * squares.sqrt() / base;
    let point = 1.0 - ratio;
    Interval { point, low: point - half, high: point + half }
}
