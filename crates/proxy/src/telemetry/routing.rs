//! Metrics of routes with several providers.

use farthing_upstream::LegReport;

use super::{Family, Labels};
use crate::routing::RoutingReport;

type Row<T> = (&'static str, &'static str, fn(&LegReport) -> T);

const COUNTERS: [Row<u64>; 3] = [
    ("route_failed", "Of these, attempts that the provider failed", |leg| leg.failed),
    ("route_unmapped", "Of these, answers that could not be brought into the route's shape", |leg| leg.unmapped),
    ("route_unfit", "Calls that the provider has no way to be asked for", |leg| leg.unfit),
];

const GAUGES: [Row<Option<f64>>; 3] = [
    ("route_error_share", "Share of its calls that the provider fails, as the route's choice sees it", |leg| Some(leg.measured.errors)),
    ("route_quality", "The operator's word times the measured share of required fields", |leg| Some(leg.quality)),
    ("route_latency_seconds", "Mean time to an answer, as the route's choice sees it", |leg| {
        leg.measured.latency.map(|span| span.as_secs_f64())
    }),
];

/// Who gets calls and why, and what each provider is measured at.
pub fn families(reports: &[RoutingReport]) -> Vec<Family<'_>> {
    let mut chosen = Family::counter("routed", "Attempts by the provider that was chosen, and why it was");
    for (labels, leg) in legs(reports) {
        for (by, count) in &leg.chosen {
            let mut labels = labels.clone();
            labels.push(("by", by.as_str()));
            chosen.add(labels, *count as f64);
        }
    }
    let mut all = vec![chosen];
    for (name, help, value) in COUNTERS {
        let mut family = Family::counter(name, help);
        legs(reports).for_each(|(labels, leg)| family.add(labels, value(leg) as f64));
        all.push(family);
    }
    for (name, help, value) in GAUGES {
        let mut family = Family::gauge(name, help);
        legs(reports).filter_map(|(labels, leg)| Some((labels, value(leg)?))).for_each(|(labels, value)| family.add(labels, value));
        all.push(family);
    }
    let mut again = Family::counter("route_rounds", "Calls that all providers of a route had failed, and that were made again");
    reports.iter().for_each(|report| again.add(vec![("route", &*report.route)], report.router.repeated as f64));
    all.push(again);
    all
}

fn legs(reports: &[RoutingReport]) -> impl Iterator<Item = (Labels<'_>, &LegReport)> {
    reports
        .iter()
        .flat_map(|report| report.router.legs.iter().map(|leg| (vec![("route", &*report.route), ("provider", &*leg.provider)], leg)))
}
