//! What a learner sees of the rows: features, and the slope of the loss at any answer.

/// Rows with a loss. The log likelihood (or minus the loss) of a row is concave enough that a Newton step with the given curvature
/// improves it.
pub trait Examples {
    /// How many rows there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many features a row has.
    fn width(&self) -> usize;
    /// How many numbers are to be answered.
    fn outputs(&self) -> usize;
    /// The features of row `i`.
    fn row(&self, i: usize) -> &[f32];
    /// What [`Self::derivatives`] wants to know of answers, one number each: computed once where answers are used for many rows.
    fn prepared(&self, answers: &[f32], into: &mut [f32]) {
        into.copy_from_slice(answers);
    }
    /// Adds the gradient of row `i`'s log likelihood with respect to each answer, and a curvature of at least zero, both times the
    /// row's weight; `at` is [`Self::prepared`].
    fn derivatives(&self, i: usize, at: &[f32], into: (&mut [f32], &mut [f32]));
    /// Slope and curvature of the penalty, per unit of weight, on an answer that lies `distance` above where it starts.
    fn pull(&self, distance: f64) -> (f64, f64) {
        (-distance, 1.0)
    }
    /// Largest answer, either way, that a constant is given.
    fn range(&self) -> f32 {
        f32::MAX
    }
    /// Weights, in rows' curvature, that pull a leaf's step toward zero, and the step of one output toward that of all.
    fn priors(&self) -> Priors {
        Priors { leaf: 5.0, output: 0.0 }
    }
}

/// See [`Examples::priors`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Priors {
    /// Pulls a leaf's step toward zero.
    pub leaf: f32,
    /// Pulls the step of one output toward the leaf's common step; zero where outputs mean different things.
    pub output: f32,
}

/// How an answer is compared with a target.
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    /// Half the squared difference: the answers are means.
    Squared,
    /// Log loss of targets between 0 and 1: the answers are log odds.
    Logistic,
    /// Pinball loss: the answers are quantiles, one level per output.
    Quantiles(Vec<f32>),
}

/// Rows with plain targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    width: usize,
    outputs: usize,
    loss: Loss,
    features: Vec<f32>,
    targets: Vec<f32>,
    weights: Vec<f32>,
}

impl Labelled {
    /// No rows yet.
    pub fn new(width: usize, outputs: usize, loss: Loss) -> Self {
        Self { width, outputs, loss, features: Vec::new(), targets: Vec::new(), weights: Vec::new() }
    }

    /// Adds a row. A target that is NaN was not observed and teaches nothing; features that are not finite become zero, which only
    /// meets damaged logs, for the specs flag what is missing.
    pub fn push(&mut self, features: &[f32], targets: &[f32], weight: f32) {
        let finite = |x: &f32| if x.is_finite() { *x } else { 0.0 };
        let (row, target) = (self.features.len() + self.width, self.targets.len() + self.outputs);
        self.features.extend(features.iter().take(self.width).map(finite));
        self.features.resize(row, 0.0);
        self.targets.extend(targets.iter().take(self.outputs));
        self.targets.resize(target, f32::NAN);
        self.weights.push(if weight.is_finite() { weight.max(0.0) } else { 0.0 });
    }

    /// The targets of row `i`.
    pub fn target(&self, i: usize) -> &[f32] {
        self.targets.get(i * self.outputs..(i + 1) * self.outputs).unwrap_or_default()
    }
    /// The weight of row `i`.
    pub fn weight(&self, i: usize) -> f32 {
        self.weights.get(i).copied().unwrap_or(0.0)
    }
    /// How answers are compared with targets.
    pub fn loss(&self) -> &Loss {
        &self.loss
    }
}

impl Examples for Labelled {
    fn len(&self) -> usize {
        self.weights.len()
    }
    fn width(&self) -> usize {
        self.width
    }
    fn outputs(&self) -> usize {
        self.outputs
    }
    fn row(&self, i: usize) -> &[f32] {
        self.features.get(i * self.width..(i + 1) * self.width).unwrap_or_default()
    }
    fn derivatives(&self, i: usize, at: &[f32], (gradient, curvature): (&mut [f32], &mut [f32])) {
        let weight = self.weight(i);
        for (k, target) in self.target(i).iter().enumerate().filter(|(_, t)| t.is_finite()) {
            let (g, h) = match &self.loss {
                Loss::Squared => (target - at[k], 1.0),
                Loss::Logistic => {
                    let p = 1.0 / (1.0 + (-at[k]).exp());
                    (target - p, (p * (1.0 - p)).max(1e-6))
                }
                // Friedman 2001: the sign is the slope; the curvature is taken as one.
                Loss::Quantiles(levels) => {
                    let level = levels.get(k).copied().unwrap_or(0.5);
                    (if *target > at[k] { level } else { level - 1.0 }, 1.0)
                }
            };
            gradient[k] += weight * g;
            curvature[k] += weight * h;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Boost, Learner, Setting, Unwatched};
    use super::*;

    fn fitted(loss: Loss, target: impl Fn(usize) -> f32) -> (Labelled, crate::trees::Ensemble) {
        let mut rows = Labelled::new(2, 1, loss);
        for i in 0..4_000 {
            rows.push(&[(i % 10) as f32, (i % 7) as f32], &[target(i)], 1.0);
        }
        let boost = Boost { trees: 60, depth: 4, ..Boost::default() };
        let ensemble = boost.fit(&rows, &Setting { seed: 1, watch: &Unwatched }).unwrap();
        (rows, ensemble)
    }

    fn answer(ensemble: &crate::trees::Ensemble, row: &[f32]) -> f32 {
        let mut out = [0.0];
        ensemble.eval(row, &mut out);
        out[0]
    }

    #[test]
    fn means_probabilities_and_quantiles_are_found() {
        let (_, means) = fitted(Loss::Squared, |i| if i % 10 < 5 { 3.0 } else { -1.0 });
        assert!((answer(&means, &[1.0, 0.0]) - 3.0).abs() < 0.2 && (answer(&means, &[8.0, 0.0]) + 1.0).abs() < 0.2);
        // Eight of ten against one of ten.
        let (_, odds) = fitted(Loss::Logistic, |i| f32::from(u8::from(if i % 10 < 5 { i / 10 % 10 < 8 } else { i / 10 % 10 < 1 })));
        let p = |x: f32| 1.0 / (1.0 + (-answer(&odds, &[x, 0.0])).exp());
        assert!((p(1.0) - 0.8).abs() < 0.05 && (p(8.0) - 0.1).abs() < 0.05, "{} {}", p(1.0), p(8.0));
        let spread = |i: usize| (i / 10 % 100) as f32 / 100.0 * if i % 10 < 5 { 1.0 } else { 4.0 };
        let (rows, high) = fitted(Loss::Quantiles(vec![0.9]), spread);
        let below = (0..rows.len()).filter(|i| rows.target(*i)[0] <= answer(&high, rows.row(*i))).count();
        assert!((0.85..=0.95).contains(&(below as f64 / rows.len() as f64)), "{below}");
        assert!(answer(&high, &[8.0, 0.0]) > 2.0 * answer(&high, &[1.0, 0.0]));
    }

    #[test]
    fn what_was_not_observed_teaches_nothing() {
        let mut rows = Labelled::new(1, 2, Loss::Squared);
        rows.push(&[f32::NAN], &[1.0, f32::NAN], 1.0);
        let (mut g, mut h) = ([0.0; 2], [0.0; 2]);
        rows.derivatives(0, &[0.0, 5.0], (&mut g, &mut h));
        assert_eq!((g, h, rows.row(0)), ([1.0, 0.0], [1.0, 0.0], [0.0].as_slice()));
    }
}
