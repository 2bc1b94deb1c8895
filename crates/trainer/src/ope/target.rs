//! Policies to evaluate.

use std::collections::HashMap;

use super::Decided;
use crate::trees::Ensemble;

/// A policy: the probability of each action for a decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Always the same action.
    Fixed(usize),
    /// All eligible actions alike.
    Uniform,
    /// What was done: a check, its value is the mean cost of the log.
    Logged,
    /// The eligible action with the lowest output of a predictor that answers one cost per action.
    Cheapest(Ensemble),
    /// Probabilities by decision id, from a file.
    Given(HashMap<u64, Vec<f32>>),
}

impl Target {
    /// Probability of each action for `row`. Sums to one, or to zero where the policy says nothing.
    pub fn pmf(&self, row: &Decided) -> Vec<f64> {
        let actions = row.pmf.len();
        match self {
            Self::Fixed(action) => one_hot(actions.max(action + 1), Some(*action)),
            Self::Uniform => {
                let possible = |a: &usize| row.possible(*a);
                let count = (0..actions).filter(possible).count().max(1) as f64;
                (0..actions).map(|a| if row.possible(a) { 1.0 / count } else { 0.0 }).collect()
            }
            Self::Logged => row.pmf.iter().map(|p| f64::from(*p)).collect(),
            Self::Cheapest(ensemble) => one_hot(actions, cheapest(ensemble, row)),
            Self::Given(by_id) => by_id.get(&row.id).map_or_else(|| vec![0.0; actions], |pmf| pmf.iter().map(|p| f64::from(*p)).collect()),
        }
    }
}

fn one_hot(actions: usize, taken: Option<usize>) -> Vec<f64> {
    (0..actions).map(|a| f64::from(u8::from(Some(a) == taken))).collect()
}

fn cheapest(ensemble: &Ensemble, row: &Decided) -> Option<usize> {
    let mut costs = vec![0.0; ensemble.outputs()];
    ensemble.eval(&row.features, &mut costs);
    (0..row.pmf.len().min(costs.len())).filter(|a| row.possible(*a)).min_by(|a, b| costs[*a].total_cmp(&costs[*b]))
}
