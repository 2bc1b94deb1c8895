//! Status, readiness, routes, costs.

use std::cmp::Reverse;

use farthing_admin::{
    AheadInfo, AuditInfo, Costs, FleetInfo, NotSaved, Part, Phase, ProviderInfo, Readiness, RouteInfo, RoutesView, Status, StatusView,
    VolatileField, VolatileReport,
};
use farthing_config::{Mode, Route, remedy};
use farthing_ledger::AggregatesSnapshot;
use farthing_ledger::aggregate::Tallies;
use farthing_models::{Alias, Kind};
use farthing_policy::prefetch::PermitState;
use farthing_proxy::{FleetStats, LegReport, PrefetchBooks, RouteAudit, RoutingReport};
use farthing_types::{Clock, UncachedReason};

use super::totals::{costs, tally_of, totals};
use super::{Running, bypass};

impl StatusView for Running {
    fn readiness(&self) -> Readiness {
        let parts: Vec<Part> = self.proxy.parts().into_iter().map(part).collect();
        let status = match parts.iter().all(|part| part.ok) {
            _ if self.proxy.is_draining() => Phase::Draining,
            true => Phase::Ok,
            false => Phase::Degraded,
        };
        Readiness { status, parts }
    }

    fn status(&self) -> Status {
        let aliases = self.proxy.models().status().aliases;
        let champion = aliases.into_iter().find(|info| (info.kind, info.alias) == (Kind::Ttl, Alias::Champion));
        let predictor = champion.and_then(|info| Some(format!("ttl {} ({})", info.live?, info.engine.unwrap_or("nothing"))));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            readiness: self.readiness(),
            data_addr: self.proxy.data_addr().to_string(),
            started_ns: self.started.nanos(),
            uptime_s: self.real.now().since(self.real_start).as_secs_f64(),
            total: totals(&self.proxy.totals().total),
            predictor,
            saving: serde_json::to_value(self.proxy.savings()).ok(),
            fleet: self.proxy.fleet_stats().map(|stats| self.fleet(stats)),
        }
    }

    fn costs(&self) -> Costs {
        costs(&self.proxy.totals(), serde_json::to_value(self.proxy.savings()).ok())
    }
}

fn part(part: farthing_proxy::assembly::Part) -> Part {
    Part { ok: part.problem.is_none(), name: part.name, detail: part.problem.unwrap_or_else(|| "ok".to_owned()) }
}

impl RoutesView for Running {
    fn routes(&self) -> Vec<RouteInfo> {
        let snapshot = self.proxy.totals();
        let experiments = self.proxy.experiments();
        let experiment = |route: &Route| {
            experiments
                .iter()
                .find(|view| view.life.stage == farthing_experiment::Stage::Running && view.config.is_on(&route.name))
                .map(|view| view.config.name.to_string())
        };
        let (ahead, routings, switches) = (self.proxy.prefetch(), self.proxy.routings(), self.proxy.switches());
        let plans = self.proxy.plans();
        let audits = self.proxy.audits();
        let route = |route: &std::sync::Arc<Route>| {
            let prefetch = ahead.iter().find(|books| books.route == route.name).map(ahead_info).unwrap_or_default();
            let providers = routings.iter().find(|report| report.route == route.name).map(providers).unwrap_or_default();
            let found = switches.iter().find(|of| of.route == route.name);
            let heat = plans.iter().find(|report| report.route == route.name).and_then(|report| report.heat);
            RouteInfo {
                heat: heat.map(|(heat, _)| heat.as_str().to_owned()),
                requests_per_second: heat.map(|(_, rate)| rate),
                prefetch,
                providers,
                audit: audits.iter().find(|of| of.route == route.name).map(audit),
                bypass: found.and_then(|of| of.bypass.as_deref()).map(bypass::info),
                plan: plans.iter().find(|report| report.route == route.name).and_then(super::plans::info),
                switches: found.map(|of| of.strategies.iter().map(bypass::switch).collect()).unwrap_or_default(),
                own_time: found.map(|of| bypass::own_time(&of.own)).unwrap_or_default(),
                ..self.route(route, experiment(route), &snapshot)
            }
        };
        self.proxy.config().routes.iter().map(route).collect()
    }

    fn volatile(&self, route: &str) -> Option<VolatileReport> {
        let report = self.proxy.volatile(route)?;
        let field = |p: farthing_proxy::volatile::Proposal| VolatileField {
            pointer: p.pointer,
            differed: p.differed,
            looks: p.looks.as_str().to_owned(),
            examples: p.examples.into(),
        };
        Some(VolatileReport {
            route: route.to_owned(),
            pairs: report.pairs,
            differing: report.differing,
            apart: report.apart,
            explained: report.explained,
            confirmed: report.confirmed,
            proposed: report.proposed.into_iter().map(field).collect(),
        })
    }
}

impl Running {
    fn fleet(&self, stats: FleetStats) -> FleetInfo {
        let configs = self.proxy.shared_config().map(|shared| shared.standing().members).unwrap_or_default();
        FleetInfo {
            name: stats.name.to_string(),
            instance: stats.identity.name.to_string(),
            connected: stats.connected,
            silent: stats.silent,
            members: stats.members,
            configs: configs.into_iter().map(super::fleet_config::instance).collect(),
        }
    }

    fn route(&self, route: &Route, experiment: Option<String>, snapshot: &AggregatesSnapshot) -> RouteInfo {
        let config = self.proxy.config();
        let provider = config.provider(&route.provider);
        let counted = snapshot.routes.get(&route.name);
        RouteInfo {
            name: route.name.to_string(),
            provider: route.provider.to_string(),
            providers: Vec::new(),
            base_url: provider.map_or_else(String::new, |provider| provider.base_url.to_string()),
            hosts: route.matcher.hosts.iter().map(ToString::to_string).collect(),
            path_prefix: route.matcher.to_string(),
            methods: route.matcher.methods.iter().map(ToString::to_string).collect(),
            mode: mode(route.mode).to_owned(),
            shared: route.shared,
            cache: route.cache,
            dedupe: route.dedupe,
            ttl: route.ttl.to_string(),
            stale_budget: route.stale_budget,
            experiment,
            not_saved: counted.map(|found| not_saved(route, &found.uncached)).unwrap_or_default(),
            not_kept: counted.map(|found| not_saved(route, &found.unkept)).unwrap_or_default(),
            totals: counted.map(totals).unwrap_or_default(),
            prefetch: AheadInfo::default(),
            bypass: None,
            heat: None,
            requests_per_second: None,
            plan: None,
            audit: None,
            switches: Vec::new(),
            own_time: Vec::new(),
        }
    }
}

fn audit(of: &RouteAudit) -> AuditInfo {
    let (checked, stale) = of.audit.total;
    let share = of.audit.share();
    AuditInfo {
        checked,
        stale,
        share: share.map(|(point, _)| point),
        low: share.map(|(_, (low, _))| low),
        high: share.map(|(_, (_, high))| high),
        ttl_scale: of.audit.scale,
    }
}

fn providers(report: &RoutingReport) -> Vec<ProviderInfo> {
    let scores = |place: usize| report.router.scores.iter().filter_map(|(_, scores)| scores.get(place).copied()).collect();
    let one = |(place, leg): (usize, &LegReport)| ProviderInfo {
        provider: leg.provider.to_string(),
        scores: scores(place),
        price_usd: leg.price,
        latency_ms: leg.measured.latency.map(|span| span.as_secs_f64() * 1e3),
        errors: leg.measured.errors,
        quality: leg.quality,
        meets_floor: leg.quality >= report.floor,
        breaker: leg.breaker.as_str().to_owned(),
        chosen: leg.chosen.iter().filter(|(_, count)| *count > 0).map(|(by, count)| (by.to_string(), *count)).collect(),
        failed: leg.failed,
        unmapped: leg.unmapped,
        unfit: leg.unfit,
    };
    report.router.legs.iter().enumerate().map(one).collect()
}

fn ahead_info(books: &PrefetchBooks) -> AheadInfo {
    AheadInfo {
        state: match books.permit {
            Err(_) => "off",
            Ok(PermitState::Shadow) => "shadow",
            Ok(PermitState::Live) => "live",
            Ok(PermitState::Off) => "lost",
        }
        .to_owned(),
        reason: books.permit.err().map(|off| off.as_str().to_owned()),
        started: books.started,
        used: books.used,
        wasted: books.wasted,
        failed: books.failed,
        spent_usd: books.spent,
        saved_usd: books.saved,
        refused: books.refused.iter().map(|(why, count)| (why.as_str().to_owned(), *count)).collect(),
    }
}

/// Reasons with their remedies; dearest first, then most frequent.
fn not_saved(route: &Route, tallies: &Tallies) -> Vec<NotSaved> {
    let told = |(name, tally): (&&'static str, &farthing_ledger::aggregate::Tally)| {
        let remedy = UncachedReason::parse(name).map(|reason| remedy(reason, route))?;
        Some(NotSaved {
            reason: (*name).to_owned(),
            tally: tally_of(tally),
            key: remedy.key.map(str::to_owned),
            advice: remedy.advice.to_owned(),
        })
    };
    let mut reasons: Vec<NotSaved> = tallies.iter().filter_map(told).collect();
    reasons.sort_by_key(|found| Reverse((found.tally.usd, found.tally.count)));
    reasons
}

/// The word of a mode in configuration and views.
pub fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Respect => "respect",
        Mode::Learned => "learned",
        Mode::Override => "override",
        Mode::Observe => "observe",
    }
}
