//! The ledger's totals as the admin API shows them.

use std::collections::BTreeMap;

use farthing_admin::{Costs, Quantiles, RouteCosts, Tally, TenantCosts, Totals};
use farthing_ledger::aggregate::{AggregatesSnapshot, HistogramSnapshot, RouteSnapshot, Tallies};
use serde_json::Value;

/// Totals of one route, or of all.
pub fn totals(route: &RouteSnapshot) -> Totals {
    Totals {
        requests: route.requests,
        hit_ratio: route.hit_ratio(),
        outcomes: tallies(&route.outcomes),
        uncached: tallies(&route.uncached),
        base_usd: route.base_usd,
        bill_usd: route.bill_usd,
        saving_share: route.saving_share(),
        saved: tallies(&route.saved),
        calls: tallies(&route.calls),
        unpriced: route.unpriced,
        decisions: route.decisions.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
        by_model_share: route.by_model_share(),
        checked: route.checked,
        stale: route.stale,
        sla: route.sla.iter().map(|(outcome, count)| ((*outcome).to_owned(), *count)).collect(),
        sla_share: route.sla_share(),
        latency_ms: quantiles(&route.latency),
        overhead_ms: quantiles(&route.overhead),
    }
}

/// Money by route and tenant.
pub fn costs(snapshot: &AggregatesSnapshot, saving: Option<Value>) -> Costs {
    let tenants = snapshot.tenants.iter().map(|(tenant, totals)| TenantCosts {
        tenant: tenant.to_string(),
        requests: totals.base.count,
        base_usd: totals.base.usd,
        bill_usd: totals.bill.usd,
        unpriced: totals.base.unpriced + totals.bill.unpriced,
    });
    Costs {
        total: totals(&snapshot.total),
        routes: snapshot.routes.iter().map(|(route, snapshot)| RouteCosts { route: route.to_string(), totals: totals(snapshot) }).collect(),
        tenants: tenants.collect(),
        saving,
    }
}

fn tallies(from: &Tallies) -> BTreeMap<String, Tally> {
    from.iter().map(|(name, tally)| ((*name).to_owned(), tally_of(tally))).collect()
}

/// One count with its money.
pub fn tally_of(tally: &farthing_ledger::aggregate::Tally) -> Tally {
    Tally { count: tally.count, usd: tally.usd, unpriced: tally.unpriced }
}

fn quantiles(histogram: &HistogramSnapshot) -> Quantiles {
    let at = |q: f64| histogram.quantile(q).map(|span| span.as_secs_f64() * 1e3);
    Quantiles { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
}
