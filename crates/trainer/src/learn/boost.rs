//! Gradient boosting on linfa's decision trees.
//!
//! linfa's trees classify: a leaf is a label. That is enough to boost with (`docs/learning.md`): each round labels the rows by the
//! sign of the gradient and weights them by its size, a linfa tree finds the regions where the sign is one-sided, and the leaf
//! values are ours: a Newton step on *all* rows, for each age interval apart. What is known of linfa 0.8 and met here:
//! features are of order one (it takes values closer than 1e-5 for equal); weights are fractional and differ (ties would be
//! decided by the order of a hash map); its `fit` sends `<=` to the left and its `predict` `<`, so we walk trees ourselves with
//! thresholds rounded up to the next f32; rows are subsampled, for its cost grows with rows x nodes.

use farthing_types::{Draw, DrawKind};
use linfa::Dataset;
use linfa::traits::Fit;
use linfa_trees::{DecisionTree, SplitQuality, TreeNode};
use ndarray::{Array1, Array2};

use super::{Examples, Learner, Priors, Setting, enough};
use crate::error::TrainError;
use crate::trees::{Ensemble, Node, Tree, round_up};

/// Boosted trees. The defaults are what a single core answers well below 10 us through ONNX Runtime.
#[derive(Clone, Copy, Debug)]
pub struct Boost {
    /// How many trees.
    pub trees: usize,
    /// Questions from root to leaf, at most.
    pub depth: usize,
    /// Share of each Newton step that is taken.
    pub rate: f32,
    /// Rows that the shape of a tree is found on.
    pub sample: usize,
    /// Least share of the sample's weight in a leaf.
    pub leaf_share: f32,
    /// Share of the features that a tree may use.
    pub columns: f64,
}

impl Default for Boost {
    fn default() -> Self {
        Self { trees: 40, depth: 5, rate: 0.2, sample: 16_000, leaf_share: 0.004, columns: 0.6 }
    }
}

/// Longest Newton step, in log factors.
const MAX_STEP: f32 = 2.0;
/// Newton steps that find a constant.
const CONSTANT_STEPS: usize = 15;

impl Learner for Boost {
    fn name(&self) -> &'static str {
        "boost"
    }

    fn fit(&self, rows: &dyn Examples, setting: &Setting<'_>) -> Result<Ensemble, TrainError> {
        enough(rows.len())?;
        let base = base(rows);
        let mut state = State::at(rows, &base);
        let mut trees = Vec::with_capacity(self.trees);
        for round in 0..self.trees {
            setting.watch.step("boosting", round, self.trees);
            if let Some(tree) = self.round(round, &mut state, setting.seed)? {
                trees.push(tree);
            }
        }
        setting.watch.step("boosting", self.trees, self.trees);
        Ok(Ensemble { features: rows.width(), base, trees })
    }
}

/// Log factors that fit all rows taken together: the start of the boosting, and the coarsest cell of the table.
pub(super) fn base(rows: &dyn Examples) -> Vec<f32> {
    let all: Vec<usize> = (0..rows.len()).collect();
    fit_constant(rows, &all, &vec![0.0; rows.outputs()], f64::from(rows.priors().leaf))
}

/// The most likely constant answers of some rows, under a prior at `start` of weight `prior` ([`Examples::pull`]), by Newton steps.
pub(super) fn fit_constant(rows: &dyn Examples, members: &[usize], start: &[f32], prior: f64) -> Vec<f32> {
    let k = start.len();
    let mut at = start.to_vec();
    let (mut gradient, mut curvature, mut prepared) = (vec![0.0; k], vec![0.0; k], vec![0.0; k]);
    for _ in 0..CONSTANT_STEPS {
        rows.prepared(&at, &mut prepared);
        let (mut g, mut h) = (vec![0.0f64; k], vec![0.0f64; k]);
        for i in members {
            gradient.fill(0.0);
            curvature.fill(0.0);
            rows.derivatives(*i, &prepared, (&mut gradient, &mut curvature));
            for j in 0..k {
                g[j] += f64::from(gradient[j]);
                h[j] += f64::from(curvature[j]);
            }
        }
        for j in 0..k {
            let (slope, bend) = rows.pull(f64::from(at[j] - start[j]));
            let step = (g[j] + prior * slope) / (h[j] + prior * bend);
            at[j] = (at[j] + step.clamp(-1.0, 1.0) as f32).clamp(-rows.range(), rows.range());
        }
    }
    at
}

/// Newton steps of the outputs. Where they mean the same thing at different ages they are pulled toward their common step, which is
/// pulled toward zero; else each toward zero.
fn steps(gradient: &[f64], curvature: &[f64], priors: Priors) -> Vec<f32> {
    let (leaf, prior) = (f64::from(priors.leaf), f64::from(priors.output));
    let common = gradient.iter().sum::<f64>() / (curvature.iter().sum::<f64>() + leaf);
    let common = common.clamp(-f64::from(MAX_STEP), f64::from(MAX_STEP));
    let shared = prior > 0.0;
    let step = |(g, h): (&f64, &f64)| if shared { ((g + prior * common) / (h + prior)) as f32 } else { (g / (h + leaf)) as f32 };
    gradient.iter().zip(curvature).map(step).map(|s| s.clamp(-MAX_STEP, MAX_STEP)).collect()
}

/// Where the boosting stands.
struct State<'a> {
    rows: &'a dyn Examples,
    outputs: usize,
    priors: Priors,
    /// Answers so far, row after row.
    score: Vec<f32>,
    /// Of the same, [`Examples::prepared`].
    prepared: Vec<f32>,
}

impl<'a> State<'a> {
    fn at(rows: &'a dyn Examples, base: &[f32]) -> Self {
        let mut prepared = vec![0.0; base.len()];
        rows.prepared(base, &mut prepared);
        let n = rows.len();
        Self { rows, outputs: base.len(), priors: rows.priors(), score: base.repeat(n), prepared: prepared.repeat(n) }
    }

    /// Gradients and curvatures of row `i` at its score.
    fn derivatives(&self, i: usize, gradient: &mut [f32], curvature: &mut [f32]) {
        gradient.fill(0.0);
        curvature.fill(0.0);
        let at = &self.prepared[i * self.outputs..(i + 1) * self.outputs];
        self.rows.derivatives(i, at, (gradient, curvature));
    }

    /// Leaf values of a tree's shape: Newton steps on all rows. Moves the scores along.
    fn settle(&mut self, shape: &Shape, rate: f32) -> Vec<f32> {
        let k = self.outputs;
        let leaves: Vec<u32> = (0..self.rows.len()).map(|i| shape.leaf_of(self.rows.row(i))).collect();
        let (mut g, mut h) = (vec![0.0f64; shape.leaves * k], vec![0.0f64; shape.leaves * k]);
        let (mut gradient, mut curvature) = (vec![0.0; k], vec![0.0; k]);
        for (i, leaf) in leaves.iter().enumerate() {
            self.derivatives(i, &mut gradient, &mut curvature);
            for j in 0..k {
                g[*leaf as usize * k + j] += f64::from(gradient[j]);
                h[*leaf as usize * k + j] += f64::from(curvature[j]);
            }
        }
        let steps = g.chunks(k).zip(h.chunks(k)).flat_map(|(g, h)| steps(g, h, self.priors));
        let values: Vec<f32> = steps.map(|s| s * rate).collect();
        for (i, leaf) in leaves.iter().enumerate() {
            for j in 0..k {
                self.score[i * k + j] += values[*leaf as usize * k + j];
            }
            let part = i * k..(i + 1) * k;
            self.rows.prepared(&self.score[part.clone()], &mut self.prepared[part]);
        }
        values
    }
}

impl Boost {
    /// One tree; `None` when no split is worth making.
    fn round(&self, round: usize, state: &mut State<'_>, seed: u64) -> Result<Option<Tree>, TrainError> {
        let draw = Draw::new(seed);
        let sample = self.sample_rows(state.rows.len(), &draw, round);
        let columns = self.sample_columns(state.rows.width(), &draw, round);
        let (labels, weights) = self.labels(round, &sample, state, &draw);
        let total: f32 = weights.iter().sum();
        if labels.iter().all(|l| *l) || !labels.iter().any(|l| *l) || total <= 0.0 {
            return Ok(None);
        }
        let rows = state.rows;
        let table = Array2::from_shape_fn((sample.len(), columns.len()), |(i, j)| f64::from(rows.row(sample[i])[columns[j]]));
        let data = Dataset::new(table, Array1::from(labels)).with_weights(Array1::from(weights));
        let fitted = DecisionTree::params()
            .split_quality(SplitQuality::Gini)
            .max_depth(Some(self.depth))
            .min_weight_split(40.0)
            .min_weight_leaf(total * self.leaf_share)
            .min_impurity_decrease(1e-7)
            .fit(&data)
            .map_err(|e| TrainError::Learner { learner: "boost", reason: e.to_string() })?;
        let shape = Shape::of(fitted.root_node(), &columns);
        if shape.leaves < 2 {
            return Ok(None);
        }
        let values = state.settle(&shape, self.rate);
        Ok(Tree::new(shape.nodes, values, state.outputs))
    }

    /// A random subset of the rows, in order.
    fn sample_rows(&self, rows: usize, draw: &Draw, round: usize) -> Vec<usize> {
        let share = self.sample as f64 / rows as f64;
        let chosen = |i: &usize| share >= 1.0 || draw.uniform(DrawKind::Sample, "boost.rows", *i as u128, round as i64) < share;
        (0..rows).filter(chosen).collect()
    }

    /// A random subset of the features, in order; never empty.
    fn sample_columns(&self, width: usize, draw: &Draw, round: usize) -> Vec<usize> {
        let keep = ((width as f64 * self.columns).ceil() as usize).clamp(1, width.max(1));
        let mut columns: Vec<usize> = (0..width).collect();
        columns.sort_by_key(|c| draw.bits(DrawKind::Sample, "boost.columns", *c as u128, round as i64));
        columns.truncate(keep);
        columns.sort_unstable();
        columns
    }

    /// Sign and size of the gradient, scaled to mean 1. Rounds take turns between all age intervals together and a part of
    /// them, so that shapes are also found for what only the young or only the old copies show. A jitter of 1e-4 keeps the
    /// weights fractional and different.
    fn labels(&self, round: usize, sample: &[usize], state: &State<'_>, draw: &Draw) -> (Vec<bool>, Vec<f32>) {
        let k = state.outputs;
        let part = match round % 4 {
            1 => 0..k.div_ceil(2),
            3 => k / 2..k,
            _ => 0..k,
        };
        let (mut gradient, mut curvature) = (vec![0.0; k], vec![0.0; k]);
        let mut slopes = Vec::with_capacity(sample.len());
        for i in sample {
            state.derivatives(*i, &mut gradient, &mut curvature);
            slopes.push(gradient[part.clone()].iter().sum::<f32>());
        }
        let mean = slopes.iter().map(|s| s.abs()).sum::<f32>() / sample.len().max(1) as f32;
        let scale = if mean > 0.0 { 1.0 / mean } else { 0.0 };
        let jitter = |i: usize| 1.0 + 1e-4 * draw.uniform(DrawKind::Sample, "boost.weights", i as u128, round as i64) as f32;
        let weights = slopes.iter().zip(sample).map(|(s, i)| (s.abs() * scale).max(1e-6) * jitter(*i)).collect();
        (slopes.iter().map(|s| *s > 0.0).collect(), weights)
    }
}

/// A fitted linfa tree as our nodes.
struct Shape {
    nodes: Vec<Node>,
    leaves: usize,
}

impl Shape {
    fn of(root: &TreeNode<f64, bool>, columns: &[usize]) -> Self {
        let mut shape = Self { nodes: Vec::new(), leaves: 0 };
        shape.add(root, columns);
        shape
    }

    /// Adds a node and all below it; its number.
    fn add(&mut self, node: &TreeNode<f64, bool>, columns: &[usize]) -> u32 {
        let place = self.nodes.len();
        let children = node.children();
        let (low, high) = match children.as_slice() {
            [Some(low), Some(high)] if !node.is_leaf() => (low, high),
            _ => {
                self.nodes.push(Node::leaf(self.leaves as u32));
                self.leaves += 1;
                return place as u32;
            }
        };
        self.nodes.push(Node::leaf(0));
        let (column, threshold, _) = node.split();
        let low = self.add(low, columns);
        let high = self.add(high, columns);
        let feature = columns.get(column).copied().unwrap_or_default();
        self.nodes[place] = Node::split(feature as u32, round_up(threshold), low, high);
        place as u32
    }

    fn leaf_of(&self, row: &[f32]) -> u32 {
        let mut at = 0;
        while let Some((feature, threshold, low, high)) = self.nodes[at].as_split() {
            at = if row[feature as usize] < threshold { low } else { high } as usize;
        }
        self.nodes[at].as_leaf().unwrap_or_default()
    }
}
