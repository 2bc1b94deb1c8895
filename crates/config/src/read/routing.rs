//! `[[routes.NAME.providers]]` and what goes with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_types::{RoutingWeights, WeightsByPriority};
use http::StatusCode;
use toml::de::DeValue;

use super::adapter;
use super::budgets::PRIORITIES;
use super::providers::ProviderDraft;
use super::registry;
use super::resolve;
use super::section::{Section, meant};
use super::values as v;
use crate::{CredentialMode, CredentialPlace, LegConfig, Prefetch, Provider, Route, RoutingConfig};

/// Most providers of a route: each is weighed for each call.
const MOST: usize = 16;

/// The first of several providers, which the route's defaults come from.
pub(crate) fn first(s: &Section<'_, '_>) -> Option<Arc<str>> {
    if s.has("providers") && s.has("provider") {
        s.wrong("provider", "given beside `providers`", "take it out: the first of `providers` stands for it");
    }
    let table = s.array("providers").into_iter().next()?;
    table.get("provider").and_then(|value| v::name(value.get_ref()).ok())
}

/// Reads `providers` and the keys that mean something beside it.
pub(crate) fn fill((s, path): (&Section<'_, '_>, &str), route: &mut Route, known: &BTreeMap<Arc<str>, ProviderDraft>) {
    let tables = s.array("providers");
    if tables.is_empty() {
        for key in ["weights", "quality_floor", "required", "complete"].into_iter().filter(|key| s.has(key)) {
            s.wrong(key, "means something for several providers alone", "take it out, or write tables [[routes.NAME.providers]]");
        }
        return;
    }
    let path_of = format!("{path}.providers");
    let legs: Vec<LegConfig> =
        tables.into_iter().filter_map(|table| leg(&Section::open(s.doc, table, &path_of, registry::LEG), &path_of, known)).collect();
    let mut routing = RoutingConfig { providers: legs, weights: weights(s, path), floor: 0.0, required: Vec::new(), complete: 1.0 };
    s.set("quality_floor", v::share(0.0..=1.0), &mut routing.floor);
    s.set("required", v::list(v::pointer), &mut routing.required);
    s.set("complete", v::share(0.0..=1.0), &mut routing.complete);
    check(s, route, &routing);
    route.routing = (!routing.providers.is_empty()).then_some(routing);
}

fn leg(s: &Section<'_, '_>, path: &str, known: &BTreeMap<Arc<str>, ProviderDraft>) -> Option<LegConfig> {
    let mut quality = 1.0;
    s.set("quality", v::share(0.0..=1.0), &mut quality);
    let adapter = s.table("adapter").map(|table| {
        let path = format!("{path}.adapter");
        adapter::read(&Section::open(s.doc, table, &path, registry::ADAPTER), &path)
    });
    let provider = s.need("provider", v::name, "write the name of a table [providers.NAME]")?;
    if !known.contains_key(&provider) {
        let remedy = meant(&provider, known.keys().map(|name| &**name), || format!("add a table [providers.{provider}]"));
        s.wrong("provider", format!("no provider is called \"{provider}\""), remedy);
        return None;
    }
    Some(LegConfig { provider, quality, adapter })
}

/// Reads `weights`.
pub(super) fn weights(s: &Section<'_, '_>, path: &str) -> WeightsByPriority {
    let mut all = WeightsByPriority::default();
    for (name, table) in s.tables("weights") {
        let Some((_, priority)) = PRIORITIES.iter().find(|(word, _)| *word == name) else {
            s.wrong("weights", format!("\"{name}\" is no priority"), "write \"high\", \"medium\" or \"low\"");
            continue;
        };
        let path = format!("{path}.weights.{name}");
        let one = Section::open(s.doc, table, &path, registry::WEIGHTS);
        let mut weights = RoutingWeights::default();
        for (key, into) in [
            ("cost", &mut weights.cost),
            ("latency", &mut weights.latency),
            ("quality", &mut weights.quality),
            ("reliability", &mut weights.reliability),
        ] {
            one.set(key, v::share(0.0..=1e6), into);
        }
        if weights == RoutingWeights::default() {
            one.wrong("cost", "nothing counts", "give one of cost, latency, quality and reliability a weight above 0");
        }
        *all.of_mut(*priority) = Some(weights);
    }
    all
}

/// What keys of a route with several providers say about each other.
fn check(s: &Section<'_, '_>, route: &Route, routing: &RoutingConfig) {
    let RoutingConfig { providers, .. } = routing;
    if providers.len() > MOST {
        s.wrong("providers", format!("{} providers", providers.len()), format!("name at most {MOST}"));
    }
    let twice = providers.iter().enumerate().find(|(place, leg)| providers.iter().take(*place).any(|other| other.provider == leg.provider));
    if let Some((_, leg)) = twice {
        s.wrong("providers", format!("\"{}\" twice", leg.provider), "name each provider once");
    }
    if providers.iter().all(|leg| leg.quality < routing.floor) {
        s.wrong("quality_floor", "above the quality of every provider", "lower it: nobody would ever meet it");
    }
    if route.batch.is_some() {
        s.wrong("batch", "on a route with `providers`", "take one of them out: a batch has the format of one provider");
    }
    if route.prices.is_some() {
        s.wrong("prices", "on a route with `providers`", "write prices at each provider, [providers.NAME.prices]: each has its own");
    }
}

/// Lets the terms, credential places and dialects of all providers of a route act on it; those of the first have already.
pub(crate) fn obey(top: &Section<'_, '_>, route: &mut Route, known: &BTreeMap<Arc<str>, ProviderDraft>) {
    let Some(routing) = route.routing.clone() else { return };
    let of = |leg: &LegConfig| known.get(&leg.provider).map(|draft| &draft.provider);
    let providers: Vec<&Provider> = routing.providers.iter().filter_map(of).collect();
    let key = |name: &str| format!("routes.{}.{name}", route.name);
    let needs = |provider: &&&Provider| provider.credential_place != CredentialPlace::None;
    if route.credential == CredentialMode::Pass
        && let Some(provider) = providers.iter().find(needs)
    {
        let found = format!(
            "\"pass\" on a route with `providers`, and \"{}\" wants a credential: a client's own is for one of them",
            provider.name
        );
        top.doc.problem(None, &key("credential"), found, "set it to \"swap\", and the credential of each provider");
    }
    if let Some(other) = providers.iter().find(|provider| Some(provider.dialect) != providers.first().map(|first| first.dialect)) {
        let found = format!("\"{}\" speaks another dialect than the first", other.name);
        top.doc.problem(None, &key("providers"), found, "name providers of one dialect: bodies of language models are not translated");
    }
    for provider in providers.iter().skip(1) {
        resolve::obey(top, route, provider);
    }
    if providers.iter().any(|provider| !provider.terms.prefetch) {
        route.prefetch = Prefetch::Off;
    }
    // Which fields may be kept is said of each provider's own shape.
    if providers.len() > 1 && providers.iter().any(|provider| !provider.terms.storable_fields.is_empty()) {
        route.cache = false;
    }
}

/// A status of an error.
pub(super) fn status(value: &DeValue<'_>) -> Result<StatusCode, super::section::Bad> {
    let number = v::count::<u64>(400..=599)(value)?;
    Ok(u16::try_from(number).ok().and_then(|number| StatusCode::from_u16(number).ok()).unwrap_or(StatusCode::BAD_GATEWAY))
}

#[cfg(test)]
#[path = "routing_tests.rs"]
mod tests;
