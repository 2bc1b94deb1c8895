//! The survival table: hazards per cell of a few features, each cell shrunk toward the cell one feature coarser.

use super::boost::base;
use super::loss::Intervals;
use super::{LOG_HAZARD_RANGE, Learner, Setting, check};
use crate::error::TrainError;
use crate::rows::Rows;
use crate::trees::{Ensemble, Node, Tree};

/// A table over some features, cut at quantiles.
#[derive(Clone, Debug)]
pub struct Table {
    /// The features, most telling first, each with its number of bins.
    pub dimensions: Vec<(usize, usize)>,
    /// Weight of the coarser cell in a cell, in changes, per age interval.
    pub prior: f64,
}

impl Table {
    /// A table over features of the `ttl` spec by name; names that the spec does not have are left out.
    pub fn over(names: &[&str], chosen: &[(&str, usize)]) -> Self {
        let place = |name: &str| names.iter().position(|n| *n == name);
        let dimensions = chosen.iter().filter_map(|(name, bins)| Some((place(name)?, *bins))).collect();
        Self { dimensions, prior: 4.0 }
    }
}

impl Learner for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    fn fit(&self, rows: &Rows, setting: &Setting<'_>) -> Result<Ensemble, TrainError> {
        check(rows)?;
        let intervals = Intervals::new(setting.horizons);
        let base = base(rows, &intervals);
        let mut builder = Builder { table: self, rows, intervals, nodes: Vec::new(), values: Vec::new() };
        let all: Vec<usize> = (0..rows.len()).collect();
        builder.cell(&all, 0, &base);
        setting.watch.step("table", 1, 1);
        let tree = Tree::new(builder.nodes, builder.values, base.len())
            .ok_or_else(|| TrainError::Learner { learner: "table", reason: "its cells do not make a tree".to_owned() })?;
        Ok(Ensemble { features: rows.width, base: vec![0.0; base.len()], trees: vec![tree] })
    }
}

/// Newton steps that find a cell's hazards.
const STEPS: usize = 12;

struct Builder<'a> {
    table: &'a Table,
    rows: &'a Rows,
    intervals: Intervals,
    nodes: Vec<Node>,
    values: Vec<f32>,
}

impl Builder<'_> {
    /// Adds the cell of `members`, divided by the dimensions from `level` on; the number of its first node.
    fn cell(&mut self, members: &[usize], level: usize, parent: &[f32]) -> u32 {
        let here = self.hazards(members, parent);
        match self.table.dimensions.get(level) {
            Some((feature, bins)) => {
                let edges = self.edges(members, *feature, *bins);
                self.divide(members, *feature, &edges, level, &here)
            }
            None => {
                let place = self.nodes.len() as u32;
                self.nodes.push(Node::leaf((self.values.len() / here.len()) as u32));
                self.values.extend(here);
                place
            }
        }
    }

    /// Halves the edges until each bin stands alone.
    fn divide(&mut self, members: &[usize], feature: usize, edges: &[f32], level: usize, parent: &[f32]) -> u32 {
        let Some(edge) = edges.get(edges.len() / 2).copied() else { return self.cell(members, level + 1, parent) };
        let (below, above): (Vec<usize>, Vec<usize>) = members.iter().partition(|i| self.rows.row(**i)[feature] < edge);
        let place = self.nodes.len();
        self.nodes.push(Node::leaf(0));
        let low = self.divide(&below, feature, &edges[..edges.len() / 2], level, parent);
        let high = self.divide(&above, feature, &edges[edges.len() / 2 + 1..], level, parent);
        self.nodes[place] = Node::split(feature as u32, edge, low, high);
        place as u32
    }

    /// Distinct inner quantiles of a feature among the members.
    fn edges(&self, members: &[usize], feature: usize, bins: usize) -> Vec<f32> {
        let mut values: Vec<f32> = members.iter().map(|i| self.rows.row(*i)[feature]).collect();
        values.sort_by(f32::total_cmp);
        let mut edges: Vec<f32> = (1..bins).filter_map(|q| values.get(values.len() * q / bins).copied()).collect();
        edges.dedup();
        // An edge at the lowest value would leave nothing below it.
        edges.retain(|edge| values.first().is_some_and(|lowest| edge > lowest));
        edges
    }

    /// Most likely hazards of the members under a Gamma prior of `prior` changes at the parent's hazards.
    fn hazards(&self, members: &[usize], parent: &[f32]) -> Vec<f32> {
        let (k, prior) = (parent.len(), self.table.prior);
        let mut at = parent.to_vec();
        let (mut gradient, mut curvature) = (vec![0.0; k], vec![0.0; k]);
        for _ in 0..STEPS {
            let (mut g, mut h) = (vec![0.0f64; k], vec![0.0f64; k]);
            for i in members {
                gradient.fill(0.0);
                curvature.fill(0.0);
                self.intervals.derivatives(&at, self.rows.fates[*i], self.rows.weights[*i], (&mut gradient, &mut curvature));
                for j in 0..k {
                    g[j] += f64::from(gradient[j]);
                    h[j] += f64::from(curvature[j]);
                }
            }
            for j in 0..k {
                let ratio = f64::from(at[j] - parent[j]).exp();
                let step = (g[j] + prior * (1.0 - ratio)) / (h[j] + prior * ratio);
                at[j] = (at[j] + step.clamp(-1.5, 1.5) as f32).clamp(LOG_HAZARD_RANGE.0, LOG_HAZARD_RANGE.1);
            }
        }
        at
    }
}
