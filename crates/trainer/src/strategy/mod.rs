//! `fit strategy`: from a log or a generated world to a judged predictor of what each combination of strategies leaves to pay.
//!
//! The replay shows what every combination would have done in every window, so each row has all its labels, also of strategies that were never
//! in force. The candidate learns on the first part of the time and is judged on the rest, in money, against the rules and against hindsight.

mod fit;
mod gate;
mod judge;
mod learn;
mod report;
mod source;

pub use fit::{Fit, Options, TRAIN_SHARE, fit};
pub use judge::{Verdict, judge};
pub use learn::{Learned, learn, window_of};
pub use report::{card, text};
pub use source::{Source, TermsFile};
