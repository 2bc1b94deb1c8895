//! What is shown of a book, and what cannot be ordered of it.

use std::sync::Arc;

use farthing_types::{BudgetUnit, Money};

use super::counter::Raise;
use super::fleet::FleetTold;
use super::{CounterKey, WindowSpan};

/// A counter as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct CounterView {
    /// Which.
    pub counter: Arc<CounterKey>,
    /// Its window.
    pub window: WindowSpan,
    /// The limit now.
    pub limit: Money,
    /// Part of it that was added for some time.
    pub raises: Vec<Raise>,
    /// What providers have charged.
    pub spent: Money,
    /// What they may have charged beyond.
    pub uncertain: Money,
    /// Granted before a crash, and not accounted for.
    pub lost: Money,
    /// Set aside for calls under way.
    pub reserved: Money,
    /// May be spent without another word.
    pub granted: Money,
    /// Calls held back.
    pub blocked: u64,
    /// What others of the fleet have told; `None` where there is none.
    pub fleet: Option<FleetTold>,
}

impl CounterView {
    /// Spent, uncertain and lost, by all who share the counter.
    pub fn used(&self) -> Money {
        self.spent + self.uncertain + self.lost + self.fleet.as_ref().map_or(Money::ZERO, |fleet| fleet.used)
    }
}

/// What an operator's order cannot mean.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// There is no such budget.
    #[error("no budget is called `{0}`; there are: {1}")]
    NoBudget(String, String),
    /// It has a counter for each unit.
    #[error("budget `{budget}` has a counter for each {unit}: name one with `unit`")]
    NoUnit {
        /// The budget.
        budget: String,
        /// What it has one for.
        unit: BudgetUnit,
    },
    /// All share one counter.
    #[error("budget `{0}` has one counter for all: leave `unit` out")]
    NoUnits(String),
    /// No time is left.
    #[error("`until` lies in the past")]
    Past,
    /// More units than are counted.
    #[error("more units than are counted ({0})")]
    Full(usize),
}
