//! The loss: interval-censored times of change whose hazard is the live hazard times a factor per age interval of the copy.
//!
//! A learner answers log factors `f_k`. With `a_k` the changes that the live statistics expected in age interval `k` while the copy
//! was seen unchanged, and `b_k` those expected between that and the first look that saw a change, the log likelihood of a row is
//! `ln(1 - e^-m) - sum a_k e^f_k` with `m = sum b_k e^f_k`, without the first term when no change was seen. (Survival analysis; for
//! one interval and a constant hazard this is the likelihood of Cho and Garcia-Molina's estimator for irregular accesses.)

use crate::rows::Rows;
use crate::trees::Ensemble;

/// Largest log factor that is exponentiated.
const MAX_LOG: f32 = 20.0;
/// Least expected change of a row that saw one: keeps logarithm and quotient finite.
const LEAST: f32 = 1e-9;

fn factor(log: f32) -> f32 {
    log.clamp(-MAX_LOG, MAX_LOG).exp()
}

/// Log likelihood of a row.
pub fn row_log_likelihood(logs: &[f32], survived: &[f32], within: &[f32]) -> f64 {
    let sum = |exposure: &[f32]| exposure.iter().zip(logs).map(|(e, f)| f64::from(e * factor(*f))).sum::<f64>();
    let (before, m) = (sum(survived), sum(within));
    if m > 0.0 { (-(-m.max(f64::from(LEAST))).exp_m1()).ln() - before } else { -before }
}

/// Factors of log factors: what [`derivatives`] wants.
pub fn factors(logs: &[f32], into: &mut [f32]) {
    into.iter_mut().zip(logs).for_each(|(e, f)| *e = factor(*f));
}

/// Adds the gradient of a row's log likelihood with respect to each log factor, at `factors`, and a positive curvature, times `weight`.
pub fn derivatives(factors: &[f32], (survived, within): (&[f32], &[f32]), weight: f32, into: (&mut [f32], &mut [f32])) {
    let (gradient, curvature) = into;
    let m: f32 = within.iter().zip(factors).map(|(b, e)| b * e).sum();
    // e^-m / (1 - e^-m): how strongly the seen change pulls.
    let pull = if m > 0.0 { 1.0 / m.clamp(LEAST, 60.0).exp_m1() } else { 0.0 };
    // Fisher's information of the observation in the direction of a common factor, shared out by exposure.
    let bend = (m * pull * (pull + 1.0)).min(1.0);
    for (k, e) in factors.iter().enumerate() {
        let (lost, gained) = (survived[k] * e, within[k] * e);
        gradient[k] += weight * (gained * pull - lost);
        curvature[k] += weight * (lost + gained * bend);
    }
}

/// Mean log likelihood of rows under an ensemble.
pub fn log_likelihood(ensemble: &Ensemble, rows: &Rows) -> f64 {
    let mut out = vec![0.0; ensemble.outputs()];
    let (mut sum, mut weight) = (0.0, 0.0);
    for i in 0..rows.len() {
        ensemble.eval(rows.row(i), &mut out);
        let (survived, within) = rows.exposure(i);
        sum += f64::from(rows.weights[i]) * row_log_likelihood(&out, survived, within);
        weight += f64::from(rows.weights[i]);
    }
    if weight > 0.0 { sum / weight } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [([f32; 3], [f32; 3]); 5] = [
        ([0.0; 3], [0.2, 0.0, 0.0]),
        ([0.1, 0.7, 0.0], [0.0, 0.4, 3.0]),
        ([0.1, 0.2, 2.0], [0.0; 3]),
        ([0.0; 3], [1e-6, 0.0, 0.0]),
        ([0.5, 0.5, 0.5], [0.0, 0.0, 12.0]),
    ];

    #[test]
    fn the_gradient_is_that_of_the_likelihood() {
        let at = [-0.3f32, 0.4, 1.1];
        for (survived, within) in ROWS {
            let (mut e, mut g, mut h) = ([0.0; 3], [0.0; 3], [0.0; 3]);
            factors(&at, &mut e);
            derivatives(&e, (&survived, &within), 1.0, (&mut g, &mut h));
            for k in 0..3 {
                let (mut up, mut down) = (at, at);
                up[k] += 1e-2;
                down[k] -= 1e-2;
                let slope = (row_log_likelihood(&up, &survived, &within) - row_log_likelihood(&down, &survived, &within)) / 2e-2;
                assert!((slope - f64::from(g[k])).abs() < 2e-3 * (1.0 + slope.abs()), "{within:?} {k}: {slope} {}", g[k]);
                assert!(h[k] >= 0.0 && h[k].is_finite());
            }
        }
    }

    #[test]
    fn extreme_exposures_stay_finite() {
        for (survived, within) in [([1e30f32; 3], [1e30f32; 3]), ([0.0; 3], [1e-30; 3])] {
            let (mut g, mut h) = ([0.0; 3], [0.0; 3]);
            derivatives(&[3f32.exp(); 3], (&survived, &within), 1.0, (&mut g, &mut h));
            assert!(g.iter().chain(&h).all(|x| x.is_finite()), "{g:?} {h:?}");
            assert!(row_log_likelihood(&[0.0; 3], &survived, &within).is_finite());
        }
    }
}
