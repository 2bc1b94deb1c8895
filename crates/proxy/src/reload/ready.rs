//! What a configuration needs before it is in force, and what of the one before does not hold under it.

use std::sync::Arc;

use farthing_config::{Change, Mode, Provider, Route};
use farthing_policy::watch::Audit;
use farthing_types::RouteName;

use crate::audit;
use crate::compile::Compiled;
use crate::live::Live;
use crate::route::RouteState;
use crate::state::State;

/// What a running instance cannot take over, beyond what two configurations tell: tables for fetching ahead are made at the start, and an experiment compares
/// what it began to compare.
pub fn beyond_reach(before: &Live, compiled: &Compiled) -> Vec<Change> {
    let ahead = compiled.routes.iter().filter(|route| begins_ahead(before.named(&route.route.name), route));
    let ahead = ahead.map(|route| {
        let (key, what) = (format!("routes.{}.price_wait", route.route.name), "to fetch ahead, or by other terms");
        change(key, what, "tables for it are made at the start")
    });
    let moved = before.routes.iter().filter(|old| old.experiment.load().is_some()).filter(|old| {
        let new = compiled.routes.iter().find(|new| new.route.name == old.route.name);
        new.is_none_or(|new| new.facts != old.facts || new.provider.name != old.provider.name || new.route.routing != old.route.routing)
    });
    let moved = moved.map(|old| {
        let key = format!("routes.{}", old.route.name);
        change(
            key,
            "another route under an experiment",
            "an experiment compares what it began with; stop it first: farthing experiments stop NAME",
        )
    });
    ahead.chain(moved).collect()
}

fn change(key: String, to: &str, why: &'static str) -> Change {
    Change { key, from: "as it is".into(), to: to.into(), restart: Some(why) }
}

/// Whether a route would fetch ahead by terms that are not known yet.
fn begins_ahead(old: Option<&Arc<RouteState>>, new: &RouteState) -> bool {
    let terms = |route: &RouteState| {
        let Route { prefetch_confidence, prefetch_budget, prices, .. } = &*route.route;
        (route.ahead, *prefetch_confidence, *prefetch_budget, prices.clone(), route.provider.name.clone())
    };
    new.ahead.is_ok() && old.is_none_or(|old| terms(old) != terms(new))
}

/// Routes whose copies do not hold: they come from another place or account, were made into another shape, or what they hold would not be kept now.
pub fn stale_by_rules(before: &Live, next: &Live) -> Vec<RouteName> {
    let source = |live: &Live, route: &RouteState| {
        let of = |name: &Arc<str>| {
            let Provider { base_url, credential_place, credential, terms, .. } = Provider::clone(live.config.provider(name)?);
            Some((base_url, credential_place, credential, terms.storable_fields))
        };
        route.route.providers().map(of).collect::<Vec<_>>()
    };
    let rules = |route: &RouteState| {
        let Route { provider, routing, pii, cacheable_if, targeted, .. } = Route::clone(&route.route);
        (provider, routing, pii, cacheable_if, targeted)
    };
    let stale = |new: &&Arc<RouteState>| {
        before.named(&new.route.name).is_some_and(|old| {
            // What `override` has kept may be what its head forbids to keep, which a copy does not say.
            let unbound = old.route.mode == Mode::Override && new.route.mode != Mode::Override;
            unbound || rules(old) != rules(new) || source(before, old) != source(next, new)
        })
    };
    next.routes.iter().filter(stale).map(|route| route.route.name.clone()).collect()
}

/// Lets what lives on a route that goes on by other rules take them up.
pub fn begin_anew(before: &Live, next: &Live) {
    for new in &next.routes {
        let Some(old) = before.named(&new.route.name) else { continue };
        if old.route.stale_budget != new.route.stale_budget {
            new.stats.lock().stats.set_stale_budget(new.route.stale_budget);
        }
        if !Arc::ptr_eq(&old.planning, &new.planning) {
            // What was decided could not be decided now: everything that the plan allows, until it is.
            new.switches.choose(true, true);
        }
    }
}

impl State {
    /// Puts on routes what holds on all of them: orders, candidates, audits.
    pub(crate) fn make_ready(&self, next: &Live) {
        for route in &next.routes {
            route.switches.judge(route.batching.is_some(), route.prompts.is_some());
            let share = audit::share(&next.config, route);
            route.switches.put_audit_share(share);
            if share <= 0.0 && route.switches.scale().is_some() {
                // Only audits give cut TTLs back: where there are none any more, nothing is cut.
                let total = self.lifecycle.audit(route).total;
                self.lifecycle.recall_audit(route, Audit { total, ..Audit::default() });
                route.switches.put_scale(1.0);
            }
        }
        self.ready_candidates(&next.routes);
        self.bypass_routes(&next.routes);
    }
}
