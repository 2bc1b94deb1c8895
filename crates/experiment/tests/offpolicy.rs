//! Off-policy intervals against a world whose truth is known, a thousand logs.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test ends here when it fails")]

use farthing_experiment::offpolicy::{Logged, off_policy};

/// Actions and features of the world, decisions of a log, and logs.
const ARMS: usize = 6;
const FEATURES: usize = 10;
const ROWS: usize = 4_000;
const RUNS: usize = 1_000;
/// Mean time until a cost is known and age from which it counts, as shares of the log.
const DELAY: f64 = 0.005;
const MATURE: f64 = 0.04;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
    fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }
    /// Lognormal of mean one and sigma one (Box and Muller 1958).
    fn heavy(&mut self) -> f64 {
        let normal = (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos();
        (normal - 0.5).exp()
    }
}

type Context = [f64; FEATURES];

/// Mean costs that bend: a linear view of the world is nearly right and not quite.
struct World([Context; ARMS]);

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        Self(std::array::from_fn(|_| std::array::from_fn(|_| 0.6 * random.uniform() - 0.3)))
    }
    fn linear(&self, x: &Context, arm: usize) -> f64 {
        self.0[arm].iter().zip(x).map(|(w, x)| w * x).sum()
    }
    fn mean(&self, x: &Context, arm: usize) -> f64 {
        let bent = 0.4 * x[arm] * x[(arm + 3) % FEATURES] + if x[(arm + 5) % FEATURES] > 0.5 { 0.3 } else { 0.0 };
        (self.linear(x, arm) + bent).exp()
    }
    /// A context, and which actions are eligible: one is out of reach now and then.
    fn context(random: &mut Random) -> (Context, Vec<usize>) {
        let x = std::array::from_fn(|_| 2.0 * random.uniform() - 1.0);
        let out = if random.uniform() < 0.3 { random.below(ARMS) } else { ARMS };
        (x, (0..ARMS).filter(|a| *a != out).collect())
    }
    /// The cheapest by the linear view, four times of five.
    fn target(&self, x: &Context, able: &[usize]) -> [f64; ARMS] {
        let best = able.iter().copied().min_by(|a, b| self.linear(x, *a).total_cmp(&self.linear(x, *b))).unwrap();
        let mut pmf = [0.0; ARMS];
        able.iter().for_each(|a| pmf[*a] = 0.2 / able.len() as f64);
        pmf[best] += 0.8;
        pmf
    }
    fn truth(&self) -> f64 {
        const N: usize = 1_000_000;
        let mut random = Random(99);
        let mut one = || {
            let (x, able) = Self::context(&mut random);
            self.target(&x, &able).iter().enumerate().map(|(a, p)| p * self.mean(&x, a)).sum::<f64>()
        };
        (0..N).map(|_| one()).sum::<f64>() / N as f64
    }
}

struct Row {
    x: Context,
    action: usize,
    propensity: f64,
    target: [f64; ARMS],
    cost: f64,
}

/// A log under the uniform slice: half of the decisions cost nothing, the others have long tails; what is not known in time is missing.
fn log(world: &World, seed: u64) -> Vec<Row> {
    let mut random = Random(seed);
    let mut rows = Vec::with_capacity(ROWS);
    for i in 0..ROWS {
        let (x, able) = World::context(&mut random);
        let action = able[random.below(able.len())];
        let cost = if random.uniform() < 0.5 { 0.0 } else { 2.0 * world.mean(&x, action) * random.heavy() };
        let (at, delay) = (i as f64 / ROWS as f64, -DELAY * (1.0 - random.uniform()).ln());
        if at <= 1.0 - MATURE && at + delay <= 1.0 {
            rows.push(Row { x, action, propensity: 1.0 / able.len() as f64, target: world.target(&x, &able), cost });
        }
    }
    rows
}

/// One ridge regression per action.
fn fit<'a>(rows: impl Iterator<Item = &'a Row>) -> [[f64; FEATURES + 1]; ARMS] {
    const N: usize = FEATURES + 1;
    let mut gram = [[[0.0; N + 1]; N]; ARMS];
    for row in rows {
        let x = with_one(&row.x);
        for (i, line) in gram[row.action].iter_mut().enumerate() {
            for (j, cell) in line.iter_mut().enumerate() {
                *cell += x[i] * if j < N { x[j] } else { row.cost };
            }
        }
    }
    gram.map(solved)
}

/// Gauss and Jordan; the ridge keeps every pivot away from zero.
fn solved<const N: usize, const M: usize>(mut a: [[f64; M]; N]) -> [f64; N] {
    (0..N).for_each(|i| a[i][i] += 1.0);
    for i in 0..N {
        let pivot = a[i];
        for (_, line) in a.iter_mut().enumerate().filter(|(r, _)| *r != i) {
            let factor = line[i] / pivot[i];
            line.iter_mut().zip(pivot).for_each(|(cell, p)| *cell -= factor * p);
        }
    }
    std::array::from_fn(|i| a[i][M - 1] / a[i][i])
}

fn with_one(x: &Context) -> [f64; FEATURES + 1] {
    std::array::from_fn(|i| x.get(i).copied().unwrap_or(1.0))
}

/// Rows as the estimators take them, the model of each half learned from the other.
fn logged(rows: &[Row]) -> Vec<Logged> {
    let half = rows.len() / 2;
    let models = [fit(rows[half..].iter()), fit(rows[..half].iter())];
    let one = |(i, row): (usize, &Row)| {
        let x = with_one(&row.x);
        let cost = |arm: usize| models[usize::from(i >= half)][arm].iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        Logged {
            propensity: row.propensity,
            target: row.target[row.action],
            cost: row.cost,
            model_taken: cost(row.action),
            model_target: (0..ARMS).map(|arm| row.target[arm] * cost(arm)).sum(),
            cluster: i as u64,
            ..Logged::default()
        }
    };
    rows.iter().enumerate().map(one).collect()
}

/// Acceptance: intervals of 95 % cover the truth in at least 93.5 % of 1,000 logs under the uniform slice.
#[test]
fn intervals_cover_the_truth_in_a_thousand_logs() {
    cover(5);
}

fn cover(seed: u64) {
    let world = World::new(seed);
    let truth = world.truth();
    let (mut covered, mut width) = ([0usize; 3], [0.0; 3]);
    for run in 0..RUNS {
        let found = off_policy(&logged(&log(&world, 10_000 + run as u64))).unwrap();
        for (i, estimate) in [found.ips, found.snips, found.dr].into_iter().enumerate() {
            covered[i] += usize::from(estimate.low <= truth && truth <= estimate.high);
            width[i] += (estimate.high - estimate.low) / truth / RUNS as f64;
        }
    }
    println!("of {RUNS}: IPS {}, SNIPS {}, DR {} cover; mean width {width:.3?} of the truth", covered[0], covered[1], covered[2]);
    assert!(covered.iter().all(|c| 1_000 * c >= 935 * RUNS), "{covered:?}");
    // Half of the costs are zero and the rest have long tails: little is left that a model could foretell.
    assert!(width[2] < width[0], "the model narrows the interval: {width:?}");
}
