//! The `prefetch` predictor: learns from sessions how likely a candidate is to be used, and judges what that is worth.

mod fit;
mod learn;
mod report;

pub use fit::{Fit, Options, TRAIN_SHARE, fit, judge};
pub use learn::{Learned, Practice, learn, rows_of};
pub use report::{Judged, PrefetchReport};
