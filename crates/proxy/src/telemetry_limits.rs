//! Metrics of limits and of the load of the process.

use std::fmt;

use farthing_ledger::limit::bucket::WHOLE;
use farthing_ledger::limit::{LimitView, WAITS};
use farthing_types::{LimitWhy, Priority};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::limits::{LimitsFleet, LimitsReport};
use crate::load::LoadReport;

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Metrics of the limits.
pub fn limits(report: &LimitsReport, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let views = &report.limits;
    let of = |value: fn(&LimitView) -> f64| views.iter().map(move |view| (vec![("limit", &*view.spec.name)], value(view)));
    counters(encoder, ("limit_admitted", "Calls and attempts that a limit let through"), of(|view| view.stats.admitted as f64))?;
    let over = of(|view| view.stats.passed_over as f64);
    counters(encoder, ("limit_passed_over", "Of these, over it: high priority without room"), over)?;
    let refused = views.iter().flat_map(|view| {
        let count =
            |why: &LimitWhy| (vec![("limit", &*view.spec.name), ("reason", why.as_str())], view.stats.refused[*why as usize] as f64);
        LimitWhy::ALL.iter().map(count)
    });
    counters(encoder, ("limit_refused", "Calls and attempts that a limit refused, by reason"), refused)?;
    let overruns = of(|view| view.stats.overruns as f64);
    counters(encoder, ("limit_overruns", "Calls that used more tokens than were reserved for them"), overruns)?;
    counters(
        encoder,
        ("limit_held", "Times that the provider asked to be left alone (429 with Retry-After)"),
        of(|view| view.stats.held as f64),
    )?;
    let crowded = of(|view| view.stats.crowded as f64);
    counters(encoder, ("limit_crowded", "Calls that shared a counter because too many units have one"), crowded)?;
    let rested = [(Labels::new(), report.rested as f64)].into_iter();
    counters(encoder, ("limit_rested", "Attempts that met the rest that the provider asked of one client's own credential"), rested)?;
    gauges(encoder, ("limit_waiting", "Calls and attempts that wait for their turn"), of(|view| view.waiting as f64))?;
    gauges(encoder, ("limit_counters", "Counters of a limit that are in use"), of(|view| view.counters as f64))?;
    waits(views, encoder)?;
    report.fleet.as_ref().map_or(Ok(()), |shared| fleet(shared, encoder))
}

/// Metrics of limits that a fleet shares.
fn fleet(shared: &LimitsFleet, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let part = |part: u32| f64::from(part) / f64::from(WHOLE);
    let one = |value: f64| [(Labels::new(), value)].into_iter();
    let of = |away: bool| {
        let parts = shared.state.members.iter().filter(|view| view.known.id != shared.id && view.live != away);
        let sum: i64 = parts.map(|view| view.known.parts[0]).sum();
        (vec![("of", if away { "away" } else { "others" })], sum as f64 / f64::from(WHOLE))
    };
    let shares = [(vec![("of", "this")], part(shared.shares.standing.rate)), of(false), of(true)].into_iter();
    gauges(encoder, ("limit_fleet_share", "Standing shares of the rates of all limits, by whose they are"), shares)?;
    let [more, less] = shared.shares.moved.map(|count| count as f64);
    let moved = [(vec![("rate", "borrowed")], more), (vec![("rate", "lent")], less)].into_iter();
    gauges(encoder, ("limit_fleet_moved", "Counters of whose rate this instance has more or less than its standing share"), moved)?;
    gauges(encoder, ("limit_fleet_away", "1 while the fleet's Redis does not answer"), one(f64::from(u8::from(shared.away.is_some()))))?;
    gauges(
        encoder,
        ("limit_fleet_missing", "Instances that have not told of themselves since a loss"),
        one(shared.missing().count() as f64),
    )?;
    counters(
        encoder,
        ("limit_fleet_losses", "Times that the fleet's Redis had lost what it knew of limits"),
        one(shared.state.losses as f64),
    )?;
    let [answered, failed] = shared.messages.map(|count| count as f64);
    let messages = [(vec![("result", "answered")], answered), (vec![("result", "failed")], failed)].into_iter();
    counters(encoder, ("limit_fleet_messages", "Messages to the fleet's Redis about limits"), messages)
}

/// How long those waited that had their turn: a histogram of cumulative buckets.
fn waits(views: &[LimitView], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Time that calls and attempts waited for their turn";
    let mut metric = encoder.encode_descriptor("limit_wait", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for view in views {
        let ends = WAITS.iter().map(std::time::Duration::as_secs_f64).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = ends.zip(view.stats.waits).collect();
        let labels = [("limit", &*view.spec.name)];
        let sum = view.stats.waited_for.as_secs_f64();
        metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, view.stats.waited, &buckets, None)?;
    }
    Ok(())
}

/// Metrics of the load.
pub fn load(report: &LoadReport, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let tiers = || report.tiers.iter();
    let requests = tiers().map(|tier| (vec![("tier", &*tier.name)], tier.used.requests as f64));
    gauges(encoder, ("load_requests", "Requests under way that memory could not answer"), requests)?;
    let bytes = tiers().map(|tier| (vec![("tier", &*tier.name)], tier.used.bytes as f64));
    gauges(encoder, ("load_bytes", "Bytes of request bodies that are held for them"), bytes)?;
    let shed = tiers().flat_map(|tier| {
        let count =
            |priority: &Priority| (vec![("tier", &*tier.name), ("priority", priority.as_str())], tier.shed[*priority as usize] as f64);
        Priority::ALL.iter().map(count)
    });
    counters(encoder, ("load_shed", "Requests refused because too much was under way"), shed)
}

fn counters<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    rows: impl Iterator<Item = (Labels<'a>, f64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in rows {
        ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauges<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    rows: impl Iterator<Item = (Labels<'a>, f64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in rows {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use farthing_ledger::limit::Stats;
    use farthing_types::{LimitSpec, Span};
    use prometheus_client::collector::Collector;
    use prometheus_client::registry::Registry;

    use super::*;

    #[derive(Debug)]
    struct Told(LimitsReport);

    impl Collector for Told {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            limits(&self.0, &mut encoder)
        }
    }

    #[test]
    fn waits_are_a_histogram_that_ends_in_infinity() {
        let mut stats = Stats { admitted: 3, ..Stats::default() };
        [Span::from_millis(7), Span::from_secs(2), Span::from_secs(99)].into_iter().for_each(|wait| stats.wait(wait));
        let spec = std::sync::Arc::new(LimitSpec { name: "l".into(), ..LimitSpec::default() });
        let view = LimitView { spec, stats, counters: 1, waiting: 0, busiest: Vec::new() };
        let mut registry = Registry::with_prefix("farthing");
        registry.register_collector(Box::new(Told(LimitsReport { limits: vec![view], rested: 0, fleet: None })));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "farthing_limit_admitted_total{limit=\"l\"} 3.0",
            "farthing_limit_wait_seconds_sum{limit=\"l\"} 101.007",
            "farthing_limit_wait_seconds_bucket{le=\"0.005\",limit=\"l\"} 0",
            "farthing_limit_wait_seconds_bucket{le=\"2.5\",limit=\"l\"} 2",
            "farthing_limit_wait_seconds_bucket{le=\"+Inf\",limit=\"l\"} 3",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
