//! Other budgets than before, while calls are under way: what was spent counts on.

use std::collections::HashMap;

use farthing_types::{BudgetSpec, Time};

use super::book::{Budget, level};
use super::{Book, UnknownZone, Windows};

/// Why budgets cannot be put in force while calls are under way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmendError {
    /// One of that name counts, or counted since the start, other calls or another time.
    #[error("budget `{0}`: one of that name counted other calls, or over another time")]
    Another(String),
    /// See there.
    #[error(transparent)]
    Zone(#[from] UnknownZone),
}

impl Book {
    /// Puts these budgets in force. One of a known name keeps its counters: what was spent and set aside, raises, what a fleet knows of it. One that is left
    /// out holds nobody back and counts no new call, until it is there again.
    ///
    /// # Errors
    /// See [`AmendError`]; nothing is changed then.
    pub fn amend(&mut self, specs: &[BudgetSpec], now: Time) -> Result<(), AmendError> {
        let mut added = Vec::new();
        for spec in specs {
            match self.budgets.iter().find(|budget| budget.spec.name == spec.name) {
                Some(Budget { spec: known, .. }) => {
                    if (known.window, &known.zone, &known.scope, known.per) != (spec.window, &spec.zone, &spec.scope, spec.per) {
                        return Err(AmendError::Another(spec.name.to_string()));
                    }
                }
                None => added.push(Budget::new(spec.clone())?),
            }
        }
        for budget in &mut self.budgets {
            let spec = specs.iter().find(|spec| spec.name == budget.spec.name);
            budget.retired = spec.is_none();
            // What a fleet has granted under a greater limit goes back, and is asked for anew under this one.
            let gives_back = spec.is_none_or(|spec| spec.limit < budget.spec.limit);
            budget.spec = spec.unwrap_or(&budget.spec).clone();
            for counter in budget.counters.values_mut() {
                if gives_back && counter.share.is_some() {
                    counter.give_all_back();
                }
                counter.told = level(counter.used_by_all(), counter.limit(budget.spec.limit, now), budget.spec.warn_at).min(counter.told);
            }
        }
        for budget in &mut added {
            budget.digest = self.fleet.is_some().then(|| super::fleet::digest(&budget.spec));
        }
        self.budgets.extend(added);
        Ok(())
    }
}

impl Budget {
    /// One without anything spent.
    ///
    /// # Errors
    /// A time zone that nobody knows.
    pub(super) fn new(spec: BudgetSpec) -> Result<Self, UnknownZone> {
        Ok(Self { windows: Windows::new(spec.window, &spec.zone)?, spec, retired: false, counters: HashMap::default(), digest: None })
    }
}

#[cfg(test)]
mod tests {
    use farthing_types::{BudgetScope, BudgetUnit, Money, Priority};

    use super::super::*;
    use super::*;

    fn usd(whole: i64) -> Money {
        Money::from_nanos(whole * 1_000_000_000)
    }

    fn budget(name: &str, limit: i64) -> BudgetSpec {
        BudgetSpec { name: name.into(), limit: usd(limit), ..BudgetSpec::default() }
    }

    fn ask(bound: i64) -> Ask<'static> {
        let who = Who { tenant: "acme", route: "r", ..Who::default() };
        Ask { who, priority: Priority::Medium, bound: Some(usd(bound)), now: Time::from_millis(1_000) }
    }

    /// Holds, granting at once what is asked for.
    fn hold(book: &mut Book, bound: i64) -> Result<Hold, Why> {
        loop {
            match book.hold(&ask(bound)) {
                Verdict::Held(hold, _) => return Ok(hold),
                Verdict::Needs(grants, _) => book.granted(&grants),
                Verdict::Blocked(blocked) => return Err(blocked.why),
            }
        }
    }

    fn spend(book: &mut Book, amount: i64) -> Result<(), Why> {
        let hold = hold(book, amount)?;
        book.settle(&hold, Charge { spent: usd(amount), ..Charge::default() }, ask(0).now);
        Ok(())
    }

    #[test]
    fn another_limit_keeps_what_was_spent_and_set_aside() {
        let now = ask(0).now;
        let mut book = Book::new([budget("a", 10)]).unwrap();
        spend(&mut book, 4).unwrap();
        let under_way = hold(&mut book, 3).unwrap();
        book.amend(&[budget("a", 8)], now).unwrap();
        assert_eq!(spend(&mut book, 2), Err(Why::Exceeded), "4 spent and 3 set aside of 8, though more was granted");
        spend(&mut book, 1).unwrap();
        book.settle(&under_way, Charge { spent: usd(3), ..Charge::default() }, now);
        assert_eq!(book.views(now)[0].spent, usd(8));
        book.amend(&[budget("a", 20)], now).unwrap();
        spend(&mut book, 12).unwrap();
        assert_eq!(spend(&mut book, 1), Err(Why::Exceeded));
    }

    #[test]
    fn one_that_is_left_out_and_comes_back_knows_what_was_spent() {
        let now = ask(0).now;
        let mut book = Book::new([budget("a", 5), budget("b", 100)]).unwrap();
        spend(&mut book, 4).unwrap();
        let under_way = hold(&mut book, 1).unwrap();
        book.amend(&[budget("b", 100)], now).unwrap();
        spend(&mut book, 50).unwrap();
        book.settle(&under_way, Charge { spent: usd(1), ..Charge::default() }, now);
        assert_eq!(book.views(now).iter().map(|view| (&*view.counter.budget, view.spent)).collect::<Vec<_>>(), [("b", usd(55))]);
        book.amend(&[budget("a", 5), budget("b", 100), budget("c", 9)], now).unwrap();
        assert_eq!(spend(&mut book, 1), Err(Why::Exceeded), "a has nothing left");
        book.amend(&[budget("a", 100), budget("b", 100), budget("c", 9)], now).unwrap();
        spend(&mut book, 9).unwrap();
        assert_eq!(spend(&mut book, 1), Err(Why::Exceeded), "c counts since it is there");
    }

    #[test]
    fn a_budget_that_comes_later_is_the_fleets_like_the_others() {
        let mut book = Book::new([budget("a", 5)]).unwrap();
        book.enter_fleet("me");
        book.amend(&[budget("a", 7), budget("b", 5)], ask(0).now).unwrap();
        assert!(book.budgets.iter().all(|budget| budget.digest.is_some()), "{:?}", book.budgets);
        let _ = book.hold(&ask(1));
        assert!(book.budgets.iter().all(|budget| budget.counters.values().all(|counter| counter.share.is_some())));
    }

    #[test]
    fn another_scope_is_another_budget() {
        let mut book = Book::new([budget("a", 5)]).unwrap();
        let other = BudgetSpec { per: Some(BudgetUnit::Tenant), ..budget("a", 9) };
        assert_eq!(book.amend(&[other, budget("z", 1)], ask(0).now), Err(AmendError::Another("a".to_owned())));
        let scope = BudgetScope { tenant: Some("x".into()), ..BudgetScope::default() };
        assert!(book.amend(&[BudgetSpec { scope, ..budget("a", 5) }], ask(0).now).is_err());
        assert!(spend(&mut book, 6).is_err() && book.specs().count() == 1, "nothing has changed");
    }
}
