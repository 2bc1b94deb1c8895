//! Which strategies a request gets: combinations (`mix`), what they cost (`money`), the rule (`rule`), the decision (`decide`).
//!
//! A predictor says how the shares of the coming window (calls, batches, stale answers) differ from the live ones; prices, thresholds and
//! promises are applied here. Where no predictor answers, the rule decides and says so. `live` is what a running route asks: who decides, and who only
//! looks on.

pub mod decide;
#[cfg(test)]
mod fake;
pub mod live;
pub mod mix;
pub mod money;
pub mod rule;

pub use decide::{Allowed, Ask, Dropped, StrategyDecision, StrategyParams, Why, decide, decide_by_rule};
pub use live::{Decider, LiveDecision, live};
pub use mix::{Member, Mix};
pub use money::{BatchTerms, Expected, Shares, Terms, expected};
