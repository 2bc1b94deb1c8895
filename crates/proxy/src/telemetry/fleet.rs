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
