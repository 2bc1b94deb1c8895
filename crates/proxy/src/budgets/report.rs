//! What is told of budgets.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_ledger::budget::{Blocked, CounterView};
use farthing_types::{BudgetSpec, Priority, RequestId, RouteName, Tenant, Time};

use super::Shared;

/// What is told of all budgets.
#[derive(Clone, Debug)]
pub struct BudgetsReport {
    /// The budgets.
    pub specs: Vec<BudgetSpec>,
    /// Their counters, in the present windows.
    pub counters: Vec<CounterView>,
    /// Why nothing can be written down, while that is so.
    pub fault: Option<String>,
    /// Requests that wait for room.
    pub waiting: usize,
    /// Requests held back lately, the latest last.
    pub refusals: Vec<RefusalReport>,
    /// Calls let through although they could not be written down.
    pub faults_passed: u64,
    /// Calls that cost more than was set aside for them.
    pub overruns: u64,
    /// Calls without a bound, let through.
    pub unbounded: u64,
    /// Calls that nobody waits for, left out.
    pub left_out: u64,
}

/// A request that was held back.
#[derive(Clone, Debug)]
pub struct RefusalReport {
    /// The request.
    pub request: RequestId,
    /// When.
    pub at: Time,
    /// Who asked.
    pub tenant: Tenant,
    /// For what.
    pub route: RouteName,
    /// How much it mattered.
    pub priority: Priority,
    /// Why.
    pub blocked: Blocked,
    /// Whether an older copy stood in.
    pub stood_in: bool,
}

pub(super) fn report(shared: &Arc<Shared>) -> BudgetsReport {
    let (specs, counters, fault) = {
        let mut book = shared.book.lock();
        let counters = book.views(shared.clock.now());
        (book.specs().cloned().collect(), counters, book.fault().map(ToOwned::to_owned))
    };
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    BudgetsReport {
        specs,
        counters,
        fault,
        waiting: shared.waiting.load(Ordering::Relaxed),
        refusals: shared.refusals.lock().iter().cloned().collect(),
        faults_passed: count(&shared.counters.faults_passed),
        overruns: count(&shared.counters.overruns),
        unbounded: count(&shared.counters.unbounded),
        left_out: count(&shared.counters.left_out),
    }
}
