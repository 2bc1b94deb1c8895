//! Learners of change hazards. Each answers an [`Ensemble`] whose outputs are log hazards (1/s) per age interval of a copy.

mod blend;
mod boost;
mod loss;
mod table;

pub use blend::Blend;
pub use boost::Boost;
pub use loss::{Intervals, log_likelihood};
pub use table::Table;

use crate::error::TrainError;
use crate::rows::Rows;
use crate::trees::Ensemble;

/// Told how far a fit has come.
pub trait Watch {
    /// `done` of `of` steps of `what` are done.
    fn step(&self, what: &'static str, done: usize, of: usize);
}

/// Nobody watches.
pub struct Unwatched;

impl Watch for Unwatched {
    fn step(&self, _: &'static str, _: usize, _: usize) {}
}

/// What a fit needs besides the rows.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Inner edges of the age intervals, seconds.
    pub horizons: &'a [f64],
    /// Seed of everything random: same rows and seed give the same bytes.
    pub seed: u64,
    /// Told of the progress.
    pub watch: &'a dyn Watch,
}

/// Learns log hazards from rows.
pub trait Learner {
    /// Name in reports and manifests.
    fn name(&self) -> &'static str;
    /// Fits. Fails on too few rows and never panics, whatever the rows hold.
    fn fit(&self, rows: &Rows, setting: &Setting<'_>) -> Result<Ensemble, TrainError>;
}

/// Lowest and highest log hazard that any learner answers: once in 30 years, and twenty times a second.
pub(crate) const LOG_HAZARD_RANGE: (f32, f32) = (-20.7, 3.0);

/// Fewest rows, and fewest with a change, that anything is learned from.
pub(crate) const MIN_ROWS: usize = 20;

pub(crate) fn check(rows: &Rows) -> Result<(), TrainError> {
    if rows.len() < MIN_ROWS {
        let what =
            format!("{} usable refetches, at least {MIN_ROWS} are needed: let the proxy run longer, or in `--mode observe`", rows.len());
        return Err(TrainError::TooLittle(what));
    }
    Ok(())
}
