//! Replays models, rules and fixed TTLs against reads and changes, and compares their bills at equal staleness.

pub mod compare;
pub mod points;
pub mod stream;
pub mod whole;

pub use compare::{Against, Comparison, Line, compare};
pub use whole::{Evaluated, Evaluation, evaluate, learned, read_recipe};
