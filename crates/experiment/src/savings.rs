//! The savings holdout: some key-windows go past every optimisation, which shows what the requests would really have cost.
//!
//! saving = 1 - bill / base. The bill is known. The base is the ledger's claim (every request at its price) times the ratio of what
//! the holdout paid to what the ledger claimed for it. The interval is that of a ratio of sums over unit-windows, linearised, with
//! the boundary of a normal mixture so that it may be read at any time: it covers the saving rate of traffic of this kind, and it
//! contains the uncertainty of the correction.
//!
//! The holdout costs what its requests would have saved, which is much where nearly everything is saved: its share is lowered so that this
//! stays a small part of the bill. Shares differ over time then, and each held-out unit counts by how rarely its like is held out.

use std::collections::HashMap;

use farthing_types::{Draw, DrawKind, KeyHash, Money, Span, Time};
use serde::{Deserialize, Serialize};

use crate::effect::boundary;
use crate::report::{Interval, SavingReport};

/// Holdout unit-windows below which no interval is given.
const MIN_HOLDOUT: u64 = 20;
/// Unit-windows below which no interval is given.
const MIN_UNITS: u64 = 200;

/// Changes of the share that are remembered, for calls that settle late.
const CHANGES: usize = 4;
/// Least share: below it nothing would ever be proved.
const MIN_SHARE: f64 = 1e-4;
/// The share is left alone while it is so near to what it should be: each change is a new draw of few.
const NEAR: f64 = 0.1;

/// Which key-windows are held out: a keyed hash, nothing stored. The share may change from one window to the next; who is held out under
/// a smaller share is held out under every larger one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Holdout {
    /// First windows of the shares in force, the newest first.
    shares: [(i64, f64); CHANGES],
    window_ns: i64,
}

impl Holdout {
    /// Holds out `share` of the key-windows of length `window`; a share of 0 (or no number) holds out none.
    pub fn new(share: f64, window: Span) -> Self {
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        Self { shares: [(i64::MIN, share); CHANGES], window_ns: i64::try_from(window.as_nanos()).unwrap_or(i64::MAX).max(1) }
    }

    /// The same with `share` from `window` on.
    #[must_use]
    pub fn from_window(mut self, window: i64, share: f64) -> Self {
        self.shares.rotate_right(1);
        self.shares[0] = (window, if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 });
        self
    }

    /// The newest share, in force now or from the next window on.
    pub fn share(&self) -> f64 {
        self.shares[0].1
    }
    /// The probability in `window`.
    pub fn share_in(&self, window: i64) -> f64 {
        let [.., oldest] = self.shares;
        self.shares.iter().find(|(from, _)| *from <= window).unwrap_or(&oldest).1
    }
    /// The window of `now`.
    pub fn window(&self, now: Time) -> i64 {
        now.nanos().div_euclid(self.window_ns)
    }
    /// Length of a window.
    pub fn length(&self) -> Span {
        Span::from_nanos(self.window_ns.unsigned_abs())
    }
    /// Whether `unit` is held out at `now`. `scope` names the route, so that routes are held out independently. Only what the log keeps
    /// of a key is drawn from.
    pub fn holds(&self, draw: &Draw, scope: &str, unit: KeyHash, now: Time) -> bool {
        let window = self.window(now);
        let share = self.share_in(window);
        share > 0.0 && draw.uniform(DrawKind::Holdout, scope, u128::from(unit.short()), window) < share
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Open {
    base: i64,
    bill: i64,
    /// With which probability it was held out; `None`: it was not.
    held: Option<f64>,
}

/// Sums over unit-windows, in USD, each times a weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    n: u64,
    base: f64,
    bill: f64,
    base2: f64,
    bill2: f64,
    cross: f64,
}

impl Sums {
    fn add(&mut self, base: f64, bill: f64, weight: f64) {
        self.n += 1;
        self.base += weight * base;
        self.bill += weight * bill;
        self.base2 += weight * base * base;
        self.bill2 += weight * bill * bill;
        self.cross += weight * base * bill;
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
    /// Sum of (bill - a * base) * (bill - b * base).
    fn product(&self, a: f64, b: f64) -> f64 {
        self.bill2 - (a + b) * self.cross + a * b * self.base2
    }
}

/// Sums over the held-out: as they are, over the probability that held them out, and over its square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Held {
    plain: Sums,
    once: Sums,
    twice: Sums,
}

impl Held {
    fn add(&mut self, base: f64, bill: f64, share: f64) {
        self.plain.add(base, bill, 1.0);
        self.once.add(base, bill, share.recip());
        self.twice.add(base, bill, (share * share).recip());
    }
    fn since(&self, earlier: &Self) -> Self {
        Self { plain: self.plain.since(&earlier.plain), once: self.once.since(&earlier.once), twice: self.twice.since(&earlier.twice) }
    }
}

/// The running record of what was claimed and paid. Memory is bounded by `max_units`.
#[derive(Debug)]
pub struct Savings {
    alpha: f64,
    max_units: usize,
    window: i64,
    open: HashMap<KeyHash, Open>,
    closed: SavingSums,
}

impl Savings {
    /// An empty record; `alpha` is the probability that the interval ever misses, `max_units` the keys followed within one window.
    pub fn new(alpha: f64, max_units: usize) -> Self {
        Self { alpha, max_units, window: i64::MIN, open: HashMap::new(), closed: SavingSums::default() }
    }

    /// The same record, gone on with after `earlier`, which a process before has kept. Windows that were open then are in neither: who is
    /// left out does not depend on the draw.
    #[must_use]
    pub fn after(mut self, earlier: SavingSums) -> Self {
        self.closed = earlier;
        self
    }

    /// Adds a settled request or background call of `unit` in `window`: `base` is what the ledger claims it would have cost without
    /// Farthing (0 for a background call), `bill` what was paid. `None` is unpriced: counted, and left out of both sums. `held` is the
    /// probability with which the unit was held out of every strategy, `None` where it was not. Says whether this began a new window.
    pub fn record(&mut self, unit: KeyHash, window: i64, held: Option<f64>, paid: (Option<Money>, Option<Money>)) -> bool {
        let (Some(base), Some(bill)) = paid else {
            self.closed.unpriced += 1;
            return false;
        };
        let begins = window > self.window;
        if begins {
            // Windows without a request have passed, too.
            let passed = if self.window == i64::MIN { 0 } else { window.saturating_sub(self.window) };
            self.closed.windows += u64::try_from(passed).unwrap_or_default();
            self.close_window();
            self.window = window;
        }
        let late = window < self.window;
        if late || (self.open.len() >= self.max_units && !self.open.contains_key(&unit)) {
            self.closed.overflow += 1;
            self.closed.add(base.as_usd_f64(), bill.as_usd_f64(), held);
            return begins;
        }
        let open = self.open.entry(unit).or_insert(Open { held, ..Open::default() });
        open.base = open.base.saturating_add(base.nanos());
        open.bill = open.bill.saturating_add(bill.nanos());
        begins
    }

    /// Ends the open window.
    pub fn close_window(&mut self) {
        self.closed = self.sums();
        self.open.clear();
    }

    /// What is closed: what outlives the process.
    pub fn closed(&self) -> SavingSums {
        self.closed
    }

    /// Everything so far, the open window included.
    pub fn sums(&self) -> SavingSums {
        let mut sums = self.closed;
        let usd = |nanos: i64| Money::from_nanos(nanos).as_usd_f64();
        for open in self.open.values() {
            sums.add(usd(open.base), usd(open.bill), open.held);
        }
        sums
    }

    /// The state of knowledge, the open window included.
    pub fn report(&self) -> SavingReport {
        self.sums().report(self.alpha)
    }
}

/// What a record held at some moment: the difference of two moments proves the saving of the time between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavingSums {
    treated: Sums,
    held: Held,
    unpriced: u64,
    overflow: u64,
    windows: u64,
}

impl SavingSums {
    fn add(&mut self, base: f64, bill: f64, held: Option<f64>) {
        match held.filter(|share| *share > 0.0) {
            Some(share) => self.held.add(base, bill, share),
            None => self.treated.add(base, bill, 1.0),
        }
    }

    /// Windows that have ended.
    pub const fn windows(&self) -> u64 {
        self.windows
    }

    /// What came after `earlier`. A unit-window that was open then counts as two.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            treated: self.treated.since(&earlier.treated),
            held: self.held.since(&earlier.held),
            unpriced: self.unpriced.saturating_sub(earlier.unpriced),
            overflow: self.overflow.saturating_sub(earlier.overflow),
            windows: self.windows.saturating_sub(earlier.windows),
        }
    }

    /// The saving, with an interval that misses it at any time with probability `alpha` at most.
    pub fn report(&self, alpha: f64) -> SavingReport {
        let Self { treated, held, .. } = self;
        let claimed = treated.base + held.plain.base;
        let correction = self.correction();
        let n = treated.n + held.plain.n;
        let note = if held.plain.n < MIN_HOLDOUT || n < MIN_UNITS {
            Some("not enough units")
        } else if claimed <= 0.0 || correction <= 0.0 {
            Some("nothing was paid or claimed")
        } else {
            None
        };
        SavingReport {
            base_usd: claimed * correction,
            claimed_base_usd: claimed,
            bill_usd: treated.bill + held.plain.bill,
            saving: note.is_none().then(|| interval(treated, held, correction, alpha)),
            unit_windows: n,
            holdout_unit_windows: held.plain.n,
            holdout_cost_usd: self.cost(),
            windows: self.windows,
            note,
            unpriced: self.unpriced,
            overflow: self.overflow,
        }
    }

    /// Paid over claimed, of the held-out, each weighted by how rarely it is held out.
    fn correction(&self) -> f64 {
        if self.held.once.base > 0.0 { self.held.once.bill / self.held.once.base } else { 1.0 }
    }

    /// What the holdout has cost: what was paid for the held-out beyond what the others' rate makes of their claims, USD.
    fn cost(&self) -> f64 {
        if self.treated.base <= 0.0 {
            return 0.0;
        }
        (self.held.plain.bill - self.held.plain.base * self.treated.bill / self.treated.base).max(0.0)
    }

    /// The share at which the holdout costs at most `max_cost` of the bill, `share` where that is less. A held-out dollar of claims costs
    /// `c` (the correction) in place of the others' `t`, so that a share p adds p (c - t) to a bill of t + p (c - t) for each dollar.
    /// `None` while too little is known.
    pub fn affordable(&self, share: f64, max_cost: f64) -> Option<f64> {
        if self.held.plain.n < MIN_HOLDOUT || self.treated.n < MIN_UNITS || self.treated.base <= 0.0 {
            return None;
        }
        let (c, t) = (self.correction(), self.treated.bill / self.treated.base);
        if c <= t || max_cost >= 1.0 {
            return Some(share);
        }
        Some((max_cost * t / ((1.0 - max_cost) * (c - t))).max(MIN_SHARE).min(share))
    }

    /// The share for the next window, where the one now in force is no longer near to it: see [`Self::affordable`].
    pub fn next_share(&self, now: f64, share: f64, max_cost: f64) -> Option<f64> {
        self.affordable(share, max_cost).filter(|next| (next - now).abs() > NEAR * now)
    }
}

/// Linearised ratio: with base B = c * claims and R = bill / B, a unit adds (bill_i - R c claim_i) and one that was held out with
/// probability p besides -L / p (bill_i - c claim_i), L = R * all claims / sum(held claims / p): the error of c carried to the whole base.
fn interval(treated: &Sums, held: &Held, c: f64, alpha: f64) -> Interval {
    let claimed = treated.base + held.plain.base;
    let base = claimed * c;
    let ratio = (treated.bill + held.plain.bill) / base;
    let lever = ratio * claimed / held.once.base;
    let rc = ratio * c;
    let of_held = held.plain.product(rc, rc) - 2.0 * lever * held.once.product(rc, c) + lever * lever * held.twice.product(c, c);
    let squares = treated.product(rc, rc).max(0.0) + of_held.max(0.0);
    let n = (treated.n + held.plain.n) as f64;
    let half = boundary(n, alpha) / n.sqrt() * squares.sqrt() / base;
    let point = 1.0 - ratio;
    Interval { point, low: point - half, high: point + half }
}
