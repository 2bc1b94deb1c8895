//! Experiment tables.

use std::collections::BTreeSet;

use farthing_types::{Overrides, Span};

use super::registry;
use super::routes::ttl_by;
use super::section::Section;
use super::values as v;
use crate::{ExperimentConfig, VariantConfig};

/// Reads `[experiments.*]`. Whether its routes exist is checked when they are known.
pub(crate) fn read(top: &Section<'_, '_>) -> Vec<ExperimentConfig> {
    let mut experiments = Vec::new();
    for (name, table) in top.tables("experiments") {
        if !v::is_name(name) {
            top.wrong("experiments", format!("an experiment is called \"{name}\""), "use letters, digits, '-', '_' and '.'");
            continue;
        }
        let path = format!("experiments.{name}");
        let s = Section::open(top.doc, table, &path, registry::EXPERIMENT);
        let mut experiment = ExperimentConfig {
            name: name.into(),
            hypothesis: s.need("hypothesis", v::text, "say in a sentence what it is to show").unwrap_or_default(),
            routes: Vec::new(),
            variants: variants(&s, &path),
            window: Span::from_secs(3_600),
            slice: 1.0,
            min_units: 1_000,
            alpha: 0.05,
        };
        s.set("routes", v::list(v::name), &mut experiment.routes);
        s.set("window", v::positive_span, &mut experiment.window);
        s.set("slice", v::share(0.01..=1.0), &mut experiment.slice);
        s.set("min_units", v::count(1..=1_000_000_000), &mut experiment.min_units);
        s.set("alpha", v::share(0.000_001..=0.49), &mut experiment.alpha);
        experiments.push(experiment);
    }
    experiments
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
        let Some(variant) = variant(&v, equal) else { continue };
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

fn variant(s: &Section<'_, '_>, equal: f64) -> Option<VariantConfig> {
    let name = s.need("name", v::name, "name the variant");
    let overrides = Overrides {
        cache: s.opt("cache", v::flag),
        dedupe: s.opt("dedupe", v::flag),
        batch: s.opt("batch", v::flag),
        ttl: s.opt("ttl", ttl_by).map(|by| by.to_string()),
        model_version: s.opt("model_version", v::count(1..=u64::from(u32::MAX))),
    };
    // A share below one percent measures nothing and blows up the weights of the analysis.
    let share = s.opt("share", v::share(0.01..=0.99)).unwrap_or(equal);
    Some(VariantConfig { name: name?, share, overrides })
}
