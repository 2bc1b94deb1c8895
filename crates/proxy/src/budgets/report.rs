//! What is told of budgets.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_ledger::budget::fleet::MemberState;
use farthing_ledger::budget::{Blocked, CounterView};
use farthing_ledger::watch::{BudgetLevel, BudgetLevels, Level};
use farthing_types::{BudgetSpec, Enforce, Priority, RequestId, RouteName, Tenant, Time};

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
    /// Where a fleet shares them.
    pub fleet: Option<FleetReport>,
}

/// How budgets of a fleet stand, as this instance knows it.
#[derive(Clone, Debug)]
pub struct FleetReport {
    /// This member.
    pub id: Arc<str>,
    /// The members, and what they wait for.
    pub state: MemberState,
    /// Why nothing is granted now.
    pub trouble: Option<String>,
    /// Messages answered, and without an answer.
    pub messages: [u64; 2],
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

impl BudgetLevels for Shared {
    fn levels(&self) -> Vec<BudgetLevel> {
        let mut book = self.book.lock();
        let views = book.views(self.clock.now());
        let level = |view: &CounterView| {
            let spec = book.specs().find(|spec| spec.name == view.counter.budget)?;
            let level = match (view.used() >= view.limit, spec.enforce) {
                (true, Enforce::Hard) => Level::Hard,
                (true, Enforce::HighPasses | Enforce::Soft) => Level::Soft,
                (false, _) if view.used().nanos() as f64 >= view.limit.nanos() as f64 * spec.warn_at => Level::Warn,
                (false, _) => return None,
            };
            let unit = if view.counter.unit.is_empty() { String::new() } else { format!(", {}", view.counter.unit) };
            Some(BudgetLevel {
                subject: format!("{}{unit}", spec.name).into(),
                level,
                used: view.used(),
                limit: view.limit,
                period: format!("{} from {}", spec.window, view.window.start.nanos() / 1_000_000_000).into(),
            })
        };
        views.iter().filter_map(level).collect()
    }
}

pub(super) fn report(shared: &Arc<Shared>) -> BudgetsReport {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let messages = shared.link.as_ref().map(|link| link.teller.messages());
    let (specs, counters, fault, fleet) = {
        let mut book = shared.book.lock();
        let counters = book.views(shared.clock.now());
        let fleet = book.fleet_state().zip(messages).map(|((id, state, trouble), messages)| FleetReport {
            id: id.clone(),
            state: state.clone(),
            trouble,
            messages,
        });
        (book.specs().cloned().collect(), counters, book.fault().map(ToOwned::to_owned), fleet)
    };
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
        fleet,
    }
}
