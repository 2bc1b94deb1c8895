//! The fleet.

use super::{Family, redis};
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
    families.extend(redis::families(redis::FLEET, &stats.redis));
    families
}
