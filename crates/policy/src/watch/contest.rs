//! What a challenger's keys cost beside those of what decides at present: money per key and window of a canary.
//!
//! Each watched key is the challenger's or the champion's by a fair coin per window, tossed anew for each. A unit is one key in one window: the price of its calls and of
//! its stale answers, less what so many requests usually cost for that key (known from earlier windows). `2 y` where the challenger decides and `-2 (1 + margin) y` else
//! has a mean of `y1 - (1 + margin) y0`. Under the hypothesis that each unit costs exactly the margin more under the challenger, a unit's value is the same number with either sign, by
//! the coin alone: then `exp(c S - c^2 V / 2)`, S the sum and V the sum of squares, is a supermartingale for every `c` (de la Pena, "A general class of exponential
//! inequalities for martingales and ratios", Annals of Probability 1999), whatever the amounts, and so is its mixture over a normal `c`, `sqrt(r / (V + r)) exp(S^2 / (2 (V + r)))`: it
//! reaches `1 / a` with a probability of at most `a`, at all looks together. Where keys differ in how the challenger suits them this holds for the mean, for many units (Waudby-Smith
//! et al., "Time-uniform central limit theory", Annals of Statistics 2024). Heavy tails cost patience, never validity.

/// Places for keys, 136 bytes each; made when the first is needed. Of keys that share one the first is counted.
const PLACES: usize = 1 << 13;
/// Values that only set the scale of the mixture.
const BURN: u32 = 8;
/// The mixture is sharpest at about so many values of that scale.
const SHARPEST: f64 = 32.0;
/// Requests of a route before what is usual there is known, and the weight of the route beside what a key's own past says.
const KNOWN: f64 = 100.0;
const ROUTE_WEIGHT: f64 = 20.0;
/// How a key's past and a route's fade with each unit.
const KEY_FADE: f64 = 0.5;
const ROUTE_FADE: f64 = 0.99;

/// Money of one key in one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spent {
    /// The key.
    pub key: u64,
    /// Its route, by number.
    pub route: u16,
    /// The window in which it was spent.
    pub window: i64,
    /// The challenger decided.
    pub treated: bool,
    /// Price of calls and of stale answers, nano-dollars.
    pub money: f64,
    /// Requests that were answered.
    pub requests: f64,
}

/// What is known of the money.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ContestReport {
    /// Keys times windows of the champion's side and of the challenger's.
    pub units: [u64; 2],
    /// The challenger's cost over the champion's, each against what is usual for the same requests; `None` while one side has none.
    pub ratio: Option<f64>,
    /// Evidence that the challenger costs less than the margin more; 1 is none.
    pub within: f64,
    /// The same for four times the margin.
    pub within_wide: f64,
    /// Evidence that it costs more than the margin more.
    pub beyond: f64,
    /// Copies and calls without a price, which are left out.
    pub unpriced: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Contest {
    margin: f64,
    /// Amounts count in windows after this one: in that in which it began, old copies know one side alone.
    began: Option<i64>,
    /// The same for routes on which it has rested since, by number.
    rests: Vec<i64>,
    purses: Vec<Purse>,
    routes: Vec<Usual>,
    tight: Signed,
    wide: Signed,
    units: [u64; 2],
    /// Money and what is usual for the same requests, by side.
    sums: [(f64, f64); 2],
    unpriced: u64,
}

/// Money and requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usual {
    money: f64,
    requests: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Unit {
    window: i64,
    treated: bool,
    spent: Usual,
}

/// One key: its past, and the windows that are not over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Purse {
    key: u64,
    route: u16,
    past: Usual,
    open: [Option<Unit>; 2],
}

impl Contest {
    /// Nothing is known; `margin` is the share by which the challenger may be dearer.
    pub fn new(margin: f64) -> Self {
        Self {
            margin,
            began: None,
            rests: Vec::new(),
            purses: Vec::new(),
            routes: Vec::new(),
            tight: Signed::default(),
            wide: Signed::default(),
            units: [0; 2],
            sums: [(0.0, 0.0); 2],
            unpriced: 0,
        }
    }

    /// Learns of an amount. What comes for a window that was closed counts at once, on its own side.
    pub fn add(&mut self, spent: &Spent) {
        if spent.window <= *self.began.get_or_insert(spent.window) || !spent.money.is_finite() || !spent.requests.is_finite() {
            return;
        }
        if self.rests.get(usize::from(spent.route)).is_some_and(|until| spent.window <= *until) {
            return;
        }
        if self.purses.is_empty() {
            self.purses.resize(PLACES, Purse::default());
        }
        let place = (spent.key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % PLACES;
        let purse = &mut self.purses[place];
        if purse.key != spent.key {
            if purse.open.iter().any(Option::is_some) {
                return;
            }
            *purse = Purse { key: spent.key, route: spent.route, ..Purse::default() };
        }
        let slot = usize::from(spent.window & 1 == 1);
        let fresh = Unit { window: spent.window, treated: spent.treated, spent: Usual::default() };
        let kept = purse.open[slot];
        let (mut unit, over) = match kept {
            Some(unit) if unit.window == spent.window => (unit, None),
            Some(unit) if unit.window < spent.window => (fresh, Some(unit)),
            // Late: the place is another window's by now, or nobody's.
            Some(_) => return self.settle(place, &Unit { spent: of(spent), ..fresh }),
            None => (fresh, None),
        };
        unit.spent.money += spent.money;
        unit.spent.requests += spent.requests;
        self.purses[place].open[slot] = Some(unit);
        over.into_iter().for_each(|unit| self.settle(place, &unit));
    }

    /// On a route nobody's side decides for some time: the windows that are open there count on neither side, and none does up to and with `window`.
    pub fn rest(&mut self, route: u16, window: i64) {
        let place = usize::from(route);
        if self.rests.len() <= place {
            self.rests.resize(place + 1, i64::MIN);
        }
        self.rests[place] = window;
        self.purses.iter_mut().filter(|purse| purse.route == route).for_each(|purse| purse.open = [None; 2]);
    }

    /// Learns of a call or a copy whose price nobody knows.
    pub fn unpriced(&mut self) {
        self.unpriced += 1;
    }

    /// Windows before this one are over.
    pub fn close(&mut self, before: i64) {
        for place in 0..self.purses.len() {
            for slot in 0..2 {
                if let Some(unit) = self.purses[place].open[slot].take_if(|unit| unit.window < before) {
                    self.settle(place, &unit);
                }
            }
        }
    }

    fn settle(&mut self, place: usize, unit: &Unit) {
        let purse = &mut self.purses[place];
        let route = usize::from(purse.route);
        if self.routes.len() <= route {
            self.routes.resize(route + 1, Usual::default());
        }
        let usual = self.routes[route];
        if usual.requests >= KNOWN {
            let each = ROUTE_WEIGHT / usual.requests;
            let expected = unit.spent.requests * (purse.past.money + each * usual.money) / (purse.past.requests + ROUTE_WEIGHT);
            let signed = |margin: f64| {
                if unit.treated { 2.0 * (unit.spent.money - expected) } else { 2.0 * (expected - (1.0 + margin) * unit.spent.money) }
            };
            self.tight.add(signed(self.margin));
            self.wide.add(signed(4.0 * self.margin));
            let side = usize::from(unit.treated);
            self.units[side] += 1;
            self.sums[side].0 += unit.spent.money;
            self.sums[side].1 += expected;
        }
        purse.past.learn(unit.spent, KEY_FADE);
        self.routes[route].learn(unit.spent, ROUTE_FADE);
    }

    /// What is known.
    pub fn report(&self) -> ContestReport {
        let share = |(money, usual): (f64, f64)| (usual > 0.0 && money > 0.0).then(|| money / usual);
        ContestReport {
            units: self.units,
            ratio: share(self.sums[1]).zip(share(self.sums[0])).map(|(ours, theirs)| ours / theirs),
            within: self.tight.evidence(-1.0),
            within_wide: self.wide.evidence(-1.0),
            beyond: self.tight.evidence(1.0),
            unpriced: self.unpriced,
        }
    }
}

const fn of(spent: &Spent) -> Usual {
    Usual { money: spent.money, requests: spent.requests }
}

impl Usual {
    fn learn(&mut self, other: Self, fade: f64) {
        self.money = fade * self.money + other.money;
        self.requests = fade * self.requests + other.requests;
    }
}

/// Sum and squares of values that are symmetric under the hypothesis.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Signed {
    burnt: u32,
    scale: f64,
    sum: f64,
    squares: f64,
}

impl Signed {
    fn add(&mut self, value: f64) {
        if value == 0.0 {
            return;
        }
        if self.burnt < BURN {
            self.burnt += 1;
            self.scale += value * value / f64::from(BURN) * SHARPEST;
        } else {
            self.sum += value;
            self.squares += value * value;
        }
    }

    /// Evidence that the values lie on the side of that sign.
    fn evidence(&self, sign: f64) -> f64 {
        let spread = self.squares + self.scale;
        if spread <= 0.0 || self.squares <= 0.0 {
            return 1.0;
        }
        let z = sign * self.sum / spread.sqrt();
        let width = (self.scale / spread).sqrt();
        // One-sided mixtures are `2 P(N < z)` times the two-sided one; both are bounded from below here.
        if z >= 0.0 { width * (0.5 * z * z).min(400.0).exp() } else { width / (1.0 - 1.3 * z) }
    }
}

#[cfg(test)]
#[path = "contest_tests.rs"]
mod tests;
