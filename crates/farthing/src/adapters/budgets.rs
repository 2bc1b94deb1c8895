//! Budgets: what is spent, who was held back, and raises.

use farthing_admin::{
    BudgetFleetView, BudgetMemberView, BudgetRow, BudgetsControl, BudgetsView, ControlError, CounterFleetView, CounterRow, HolderView,
    RaiseRequest, RaiseView, Raising, RefusalView, WritingOff,
};
use farthing_ledger::budget::fleet::{FleetTold, MemberState, MemberView};
use farthing_ledger::budget::{BookError, CounterView, Raise};
use farthing_ledger::costs::{parse_time, utc};
use farthing_proxy::{FleetBudgetsReport, RaiseError, RefusalReport, WriteOffError};
use farthing_types::{BudgetSpec, Money, Time};

use super::Running;

impl BudgetsControl for Running {
    fn budgets(&self) -> BudgetsView {
        let Some(report) = self.proxy.budgets() else { return BudgetsView::default() };
        let state = report.fleet.as_ref().map(|fleet| &fleet.state);
        let rows = report.specs.iter().map(|spec| {
            let counters = report.counters.iter().filter(|counter| counter.counter.budget == spec.name);
            row(spec, counters.map(|view| counter(view, state)).collect())
        });
        BudgetsView {
            budgets: rows.collect(),
            fault: report.fault,
            waiting: report.waiting as u64,
            overruns: report.overruns,
            unbounded: report.unbounded,
            left_out: report.left_out,
            fleet: report.fleet.as_ref().map(fleet),
        }
    }

    fn refusals(&self, request: Option<&str>, budget: Option<&str>) -> Vec<RefusalView> {
        let Some(report) = self.proxy.budgets() else { return Vec::new() };
        let wanted = |view: &RefusalView| request.is_none_or(|id| view.request == id) && budget.is_none_or(|name| view.budget == name);
        report.refusals.iter().rev().map(refusal).filter(wanted).collect()
    }

    fn raise(&self, budget: String, request: RaiseRequest) -> Raising {
        let proxy = self.proxy.clone();
        Box::pin(async move {
            let unit = request.unit.as_deref();
            let until = until(&proxy, (&budget, unit), request.until.as_deref())?;
            let raise = Raise { by: request.by_usd, until, note: request.note.clone() };
            proxy.raise_budget((&budget, unit), raise).await.map_err(|error| match error {
                RaiseError::Book(error @ BookError::NoBudget(..)) => ControlError::NotFound(error.to_string()),
                RaiseError::Book(error) => ControlError::Refused(error.to_string()),
                RaiseError::Unwritten(_) => ControlError::Failed(error.to_string()),
            })?;
            tracing::info!(budget, unit, by = %request.by_usd, until = utc(until), note = request.note, "a budget is raised");
            let report = proxy.budgets();
            let counters = report.as_ref().map(|report| report.counters.as_slice()).unwrap_or_default();
            let found = counters.iter().find(|found| *found.counter.budget == *budget && *found.counter.unit == *unit.unwrap_or_default());
            let state = report.as_ref().and_then(|report| report.fleet.as_ref()).map(|fleet| &fleet.state);
            found.map(|found| counter(found, state)).ok_or_else(|| ControlError::Failed("the counter is gone".to_owned()))
        })
    }

    fn write_off(&self, member: String) -> WritingOff {
        let proxy = self.proxy.clone();
        Box::pin(async move {
            proxy.write_off(&member).await.map_err(write_off)?;
            tracing::warn!(member, "an instance is written off: what it spent since it told last is not known");
            Ok(())
        })
    }
}

fn write_off(error: WriteOffError) -> ControlError {
    match error {
        WriteOffError::NoFleet | WriteOffError::NotMissing(..) => ControlError::Refused(error.to_string()),
        WriteOffError::Redis(_) => ControlError::Failed(error.to_string()),
    }
}

/// When a raise ends: as said, else with the window.
fn until(proxy: &farthing_proxy::Proxy, (budget, unit): (&str, Option<&str>), said: Option<&str>) -> Result<Time, ControlError> {
    if let Some(said) = said {
        return parse_time(said).ok_or_else(|| {
            ControlError::Refused(format!("until: `{said}` is no time; write 2026-12-31 (its begin in UTC) or 2026-12-31T18:00:00Z"))
        });
    }
    let report = proxy.budgets();
    let counters = report.as_ref().map(|report| report.counters.as_slice()).unwrap_or_default();
    let found = counters.iter().find(|found| *found.counter.budget == *budget && unit.is_none_or(|unit| *found.counter.unit == *unit));
    match found.map(|found| found.window.end) {
        Some(None) => Ok(Time::from_nanos(i64::MAX)),
        Some(Some(end)) => Ok(end),
        // One that has spent nothing yet has no window; one that does not exist is named as such.
        None if report.as_ref().is_some_and(|report| report.specs.iter().any(|spec| *spec.name == *budget)) => {
            Err(ControlError::Refused("it has no counter yet: say `until`".to_owned()))
        }
        None => Ok(Time::from_nanos(i64::MAX)),
    }
}

fn row(spec: &BudgetSpec, counters: Vec<CounterRow>) -> BudgetRow {
    BudgetRow {
        name: spec.name.to_string(),
        limit_usd: spec.limit,
        window: spec.window.to_string(),
        time_zone: spec.zone.to_string(),
        counts: counts(spec),
        per: spec.per.map(|per| per.to_string()),
        enforce: spec.enforce.to_string(),
        on_exceeded: spec.on_exceeded.iter().map(ToString::to_string).collect(),
        counters,
    }
}

fn counts(spec: &BudgetSpec) -> String {
    let scope = &spec.scope;
    let one = |name: &str, value: &Option<std::sync::Arc<str>>| value.as_ref().map(|value| format!("{name} {value}"));
    let mut words: Vec<String> =
        [one("tenant", &scope.tenant), one("team", &scope.team), one("service", &scope.service), one("key", &scope.key)]
            .into_iter()
            .flatten()
            .collect();
    if !scope.routes.is_empty() {
        words.push(format!("routes {}", scope.routes.iter().map(|route| &**route).collect::<Vec<_>>().join(", ")));
    }
    if words.is_empty() { "all calls".to_owned() } else { words.join(", ") }
}

fn fleet(report: &FleetBudgetsReport) -> BudgetFleetView {
    let state = &report.state;
    let member = |view: &MemberView| BudgetMemberView {
        id: view.known.id.to_string(),
        name: view.known.name.to_string(),
        away: state.is_away(&view.known.id),
        told: view.here,
    };
    BudgetFleetView {
        id: report.id.to_string(),
        trouble: report.trouble.clone(),
        members: state.members.iter().map(member).collect(),
        losses: state.losses,
    }
}

fn of_fleet(told: &FleetTold, state: Option<&MemberState>) -> CounterFleetView {
    let holder = |(id, allowed, spent): &(std::sync::Arc<str>, Money, Money)| HolderView {
        name: state.map_or(&**id, |state| state.name(id)).to_owned(),
        allowed_usd: *allowed,
        spent_usd: *spent,
        away: state.is_some_and(|state| state.is_away(id)),
    };
    CounterFleetView {
        spent_usd: told.used,
        quarantined_usd: told.quarantined,
        withheld: told.withheld,
        holders: told.holders.iter().map(holder).collect(),
    }
}

fn counter(view: &CounterView, state: Option<&MemberState>) -> CounterRow {
    let left = view.limit - view.used() - view.reserved;
    let since = view.window.end.map(|_| utc(view.window.start));
    CounterRow {
        unit: view.counter.unit.to_string(),
        since,
        until: view.window.end.map(utc),
        limit_usd: view.limit,
        spent_usd: view.spent,
        uncertain_usd: view.uncertain,
        lost_usd: view.lost,
        reserved_usd: view.reserved,
        left_usd: left.max(Money::ZERO),
        held_back: view.blocked,
        raises: view.raises.iter().map(|raise| RaiseView { by_usd: raise.by, until: utc(raise.until), note: raise.note.clone() }).collect(),
        fleet: view.fleet.as_ref().map(|told| of_fleet(told, state)),
    }
}

fn refusal(report: &RefusalReport) -> RefusalView {
    let blocked = &report.blocked;
    RefusalView {
        request: report.request.to_string(),
        at: utc(report.at),
        tenant: report.tenant.to_string(),
        route: report.route.to_string(),
        priority: report.priority.to_string(),
        budget: blocked.counter.budget.to_string(),
        unit: blocked.counter.unit.to_string(),
        why: blocked.why.to_string(),
        needed_usd: blocked.needed,
        used_usd: blocked.used,
        reserved_usd: blocked.reserved,
        limit_usd: blocked.limit,
        resets: blocked.resets.map(utc),
        stood_in: report.stood_in,
    }
}
