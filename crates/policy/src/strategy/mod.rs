//! Which strategies a request gets: combinations (`mix`), what they cost (`money`), the rule (`rule`), the decision (`decide`).
//!
//! A predictor says how the shares of the coming window (calls, batches, stale answers) differ from the live ones; prices, thresholds and
//! promises are applied here. Where no predictor answers, the rule decides and says so.

pub mod decide;
pub mod mix;
pub mod money;
pub mod rule;

pub use decide::{Ask, Dropped, StrategyDecision, StrategyParams, Why, decide};
pub use mix::{Member, Mix};
pub use money::{BatchTerms, Expected, Shares, Terms, expected};
