//! The effect of one variant against control: stabilised AIPW with an always-valid interval, and an exact e-process for the decision.
//!
//! Sources (docs/proving.md): adaptively weighted AIPW (Hadad et al.), asymptotic confidence sequences (Waudby-Smith et al.),
//! betting e-processes. The weights of windows, sqrt(p(1-p)) where all units have one p, make the estimate an average over time weighted by them; it equals the plain
//! average effect when the effect does not change over time or the shares do not. The unweighted estimate stands beside it.

use serde::{Deserialize, Serialize};

use crate::allocation::Belief;
use crate::betting::{EProcess, Haste, STEPS};

/// Unit-windows at which the interval is tightest relative to a fixed-sample one.
const TIGHTEST_AT: f64 = 3_000.0;

/// Bets of a comparison, in both directions.
pub(crate) const BETS: usize = 2 * STEPS as usize;

/// One unit in one window, scaled: the outcome is money cost divided by the cap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled {
    /// Whether the unit was in the challenger (else in control).
    pub treated: bool,
    /// Probability of the challenger given that it was one of the two.
    pub propensity: f64,
    /// Probability that it was one of the two.
    pub among: f64,
    /// Outcome in [0, 1].
    pub outcome: f64,
    /// The unit's mean outcome in earlier windows; `None` for a unit that was not seen before.
    pub before: Option<f64>,
}

/// Least squares of the outcome on the covariate for one variant, with a separate mean for units without a past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Regression {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    new_n: f64,
    new_y: f64,
}

impl Regression {
    fn add(&mut self, row: &Scaled) {
        match row.before {
            Some(x) => {
                self.n += 1.0;
                self.x += x;
                self.y += row.outcome;
                self.xx += x * x;
                self.xy += x * row.outcome;
            }
            None => {
                self.new_n += 1.0;
                self.new_y += row.outcome;
            }
        }
    }

    fn predict(&self, before: Option<f64>) -> f64 {
        let Some(x) = before else { return self.new_y / self.new_n.max(1.0) };
        if self.n < 2.0 {
            return self.new_y / self.new_n.max(1.0);
        }
        let (mean_x, mean_y) = (self.x / self.n, self.y / self.n);
        let spread = self.xx - self.n * mean_x * mean_x;
        // One row's worth of prior towards no slope keeps a thin window from swinging the line.
        let slope = (self.xy - self.n * mean_x * mean_y) / (spread + 1e-9 + mean_x * mean_x);
        (mean_y + slope * (x - mean_x)).clamp(0.0, 1.0)
    }
}

/// Running comparison of one challenger with control; a few hundred bytes whatever the number of units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    alpha: f64,
    known: [Regression; 2],
    learning: [Regression; 2],
    rows: [u64; 2],
    sum_outcome: [f64; 2],
    plain: f64,
    weight: f64,
    weighted: f64,
    /// What control would cost all of these units, weighted as they are, and the weight of the rows in it: records that were begun before it was summed have less.
    #[serde(default)]
    base: f64,
    #[serde(default)]
    base_weight: f64,
    weight2: f64,
    weighted2: f64,
    square2: f64,
    dearer: EProcess,
    cheaper: EProcess,
    most: f64,
}

/// What is known of an effect, on the scale of the outcome (1 = the cap).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Challenger minus control per unit-window, stabilised weights.
    pub effect: f64,
    /// Lower end of the always-valid interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The same with equal weights for all unit-windows.
    pub unweighted: f64,
    /// Mean outcome of all units if they had control, and if they had the challenger, weighted as the effect: where chances hang on the unit, those that came to a
    /// variant are no sample of all.
    pub means: [f64; 2],
    /// Unit-windows in control and in the challenger.
    pub rows: [u64; 2],
    /// Standard deviation that one unit-window adds: the interval's half-width is `boundary(n) / n` times this.
    pub spread: f64,
    /// Evidence against "no effect in any window".
    pub evidence: f64,
    /// Whether the evidence has reached 1/alpha: the two differ at some time.
    pub differs: bool,
}

impl Effect {
    /// A comparison with false-alarm probability `alpha`.
    pub fn new(alpha: f64) -> Self {
        Self {
            alpha,
            known: [Regression::default(); 2],
            learning: [Regression::default(); 2],
            rows: [0; 2],
            sum_outcome: [0.0; 2],
            plain: 0.0,
            weight: 0.0,
            weighted: 0.0,
            base: 0.0,
            base_weight: 0.0,
            weight2: 0.0,
            weighted2: 0.0,
            square2: 0.0,
            dearer: EProcess::new(Haste::Any),
            cheaper: EProcess::new(Haste::Any),
            most: 1.0,
        }
    }

    /// Takes the rows of one window. The regression that adjusts them was fitted on earlier windows only.
    pub fn window(&mut self, rows: &[Scaled]) {
        self.known = self.learning;
        for (row, weight) in rows.iter().zip(weights(rows)) {
            self.row(row, weight);
        }
    }

    /// Learns from rows without testing them.
    pub fn learn(&mut self, rows: &[Scaled]) {
        for row in rows {
            self.learning[usize::from(row.treated)].add(row);
        }
    }

    fn row(&mut self, row: &Scaled, h: f64) {
        let p = row.propensity;
        if !(p > 0.0 && p < 1.0) {
            return; // one of the two was switched off: nothing to compare
        }
        let arm = usize::from(row.treated);
        let [m0, m1] = [self.known[0].predict(row.before), self.known[1].predict(row.before)];
        let residual = if row.treated { (row.outcome - m1) / p } else { -(row.outcome - m0) / (1.0 - p) };
        let psi = m1 - m0 + residual;
        self.rows[arm] += 1;
        self.sum_outcome[arm] += row.outcome;
        self.plain += psi;
        self.weight += h;
        self.weighted += h * psi;
        self.base += h * (m0 + if row.treated { 0.0 } else { -residual });
        self.base_weight += h;
        self.weight2 += h * h;
        self.weighted2 += h * h * psi;
        self.square2 += h * h * psi * psi;
        self.bet(psi, p, [m0, m1]);
        self.learning[arm].add(row);
    }

    /// Bets on both signs of psi, whose mean is 0 given the past when there is no effect. The stakes are scaled by what is known before the
    /// coin: rows that tell more count more (by p (1 - p), the inverse of their variance), and none can lose more than all, for an outcome
    /// lies in [0, 1] and so psi between the values that 0 and 1 give.
    fn bet(&mut self, psi: f64, p: f64, [m0, m1]: [f64; 2]) {
        let base = m1 - m0;
        let lowest = (base - m1 / p).min(base - (1.0 - m0) / (1.0 - p));
        let highest = (base + (1.0 - m1) / p).max(base + m0 / (1.0 - p));
        let weight = 2.0 * p * (1.0 - p);
        self.dearer.add(psi * weight.min(-1.0 / lowest.min(-f64::MIN_POSITIVE)));
        self.cheaper.add(-psi * weight.min(1.0 / highest.max(f64::MIN_POSITIVE)));
        self.most = self.most.max(self.evidence());
    }

    /// The mean outcome of all units if they had control, doubly robust as the effect is; rows from before it was summed count by the plain mean.
    fn control(&self) -> f64 {
        let plain = self.sum_outcome[0] / self.rows[0] as f64;
        (self.base + (self.weight - self.base_weight) * plain) / self.weight
    }

    /// The mean wealth of both directions: itself an e-process.
    fn evidence(&self) -> f64 {
        f64::midpoint(self.dearer.evidence(), self.cheaper.evidence())
    }

    /// What is believed of the effect, for allocation; `None` before there are rows of both.
    pub fn belief(&self) -> Option<Belief> {
        let known = self.estimate()?;
        let n = (known.rows[0] + known.rows[1]) as f64;
        Some(Belief { mean: known.effect, deviation: known.spread / n.sqrt() })
    }

    /// What is known now; `None` before there are rows of both.
    pub fn estimate(&self) -> Option<Estimate> {
        if self.rows.contains(&0) {
            return None;
        }
        let n = (self.rows[0] + self.rows[1]) as f64;
        let effect = self.weighted / self.weight;
        let variance = (self.square2 - 2.0 * effect * self.weighted2 + effect * effect * self.weight2).max(0.0);
        let spread = (variance / n).sqrt() * n / self.weight;
        let half = boundary(n, self.alpha) * spread / n;
        let control = self.control();
        Some(Estimate {
            effect,
            low: effect - half,
            high: effect + half,
            unweighted: self.plain / n,
            means: [control, control + effect],
            rows: self.rows,
            spread,
            evidence: self.evidence(),
            differs: self.most * self.alpha >= 1.0,
        })
    }
}

/// The weights of a window's rows: all `sqrt(p (1 - p))` where the window has one `p`. Where each unit has probabilities by its context, weights by row would
/// give contexts in which variants are near each other more say, and the estimate would be about those. So a row counts by the inverse of the probability `a` that
/// it is among the compared ones, which makes the rows stand for all units, and the window by `1 / sqrt(mean(w^2 / (p (1 - p))))` with `w` that inverse over
/// its mean. Both hang on which units came and on their probabilities, and on no draw between the two (after Zhan, Hadad, Hirshberg and Athey, "Off-policy
/// evaluation via adaptive weighting with data from contextual bandits", KDD 2021).
fn weights(rows: &[Scaled]) -> Vec<f64> {
    let is_compared = |row: &&Scaled| row.propensity > 0.0 && row.propensity < 1.0 && row.among > 0.0;
    let (sum, count) = rows.iter().filter(is_compared).fold((0.0, 0.0), |(sum, count), row| (sum + 1.0 / row.among, count + 1.0));
    let share = |row: &Scaled| if row.among > 0.0 { count / (row.among * sum) } else { 0.0 };
    let spread: f64 = rows.iter().filter(is_compared).map(|row| share(row).powi(2) / (row.propensity * (1.0 - row.propensity))).sum();
    rows.iter().map(|row| if spread > 0.0 { share(row) * (count / spread).sqrt() } else { 0.0 }).collect()
}

/// Normal-mixture boundary for a sum of `n` increments of unit variance: |sum| stays below it at all times with probability 1 - `alpha`.
pub(crate) fn boundary(n: f64, alpha: f64) -> f64 {
    let log = -2.0 * alpha.ln();
    let rho2 = (log + (log + 1.0).ln()) / TIGHTEST_AT;
    ((n * rho2 + 1.0) / rho2 * ((n * rho2 + 1.0).ln() + log)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn no_estimate_without_both() {
        let mut effect = Effect::new(0.05);
        assert_eq!(effect.estimate(), None);
        effect.window(&[Scaled { treated: true, propensity: 0.5, among: 1.0, outcome: 0.3, before: None }]);
        assert_eq!(effect.estimate(), None);
    }

    #[test]
    fn the_boundary_is_wider_than_a_fixed_one_and_grows_like_a_root() {
        for n in [100.0, 1_000.0, 10_000.0, 1e6] {
            let ratio = boundary(n, 0.05) / f64::sqrt(n);
            assert!(ratio > 1.96 && ratio < 14.0, "{n}: {ratio}");
        }
        assert!(boundary(5_000.0, 0.05) / 5_000f64.sqrt() < 3.2);
    }

    #[test]
    fn the_covariate_narrows_the_interval() {
        // Units differ a hundredfold; the effect is a tenth.
        let rows: Vec<Scaled> = (0..4_000u32)
            .map(|i| {
                let base = 0.005 * f64::from(1 + i % 97);
                let treated = (i / 97 + i) % 2 == 0;
                let noise = 0.001 * f64::from(i % 7);
                Scaled { treated, propensity: 0.5, among: 1.0, outcome: base * if treated { 0.9 } else { 1.0 } + noise, before: Some(base) }
            })
            .collect();
        let run = |with: bool| {
            let mut effect = Effect::new(0.05);
            for window in rows.chunks(400) {
                let window: Vec<_> = window.iter().map(|r| Scaled { before: r.before.filter(|_| with), ..*r }).collect();
                effect.window(&window);
            }
            effect.estimate().unwrap()
        };
        let (with, without) = (run(true), run(false));
        assert!(with.high - with.low < 0.6 * (without.high - without.low), "{with:?} {without:?}");
        assert!(with.high < 0.0 && with.differs, "{with:?}");
    }

    /// One kind of units costs a twentieth of the other, and each is nearly always given what is better for it.
    fn leaning() -> Effect {
        let mut rng = StdRng::seed_from_u64(7);
        let mut effect = Effect::new(0.05);
        for _ in 0..400 {
            let window: Vec<Scaled> = (0..100)
                .map(|unit| {
                    let (mean, ratio, propensity) = if unit % 2 == 0 { (0.02, 1.5, 0.02) } else { (0.4, 0.9, 0.98) };
                    let treated = rng.random::<f64>() < propensity;
                    let outcome = mean * (0.5 + rng.random::<f64>()) * if treated { ratio } else { 1.0 };
                    Scaled { treated, propensity, among: 1.0, outcome, before: None }
                })
                .collect();
            effect.window(&window);
        }
        effect
    }

    /// All units cost 0.21 under control, and 0.195 under the challenger: 7.1 % less.
    #[test]
    fn relative_is_to_what_control_would_cost_all_units() {
        let found = leaning().estimate().unwrap();
        assert!((found.means[0] - 0.21).abs() < 0.01 && (found.means[1] - 0.195).abs() < 0.01, "{found:?}");
        assert!((found.effect / found.means[0] + 0.071).abs() < 0.03, "{found:?}");
    }

    /// A record that was kept before the mean was summed goes on.
    #[test]
    fn a_record_without_the_sum_of_control_is_taken_up() {
        let mut kept = serde_json::to_value(leaning()).unwrap();
        for key in ["base", "base_weight"] {
            assert!(kept.as_object_mut().unwrap().remove(key).is_some());
        }
        let (taken, now) = (serde_json::from_value::<Effect>(kept).unwrap().estimate().unwrap(), leaning().estimate().unwrap());
        assert_eq!((taken.effect, taken.low, taken.high), (now.effect, now.low, now.high));
        assert!(taken.means[0] > 0.0 && taken.means[0] < 0.1, "as it was: the mean of those that had control, {taken:?}");
    }

    /// Half of the units have even chances and no effect, the others chances that lean and an effect of 0.2.
    #[test]
    fn where_chances_hang_on_the_unit_the_estimate_is_about_all_units() {
        let mut rng = StdRng::seed_from_u64(3);
        // The same of two variants, and of three, of which the third has most units of one kind.
        for among in [[1.0, 1.0], [0.3, 0.9]] {
            let mut effect = Effect::new(0.05);
            for _ in 0..400 {
                let window: Vec<Scaled> = (0..100)
                    .filter_map(|unit| {
                        let kind = unit % 2;
                        let (propensity, own) = if kind == 0 { (0.5, 0.0) } else { (0.06, 0.2) };
                        let is_among = rng.random::<f64>() < among[kind];
                        let treated = rng.random::<f64>() < propensity;
                        let outcome = 0.3 + if treated { own } else { 0.0 } + 0.2 * rng.random::<f64>();
                        is_among.then_some(Scaled { treated, propensity, among: among[kind], outcome, before: None })
                    })
                    .collect();
                effect.window(&window);
            }
            let found = effect.estimate().unwrap();
            assert!((found.effect - 0.1).abs() < 0.01 && found.low < 0.1 && found.high > 0.1 && found.differs, "{among:?}: {found:?}");
        }
    }
}
