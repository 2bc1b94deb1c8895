//! Alerts about money: raised, told, lost.

use super::Family;
use crate::alerts::AlertStats;

pub(super) fn families(stats: &AlertStats) -> Vec<Family<'static>> {
    let mut told = Family::counter("alerts", "Alerts that were told, by kind");
    let mut repeated = Family::counter("alerts_repeated", "Alerts of what had been told already");
    for (kind, counts) in &stats.kinds {
        told.add(vec![("kind", kind)], counts.told as f64);
        repeated.add(vec![("kind", kind)], counts.repeated as f64);
    }
    vec![
        told,
        repeated,
        Family::counter("alert_posts", "Attempts to post an alert").with(vec![], stats.attempts as f64),
        Family::counter("alert_posts_failed", "Of these, failed").with(vec![], stats.failed as f64),
        Family::counter("alerts_delivered", "Alerts that the webhook has taken").with(vec![], stats.delivered as f64),
        Family::counter("alerts_given_up", "Alerts that could not be posted").with(vec![], stats.given_up as f64),
        Family::counter("alerts_unsaved", "Times that the book of alerts could not be saved").with(vec![], stats.unsaved as f64),
        Family::gauge("watch_series", "Series of spend under watch").with(vec![], stats.watch.series as f64),
        Family::counter("watch_unwatched", "Series without room, once for each hour").with(vec![], stats.watch.unwatched as f64),
        Family::counter("watch_hours", "Hours of spend that were taken").with(vec![], stats.watch.hours as f64),
        Family::counter("watch_failed", "Times that the calls of some hours could not be read").with(vec![], stats.watch.failed as f64),
    ]
}
