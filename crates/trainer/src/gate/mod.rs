//! Whether a candidate may be published: the same questions for every kind of predictor.
//!
//! A kind brings plain numbers ([`Evidence`]): what the candidate and each competitor came to per key and day on held-out data, the
//! competitors tuned in hindsight to no more staleness than the candidate's; how well its probabilities hold; its size and latency. [`judge`]
//! answers with named checks. All must pass, or the model is published only by force, which the manifest then records.
//!
//! A saving must be shown: its interval must lie above zero. A harm must be shown as well: a route or a bin that lies beyond its bound fails
//! only if its interval excludes that nothing is wrong, or every log with many small routes would fail by chance.

pub mod bootstrap;
mod champion;
mod check;
pub mod latency;
mod text;
pub mod ttl;
pub mod versus;

use farthing_contract::bundle::GateRecord;
use farthing_experiment::phi;
use farthing_types::Money;
use serde::Serialize;

pub use bootstrap::{Interval, Setting};
pub use champion::Champion;
pub use check::{Check, CheckName, Verdict};

use bootstrap::{Resampled, resample};

/// Largest distance of a bin's mean prediction from what was observed.
pub const CALIBRATION_BOUND: f64 = 0.02;
/// A route counts from this share of the spend on.
pub const ROUTE_SHARE: f64 = 0.01;
/// By how much such a route may get dearer.
pub const ROUTE_BOUND: f64 = 0.02;
/// Fewest effective blocks on which an interval is believed.
pub const MIN_BLOCKS: f64 = 30.0;
/// Median and 99th percentile of a decision with its features, microseconds.
pub const LATENCY_BOUND: (f64, f64) = (10.0, 50.0);
/// Most trees.
pub const MAX_TREES: usize = 50;
/// Most questions asked of one row: as many as 50 trees of depth 6.
pub const MAX_QUESTIONS: usize = 300;

/// One key on one day: requests of a key depend on each other, so whole blocks are drawn again, never single requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The key, by any number.
    pub key: u64,
    /// Index into [`Evidence::routes`].
    pub route: u32,
    /// Day, by any count.
    pub day: i32,
}

/// What one way of deciding came to in one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Requests.
    pub requests: u64,
    /// What it cost.
    pub money: Money,
    /// Stale answers.
    pub stale: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.money += other.money;
        self.stale += other.stale;
    }

    /// Stale answers over all.
    pub fn stale_share(&self) -> f64 {
        self.stale as f64 / self.requests.max(1) as f64
    }
}

/// Whom the candidate is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Opponent {
    /// The bundle that decides at present.
    Champion,
    /// What decides where there is no predictor.
    Rules,
    /// The live statistics that the predictor corrects, without it: told, not binding.
    Live,
}

impl Opponent {
    /// For messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Champion => "champion",
            Self::Rules => "rules",
            Self::Live => "live statistics",
        }
    }
}

/// A competitor on the blocks of the candidate.
#[derive(Clone, Debug)]
pub struct Rival {
    /// Who.
    pub opponent: Opponent,
    /// How it was set, for people: `ttl/3 at kappa 0.004`.
    pub setting: String,
    /// Per block, in the order of [`Evidence::blocks`].
    pub amounts: Vec<Amount>,
}

/// Predictions of similar size, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Mean predicted probability.
    pub predicted: f64,
    /// Share that came true.
    pub observed: f64,
    /// Predictions.
    pub count: u64,
}

impl CalibrationBin {
    /// Ten bins with equally many predictions each, by size; `pairs` are prediction and outcome.
    pub fn deciles(mut pairs: Vec<(f64, bool)>) -> Vec<Self> {
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let n = pairs.len();
        let part = |i: usize| pairs.get(i * n / 10..(i + 1) * n / 10).unwrap_or_default();
        let bin = |pairs: &[(f64, bool)]| {
            let count = pairs.len() as f64;
            let (predicted, seen) = pairs.iter().fold((0.0, 0u64), |(p, s), (q, y)| (p + q, s + u64::from(*y)));
            Self { predicted: predicted / count, observed: seen as f64 / count, count: pairs.len() as u64 }
        };
        (0..10).map(part).filter(|pairs| !pairs.is_empty()).map(bin).collect()
    }

    /// How far off.
    pub fn error(&self) -> f64 {
        (self.predicted - self.observed).abs()
    }

    /// Whether that is more than chance explains in any of so many bins, at 95 % for all of them together, were the predictions right (Bonferroni).
    pub fn is_off(&self, bins: usize) -> bool {
        let p = self.predicted.clamp(0.0, 1.0);
        let deviation = (p * (1.0 - p) / self.count.max(1) as f64).sqrt();
        self.error() > 0.0 && 2.0 * phi(-self.error() / deviation) * (bins as f64) < 0.05
    }
}

/// Size and speed of what would be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Size {
    /// Trees; none for a model that is no tree ensemble.
    pub trees: Option<usize>,
    /// Questions on the longest way through all trees.
    pub questions: Option<usize>,
    /// Median of a decision with its features, microseconds.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
}

/// What a candidate is judged by.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Names of the routes.
    pub routes: Vec<String>,
    /// Price at which a stale answer of each route is exchanged for money when routes are compared; empty where staleness has no part.
    pub stale_prices: Vec<Money>,
    /// The blocks of the held-out data.
    pub blocks: Vec<Block>,
    /// The candidate, per block.
    pub ours: Vec<Amount>,
    /// Its competitors.
    pub rivals: Vec<Rival>,
    /// Why there is no champion among them, when there is none.
    pub no_champion: String,
    /// Calibration on held-out data; `None` for kinds that answer no probability.
    pub calibration: Option<Vec<CalibrationBin>>,
    /// Size and speed.
    pub size: Size,
}

/// The candidate against one competitor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Against {
    /// Who.
    pub opponent: Opponent,
    /// How it was set.
    pub setting: String,
    /// Its cost, dollars.
    pub money_usd: f64,
    /// Its stale share.
    pub stale_share: f64,
    /// 1 - the candidate's cost / its cost, with interval.
    pub saving: Interval,
    /// Routes with at least [`ROUTE_SHARE`] of its spend.
    pub routes: Vec<RouteChange>,
}

/// A route under both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteChange {
    /// Name.
    pub route: String,
    /// Its share of the competitor's spend.
    pub spend_share: f64,
    /// The candidate's cost, dollars.
    pub money_usd: f64,
    /// The competitor's.
    pub their_money_usd: f64,
    /// The candidate's stale share.
    pub stale_share: f64,
    /// The competitor's.
    pub their_stale_share: f64,
    /// By what share the route gets dearer, its stale answers exchanged for money at the price of the operating point; with interval.
    pub change: Interval,
}

/// The gate's answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Judgement {
    /// Every check.
    pub checks: Vec<Check>,
    /// Effective blocks: how many equal ones would carry as much.
    pub effective_blocks: f64,
    /// Blocks.
    pub blocks: usize,
    /// The candidate's cost, dollars.
    pub money_usd: f64,
    /// Its stale share.
    pub stale_share: f64,
    /// Each comparison.
    pub against: Vec<Against>,
    /// Calibration.
    pub calibration: Vec<CalibrationBin>,
    /// Size and speed.
    pub size: Size,
}

impl Judgement {
    /// Whether no check failed.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.verdict != Verdict::Failed)
    }

    /// As the manifest keeps it, of a bundle that is published.
    pub fn record(&self) -> GateRecord {
        GateRecord { passed: self.passed(), forced: !self.passed(), checks: self.checks.iter().map(Check::record).collect() }
    }

    /// The comparison with one competitor.
    pub fn against(&self, opponent: Opponent) -> Option<&Against> {
        self.against.iter().find(|a| a.opponent == opponent)
    }
}

/// Judges. Never fails: what is missing is said by the checks.
pub fn judge(evidence: &Evidence, setting: &Setting) -> Judgement {
    let total = total(&evidence.ours);
    let resampled = resample(evidence, setting);
    let against: Vec<Against> = evidence.rivals.iter().zip(&resampled).map(|(rival, r)| compared(evidence, rival, r)).collect();
    let mut judgement = Judgement {
        effective_blocks: effective(evidence),
        blocks: evidence.blocks.len(),
        money_usd: total.money.as_usd_f64(),
        stale_share: total.stale_share(),
        against,
        calibration: evidence.calibration.clone().unwrap_or_default(),
        size: evidence.size,
        checks: Vec::new(),
    };
    judgement.checks = check::all(evidence, &judgement);
    judgement
}

fn total(amounts: &[Amount]) -> Amount {
    let mut total = Amount::default();
    amounts.iter().for_each(|a| total.add(a));
    total
}

/// Kish's effective number of blocks, by the spend of the first competitor.
fn effective(evidence: &Evidence) -> f64 {
    let amounts = evidence.rivals.first().map_or(&evidence.ours, |rival| &rival.amounts);
    let (sum, squares) = amounts.iter().map(|a| a.money.nanos() as f64).fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
    if squares > 0.0 { sum * sum / squares } else { 0.0 }
}

fn compared(evidence: &Evidence, rival: &Rival, resampled: &Resampled) -> Against {
    let total = total(&rival.amounts);
    let spend = total.money.nanos().max(1) as f64;
    let routes = per_route(evidence, &rival.amounts);
    let named = |(i, (ours, theirs)): (usize, (Amount, Amount))| RouteChange {
        route: evidence.routes.get(i).cloned().unwrap_or_default(),
        spend_share: theirs.money.nanos() as f64 / spend,
        money_usd: ours.money.as_usd_f64(),
        their_money_usd: theirs.money.as_usd_f64(),
        stale_share: ours.stale_share(),
        their_stale_share: theirs.stale_share(),
        change: resampled.routes.get(i).copied().unwrap_or_default(),
    };
    Against {
        opponent: rival.opponent,
        setting: rival.setting.clone(),
        money_usd: total.money.as_usd_f64(),
        stale_share: total.stale_share(),
        saving: resampled.saving,
        routes: routes.into_iter().enumerate().map(named).filter(|r| r.spend_share >= ROUTE_SHARE).collect(),
    }
}

/// Sums per route: the candidate's, the competitor's.
fn per_route(evidence: &Evidence, theirs: &[Amount]) -> Vec<(Amount, Amount)> {
    let mut sums = vec![(Amount::default(), Amount::default()); evidence.routes.len()];
    for ((block, ours), theirs) in evidence.blocks.iter().zip(&evidence.ours).zip(theirs) {
        if let Some(sum) = sums.get_mut(block.route as usize) {
            sum.0.add(ours);
            sum.1.add(theirs);
        }
    }
    sums
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
