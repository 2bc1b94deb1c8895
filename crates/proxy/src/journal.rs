//! What is said of the log's journal.

use farthing_ledger::LogMetrics;

/// What is wrong with the log as a whole, in the same words.
pub(crate) fn dropping(log: &LogMetrics) -> String {
    format!("rows are dropped ({} so far){}", log.dropped(), why(log))
}

/// What the system said last, and what to do.
fn why(log: &LogMetrics) -> String {
    let error = log.last_error.as_ref().filter(|_| !log.healthy || log.journal.billing_at_risk);
    error.map_or_else(String::new, |error| format!(": {error}; look at log.dir"))
}

/// What is wrong with the journal, in words for status and readiness.
pub(crate) fn problem(log: &LogMetrics) -> Option<String> {
    let journal = &log.journal;
    let lost: u64 = log.tables.values().map(|table| table.dropped_billing).sum();
    if journal.billing_at_risk {
        return Some(format!(
            "billing_at_risk: the disk takes nothing, {} bytes of records of money wait in memory and are lost if the process dies{}",
            journal.held_bytes,
            why(log)
        ));
    }
    if journal.kept_segments > 0 {
        return Some(format!("{} segments could not be made into files; their rows are safe and are tried again", journal.kept_segments));
    }
    let dropped: u64 = log.tables.values().map(|table| table.dropped_disk).sum();
    match (lost, log.healthy || journal.records_all) {
        (0, true) => None,
        (0, false) => {
            Some(format!("the disk is full: only records of money are kept ({dropped} other log rows dropped so far){}", why(log)))
        }
        (lost, _) => Some(format!("{lost} records of money were lost: the disk took nothing for longer than memory lasted{}", why(log))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_said_first() {
        let mut log = LogMetrics { healthy: true, ..LogMetrics::default() };
        assert_eq!(problem(&log), None);
        log.healthy = false;
        assert!(problem(&log).unwrap().contains("only records of money are kept"));
        log.journal.kept_segments = 3;
        assert!(problem(&log).unwrap().starts_with("3 segments"));
        log.journal.billing_at_risk = true;
        log.last_error = Some("/var/log/farthing: Permission denied".to_owned());
        let told = problem(&log).unwrap();
        assert!(told.starts_with("billing_at_risk") && told.ends_with(": /var/log/farthing: Permission denied; look at log.dir"), "{told}");
        let mut log = LogMetrics { healthy: true, ..LogMetrics::default() };
        log.tables.entry("calls").or_default().dropped_billing = 2;
        assert!(problem(&log).unwrap().starts_with("2 records of money were lost"));
    }
}
