//! What the tier below is asked and answers.

use farthing_cache::l2::{GetOutcome, PutOutcome};

use super::{Family, redis};
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
    if let Some(handle) = &stats.redis {
        families.extend(redis::families(redis::L2, handle));
    }
    families
}
