//! Discrete-event replay of requests through the decision code of the proxy, and worlds whose truth is known.
//!
//! - [`Trace`]: reads and changes in the order of time, from a pass-through log, a public trace or a [`Recipe`].
//! - [`Engine`]: statistics and copies of a proxy under virtual time; [`Decided`] is the real decision chain.
//! - [`training_rows`], [`choose_kappa`]: what the trainer fits and where it sets the operating point.
//! - [`FixedCurves`], [`oracle`]: competitors in hindsight.
//! - [`strategies`]: what joining, batching and caching cost together, under any chooser.

mod baselines;
mod blocks;
mod choosers;
mod engine;
mod event;
mod operating;
mod paired;
pub mod path;
pub mod prefetch;
mod recipe;
mod recipe_terms;
mod rows;
pub mod strategies;
#[cfg(test)]
mod tests;
mod worlds;

pub use baselines::{FixedCurves, FixedResult, oracle};
pub use blocks::{BlockOutcome, Blocks};
pub use choosers::{Decided, Fixed, LiveStatistics, PassThroughAll};
pub use engine::{Came, Chooser, Count, Engine, Outcome, RouteOutcome};
pub use event::{Event, EventKind, PassThrough, Trace, TraceRoute};
pub use operating::{OperatingPoint, choose_kappa, replay_at};
pub use paired::{Difference, Paired};
pub use recipe::{Process, Recipe, RecipeError, RecipeRoute};
pub use recipe_terms::{RecipeBatch, RecipeTerms, RecipeTokens, TokenCall};
pub use rows::{TrainingRow, exposures, training_rows};
pub use worlds::{World, WorldKey};
