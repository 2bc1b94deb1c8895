//! A configured experiment as its assignment and analysis see it, and what of it is frozen when it begins.

use std::collections::BTreeMap;

use farthing_config::{Config, ExperimentConfig};
use farthing_experiment::{
    AllocationKind, Claim, Conservative, Contextual, Experiment, ExperimentSpec, Metric, Slot, UnitKind, compatible, unit,
};
use farthing_types::Money;

use crate::StartError;

/// Units followed at once in one experiment.
const MAX_UNITS: usize = 65_536;
/// Part of each window that is discarded, so that answers stored under the variant before do not count.
const BURN_IN: u32 = 6;

/// A configured experiment as its assignment and analysis see it.
pub fn experiment_spec(config: &ExperimentConfig) -> ExperimentSpec {
    let variants = config.variants.iter().map(|v| farthing_experiment::Variant {
        name: v.name.clone(),
        overrides: v.overrides.clone(),
        share: v.share,
    });
    let finest = || unit::finest(config.variants.iter().map(|v| &v.overrides));
    ExperimentSpec {
        name: config.name.clone(),
        variants: variants.collect(),
        unit: config.unit.and_then(UnitKind::parse).unwrap_or_else(finest),
        slot: config.layer.as_ref().map(|(layer, from, upto)| Slot { layer: layer.clone(), from: *from, upto: *upto }),
        window: config.window,
        burn_in: config.window / BURN_IN,
        slice: config.slice,
        ramp: config.ramp.clone(),
        ramp_hold: config.ramp_hold,
        conservative: config.may_cost.map(|(most, worst)| Conservative { most, worst }),
        allocation: allocation(config),
        leader: 0,
        metric: Metric::parse(config.metric).unwrap_or_default(),
        margin: config.margin,
        worthwhile: config.worthwhile,
        // Each stale answer brings the price of its own route.
        price_stale: Money::ZERO,
        cap: None,
        alpha: config.alpha,
        min_units: u32::try_from(config.min_units).unwrap_or(u32::MAX),
        max_units: MAX_UNITS,
    }
}

fn allocation(config: &ExperimentConfig) -> AllocationKind {
    match (config.contextual, config.thompson) {
        (Some(by), _) => AllocationKind::Contextual(Contextual { uniform: by.uniform, half_life: by.half_life, budget: by.budget }),
        (None, Some(floor)) => AllocationKind::Thompson { floor },
        (None, None) => AllocationKind::Fixed,
    }
}

/// How variants share the units, as it is frozen.
fn allocation_text(config: &ExperimentConfig) -> String {
    match allocation(config) {
        AllocationKind::Fixed => "fixed".to_owned(),
        AllocationKind::Thompson { floor } => format!("thompson from {floor}"),
        AllocationKind::Contextual(by) => {
            let half_life = by.half_life.map_or_else(|| "none".to_owned(), |half_life| format!("{half_life:?}"));
            let budget = by.budget.map_or_else(|| "none".to_owned(), |budget| budget.to_string());
            format!("contextual, uniform {}, half-life {half_life}, budget {budget}", by.uniform)
        }
    }
}

/// Whether the configured experiments are experiments, and can run beside each other.
///
/// # Errors
/// The first that is wrong, as at the start of the proxy.
pub fn check_experiments(config: &Config) -> Result<(), StartError> {
    let mut claims: Vec<Claim> = Vec::new();
    for experiment in &config.experiments {
        let spec = experiment_spec(experiment);
        Experiment::new(spec.clone())?;
        let claim = Claim::of(&spec, &experiment.routes);
        for other in &claims {
            beside(other, &claim)?;
        }
        claims.push(claim);
    }
    Ok(())
}

/// Whether an experiment can run beside one that runs: they bear on different things, and a request that both are about carries one draw.
///
/// # Errors
/// Names both.
pub fn beside(running: &Claim, mine: &Claim) -> Result<(), StartError> {
    compatible(running, mine)?;
    let shares_layer = mine.slot.as_ref().zip(running.slot.as_ref()).is_some_and(|(a, b)| a.layer == b.layer);
    if !mine.meets(running) || shares_layer {
        return Ok(());
    }
    let route = mine.routes.iter().chain(&running.routes).next().cloned().unwrap_or_else(|| "all".into());
    Err(StartError::Layer { experiment: mine.name.clone(), other: running.name.clone(), route })
}

/// What must not change under an experiment's name once it has begun, by key of the configuration: what it is to show, how that is judged,
/// and what the draws and the outcome depend on. The ramp may.
pub fn frozen(config: &ExperimentConfig) -> BTreeMap<String, String> {
    let variants = config.variants.iter().map(|v| (&v.name, v.share, serde_json::to_string(&v.overrides).unwrap_or_default()));
    let keys = [
        ("hypothesis", config.hypothesis.clone()),
        ("metric", config.metric.to_owned()),
        ("margin", config.margin.to_string()),
        ("worthwhile", config.worthwhile.to_string()),
        ("routes", config.routes.join(", ")),
        ("unit", experiment_spec(config).unit.as_str().to_owned()),
        ("layer", config.layer.as_ref().map_or_else(String::new, |(name, from, upto)| format!("{name} from {from} to {upto}"))),
        ("window", format!("{:?}", config.window)),
        ("slice", config.slice.to_string()),
        ("allocation", allocation_text(config)),
        ("latency", config.latency.map_or_else(String::new, |latency| format!("{latency:?}"))),
        ("min_units", config.min_units.to_string()),
        ("alpha", config.alpha.to_string()),
        ("variants", format!("{:?}", variants.collect::<Vec<_>>())),
    ];
    // Experiments that were begun before there was this key have none either.
    let may_cost = config.may_cost.map(|(most, worst)| ("may_cost", format!("{most}, worst {worst}")));
    keys.into_iter().chain(may_cost).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The keys in which a configuration is not what was frozen.
pub fn changed(frozen: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let gone = frozen.keys().filter(|key| !now.contains_key(*key));
    let other = now.iter().filter(|(key, value)| frozen.get(*key) != Some(*value)).map(|(key, _)| key);
    other.chain(gone).map(|key| format!("`{key}`")).collect()
}
