//! What each combination of strategies costs on a trace: a discrete-event simulation of joining, batching and the cache under the live TTL
//! decision, route by route, with whatever mix a chooser asks for at each request.
//!
//! - [`simulate`]: one run; [`hindsight`]: every fixed mix, and the best one per route.
//! - [`labels`]: training rows with what every mix did in the window that followed.

mod hindsight;
mod label;
mod route;
mod run;
#[cfg(test)]
mod tests;

pub use hindsight::{Hindsight, hindsight};
pub use label::{LabelOptions, StrategyRow, labels};
pub use route::{Bill, RouteView};
pub use run::{DEFAULT_KAPPA, Judged, MixChooser, Model, Modelled, Run, fixed, may, simulate, simulate_fixed};
