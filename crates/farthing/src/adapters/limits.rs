//! Limits: what they let through, who waits, and what is under way.

use farthing_admin::{LimitCounter, LimitRow, LimitsControl, LimitsView, LoadRow, RefusedCount};
use farthing_ledger::limit::{CounterView, LimitView};
use farthing_proxy::TierLoad;
use farthing_types::{LimitWhy, RateSpec};

use super::Running;

impl LimitsControl for Running {
    fn limits(&self) -> LimitsView {
        let limits = self.proxy.limits().map(|report| report.limits.iter().map(row).collect()).unwrap_or_default();
        LimitsView { limits, load: self.proxy.load().tiers.iter().map(load).collect() }
    }
}

fn row(view: &LimitView) -> LimitRow {
    let (spec, stats) = (&view.spec, &view.stats);
    let refused = LimitWhy::ALL.iter().map(|why| RefusedCount { why: why.to_string(), calls: stats.refused[*why as usize] });
    LimitRow {
        name: spec.name.to_string(),
        scope: spec.scope.to_string(),
        names: spec.names.iter().map(ToString::to_string).collect(),
        shared: spec.shared,
        requests: spec.requests.map(rate),
        tokens: spec.tokens.map(rate),
        concurrency: spec.concurrency,
        on_limit: spec.on_limit.iter().map(ToString::to_string).collect(),
        admitted: stats.admitted,
        passed_over: stats.passed_over,
        waited: stats.waited,
        wait_ms_mean: (stats.waited > 0).then(|| stats.waited_for.as_secs_f64() * 1e3 / stats.waited as f64),
        refused: refused.filter(|refused| refused.calls > 0).collect(),
        waiting: view.waiting as u64,
        counters: view.counters as u64,
        busiest: view.busiest.iter().map(counter).collect(),
    }
}

/// As in the configuration.
fn rate(rate: RateSpec) -> String {
    let unit = match rate.period.as_secs() {
        60 => "min",
        3_600 => "h",
        86_400 => "d",
        _ => "s",
    };
    format!("{}/{unit}", rate.count)
}

fn counter(view: &CounterView) -> LimitCounter {
    LimitCounter {
        unit: view.unit.to_string(),
        requests_left: view.requests.map(|(left, _)| left),
        tokens_left: view.tokens.map(|(left, _)| left),
        running: view.running,
        waiting: view.waiting as u64,
        held_ms: u64::try_from(view.held.as_millis()).unwrap_or(u64::MAX),
    }
}

fn load(tier: &TierLoad) -> LoadRow {
    LoadRow {
        tier: tier.name.to_string(),
        requests: tier.used.requests,
        bytes: tier.used.bytes,
        own_requests: tier.own.requests,
        shed: tier.shed.to_vec(),
    }
}
