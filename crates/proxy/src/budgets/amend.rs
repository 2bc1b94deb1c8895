//! Other budgets, while calls are under way.

use farthing_ledger::budget::AmendError;
use farthing_types::BudgetSpec;

use super::Budgets;

impl Budgets {
    /// Puts other budgets in force: what was spent counts on, and who waits asks again.
    ///
    /// # Errors
    /// See [`AmendError`]; nothing is changed then.
    pub fn amend(&self, specs: &[BudgetSpec]) -> Result<(), AmendError> {
        let Some(shared) = &self.0 else { return Ok(()) };
        shared.book.lock().amend(specs, shared.clock.now())?;
        shared.freed.notify_waiters();
        Ok(())
    }
}
