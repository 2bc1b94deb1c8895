//! The fleet.

use super::{Family, redis};
use crate::fleet::FleetStats;

pub(super) fn families(stats: &FleetStats) -> Vec<Family<'_>> {
    let labels = vec![("fleet", &*stats.name), ("instance", &*stats.identity.name)];
    let up = Family::gauge("fleet_up", "1 while the fleet's Redis answers").with(labels, f64::from(u8::from(stats.connected)));
    let mut families = vec![up];
    families.extend(redis::families(redis::FLEET, &stats.redis));
    families
}
