//! A configuration file as the policy of a replay, compiled as the proxy compiles it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use farthing_config::{Config, ConfigError, Flags, Route, StrategyBy, System};
use farthing_experiment::{AllocationKind, Experiment, Holdout, Metric, UnitKind};
use farthing_models::{Alias, Kind, Store};
use farthing_policy::{Champion, RouteFacts, plan};
use farthing_replay::path::{Acting, Policy, RoutePolicy, Running};
use farthing_types::{Draw, Overrides, PlanField};

/// Reads a configuration.
///
/// # Errors
/// Everything that is wrong in it.
pub fn read(path: &Path) -> Result<Config, ConfigError> {
    Config::build(Some(path), &Flags::default(), &System)
}

/// Compiles `config` for the routes of a log. Routes that it does not have are named in the second value: what they were asked is left
/// out of the replay.
///
/// # Errors
/// An experiment or a model version that the proxy would refuse, too.
pub fn compile(config: &Config, names: &[Arc<str>], store: &Store) -> anyhow::Result<(Policy, Vec<Arc<str>>)> {
    let mut absent = Vec::new();
    let mut routes = Vec::new();
    for name in names {
        match config.route(name) {
            Some(route) => routes.push(Some(one(config, route, store).with_context(|| format!("route `{name}`"))?)),
            None => {
                absent.push(name.clone());
                routes.push(None);
            }
        }
    }
    let policy = Policy {
        routes,
        draw: Draw::new(config.seed),
        holdout: Holdout::new(config.holdout.share, config.holdout.window),
        hit_for_miss: farthing_cache::CacheConfig::HIT_FOR_MISS,
        max_followers: config.cache.max_followers,
    };
    Ok((policy, absent))
}

fn one(config: &Config, route: &Arc<Route>, store: &Store) -> anyhow::Result<RoutePolicy> {
    let provider = config.provider(&route.provider).with_context(|| format!("there is no provider `{}`", route.provider))?;
    let facts = farthing_proxy::route_facts(route, provider);
    let acting = |overrides: &Overrides| acting(&facts, overrides, (store, route.stale_budget));
    let mut experiment = None;
    if let Some(configured) = config.experiments.iter().find(|e| e.is_on(&route.name)) {
        let spec = farthing_proxy::experiment_spec(configured);
        // The log has what keys were asked for, not who asked nor what was published when.
        let shares = spec.allocation == AllocationKind::Fixed && spec.conservative.is_none();
        let told = spec.unit == UnitKind::Key && spec.slot.is_none() && shares;
        let refreshes = spec.variants.iter().flat_map(|v| v.overrides.fields()).any(|field| field == PlanField::RefreshAhead);
        anyhow::ensure!(
            spec.metric != Metric::WithWaiting && !refreshes,
            "experiment {}: how long clients wait is not replayed: no metric `with-waiting`, and no `refresh_ahead` of a variant",
            spec.name
        );
        anyhow::ensure!(told, "experiment {}: only experiments on keys, with fixed shares and without a layer, can be replayed", spec.name);
        let snapshot = Experiment::new(spec)?;
        let variants = snapshot.variants().iter().map(|v| acting(&v.overrides)).collect::<anyhow::Result<_>>()?;
        experiment = Some(Running { experiment: Arc::new(snapshot), variants });
    }
    Ok(RoutePolicy {
        name: route.name.clone(),
        rules: farthing_proxy::route_rules(route),
        idempotent: route.idempotent && route.key_body,
        refresh_ahead: route.refresh_ahead,
        chosen: matches!(route.strategy, StrategyBy::Auto | StrategyBy::Model),
        economics: farthing_proxy::route_economics(route),
        main: acting(&Overrides::default())?,
        experiment,
    })
}

fn acting(facts: &RouteFacts, overrides: &Overrides, (store, stale_budget): (&Store, f64)) -> anyhow::Result<Acting> {
    let plan = plan::compile(facts, overrides)?;
    let champion = store.current(Kind::Ttl, Alias::Champion);
    let generation = match plan.model_version {
        Some(version) if champion.as_ref().is_none_or(|c| c.version() != version) => Some(store.load(Kind::Ttl, version)?),
        _ => champion,
    };
    let champion: Champion = farthing_proxy::champion(generation.as_ref(), stale_budget);
    Ok(Acting { plan, champion })
}

#[cfg(test)]
mod tests {
    use farthing_models::StoreOptions;
    use farthing_types::Span;

    use super::*;

    const EXPERIMENT: &str = r#"
        [providers.geo]
        base_url = "https://geo.test"
        [routes.geo]
        provider = "geo"
        [experiments.e]
        hypothesis = "later is cheaper"
        ramp = [1.0]
        [[experiments.e.variants]]
        name = "as-it-is"
        [[experiments.e.variants]]
        name = "later"
        base_ttl = "90s"
    "#;

    fn compiled(text: &str) -> anyhow::Result<Policy> {
        let config = Config::parse(text, "farthing.toml", &Flags::default(), &System)?;
        let store = Store::open("none", StoreOptions::default());
        Ok(compile(&config, &["geo".into()], &store)?.0)
    }

    #[test]
    fn values_of_variants_are_replayed_or_refused() {
        let policy = compiled(EXPERIMENT).unwrap();
        let running = policy.routes[0].as_ref().unwrap().experiment.as_ref().unwrap();
        assert_eq!([0, 1].map(|of: usize| running.variants[of].plan.ttl.base), [60, 90].map(Span::from_secs));
        for (from, to) in [("base_ttl = \"90s\"", "refresh_ahead = \"2s\""), ("ramp =", "metric = \"with-waiting\"\nramp =")] {
            let refused = format!("{:#}", compiled(&EXPERIMENT.replace(from, to)).err().unwrap());
            assert!(refused.contains("how long clients wait"), "{refused}");
        }
        let batches = EXPERIMENT.replace("base_ttl = \"90s\"", "batch_window = \"20ms\"");
        let batches = batches.replace("[experiments.e]", "[routes.geo.batch]\nformat = \"rest\"\n[experiments.e]");
        let refused = format!("{:#}", compiled(&batches).err().unwrap());
        assert!(refused.contains("only experiments on keys"), "{refused}");
    }
}
