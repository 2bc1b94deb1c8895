//! Learners: anything that makes an [`Ensemble`] of [`Examples`], whatever their loss. For change hazards the outputs are the natural logs
//! of true over live hazard, one per age interval of a copy: live statistics do most, a learner corrects them.

mod blend;
mod boost;
mod examples;
mod loss;
mod table;

pub use blend::Blend;
pub use boost::Boost;
pub use examples::{Examples, Labelled, Loss, Priors};
pub use loss::{derivatives, factors, log_likelihood, row_log_likelihood};
pub use table::Table;

use crate::error::TrainError;
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
    /// Seed of everything random: same rows and seed give the same bytes.
    pub seed: u64,
    /// Told of the progress.
    pub watch: &'a dyn Watch,
}

/// Learns from rows.
pub trait Learner {
    /// Name in reports and manifests.
    fn name(&self) -> &'static str;
    /// Fits. Fails on too few rows and never panics, whatever the rows hold.
    fn fit(&self, rows: &dyn Examples, setting: &Setting<'_>) -> Result<Ensemble, TrainError>;
}

/// Largest log factor, either way, that a constant is given.
pub(crate) const LOG_RANGE: f32 = 3.0;

/// Fewest rows, and fewest with a change, that anything is learned from.
pub(crate) const MIN_ROWS: usize = 20;

/// Whether there are enough rows to learn from.
pub(crate) fn enough(rows: usize) -> Result<(), TrainError> {
    if rows < MIN_ROWS {
        let what = format!("{rows} usable rows, at least {MIN_ROWS} are needed: let the proxy run longer, or in `--mode observe`");
        return Err(TrainError::TooLittle(what));
    }
    Ok(())
}
