//! Experiment tables.

use std::collections::BTreeSet;
use std::sync::Arc;

use farthing_types::{Money, Overrides, Span, WeightsByPriority};
use toml::de::DeValue;

use super::registry;
use super::routes::ttl_by;
use super::routing;
use super::section::{Bad, Section, show};
use super::values as v;
use crate::{ContextualConfig, ExperimentConfig, Prefetch, Route, TtlBy, VariantConfig};

/// Reads `[experiments.*]`. Whether its routes exist is checked when they are known.
pub(crate) fn read(top: &Section<'_, '_>) -> Vec<ExperimentConfig> {
    let mut experiments = Vec::new();
    for (name, table) in top.tables("experiments") {
        if !v::is_name(name) {
            top.wrong("experiments", format!("an experiment is called \"{name}\""), "use letters, digits, '-', '_' and '.'");
            continue;
        }
        if name.starts_with(OWN) {
            top.wrong(
                "experiments",
                format!("an experiment is called \"{name}\""),
                "begin with something else: `tune.` is for those that the proxy begins by itself",
            );
            continue;
        }
        let path = format!("experiments.{name}");
        let s = Section::open(top.doc, table, &path, registry::EXPERIMENT);
        experiments.push(one(&s, name, &path));
    }
    experiments
}

/// What names of the proxy's own experiments begin with.
const OWN: &str = "tune.";

fn one(s: &Section<'_, '_>, name: &str, path: &str) -> ExperimentConfig {
    let mut experiment = ExperimentConfig {
        name: name.into(),
        hypothesis: s.need("hypothesis", v::text, "say in a sentence what it is to show").unwrap_or_default(),
        variants: variants(s, path),
        unit: s.opt("unit", v::word(UNITS)),
        latency: s.opt("latency", v::positive_span),
        ..ExperimentConfig::default()
    };
    s.set("metric", v::word(METRICS), &mut experiment.metric);
    s.set("start", v::word(STARTS), &mut experiment.start);
    s.set("margin", v::share(0.0..=0.49), &mut experiment.margin);
    s.set("worthwhile", v::share(0.0..=0.99), &mut experiment.worthwhile);
    s.set("routes", v::list(v::name), &mut experiment.routes);
    s.set("window", v::positive_span, &mut experiment.window);
    s.set("slice", v::share(0.01..=1.0), &mut experiment.slice);
    s.set("ramp", v::list(v::share(0.01..=1.0)), &mut experiment.ramp);
    s.set("ramp_hold", v::span, &mut experiment.ramp_hold);
    s.set("min_units", v::count(1..=1_000_000_000), &mut experiment.min_units);
    s.set("alpha", v::share(0.000_001..=0.49), &mut experiment.alpha);
    if experiment.ramp.is_empty() || experiment.ramp.len() > MOST_STEPS || !experiment.ramp.is_sorted() {
        s.wrong(
            "ramp",
            "steps that do not grow, or none, or too many",
            format!("write one to {MOST_STEPS} shares, such as [0.1, 0.5, 1.0]"),
        );
    }
    let mut allocation = Allocation::Fixed;
    s.set("allocation", v::word(ALLOCATIONS), &mut allocation);
    experiment.thompson = thompson(s, allocation, experiment.variants.len());
    experiment.contextual = contextual(s, allocation, experiment.window);
    if allocation == Allocation::Contextual && !s.has("slice") {
        // It is each unit's own best that is wanted: one that follows the leader gets no use of it.
        experiment.slice = 1.0;
    }
    experiment.may_cost = may_cost(s, allocation);
    if experiment.may_cost.is_some() && !s.has("ramp") {
        // The money says how fast it goes.
        experiment.ramp = vec![1.0];
    }
    experiment.layer = layer(s);
    experiment
}

/// Steps of a ramp at most.
const MOST_STEPS: usize = 8;
const UNITS: &[(&str, &str)] = &[("key", "key"), ("group", "group"), ("block", "block"), ("tenant", "tenant"), ("session", "session")];
const METRICS: &[(&str, &str)] = &[("money-cost", "money-cost"), ("bill", "bill"), ("with-waiting", "with-waiting")];
const STARTS: &[(&str, &str)] = &[("draft", "draft"), ("shadow", "shadow"), ("running", "running")];

/// The least probability of a variant when none is given.
const FLOOR: f64 = 0.2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Allocation {
    Fixed,
    Thompson,
    Contextual,
}

const ALLOCATIONS: &[(&str, Allocation)] =
    &[("fixed", Allocation::Fixed), ("thompson", Allocation::Thompson), ("contextual", Allocation::Contextual)];

fn thompson(s: &Section<'_, '_>, allocation: Allocation, variants: usize) -> Option<f64> {
    let most = 1.0 / variants.max(1) as f64;
    let given = s.opt("floor", v::share(0.01..=0.49));
    match given {
        Some(_) if allocation == Allocation::Fixed => {
            s.wrong("floor", "a floor, but the shares are fixed", "write allocation = \"thompson\", or leave it out")
        }
        Some(_) if allocation == Allocation::Contextual => {
            s.wrong("floor", "a floor, but allocation is contextual", "write `uniform` in its place: it is shared out among the variants")
        }
        Some(floor) if floor >= most => {
            s.wrong("floor", format!("{floor} for each of {variants} variants"), format!("write less than {most:.3}"))
        }
        _ => {}
    }
    (allocation == Allocation::Thompson).then(|| given.unwrap_or(FLOOR.min(most * 0.8)))
}

/// Share that is drawn evenly when none is given.
const UNIFORM: f64 = 0.04;
/// After this what was seen counts half when nothing else is said.
const HALF_LIFE: Span = Span::from_secs(7 * 86_400);

fn contextual(s: &Section<'_, '_>, allocation: Allocation, window: Span) -> Option<ContextualConfig> {
    let uniform = s.opt("uniform", v::share(0.02..=0.05));
    let half_life = s.opt("half_life", v::span);
    let budget = s.opt("explore_budget", v::money);
    if allocation != Allocation::Contextual {
        for key in ["uniform", "half_life", "explore_budget"].into_iter().filter(|key| s.has(key)) {
            s.wrong(key, "but allocation does not go by context", "write allocation = \"contextual\", or leave it out");
        }
        return None;
    }
    if half_life.is_some_and(|half_life| !half_life.is_zero() && half_life < window) {
        s.wrong("half_life", "shorter than a window", "write at least one `window`, or 0s to forget nothing");
    }
    // Nothing shorter than a window can be forgotten by half.
    let half_life = half_life.unwrap_or_else(|| HALF_LIFE.max(window));
    Some(ContextualConfig { uniform: uniform.unwrap_or(UNIFORM), half_life: (!half_life.is_zero()).then_some(half_life), budget })
}

/// How many times control's cost a challenger is taken to cost when nothing is said.
const WORST: f64 = 10.0;

fn may_cost(s: &Section<'_, '_>, allocation: Allocation) -> Option<(f64, f64)> {
    let most = s.opt("may_cost", v::share(0.001..=0.99));
    let worst = s.opt("assumed_worst", v::share(1.01..=1_000.0));
    if most.is_none() && worst.is_some() {
        s.wrong("assumed_worst", "but nothing says what it may cost", "write `may_cost`, or leave it out");
    }
    if most.is_some() && allocation == Allocation::Contextual {
        s.wrong("may_cost", "but allocation is contextual", "write `explore_budget` in its place");
        return None;
    }
    most.map(|most| (most, worst.unwrap_or(WORST)))
}

fn layer(s: &Section<'_, '_>) -> Option<(Arc<str>, f64, f64)> {
    let (mut from, mut upto) = (0.0, 1.0);
    s.set("layer_from", v::share(0.0..=1.0), &mut from);
    s.set("layer_upto", v::share(0.0..=1.0), &mut upto);
    let name = s.opt("layer", v::name);
    if name.is_none() && (s.has("layer_from") || s.has("layer_upto")) {
        s.wrong("layer", "a part of a layer without its name", "name the `layer`, or leave `layer_from` and `layer_upto` out");
    }
    if upto <= from {
        s.wrong("layer_upto", format!("a part from {from} to {upto}"), "let it end after `layer_from`");
    }
    name.map(|name| (name, from, upto))
}

/// An entry stores the TTL of each live variant; it has room for four.
const MOST_VARIANTS: usize = 4;

fn variants(s: &Section<'_, '_>, path: &str) -> Vec<VariantConfig> {
    let path = format!("{path}.variants");
    let tables = s.array("variants");
    if !(2..=MOST_VARIANTS).contains(&tables.len()) {
        s.wrong(
            "variants",
            format!("{} variants", tables.len()),
            format!("write two to {MOST_VARIANTS} tables [[{path}]]; the first is the control"),
        );
    }
    let mut names = BTreeSet::new();
    let mut variants = Vec::new();
    let given = tables.iter().filter(|table| table.get("share").is_some()).count();
    let equal = 1.0 / tables.len().max(1) as f64;
    for table in &tables {
        let v = Section::open(s.doc, table, &path, registry::VARIANT);
        let Some(variant) = variant((&v, &path), equal) else { continue };
        if !names.insert(variant.name.clone()) {
            v.wrong("name", format!("a second variant is called \"{}\"", variant.name), "give each its own name");
        }
        variants.push(variant);
    }
    let sum: f64 = variants.iter().map(|variant| variant.share).sum();
    if given != 0 && given != tables.len() {
        s.wrong("variants", "some have a share and some have none", "give all of them a share, or none");
    } else if variants.len() == tables.len() && !variants.is_empty() && (sum - 1.0).abs() > 1e-6 {
        s.wrong("variants", format!("the shares sum to {sum}"), "make them sum to 1");
    }
    variants
}

fn variant((s, path): (&Section<'_, '_>, &str), equal: f64) -> Option<VariantConfig> {
    let name = s.need("name", v::name, "name the variant");
    let overrides = Overrides {
        cache: s.opt("cache", v::flag),
        dedupe: s.opt("dedupe", v::flag),
        batch: s.opt("batch", v::flag),
        batch_window_ms: s.opt("batch_window", batch_window),
        prefetch: s.opt("prefetch", v::flag),
        refresh_ahead_ms: s.opt("refresh_ahead", v::span).map(whole_millis),
        prefetch_confidence: s.opt("prefetch_confidence", v::share(0.0..=1.0)),
        routing: s.opt("routing", v::flag),
        weights: Some(routing::weights(s, path)).filter(|given| *given != WeightsByPriority::default()),
        ttl: s.opt("ttl", ttl_by).map(|by| by.to_string()),
        base_ttl_ms: s.opt("base_ttl", v::positive_span).map(millis),
        model_version: s.opt("model_version", v::count(1..=u64::from(u32::MAX))),
    };
    for (key, given, switch, off) in [
        ("batch_window", overrides.batch_window_ms.is_some(), "batch", overrides.batch == Some(false)),
        ("weights", overrides.weights.is_some(), "routing", overrides.routing == Some(false)),
        ("base_ttl", overrides.base_ttl_ms.is_some(), "ttl", overrides.ttl.as_ref().is_some_and(|by| by.starts_with("fixed:"))),
        ("base_ttl", overrides.base_ttl_ms.is_some(), "cache", overrides.cache == Some(false)),
        ("refresh_ahead", overrides.refresh_ahead_ms.is_some(), "cache", overrides.cache == Some(false)),
        ("prefetch_confidence", overrides.prefetch_confidence.is_some(), "prefetch", overrides.prefetch == Some(false)),
    ] {
        if given && off {
            s.wrong(key, format!("means nothing beside the `{switch}` of this variant"), "take one of the two out");
        }
    }
    // A share below one percent measures nothing and blows up the weights of the analysis.
    let share = s.opt("share", v::share(0.01..=0.99)).unwrap_or(equal);
    Some(VariantConfig { name: name?, share, overrides })
}

fn millis(span: Span) -> u64 {
    whole_millis(span).max(1)
}

fn whole_millis(span: Span) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn batch_window(value: &DeValue<'_>) -> Result<u64, Bad> {
    let given = value.as_str().and_then(v::parse_span).map(millis).filter(|millis| (1..=10_000).contains(millis));
    given.ok_or_else(|| Bad { found: show(value), remedy: "write a time from 1ms to 10s such as \"50ms\"".to_owned() })
}

/// Whether a route can do what a variant asks of it: what is wrong, by key, and the remedy.
pub(crate) fn unfit(variant: &VariantConfig, route: &Route) -> Vec<(&'static str, String, String)> {
    let Overrides { batch_window_ms, prefetch_confidence, weights, base_ttl_ms, ttl, model_version, refresh_ahead_ms, .. } =
        &variant.overrides;
    let (name, mut wrong) = (&route.name, Vec::new());
    // What is never kept has no TTL, and is not renewed; a variant cannot lift that.
    let of_copies =
        [("base_ttl", base_ttl_ms.is_some()), ("model_version", model_version.is_some()), ("refresh_ahead", refresh_ahead_ms.is_some())];
    for (key, _) in of_copies.into_iter().filter(|(_, given)| *given && !route.cache) {
        let remedy = "take `cache = false` out of the route, or name other `routes`".to_owned();
        wrong.push((key, format!("route \"{name}\" caches nothing"), remedy));
    }
    let asks_no_model =
        ttl.as_ref().map_or(matches!(route.ttl, TtlBy::Rule | TtlBy::Fixed(_)), |by| by == "rule" || by.starts_with("fixed:"));
    if model_version.is_some() && asks_no_model {
        let remedy = "give the variant ttl = \"model\" or \"table\", too, or take it out".to_owned();
        wrong.push(("model_version", format!("no predictor chooses the TTL on route \"{name}\""), remedy));
    }
    if let Some(window) = batch_window_ms {
        // Nobody waits longer than half of the time there is, so what is more would measure nothing.
        let most = millis(route.deadline / 2);
        if route.batch.is_none() {
            let remedy = format!("add a table [routes.{name}.batch], or name other `routes`");
            wrong.push(("batch_window", format!("route \"{name}\" makes no batches"), remedy));
        } else if *window > most {
            let remedy = format!("write at most {most}ms, or a longer `deadline` of the route");
            wrong.push(("batch_window", format!("{window}ms on route \"{name}\", where nobody waits longer than {most}ms"), remedy));
        }
    }
    if prefetch_confidence.is_some() && (route.prefetch == Prefetch::Off || route.price_wait <= Money::ZERO) {
        let remedy = "say what a wait is worth (`price_wait`) and leave `prefetch` on \"auto\", or name other `routes`".to_owned();
        wrong.push(("prefetch_confidence", format!("route \"{name}\" fetches nothing ahead"), remedy));
    }
    if weights.is_some() && route.routing.is_none() {
        let remedy = format!("add tables [[routes.{name}.providers]], or name other `routes`");
        wrong.push(("weights", format!("route \"{name}\" has one provider"), remedy));
    }
    if let Some(base) = base_ttl_ms {
        let (least, most) = (millis(route.min_ttl), millis(route.max_ttl));
        if ttl.is_none() && matches!(route.ttl, TtlBy::Fixed(_)) {
            let remedy = "give the variant a `ttl` that is not fixed, too, or take it out".to_owned();
            wrong.push(("base_ttl", format!("the TTL of route \"{name}\" is fixed"), remedy));
        } else if !(least..=most).contains(base) {
            let remedy = format!("write {least}ms to {most}ms (`min_ttl` and `max_ttl` of the route)");
            wrong.push(("base_ttl", format!("{base}ms is outside what route \"{name}\" allows"), remedy));
        }
    }
    wrong
}

#[cfg(test)]
#[path = "experiments_tests.rs"]
mod tests;
