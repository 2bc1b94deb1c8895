//! The decisions, pure and synchronous: which strategies a request gets (`plan`; `strategy` where prices decide), for how long an answer is
//! kept (`ttl`), what a call will cost (`cost`), how long it waits for others to be made with (`batch`) or for another instance (`fill`), which addresses a forward proxy may reach (`forward`), which provider gets it (`routing`), what
//! of a prompt its provider is to keep (`prompt_marks`), when a strategy switches itself off (`switches`), and what is held against decisions
//! that were made (`watch`).
//!
//! Nothing here reads a clock, a price or a random number that it was not handed. [`guard::Guarded`] is the only place where
//! predictors meet rules. A strategy is one file and one line in [`registry::ALL`].

pub mod batch;
pub mod cost;
pub mod defer;
pub mod fill;
pub mod forward;
pub mod guard;
pub mod heat;
mod occasion;
pub mod plan;
pub mod predictor;
pub mod prefetch;
pub mod prompt_cache;
pub mod prompt_marks;
mod refill;
pub mod registry;
pub mod routing;
pub mod strategies;
pub mod strategy;
pub mod switches;
mod table;
pub mod ttl;
pub mod watch;

pub use guard::{Asked, Guarded, Levels, Prediction, TtlDecision};
pub use heat::Heat;
pub use occasion::{Champion, Decided, RouteEconomics};
pub use plan::{Plan, PlanError, RouteFacts};
pub use predictor::{PredictError, Predictor};
pub use refill::{Demand, Refill, RefillBound, Turn};
pub use registry::{ALL, Strategy, StrategyId};
pub use table::read_table;
pub use ttl::{Forecast, Ttl, TtlParams, TtlSource};
