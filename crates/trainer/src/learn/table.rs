//! The survival table: factors of the live hazard per cell of a few features, each cell shrunk toward the cell one feature coarser.

use super::boost::{base, fit_constant};
use super::{Examples, Learner, Setting, enough};
use crate::error::TrainError;
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

    fn fit(&self, rows: &dyn Examples, setting: &Setting<'_>) -> Result<Ensemble, TrainError> {
        enough(rows.len())?;
        let base = base(rows);
        let mut builder = Builder { table: self, rows, base: &base, nodes: Vec::new(), values: Vec::new() };
        let all: Vec<usize> = (0..rows.len()).collect();
        builder.cell(&all, 0, &base);
        setting.watch.step("table", 1, 1);
        let Builder { nodes, values, .. } = builder;
        let tree = Tree::new(nodes, values, base.len())
            .ok_or_else(|| TrainError::Learner { learner: "table", reason: "its cells do not make a tree".to_owned() })?;
        Ok(Ensemble { features: rows.width(), base, trees: vec![tree] })
    }
}

struct Builder<'a> {
    table: &'a Table,
    rows: &'a dyn Examples,
    base: &'a [f32],
    nodes: Vec<Node>,
    values: Vec<f32>,
}

impl Builder<'_> {
    /// Adds the cell of `members`, divided by the dimensions from `level` on; the number of its first node.
    fn cell(&mut self, members: &[usize], level: usize, parent: &[f32]) -> u32 {
        let here = fit_constant(self.rows, members, parent, self.table.prior);
        match self.table.dimensions.get(level) {
            Some((feature, bins)) => {
                let edges = self.edges(members, *feature, *bins);
                self.divide(members, (*feature, level), &edges, &here)
            }
            None => {
                let place = self.nodes.len() as u32;
                self.nodes.push(Node::leaf((self.values.len() / here.len()) as u32));
                self.values.extend(here.iter().zip(self.base).map(|(value, base)| value - base));
                place
            }
        }
    }

    /// Halves the edges until each bin stands alone.
    fn divide(&mut self, members: &[usize], (feature, level): (usize, usize), edges: &[f32], parent: &[f32]) -> u32 {
        let Some(edge) = edges.get(edges.len() / 2).copied() else { return self.cell(members, level + 1, parent) };
        let (below, above): (Vec<usize>, Vec<usize>) = members.iter().partition(|i| self.rows.row(**i)[feature] < edge);
        let place = self.nodes.len();
        self.nodes.push(Node::leaf(0));
        let low = self.divide(&below, (feature, level), &edges[..edges.len() / 2], parent);
        let high = self.divide(&above, (feature, level), &edges[edges.len() / 2 + 1..], parent);
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
}
