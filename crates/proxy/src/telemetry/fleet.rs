//! The fleet.

use farthing_ledger::budget::fleet::FleetTold;
use farthing_types::Money;

use super::{Family, redis};
use crate::budgets::{BudgetsReport, FleetReport};
use crate::experiments::fleet::SharedWindows;
use crate::fills::FillOutcome;
use crate::fleet::FleetStats;

pub(super) fn families<'a>(stats: &'a FleetStats, fills: &dyn Fn(FillOutcome) -> u64) -> Vec<Family<'a>> {
    let labels = vec![("fleet", &*stats.name), ("instance", &*stats.identity.name)];
    let up = Family::gauge("fleet_up", "1 while the fleet's Redis answers").with(labels, f64::from(u8::from(stats.connected)));
    let mut shared = Family::counter("fill_leases", "Calls that instances share, by what became of them here");
    for outcome in FillOutcome::ALL {
        shared.add(vec![("outcome", outcome.as_str())], fills(*outcome) as f64);
    }
    let mut families = vec![up, shared];
    let count = |name, help, value: u64| Family::counter(name, help).with(vec![], value as f64);
    families.extend([
        Family::gauge("fleet_silent", "1 while nothing was heard of the other instances for a second")
            .with(vec![], f64::from(u8::from(stats.silent))),
        count("fleet_silences", "Times that nothing was heard of the other instances for a second", stats.silences),
        count("fleet_gaps", "Times that messages of the fleet may have been missed, so that memory was emptied", stats.gaps),
        count("fleet_told", "Purges and orders that the other instances were told of", stats.told),
        count("fleet_heard", "Purges of other instances that were carried out here", stats.heard),
        Family::gauge("fleet_untold", "Purges and orders that wait to be told").with(vec![], stats.waiting as f64),
        count("fleet_widened", "Times that purges which could not be told became one of everything", stats.widened),
        Family::gauge("fleet_members", "Instances that were heard of in the last five seconds").with(vec![], stats.members.len() as f64),
    ]);
    families.extend(redis::families(redis::FLEET, &stats.redis));
    families
}

/// Windows of the fleet's experiments, by what became of them; nothing where there are none.
pub(super) fn experiments<'a>(windows: &'a [SharedWindows]) -> Vec<Family<'a>> {
    if windows.is_empty() {
        return Vec::new();
    }
    let mut family =
        Family::gauge("experiment_windows", "Windows of the fleet's experiments since measuring began: whole, or why they do not count");
    let mut deciding = Family::gauge("experiments_deciding", "1 while this instance decides about the experiment for its fleet");
    for SharedWindows { experiment, decides, outcomes } in windows {
        deciding.add(vec![("experiment", &**experiment)], f64::from(u8::from(*decides)));
        for (outcome, count) in outcomes {
            family.add(vec![("experiment", &**experiment), ("outcome", outcome)], *count as f64);
        }
    }
    vec![family, deciding]
}

/// Figures of budgets that the fleet shares.
pub(super) fn budgets<'a>(report: &'a BudgetsReport, fleet: &FleetReport) -> Vec<Family<'a>> {
    let mut others =
        Family::gauge("budget_fleet_allowed", "What other instances may spend in the present window, what they spent included").usd();
    let mut spent = Family::gauge("budget_fleet_spent", "What other instances have spent in the present window, as they told").usd();
    let mut quarantined =
        Family::gauge("budget_fleet_quarantined", "Unspent allowances of instances that are away: counted as spent").usd();
    for spec in &report.specs {
        let told: Vec<_> =
            report.counters.iter().filter(|view| view.counter.budget == spec.name).filter_map(|view| view.fleet.as_ref()).collect();
        for (family, amount) in [
            (&mut others, (|told| told.allowed) as fn(&FleetTold) -> Money),
            (&mut spent, |told| told.used),
            (&mut quarantined, |told| told.quarantined),
        ] {
            family.add(vec![("budget", &*spec.name)], told.iter().map(|told| amount(told)).sum::<Money>().as_usd_f64());
        }
    }
    let flag = |set: bool| f64::from(u8::from(set));
    let mut messages = Family::counter("budget_fleet_messages", "Messages to the fleet's Redis about budgets");
    for (result, count) in ["answered", "failed"].into_iter().zip(fleet.messages) {
        messages.add(vec![("result", result)], count as f64);
    }
    vec![
        others,
        spent,
        quarantined,
        messages,
        Family::gauge("budget_fleet_grants", "1 while the fleet grants").with(vec![], flag(fleet.trouble.is_none())),
        Family::gauge("budget_fleet_missing", "Instances that have not told what they spent since Redis lost its data")
            .with(vec![], fleet.state.missing().count() as f64),
        Family::counter("budget_fleet_losses", "Losses of Redis' data that this instance has noticed")
            .with(vec![], fleet.state.losses as f64),
    ]
}
