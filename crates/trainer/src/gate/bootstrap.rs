//! Intervals for paired differences: the bootstrap over blocks (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8
//! and 13; blocks after Künsch 1989). Both sides are summed over the same drawn blocks, so what moves both cancels.

use serde::Serialize;

use super::Evidence;

/// Blocks are first added up at random into at most so many groups of one route: time and memory stay bounded, and the variance of a sum of
/// random groups estimates that of the blocks.
const MAX_GROUPS: usize = 20_000;

/// How intervals are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// How often the blocks are drawn anew.
    pub draws: usize,
    /// Seed: the same evidence and seed give the same interval.
    pub seed: u64,
}

impl Default for Setting {
    fn default() -> Self {
        Self { draws: 2_000, seed: 1 }
    }
}

/// An estimate with a 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Interval {
    /// The estimate from all blocks.
    pub value: f64,
    /// 2.5 % of the resampled estimates lie below.
    pub low: f64,
    /// 2.5 % lie above.
    pub high: f64,
}

impl Interval {
    /// From resampled estimates by percentiles.
    pub fn of(value: f64, mut draws: Vec<f64>) -> Self {
        draws.sort_by(f64::total_cmp);
        let at = |share: f64| draws.get(((draws.len() as f64 * share) as usize).min(draws.len().saturating_sub(1))).copied();
        Self { value, low: at(0.025).unwrap_or(value), high: at(0.975).unwrap_or(value) }
    }
}

/// What resampling says about one competitor.
#[derive(Clone, Debug, Default)]
pub struct Resampled {
    /// 1 - ours / theirs, in money.
    pub saving: Interval,
    /// Per route: by what share it gets dearer, stale answers exchanged for money.
    pub routes: Vec<Interval>,
}

/// Draws the blocks of `evidence` again and again, for all competitors at once.
pub fn resample(evidence: &Evidence, setting: &Setting) -> Vec<Resampled> {
    let mut random = Random(setting.seed);
    let groups = Groups::of(evidence, &mut random);
    let (rivals, routes) = (evidence.rivals.len(), evidence.routes.len());
    let whole = groups.sums(routes, 0..groups.len());
    let mut savings = vec![Vec::with_capacity(setting.draws); rivals];
    let mut changes = vec![vec![Vec::with_capacity(setting.draws); routes]; rivals];
    for _ in 0..setting.draws {
        let sums = groups.sums(routes, (0..groups.len()).map(|_| random.below(groups.len())));
        for rival in 0..rivals {
            savings[rival].push(sums.saving(rival));
            changes[rival].iter_mut().enumerate().for_each(|(route, list)| list.push(sums.change(rival, route)));
        }
    }
    let found = |(rival, (saving, routes)): (usize, (Vec<f64>, Vec<Vec<f64>>))| Resampled {
        saving: Interval::of(whole.saving(rival), saving),
        routes: routes.into_iter().enumerate().map(|(route, list)| Interval::of(whole.change(rival, route), list)).collect(),
    };
    savings.into_iter().zip(changes).enumerate().map(found).collect()
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers on every machine and with every version of any library.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
    /// Uniform below `n`.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
    /// Fisher and Yates.
    fn shuffle(&mut self, list: &mut [usize]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }
}

/// Blocks of one route that are drawn together, in nano-dollars.
struct Groups {
    routes: Vec<usize>,
    /// Group after group, ours and then each competitor's: money, and money with stale answers exchanged.
    sides: Vec<[f64; 2]>,
    width: usize,
}

impl Groups {
    fn of(evidence: &Evidence, random: &mut Random) -> Self {
        let known = |i: &usize| (evidence.blocks[*i].route as usize) < evidence.routes.len();
        let mut order: Vec<usize> = (0..evidence.blocks.len().min(evidence.ours.len())).filter(known).collect();
        let per_group = order.len().div_ceil(MAX_GROUPS).max(1);
        if per_group > 1 {
            random.shuffle(&mut order);
        }
        // Stable: within a route the order stays random.
        order.sort_by_key(|i| evidence.blocks[*i].route);
        let mut groups = Self { routes: Vec::new(), sides: Vec::new(), width: 1 + evidence.rivals.len() };
        for of_one_route in order.chunk_by(|a, b| evidence.blocks[*a].route == evidence.blocks[*b].route) {
            of_one_route.chunks(per_group).for_each(|members| groups.add(evidence, members));
        }
        groups
    }

    fn add(&mut self, evidence: &Evidence, members: &[usize]) {
        let route = members.first().map_or(0, |i| evidence.blocks[*i].route as usize);
        let price = evidence.stale_prices.get(route).map_or(0.0, |p| p.nanos() as f64);
        self.routes.push(route);
        for amounts in std::iter::once(&evidence.ours).chain(evidence.rivals.iter().map(|r| &r.amounts)) {
            let of = members.iter().filter_map(|i| amounts.get(*i));
            let side = of.fold([0.0, 0.0], |[money, full], a| {
                let paid = a.money.nanos() as f64;
                [money + paid, full + paid + price * a.stale as f64]
            });
            self.sides.push(side);
        }
    }

    fn len(&self) -> usize {
        self.routes.len()
    }

    fn sums(&self, routes: usize, drawn: impl Iterator<Item = usize>) -> Sums {
        let width = self.width;
        let mut sums = Sums { width, money: vec![0.0; width], full: vec![0.0; width * routes] };
        for n in drawn {
            let from = self.routes[n] * width;
            let (sides, full) = (&self.sides[n * width..(n + 1) * width], &mut sums.full[from..from + width]);
            for ((money, full), side) in sums.money.iter_mut().zip(full).zip(sides) {
                *money += side[0];
                *full += side[1];
            }
        }
        sums
    }
}

/// Sums over drawn groups.
struct Sums {
    width: usize,
    money: Vec<f64>,
    /// Route-major.
    full: Vec<f64>,
}

impl Sums {
    fn saving(&self, rival: usize) -> f64 {
        -change(self.money[0], self.money[1 + rival])
    }

    fn change(&self, rival: usize, route: usize) -> f64 {
        change(self.full[route * self.width], self.full[route * self.width + 1 + rival])
    }
}

/// By what share `ours` lies above `theirs`; what costs nothing under both has not changed.
fn change(ours: f64, theirs: f64) -> f64 {
    if theirs > 0.0 {
        ours / theirs - 1.0
    } else if ours > 0.0 {
        1.0
    } else {
        0.0
    }
}
