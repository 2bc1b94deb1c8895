//! A model of the cost of each action that has not seen the row it speaks about.
//!
//! The rows are cut by time into parts; what is said of a part was learned from the others. Boosted trees with one output per action: a
//! row teaches the output of the action that was taken.

use super::{Decided, Options};
use crate::error::TrainError;
use crate::learn::{Boost, Labelled, Learner, Loss, Setting, Watch};
use crate::trees::Ensemble;

/// Small trees: a rough model narrows the interval, and no model makes it wrong.
const TREES: usize = 24;
/// Fewest rows from which a model is learned.
const LEAST: usize = 100;

/// One model per part.
pub struct Models {
    parts: Vec<Option<Ensemble>>,
    rows: usize,
    /// Costs are learned in units of their mean size: learners want targets of order one.
    scale: f64,
}

impl Models {
    /// What the model of the other parts says of each action in row `i`; nothing without a model.
    pub fn predict(&self, i: usize, row: &Decided) -> Vec<f64> {
        let Some(Some(model)) = self.parts.get(part_of(i, self.rows, self.parts.len())) else { return Vec::new() };
        let mut out = vec![0.0; model.outputs()];
        model.eval(&row.features, &mut out);
        out.into_iter().map(|x| f64::from(x) * self.scale).collect()
    }
}

fn part_of(i: usize, rows: usize, parts: usize) -> usize {
    i * parts / rows.max(1)
}

/// Fits one model per part, on the others.
pub fn cross_fit(rows: &[&Decided], options: Options, watch: &dyn Watch) -> Result<Models, TrainError> {
    let width = rows.iter().map(|r| r.features.len()).max().unwrap_or(0);
    let actions = rows.iter().map(|r| r.pmf.len()).max().unwrap_or(0);
    let sizes: f64 = rows.iter().filter_map(|r| r.cost_usd).map(f64::abs).sum();
    let scale = if sizes > 0.0 { sizes / rows.len() as f64 } else { 1.0 };
    let none = Models { parts: Vec::new(), rows: rows.len(), scale };
    if width == 0 || options.folds < 2 || rows.len() < LEAST * options.folds {
        return Ok(none);
    }
    let mut parts = Vec::with_capacity(options.folds);
    for part in 0..options.folds {
        watch.step("model of the cost", part, options.folds);
        let mut examples = Labelled::new(width, actions, Loss::Squared);
        for (_, row) in rows.iter().enumerate().filter(|(i, _)| part_of(*i, rows.len(), options.folds) != part) {
            let mut targets = vec![f32::NAN; actions];
            if let (Some(place), Some(cost)) = (targets.get_mut(row.action), row.cost_usd) {
                *place = (cost / scale) as f32;
            }
            examples.push(&row.features, &targets, 1.0);
        }
        let boost = Boost { trees: TREES, ..Boost::default() };
        parts.push(Some(boost.fit(&examples, &Setting { seed: options.seed + part as u64, watch })?));
    }
    Ok(Models { parts, ..none })
}
