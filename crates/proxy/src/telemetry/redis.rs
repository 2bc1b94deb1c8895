//! What a handle on Redis has done.

use farthing_fleet::{Fault, HandleStats};

use super::Family;

/// Of the handle of L2.
pub(super) const L2: [&str; 4] = ["redis_faults", "redis_done", "redis_breakers_open", "redis_connected"];
/// Of the handle of the fleet.
pub(super) const FLEET: [&str; 4] = ["fleet_redis_faults", "fleet_redis_done", "fleet_redis_breakers_open", "fleet_redis_connected"];

/// Its figures under four names.
pub(super) fn families([faults, done, open, connected]: [&'static str; 4], stats: &HandleStats) -> [Family<'static>; 4] {
    let mut by_fault = Family::counter(faults, "Operations on Redis that were not done, by fault");
    for fault in Fault::ALL {
        by_fault.add(vec![("fault", fault.as_str())], stats.fault(*fault) as f64);
    }
    [
        by_fault,
        Family::counter(done, "Operations on Redis that were done").with(vec![], stats.done as f64),
        Family::gauge(open, "Breakers towards Redis that are open").with(vec![], stats.open_breakers as f64),
        Family::counter(connected, "Times that connections to Redis were made").with(vec![], stats.connected as f64),
    ]
}
