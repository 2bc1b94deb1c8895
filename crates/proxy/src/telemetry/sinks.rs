//! Figures of the sinks of the log.

use std::sync::Arc;

use farthing_sinks::{FaultReason, SinkState, SinkStats};
use farthing_types::Time;

use super::Family;

/// Of each sink, at `now` on the file system's clock.
pub(super) fn sinks<'a>(states: &'a [Arc<SinkState>], now: Time) -> Vec<Family<'a>> {
    if states.is_empty() {
        return Vec::new();
    }
    let all: Vec<(&'a str, SinkStats)> = states.iter().map(|state| (&*state.name, state.stats())).collect();
    let mut faults = Family::counter("sink_faults", "Operations of a sink that were not done, by reason");
    for (name, stats) in &all {
        for reason in FaultReason::ALL {
            let count = stats.faults.get(reason).copied().unwrap_or_default();
            faults.add(vec![("sink", *name), ("reason", reason.as_str())], count as f64);
        }
    }
    let of = |family: Family<'a>, figure: fn(&SinkStats) -> f64| {
        all.iter().fold(family, |family, (name, stats)| family.with(vec![("sink", *name)], figure(stats)))
    };
    let counter = |name, help, figure: fn(&SinkStats) -> u64| {
        all.iter().fold(Family::counter(name, help), |family, (sink, stats)| family.with(vec![("sink", *sink)], figure(stats) as f64))
    };
    let mut lag = Family::gauge("sink_lag_seconds", "How long the oldest file has waited that the sink lacks; 0 when none does");
    for (name, stats) in &all {
        lag.add(vec![("sink", *name)], stats.lag(now).as_secs_f64());
    }
    vec![
        counter("sink_files", "Files of the log shipped", |stats| stats.files),
        counter("sink_rows", "Their rows", |stats| stats.rows),
        counter("sink_files_repeated", "Files that had been there when they were shipped", |stats| stats.repeated),
        counter("sink_cells_altered", "Cells that the sink cannot hold as they are", |stats| stats.altered),
        counter("sink_files_missed", "Files that retention removed before they were shipped: their rows are not in the sink", |stats| {
            stats.missed
        }),
        counter("sink_days_expired", "Days removed from the sink because they were older than its retention", |stats| stats.expired_days),
        of(Family::gauge("sink_waiting_files", "Files that the sink lacks"), |stats| stats.waiting as f64),
        of(Family::gauge("sink_files_set_aside", "Of these, such as cannot be shipped for what is in them"), |stats| {
            stats.set_aside as f64
        }),
        of(Family::gauge("sink_breaker_open", "1 while the sink takes nothing and is only probed"), |stats| {
            f64::from(u8::from(stats.open))
        }),
        of(Family::gauge("sink_behind", "1 while retention may remove files before they are shipped"), |stats| {
            f64::from(u8::from(stats.behind.is_some()))
        }),
        lag,
        faults,
    ]
}
