//! What another policy would have cost, from logged decisions whose probabilities are known.
//!
//! With `p` the logged probability of the action taken, `t` that of the target policy, `w = t / p`, `c` the cost:
//!
//! - IPS, the mean of `w c` (Horvitz and Thompson 1952);
//! - SNIPS, `sum w c / sum w` (Hájek 1971; Swaminathan and Joachims, "The self-normalized estimator for counterfactual learning", NeurIPS 2015);
//! - DR, the mean of `m(target) + w (c - m(taken))` with `m` a model of the cost that has not seen the row (Dudík, Langford and Li,
//!   "Doubly robust policy evaluation and learning", ICML 2011; cross-fitting after Chernozhukov et al. 2018).
//!
//! Each is a mean of one number per row, so variances are those of means over clusters: rows of one unit and window share a draw. Intervals
//! are 95 %, with Hall's correction for skewness ("On the removal of skewness by transformation", JRSS B 1992), because costs have long tails.
//! A log that says too little about the target is refused with a reason.

/// Fewest effective rows.
pub const MIN_EFFECTIVE: f64 = 200.0;
/// Smallest share of the rows that must be effective.
pub const MIN_EFFECTIVE_SHARE: f64 = 0.02;
/// Largest share of the target's decisions that the log could not have taken.
pub const MAX_UNSUPPORTED: f64 = 0.01;
/// Standard errors by which the mean weight may miss one.
const WEIGHT_ERRORS: f64 = 5.0;

/// A logged decision with what came of it, as the target policy sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Logged {
    /// Probability of the action taken, as logged.
    pub propensity: f64,
    /// Probability with which the target takes it.
    pub target: f64,
    /// Share of the target's probability on actions that the log could not have taken here.
    pub unsupported: f64,
    /// What it cost.
    pub cost: f64,
    /// What the model says of the action taken; 0 without a model.
    pub model_taken: f64,
    /// What the model says of the target policy; 0 without a model.
    pub model_target: f64,
    /// Equal for rows that depend on each other.
    pub cluster: u64,
}

impl Logged {
    /// Target over logged probability.
    pub fn weight(&self) -> f64 {
        if self.propensity > 0.0 { self.target / self.propensity } else { 0.0 }
    }
}

/// An estimate with a 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimated {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Standard error.
    pub error: f64,
}

/// What the log says about the target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OffPolicy {
    /// Decisions.
    pub rows: usize,
    /// Units and windows.
    pub clusters: usize,
    /// Effective rows, `(sum w)^2 / sum w^2`.
    pub effective: f64,
    /// Largest weight.
    pub max_weight: f64,
    /// Mean weight: 1 when the logged probabilities are those of the draws.
    pub mean_weight: Estimated,
    /// Mean cost of what was done.
    pub logged: Estimated,
    /// Inverse propensity scoring.
    pub ips: Estimated,
    /// The same, weights normalised.
    pub snips: Estimated,
    /// Doubly robust.
    pub dr: Estimated,
    /// The model alone; biased as the model is, so without an interval.
    pub model: f64,
    /// What was done minus the target, doubly robust: positive when the target is cheaper.
    pub saving: Estimated,
}

/// Why no estimate is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal {
    /// No decision with a drawn action and an outcome.
    NoRows,
    /// A logged probability is not within (0, 1], or a number is not finite.
    BadRow {
        /// Its place.
        row: usize,
    },
    /// The target takes actions that the log could not have taken.
    Unsupported {
        /// Share of its probability.
        share: f64,
    },
    /// Too few effective rows.
    FewEffective {
        /// How many.
        effective: f64,
    },
    /// The effective rows are too small a share.
    ThinOverlap {
        /// The share.
        share: f64,
    },
    /// The weights do not average one: the logged probabilities are not those of the draws.
    WeightsOff {
        /// Their mean.
        mean: f64,
    },
}

impl Refusal {
    /// The stable string.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NoRows => "no-rows",
            Self::BadRow { .. } => "bad-row",
            Self::Unsupported { .. } => "unsupported",
            Self::FewEffective { .. } => "few-effective",
            Self::ThinOverlap { .. } => "thin-overlap",
            Self::WeightsOff { .. } => "weights-off",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRows => write!(f, "no decision whose action was drawn and whose outcome is known"),
            Self::BadRow { row } => write!(f, "row {row} has a probability outside (0, 1] or a number that is not finite"),
            Self::Unsupported { share } => {
                write!(f, "{:.1} % of the target's decisions are actions that the log could not have taken", 100.0 * share)
            }
            Self::FewEffective { effective } => write!(f, "only {effective:.0} effective rows, at least {MIN_EFFECTIVE} are needed"),
            Self::ThinOverlap { share } => {
                write!(f, "effective rows are {:.2} % of all, at least {} % are needed", 100.0 * share, 100.0 * MIN_EFFECTIVE_SHARE)
            }
            Self::WeightsOff { mean } => {
                write!(f, "the weights average {mean:.3} instead of 1: the logged probabilities are not those of the draws")
            }
        }
    }
}

/// Evaluates the target on logged decisions.
///
/// # Errors
/// [`Refusal`], when the log says too little about the target to give an interval.
pub fn off_policy(rows: &[Logged]) -> Result<OffPolicy, Refusal> {
    check(rows)?;
    let n = rows.len() as f64;
    let (sum, squares) = rows.iter().map(Logged::weight).fold((0.0, 0.0), |(s, q), w| (s + w, q + w * w));
    let effective = if squares > 0.0 { sum * sum / squares } else { 0.0 };
    if effective < MIN_EFFECTIVE {
        return Err(Refusal::FewEffective { effective });
    }
    if effective < MIN_EFFECTIVE_SHARE * n {
        return Err(Refusal::ThinOverlap { share: effective / n });
    }
    let clusters = Clusters::of(rows);
    let mean_weight = clusters.mean(rows, Logged::weight);
    if (mean_weight.value - 1.0).abs() > WEIGHT_ERRORS * mean_weight.error + 1e-9 {
        return Err(Refusal::WeightsOff { mean: mean_weight.value });
    }
    let ratio = rows.iter().map(|r| r.weight() * r.cost).sum::<f64>() / sum;
    let doubly = |r: &Logged| r.model_target + r.weight() * (r.cost - r.model_taken);
    Ok(OffPolicy {
        rows: rows.len(),
        clusters: clusters.count,
        effective,
        max_weight: rows.iter().map(Logged::weight).fold(0.0, f64::max),
        mean_weight,
        logged: clusters.mean(rows, |r| r.cost),
        ips: clusters.mean(rows, |r| r.weight() * r.cost),
        // Linearised: the ratio plus the mean of w (c - ratio) / mean(w).
        snips: clusters.mean(rows, |r| ratio + r.weight() * (r.cost - ratio) * n / sum),
        dr: clusters.mean(rows, doubly),
        model: rows.iter().map(|r| r.model_target).sum::<f64>() / n,
        saving: clusters.mean(rows, |r| r.cost - doubly(r)),
    })
}

fn check(rows: &[Logged]) -> Result<(), Refusal> {
    if rows.is_empty() {
        return Err(Refusal::NoRows);
    }
    let sound = |r: &Logged| {
        let finite = [r.target, r.cost, r.model_taken, r.model_target, r.unsupported].iter().all(|x| x.is_finite());
        finite && r.propensity > 0.0 && r.propensity <= 1.0 + 1e-6 && r.target >= 0.0
    };
    if let Some(row) = rows.iter().position(|r| !sound(r)) {
        return Err(Refusal::BadRow { row });
    }
    let share = rows.iter().map(|r| r.unsupported).sum::<f64>() / rows.len() as f64;
    if share > MAX_UNSUPPORTED { Err(Refusal::Unsupported { share }) } else { Ok(()) }
}

/// Which rows belong together.
struct Clusters {
    of_row: Vec<usize>,
    count: usize,
}

impl Clusters {
    fn of(rows: &[Logged]) -> Self {
        let mut numbers = std::collections::HashMap::with_capacity(rows.len());
        let of_row = rows.iter().map(|r| {
            let next = numbers.len();
            *numbers.entry(r.cluster).or_insert(next)
        });
        let of_row: Vec<usize> = of_row.collect();
        Self { of_row, count: numbers.len() }
    }

    /// The mean over rows; its error from the clusters' sums of deviations.
    fn mean(&self, rows: &[Logged], of: impl Fn(&Logged) -> f64) -> Estimated {
        let n = rows.len() as f64;
        let value = rows.iter().map(&of).sum::<f64>() / n;
        let mut sums = vec![0.0; self.count];
        rows.iter().zip(&self.of_row).for_each(|(row, cluster)| sums[*cluster] += of(row) - value);
        let clusters = self.count as f64;
        let moment = |power: i32| sums.iter().map(|s| s.powi(power)).sum::<f64>() / clusters;
        let variance = moment(2) * clusters / (clusters - 1.0).max(1.0);
        let error = (variance * clusters).sqrt() / n;
        let skewness = if variance > 0.0 { moment(3) / variance.powf(1.5) } else { 0.0 };
        // Satterthwaite 1946: a variance estimated from a long tail is worth as many degrees of freedom as it varies like a chi-square of.
        let kurtosis = if variance > 0.0 { moment(4) / (variance * variance) } else { 3.0 };
        let df = (2.0 * clusters / (kurtosis - 1.0).max(1e-9)).min(clusters - 1.0);
        let (low, high) = hall(clusters, skewness, df);
        Estimated { value, low: value - high * error, high: value - low * error, error }
    }
}

/// Ends of the distribution of (mean - truth) / error at 2.5 and 97.5 %, with Hall's cubic for skewness: with `u = s / sqrt(n)` of the skewness
/// `s`, `t + u t^2 / 3 + u^2 t^3 / 27 + u / 6` is nearly normal, and the cubic can be undone. `df` degrees of freedom are in the variance.
fn hall(clusters: f64, skewness: f64, df: f64) -> (f64, f64) {
    // Student's t by its first terms (Cornish and Fisher 1938).
    let df = df.max(2.0);
    let z = 1.959_964;
    let z = z + (z * z * z + z) / (4.0 * df);
    let u = (skewness / clusters.sqrt()).clamp(-2.0, 2.0);
    let undo = |x: f64| if u.abs() < 1e-6 { x } else { 3.0 / u * ((1.0 + u * (x - u / 6.0)).cbrt() - 1.0) };
    (undo(-z), undo(z))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of a uniform draw among four, under a target that takes action 0 always.
    fn row(i: u32) -> Logged {
        let (action, cost) = (i % 4, f64::from(i % 7) + 10.0 * f64::from(i % 4));
        Logged {
            propensity: 0.25,
            target: f64::from(u8::from(action == 0)),
            cost,
            model_taken: 3.0 + 10.0 * f64::from(action),
            model_target: 3.0,
            cluster: u64::from(i),
            ..Logged::default()
        }
    }

    fn rows(n: u32) -> Vec<Logged> {
        (0..n).map(row).collect()
    }

    #[test]
    fn the_value_of_the_target_is_found() {
        let found = off_policy(&rows(2_800)).unwrap();
        for estimate in [found.ips, found.snips, found.dr] {
            assert!((estimate.value - 3.0).abs() < 1e-9 && estimate.low < 3.0 && estimate.high > 3.0, "{estimate:?}");
        }
        assert!(found.dr.error < found.ips.error && found.max_weight == 4.0 && (found.effective - 700.0).abs() < 1e-6, "{found:?}");
        assert!((found.logged.value - 18.0).abs() < 1e-9 && (found.saving.value - 15.0).abs() < 1e-9, "{found:?}");
        assert_eq!((found.rows, found.clusters), (2_800, 2_800));
    }

    #[test]
    fn a_wrong_model_costs_width_and_not_truth() {
        let mut wrong = rows(2_800);
        wrong.iter_mut().for_each(|r| (r.model_taken, r.model_target) = (-50.0, 80.0));
        let found = off_policy(&wrong).unwrap();
        // m(target) is 80 and m(taken) -50: the weights bring 80 + mean(w (c + 50)) ... no longer 3 unless both are of one model.
        assert!((found.dr.value - (80.0 + 3.0 + 50.0)).abs() < 1e-9, "{found:?}");
        wrong.iter_mut().for_each(|r| (r.model_taken, r.model_target) = (-50.0, -50.0));
        let found = off_policy(&wrong).unwrap();
        assert!((found.dr.value - 3.0).abs() < 1e-9 && found.dr.error > found.snips.error, "{found:?}");
    }

    #[test]
    fn too_little_is_refused_by_name() {
        let refused = |rows: &[Logged]| off_policy(rows).unwrap_err().as_str();
        assert_eq!(refused(&[]), "no-rows");
        assert_eq!(refused(&rows(400)), "few-effective");
        let mut thin = rows(40_000);
        thin.iter_mut().for_each(|r| r.target *= f64::from(u8::from(r.cluster % 64 == 0)));
        assert_eq!(refused(&thin), "thin-overlap");
        let with = |change: fn(&mut Logged)| {
            let mut rows = rows(2_800);
            rows.iter_mut().for_each(change);
            off_policy(&rows).unwrap_err().as_str()
        };
        assert_eq!(with(|r| r.propensity = 0.0), "bad-row");
        assert_eq!(with(|r| r.cost = f64::NAN), "bad-row");
        assert_eq!(with(|r| r.unsupported = 0.02), "unsupported");
        assert_eq!(with(|r| r.propensity = 0.5), "weights-off");
        assert!(Refusal::FewEffective { effective: 12.0 }.to_string().contains("12 effective"));
    }

    #[test]
    fn rows_of_one_unit_count_as_one() {
        let mut rows = rows(5_600);
        let alone = off_policy(&rows).unwrap();
        // Each row four times over: the same estimate, and no more certainty.
        let copies: Vec<Logged> = rows.iter().flat_map(|r| [*r; 4]).collect();
        let found = off_policy(&copies).unwrap();
        assert!((found.dr.error / alone.dr.error - 1.0).abs() < 1e-6 && found.clusters == 5_600, "{found:?}");
        rows.iter_mut().enumerate().for_each(|(i, r)| r.cluster = i as u64 + (1 << 40));
        assert_eq!(off_policy(&rows).unwrap().dr, alone.dr);
    }

    #[test]
    fn skewness_moves_the_interval_and_none_leaves_it() {
        let (low, high) = hall(1_000.0, 0.0, 999.0);
        assert!((low + high).abs() < 1e-9 && (high - 1.96).abs() < 0.01);
        // Costs with a long right tail: a mean that came out low has a small error too, so the interval reaches further up.
        assert!(hall(1_000.0, 0.0, 20.0).1 > high, "a variance that is known badly widens it");
        let (low, high) = hall(1_000.0, 5.0, 999.0);
        assert!(-low > high && -low < 2.6, "{low} {high}");
        for skewness in [-1e9, 1e9] {
            let (low, high) = hall(10.0, skewness, 9.0);
            assert!(low < high && low.is_finite() && high.is_finite(), "{low} {high}");
        }
    }
}
