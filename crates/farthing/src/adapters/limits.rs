//! Limits: what they let through, who waits, and what is under way.

use farthing_admin::{LimitCounter, LimitRow, LimitsControl, LimitsInstance, LimitsShared, LimitsView, LoadRow, RefusedCount};
use farthing_ledger::limit::bucket::WHOLE;
use farthing_ledger::limit::fleet::MemberView;
use farthing_ledger::limit::{CounterView, LimitView};
use farthing_proxy::{LimitsFleet, TierLoad};
use farthing_types::{LimitWhy, RateSpec, Span};

use super::Running;

impl LimitsControl for Running {
    fn limits(&self) -> LimitsView {
        let report = self.proxy.limits().unwrap_or_default();
        let fleet = report.fleet.as_ref();
        LimitsView {
            limits: report.limits.iter().map(|view| row(view, fleet.is_some())).collect(),
            load: self.proxy.load().tiers.iter().map(load).collect(),
            fleet: fleet.map(shared),
        }
    }
}

/// Of 1.
fn part(part: i64) -> f64 {
    part as f64 / f64::from(WHOLE)
}

fn millis(span: Span) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn shared(fleet: &LimitsFleet) -> LimitsShared {
    let [borrowed, lent] = fleet.shares.moved.map(|count| count as u64);
    let instance = |view: &MemberView| LimitsInstance {
        name: view.known.id.to_string(),
        share: part(view.known.parts[0]),
        away: !view.live,
        kept_ms: u64::try_from(view.known.left).unwrap_or_default(),
    };
    LimitsShared {
        instance: fleet.id.to_string(),
        share: part(fleet.shares.standing.rate.into()),
        calls_share: part(fleet.shares.standing.slots.into()),
        holds_ms: millis(fleet.shares.left),
        borrowed,
        lent,
        instances: fleet.state.members.iter().map(instance).collect(),
        missing: fleet.missing().map(ToString::to_string).collect(),
        away_ms: fleet.away.map(millis),
        problem: fleet.problem(),
    }
}

fn row(view: &LimitView, is_shared: bool) -> LimitRow {
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
        busiest: view.busiest.iter().map(|view| counter(view, is_shared)).collect(),
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

fn counter(view: &CounterView, is_shared: bool) -> LimitCounter {
    LimitCounter {
        unit: view.unit.to_string(),
        requests_left: view.requests.map(|(left, _)| left),
        tokens_left: view.tokens.map(|(left, _)| left),
        running: view.running,
        waiting: view.waiting as u64,
        held_ms: millis(view.held),
        share: is_shared.then(|| part(view.share.into())),
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
