//! Budgets: money set aside before a call is sent, and settled when it is known what the call cost.
//!
//! A call that no upper bound is known of, or for which there is no room, is held back before it can cost anything. What a call may spend
//! is granted in slices that are written down durably first ([`Store`]), so that no death of the process lets more be spent than the limit: what
//! was granted and is not accounted for after a crash counts as spent (*lost*), at most a slice and what was under way. Within a slice
//! nothing is waited for.
//!
//! For each counter at any time: `spent + uncertain + lost + reserved <= granted <= limit`, where nobody passes a used-up budget. Reservations are made and
//! settled in the window in which the call was ordered.
//!
//! [`Book`] decides, and does nothing else: time, prices and what is durable are told to it.

mod amend;
mod book;
mod counter;
pub mod fleet;
mod store;
#[cfg(test)]
mod tests;
mod view;
mod window;

use std::sync::Arc;

use farthing_types::{BudgetSpec, BudgetUnit, Money, OnExceeded, Priority, Time};

pub use amend::AmendError;
pub use book::Book;
pub use counter::Raise;
pub use store::{Done, Grants, Opened, Record, Store, StoreError, StoreStats, Written};
pub use view::{BookError, CounterView};
pub use window::{UnknownZone, WindowSpan, Windows};

/// Drops what is written down of the counters that a tenant has for itself, in the folder of a process that does not run; how many lines that
/// were. A line of a budget that `specs` does not know goes, too, where it bears the tenant's name.
///
/// # Errors
/// See [`StoreError`].
pub fn forget_in(dir: &std::path::Path, tenant: &str, specs: &[BudgetSpec]) -> Result<u64, StoreError> {
    if !store::exists(dir) {
        return Ok(0);
    }
    let Opened { store, records, .. } = Store::open(dir)?;
    let (before, stats) = (records.len(), store.stats.clone());
    let of_tenant = |budget: &str| specs.iter().find(|spec| *spec.name == *budget).is_none_or(|spec| spec.per == Some(BudgetUnit::Tenant));
    let named = |record: &Record| record.counter().is_some_and(|(budget, unit)| *unit == *tenant && of_tenant(&budget));
    let kept: Vec<Record> = records.into_iter().filter(|record| !named(record)).collect();
    let dropped = (before - kept.len()) as u64;
    if dropped > 0 {
        store.rewrite(kept);
    }
    // Waits for the file.
    drop(store);
    if stats.failures.load(std::sync::atomic::Ordering::Relaxed) > 0 {
        let source = std::io::Error::other("it could not be written anew");
        return Err(StoreError::Io { path: dir.to_owned(), source });
    }
    Ok(dropped)
}

/// Who orders a call, as far as budgets tell them apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    /// Who pays.
    pub tenant: &'a str,
    /// Team of the key.
    pub team: Option<&'a str>,
    /// Service of the key.
    pub service: Option<&'a str>,
    /// Public id of the Farthing key.
    pub key: Option<&'a str>,
    /// The route.
    pub route: &'a str,
}

/// A call that asks for money.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who orders it.
    pub who: Who<'a>,
    /// How much it matters.
    pub priority: Priority,
    /// The most that it can cost, all attempts together; `None` when no bound is known.
    pub bound: Option<Money>,
    /// When it is ordered.
    pub now: Time,
}

/// A budget's counter: one for the budget, or one for each unit of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterKey {
    /// The budget.
    pub budget: Arc<str>,
    /// The tenant, team, service or key; empty where all share one counter.
    pub unit: Arc<str>,
}

/// Money that a counter may spend in a window in all, once it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The counter.
    pub counter: Arc<CounterKey>,
    /// Begin of the window.
    pub window: Time,
    /// All that is granted, what was granted before included.
    pub total: Money,
}

/// A budget by its place, the counter, and the begin of the window.
pub(crate) type Part = (usize, Arc<CounterKey>, Time);

/// Money set aside for a call, in every budget that counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// The counters with the windows in which it was set aside.
    pub(crate) parts: Vec<Part>,
    /// How much.
    pub(crate) amount: Money,
}

impl Hold {
    /// How much is set aside.
    pub const fn amount(&self) -> Money {
        self.amount
    }
    /// Whether no budget counts the call.
    pub fn is_free(&self) -> bool {
        self.parts.is_empty()
    }
}

/// What a call cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// What the provider charges.
    pub spent: Money,
    /// What it may charge beyond: attempts whose answer never came, answers that broke off before they told their usage, calls without a price.
    pub uncertain: Money,
}

/// What a book says to a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The money is set aside. Grants ahead are to be made durable in the background, so that the next calls need not wait.
    Held(Hold, Vec<Grant>),
    /// These must be durable first; then ask again. What is said where they cannot be.
    Needs(Vec<Grant>, Blocked),
    /// Held back.
    Blocked(Blocked),
}

/// Why a call is held back.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocked {
    /// The counter.
    pub counter: Arc<CounterKey>,
    /// Why.
    pub why: Why,
    /// What becomes of the request.
    pub action: OnExceeded,
    /// The limit now, raises included.
    pub limit: Money,
    /// Spent, uncertain and lost.
    pub used: Money,
    /// Set aside for calls under way.
    pub reserved: Money,
    /// The most that the call could cost; `None` when no bound is known.
    pub needed: Option<Money>,
    /// When the next window begins; `None` when there is none.
    pub resets: Option<Time>,
}

impl Blocked {
    /// Whether there is room as soon as calls under way have cost less than was set aside for them.
    pub fn may_pass(&self) -> bool {
        self.why == Why::Exceeded && self.needed.is_some_and(|needed| self.used + needed <= self.limit)
    }
}

farthing_types::reasons! {
    /// Why a budget holds a call back.
    Why {
        /// There is no room for it.
        Exceeded = "exceeded",
        /// No upper bound of its cost is known.
        Unpriced = "unpriced",
        /// What may be spent cannot be written down.
        Fault = "fault",
        /// More units than are counted.
        TooManyUnits = "too-many-units",
    }
}

/// A level that a counter has reached; each is told once a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// The counter.
    pub counter: Arc<CounterKey>,
    /// Used up, or only near it.
    pub used_up: bool,
    /// Spent, uncertain and lost.
    pub used: Money,
    /// The limit.
    pub limit: Money,
    /// Begin of the window.
    pub window: Time,
}
