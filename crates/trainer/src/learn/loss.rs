//! The loss: interval-censored exponential times with a hazard that is constant within each age interval of the copy.
//!
//! With hazards `h_k` and the time `e_k(t)` that a copy of age `t` spent in interval `k`, `L(t) = sum h_k e_k(t)` is the
//! cumulative hazard. A copy seen unchanged at `a` and changed at `b` has likelihood `exp(-L(a)) (1 - exp(-(L(b) - L(a))))`;
//! one never seen changed has `exp(-L(a))`. (Standard survival analysis; for one interval and `a = 0` this is the likelihood of
//! Cho and Garcia-Molina's irregular-access estimator.)

use crate::rows::{Fate, Rows};
use crate::trees::Ensemble;

/// Most that is gained or lost by a single exponential: keeps `exp` finite.
const MAX_LOG: f32 = 30.0;

/// The age intervals.
#[derive(Clone, Debug)]
pub struct Intervals {
    starts: Vec<f32>,
    widths: Vec<f32>,
}

impl Intervals {
    /// Intervals between the given inner edges: `[0, e0), [e0, e1) ... [en, oo)`.
    pub fn new(edges: &[f64]) -> Self {
        let starts: Vec<f32> = std::iter::once(0.0).chain(edges.iter().map(|e| *e as f32)).collect();
        let ends = starts.iter().skip(1).copied().chain(std::iter::once(f32::INFINITY));
        let widths = starts.iter().zip(ends).map(|(start, end)| end - start).collect();
        Self { starts, widths }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// Time that a copy of age `age_s` spent in interval `k`.
    pub fn exposure(&self, k: usize, age_s: f32) -> f32 {
        (age_s - self.starts[k]).clamp(0.0, self.widths[k])
    }

    /// Cumulative hazard at `age_s`.
    pub fn cumulative(&self, log_hazards: &[f32], age_s: f32) -> f64 {
        (0..self.count()).map(|k| f64::from(log_hazards[k].clamp(-MAX_LOG, MAX_LOG).exp()) * f64::from(self.exposure(k, age_s))).sum()
    }

    /// Log likelihood of a fate.
    pub fn log_likelihood(&self, log_hazards: &[f32], fate: Fate) -> f64 {
        let before = self.cumulative(log_hazards, fate.unchanged_s);
        if !fate.changed() {
            return -before;
        }
        let within = (self.cumulative(log_hazards, fate.changed_s) - before).max(1e-12);
        -before + (-(-within).exp_m1()).ln()
    }

    /// Gradient of the log likelihood with respect to each log hazard, and a positive curvature (Fisher's, in the direction of a
    /// common factor), added to `gradient` and `curvature` with `weight`.
    pub fn derivatives(&self, log_hazards: &[f32], fate: Fate, weight: f32, into: (&mut [f32], &mut [f32])) {
        let (gradient, curvature) = into;
        let hazard = |k: usize| log_hazards[k].clamp(-MAX_LOG, MAX_LOG).exp();
        let (mut within, mut factor, mut information) = (0.0f32, 0.0f32, 0.0f32);
        if fate.changed() {
            for k in 0..self.count() {
                within += hazard(k) * (self.exposure(k, fate.changed_s) - self.exposure(k, fate.unchanged_s));
            }
            // e^-d / (1 - e^-d), and d times it, which is the share of the exposure that is informative.
            factor = 1.0 / within.max(1e-12).min(MAX_LOG).exp_m1();
            information = (within * factor).min(1.0);
        }
        for k in 0..self.count() {
            let before = self.exposure(k, fate.unchanged_s);
            if before <= 0.0 && !fate.changed() {
                break;
            }
            let h = hazard(k);
            let lost = h * before;
            let gained = if fate.changed() { h * (self.exposure(k, fate.changed_s) - before) } else { 0.0 };
            gradient[k] += weight * (gained * factor - lost);
            curvature[k] += weight * (gained * information + lost);
        }
    }
}

/// Mean log likelihood of rows under an ensemble.
pub fn log_likelihood(ensemble: &Ensemble, rows: &Rows, horizons: &[f64]) -> f64 {
    let intervals = Intervals::new(horizons);
    let mut out = vec![0.0; ensemble.outputs()];
    let (mut sum, mut weight) = (0.0, 0.0);
    for i in 0..rows.len() {
        ensemble.eval(rows.row(i), &mut out);
        sum += f64::from(rows.weights[i]) * intervals.log_likelihood(&out, rows.fates[i]);
        weight += f64::from(rows.weights[i]);
    }
    if weight > 0.0 { sum / weight } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposures_add_up_to_the_age() {
        let intervals = Intervals::new(&[60.0, 600.0]);
        for age in [0.0, 30.0, 60.0, 61.0, 599.0, 1e6] {
            let sum: f32 = (0..3).map(|k| intervals.exposure(k, age)).sum();
            assert_eq!(sum, age);
        }
    }

    #[test]
    fn the_gradient_is_that_of_the_likelihood() {
        let intervals = Intervals::new(&[60.0, 600.0]);
        let fates = [(0.0, 30.0), (0.0, 5_000.0), (100.0, 400.0), (700.0, 701.0), (50.0, f32::INFINITY), (9e3, f32::INFINITY)];
        let at = [-5.0f32, -6.5, -4.0];
        for (unchanged_s, changed_s) in fates {
            let fate = Fate { unchanged_s, changed_s };
            let (mut g, mut h) = ([0.0; 3], [0.0; 3]);
            intervals.derivatives(&at, fate, 1.0, (&mut g, &mut h));
            for k in 0..3 {
                let (mut up, mut down) = (at, at);
                up[k] += 1e-2;
                down[k] -= 1e-2;
                let slope = (intervals.log_likelihood(&up, fate) - intervals.log_likelihood(&down, fate)) / 2e-2;
                assert!((slope - f64::from(g[k])).abs() < 2e-3 * (1.0 + slope.abs()), "{fate:?} {k}: {slope} {}", g[k]);
                assert!(h[k] >= 0.0 && h[k].is_finite());
            }
        }
    }
}
