//! Contextual allocation: what is known of a unit before a window says how likely it gets each variant.
//!
//! SquareCB (Foster and Rakhlin, "Beyond UCB: optimal and efficient contextual bandits with regression oracles", ICML 2020) over a linear model of
//! each variant's cost, fitted by least squares that forget (`ridge.rs`), within a day's money (`budget.rs`) and beside a uniform slice that
//! never ends. The probabilities of all units are worked out before their window begins (`contexts.rs`), so they are known before what they weigh.

mod budget;
mod contexts;
mod explain;
mod learner;
mod ridge;
mod square;

use farthing_types::{Money, Span};
use serde::{Deserialize, Serialize};

pub use budget::Spent;
pub(crate) use budget::{day_of, later_today};
pub use contexts::{Contexts, MAX_CONTEXTS, Placed};
pub(crate) use contexts::{Units, mean_pmf};
pub use explain::{Leaning, Split};
pub(crate) use explain::{Predicted, leanings};
pub use learner::{Learner, Scored};
pub use square::{greedy, square_cb, uniform};

/// Variants that a learner can tell apart at most.
pub const MAX_ACTIONS: usize = 16;

/// How an experiment allocates by context.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contextual {
    /// Share of the unit-windows that is drawn evenly among the variants, always (0.02 to 0.05).
    pub uniform: f64,
    /// Time after which what was seen counts half; `None` forgets nothing.
    pub half_life: Option<Span>,
    /// What exploration may cost in a day, by estimate; `None` is no limit. The uniform slice goes on beyond it.
    pub budget: Option<Money>,
}
