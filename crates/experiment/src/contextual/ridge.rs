//! Least squares with a prior towards zero, in which what was seen longer ago counts less.

use serde::{Deserialize, Serialize};

/// Weight of the prior: so many rows of size one that say nothing.
const PRIOR: f64 = 1.0;

/// `theta = (X' W X + PRIOR I)^-1 X' W y`, with weights `W` that fall with each [`forget`](Self::forget). The first coordinate of `x` is not penalised more than
/// others; give it a constant 1 for an intercept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ridge {
    dims: usize,
    /// X' W X by rows, the lower triangle.
    gram: Vec<f64>,
    moment: Vec<f64>,
    theta: Vec<f64>,
    rows: f64,
}

impl Ridge {
    /// Nothing seen, in so many dimensions.
    pub fn new(dims: usize) -> Self {
        Self { dims, gram: vec![0.0; dims * (dims + 1) / 2], moment: vec![0.0; dims], theta: vec![0.0; dims], rows: 0.0 }
    }

    /// Rows as they count now.
    pub const fn rows(&self) -> f64 {
        self.rows
    }

    /// Lets all that was seen count `keep` (0 to 1) of what it did.
    pub fn forget(&mut self, keep: f64) {
        self.gram.iter_mut().chain(&mut self.moment).for_each(|sum| *sum *= keep);
        self.rows *= keep;
    }

    /// Takes a row. One that has other dimensions or is not finite is left out.
    pub fn add(&mut self, x: &[f64], y: f64) {
        if x.len() != self.dims || !y.is_finite() || !x.iter().all(|v| v.is_finite()) {
            return;
        }
        let mut at = 0;
        for (i, a) in x.iter().enumerate() {
            for b in &x[..=i] {
                self.gram[at] += a * b;
                at += 1;
            }
            self.moment[i] += a * y;
        }
        self.rows += 1.0;
    }

    /// Fits to what was taken: Cholesky's factor and two substitutions. Where rounding has left no positive pivot the fit before stays.
    pub fn fit(&mut self) {
        let n = self.dims;
        let place = |i: usize, j: usize| i * (i + 1) / 2 + j;
        let mut low = self.gram.clone();
        for i in 0..n {
            for j in 0..=i {
                let prior = if i == j { PRIOR } else { 0.0 };
                let dot: f64 = (0..j).map(|k| low[place(i, k)] * low[place(j, k)]).sum();
                let left = self.gram[place(i, j)] + prior - dot;
                if i == j && !(left.is_finite() && left > 0.0) {
                    return;
                }
                low[place(i, j)] = if i == j { left.sqrt() } else { left / low[place(j, j)] };
            }
        }
        let mut solved = self.moment.clone();
        for i in 0..n {
            let dot: f64 = (0..i).map(|k| low[place(i, k)] * solved[k]).sum();
            solved[i] = (solved[i] - dot) / low[place(i, i)];
        }
        for i in (0..n).rev() {
            let dot: f64 = (i + 1..n).map(|k| low[place(k, i)] * solved[k]).sum();
            solved[i] = (solved[i] - dot) / low[place(i, i)];
        }
        if solved.iter().all(|t| t.is_finite()) {
            self.theta = solved;
        }
    }

    /// What is predicted for `x` by the last fit.
    pub fn predict(&self, x: &[f64]) -> f64 {
        self.theta.iter().zip(x).map(|(t, v)| t * v).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn it_finds_a_plane_and_follows_it_when_it_turns() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut ridge = Ridge::new(4);
        let mut feed = |ridge: &mut Ridge, truth: [f64; 4]| {
            for _ in 0..2_000 {
                let x = [1.0, rng.random(), rng.random(), rng.random()];
                let y: f64 = truth.iter().zip(&x).map(|(t, v)| t * v).sum();
                ridge.add(&x, y + rng.random::<f64>() - 0.5);
                ridge.forget(0.997);
            }
            ridge.fit();
        };
        let (before, after) = ([0.3, -1.0, 2.0, 0.0], [0.3, 1.0, -2.0, 0.5]);
        feed(&mut ridge, before);
        let point = [1.0, 0.2, 0.9, 0.5];
        assert!((ridge.predict(&point) - 1.9).abs() < 0.1, "{}", ridge.predict(&point));
        feed(&mut ridge, after);
        assert!((ridge.predict(&point) - (0.3 + 0.2 - 1.8 + 0.25)).abs() < 0.1, "{}", ridge.predict(&point));
        assert!((ridge.rows() - 1.0 / 0.003).abs() < 10.0, "{}", ridge.rows());
    }

    #[test]
    fn nothing_seen_predicts_nothing_and_what_is_no_number_is_left_out() {
        let mut ridge = Ridge::new(2);
        ridge.add(&[1.0, f64::NAN], 1.0);
        ridge.add(&[1.0], 1.0);
        ridge.add(&[1.0, 1.0], f64::INFINITY);
        ridge.fit();
        assert_eq!((ridge.predict(&[1.0, 1.0]), ridge.rows()), (0.0, 0.0));
        ridge.add(&[1.0, 0.0], 3.0);
        ridge.fit();
        assert!((ridge.predict(&[1.0, 0.0]) - 1.5).abs() < 1e-12, "one row against one of the prior");
    }
}
