//! `fit cost`: from a log or a generated world to a judged forecast of a call's output units.

mod fit;
mod judge;
mod learn;
mod source;

pub use fit::{Fit, Options, TRAIN_SHARE, card, fit, text};
pub use judge::{Verdict, judge};
pub use learn::{Learned, learn};
pub use source::{Call, Source};
