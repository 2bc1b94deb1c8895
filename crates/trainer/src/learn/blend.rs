//! The weighted geometric mean of two learners' factors: their errors differ.

use super::{Boost, Examples, Learner, Setting, Table};
use crate::error::TrainError;
use crate::trees::Ensemble;

/// Boosting and table together.
#[derive(Clone, Debug)]
pub struct Blend {
    /// The boosting.
    pub boost: Boost,
    /// The table.
    pub table: Table,
    /// Weight of the boosting's log factors; the table has the rest.
    pub weight: f32,
}

impl Blend {
    /// Blends what was already fitted.
    pub fn of(&self, boost: &Ensemble, table: &Ensemble) -> Result<Ensemble, TrainError> {
        Ensemble::blend(&[(self.weight, boost), (1.0 - self.weight, table)])
            .ok_or_else(|| TrainError::Learner { learner: "blend", reason: "boosting and table answer different things".to_owned() })
    }
}

impl Learner for Blend {
    fn name(&self) -> &'static str {
        "blend"
    }

    fn fit(&self, rows: &dyn Examples, setting: &Setting<'_>) -> Result<Ensemble, TrainError> {
        let table = self.table.fit(rows, setting)?;
        let boost = self.boost.fit(rows, setting)?;
        self.of(&boost, &table)
    }
}
