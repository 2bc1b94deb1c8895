//! What the tier below is asked and answers.

use farthing_cache::l2::{GetOutcome, PutOutcome};
use farthing_fleet::Fault;

use super::Family;
use crate::l2::L2Stats;

pub(super) fn families(stats: &L2Stats) -> Vec<Family<'static>> {
    let mut gets = Family::counter("l2_gets", "Looks into L2, by outcome");
    for outcome in GetOutcome::ALL {
        gets.add(vec![("store", stats.kind), ("outcome", outcome.as_str())], stats.outcomes.get(*outcome) as f64);
    }
    let mut puts = Family::counter("l2_puts", "Answers for L2, by outcome");
    for outcome in PutOutcome::ALL {
        puts.add(vec![("store", stats.kind), ("outcome", outcome.as_str())], stats.outcomes.put(*outcome) as f64);
    }
    let queued = Family::gauge("l2_queued_bytes", "Bytes of answers that wait to be written to L2");
    let mut families = vec![gets, puts, queued.with(vec![], stats.queued_bytes as f64)];
    if let Some(disk) = &stats.disk {
        families.extend([
            Family::gauge("l2_disk_entries", "Answers on disk").with(vec![], disk.entries as f64),
            Family::gauge("l2_disk_bytes", "Bytes of the disk cache's files").with(vec![], disk.bytes as f64),
            Family::counter("l2_disk_reclaimed", "Segments dropped to stay within the bound").with(vec![], disk.reclaimed as f64),
            Family::counter("l2_disk_failed_writes", "Records that the file system did not take").with(vec![], disk.failed_writes as f64),
            Family::gauge("l2_disk_lost_bytes", "Bytes that could not be read at the start").with(vec![], disk.lost_bytes as f64),
        ]);
    }
    if let Some(redis) = &stats.redis {
        let mut faults = Family::counter("redis_faults", "Operations on Redis that were not done, by fault");
        for fault in Fault::ALL {
            faults.add(vec![("fault", fault.as_str())], redis.fault(*fault) as f64);
        }
        families.extend([
            faults,
            Family::counter("redis_done", "Operations on Redis that were done").with(vec![], redis.done as f64),
            Family::gauge("redis_breakers_open", "Breakers towards Redis that are open").with(vec![], redis.open_breakers as f64),
            Family::counter("redis_connected", "Times that connections to Redis were made").with(vec![], redis.connected as f64),
        ]);
    }
    families
}
