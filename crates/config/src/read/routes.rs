//! Route tables, and the defaults for routes in presets.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::DeValue;

use super::budgets::PRIORITIES;
use super::prices::{price, prices};
use super::providers::ProviderDraft;
use super::registry;
use super::resolve::RouteDraft;
use super::section::{Bad, Section, meant, show};
use super::values as v;
use crate::{CredentialMode, Mode, OnDisconnect, Prefetch, Profile, PurgeBy, StrategyBy, TargetedField, TtlBy, is_reserved_tenant};

const GB: u64 = 1_000_000_000;

/// Reads `[routes.*]`, each from the defaults of its provider's preset.
pub(crate) fn read(top: &Section<'_, '_>, providers: &BTreeMap<Arc<str>, ProviderDraft>) -> Vec<RouteDraft> {
    let mut routes = Vec::new();
    for (name, table) in top.tables("routes") {
        if !v::is_name(name) {
            top.wrong("routes", format!("a route is called \"{name}\""), "use letters, digits, '-', '_' and '.'");
            continue;
        }
        let path = format!("routes.{name}");
        let s = Section::open(top.doc, table, &path, registry::ROUTE);
        let provider = super::routing::first(&s).or_else(|| s.opt("provider", v::name)).unwrap_or_else(|| name.into());
        let Some(known) = providers.get(&provider) else {
            let remedy = meant(&provider, providers.keys().map(|name| &**name), || format!("add a table [providers.{provider}]"));
            s.wrong("provider", format!("no provider is called \"{provider}\""), remedy);
            continue;
        };
        let mut draft = RouteDraft { preset_prefix: known.route.path_prefix.clone(), path_prefix: None, ..known.route.clone() };
        draft.preset_strip = draft.strip_prefix.take();
        draft.route.name = name.into();
        draft.route.provider = provider;
        fill(&s, &path, &mut draft);
        one_path(&s, &mut draft);
        price(&s, &mut draft.route.prices);
        super::routing::fill((&s, &path), &mut draft.route, providers);
        check(&s, &mut draft);
        routes.push(draft);
    }
    routes
}

/// A path or the start of one; what the route says itself goes before what its provider says.
fn one_path(s: &Section<'_, '_>, draft: &mut RouteDraft) {
    match (s.has("path"), s.has("path_prefix")) {
        (true, true) => s.wrong("path", "the route has a path_prefix, too", "leave one of them out: path is whole, path_prefix a start"),
        (false, true) => draft.path = None,
        _ => {}
    }
}

pub(crate) const MODES: &[(&str, Mode)] =
    &[("respect", Mode::Respect), ("learned", Mode::Learned), ("override", Mode::Override), ("observe", Mode::Observe)];
const PROFILES: &[(&str, Profile)] = &[("http", Profile::Http), ("api", Profile::Api)];
const CREDENTIALS: &[(&str, CredentialMode)] = &[("pass", CredentialMode::Pass), ("swap", CredentialMode::Swap)];
const TARGETED: &[(&str, TargetedField)] =
    &[("farthing-cache-control", TargetedField::Farthing), ("cdn-cache-control", TargetedField::Cdn)];
const PURGERS: &[(&str, PurgeBy)] = &[("nobody", PurgeBy::Nobody), ("own", PurgeBy::Own), ("key", PurgeBy::Key)];

const PREFETCH: &[(&str, Prefetch)] = &[("auto", Prefetch::Auto), ("off", Prefetch::Off)];
const DECIDERS: &[(&str, StrategyBy)] =
    &[("rule", StrategyBy::Rule), ("shadow", StrategyBy::Shadow), ("auto", StrategyBy::Auto), ("model", StrategyBy::Model)];
const LEAVING: &[(&str, OnDisconnect)] = &[("finish", OnDisconnect::Finish), ("cancel", OnDisconnect::Cancel)];

/// Reads the keys that route tables and presets share, over what `draft` holds.
pub(crate) fn fill(s: &Section<'_, '_>, path: &str, draft: &mut RouteDraft) {
    s.set_opt("path_prefix", v::path_prefix, &mut draft.path_prefix);
    s.set_opt("path", v::path_template, &mut draft.path);
    s.set_opt("strip_prefix", v::path_prefix, &mut draft.strip_prefix);
    s.set_opt("profile", v::word(PROFILES), &mut draft.profile);
    let route = &mut draft.route;
    s.set("hosts", v::list(v::host), &mut route.matcher.hosts);
    s.set("methods", v::list(v::method), &mut route.matcher.methods);
    s.set("mode", v::word(MODES), &mut route.mode);
    s.set("shared", v::flag, &mut route.shared);
    s.set_opt("targeted", v::list(v::word(TARGETED)), &mut route.targeted);
    s.set("credential", v::word(CREDENTIALS), &mut route.credential);
    s.set("purge_by", v::word(PURGERS), &mut route.purge_by);
    s.set("cache", v::flag, &mut route.cache);
    s.set("dedupe", v::flag, &mut route.dedupe);
    s.set("fill_lease", v::flag, &mut route.fill_lease);
    s.set("strategy", v::word(DECIDERS), &mut route.strategy);
    s.set("realtime", v::flag, &mut route.realtime);
    s.set("personalised", v::flag, &mut route.personalised);
    s.set("sensitive", v::flag, &mut route.sensitive);
    s.set("idempotent", v::flag, &mut route.idempotent);
    s.set("key_body", v::flag, &mut route.key_body);
    s.set("compress", v::flag, &mut route.compress);
    s.set("strip_query", v::list(v::arc_text), &mut route.strip_query);
    s.set("volatile", v::list(v::pointer), &mut route.volatile);
    s.set_opt("events", v::name, &mut route.events);
    s.set("ttl", ttl_by, &mut route.ttl);
    s.set("trust_shipped", v::flag, &mut route.trust_shipped);
    times(s, draft);
    let route = &mut draft.route;
    s.set("stale_budget", v::share(0.0..=1.0), &mut route.stale_budget);
    s.set("max_body", v::size(0..=1_000 * GB), &mut route.max_body);
    s.set("buffer_limit", v::size(0..=10 * GB), &mut route.buffer_limit);
    s.set_opt("price_stale", v::money, &mut route.price_stale);
    s.set("prefetch", v::word(PREFETCH), &mut route.prefetch);
    s.set("audit", v::flag, &mut route.audit);
    s.set("price_wait", v::money, &mut route.price_wait);
    s.set("prefetch_confidence", v::share(0.0..=1.0), &mut route.prefetch_confidence);
    s.set("prefetch_budget", v::share(0.0..=10.0), &mut route.prefetch_budget);
    s.set("priority", v::word(PRIORITIES), &mut route.priority);
    s.set("max_priority", v::word(PRIORITIES), &mut route.max_priority);
    s.set_opt("sla", v::positive_span, &mut route.sla);
    s.set("tenants", v::list(caller), &mut route.tenants);
    s.set("teams", v::list(v::arc_text), &mut route.teams);
    s.set("trace_context", v::flag, &mut route.trace_context);
    s.set_opt("max_call_cost", v::money, &mut route.max_call_cost);
    s.set_opt("on_disconnect", v::word(LEAVING), &mut route.on_disconnect);
    s.set_opt("include_usage", v::flag, &mut route.include_usage);
    super::content::fill(s, path, route);
    super::purges::fill(s, path, route);
    super::batch::fill(s, path, route);
    super::prompt_cache::fill(s, path, route);
    super::defer::fill(s, path, route);
    super::upgrade::fill(s, path, route);
    super::warm::fill(s, path, route);
    super::tune::fill(s, path, route);
    prices(s, path, &mut route.prices);
}

fn times(s: &Section<'_, '_>, draft: &mut RouteDraft) {
    let route = &mut draft.route;
    s.set("base_ttl", v::positive_span, &mut route.base_ttl);
    s.set("min_ttl", v::span, &mut route.min_ttl);
    s.set("max_ttl", v::positive_span, &mut route.max_ttl);
    s.set("stale_while_revalidate", v::span, &mut route.stale_while_revalidate);
    s.set("refresh_ahead", v::span, &mut route.refresh_ahead);
    s.set("stale_if_error", v::span, &mut route.stale_if_error);
    s.set("ttl_when_down", v::span, &mut route.ttl_when_down);
    s.set("deadline", v::positive_span, &mut route.deadline);
}

/// A tenant that may call a route: one that a key or token names, or the digest of a credential that passes through.
fn caller(value: &DeValue<'_>) -> Result<Arc<str>, Bad> {
    let name = v::arc_text(value)?;
    let claimed = is_reserved_tenant(&name) && !name.starts_with("p-");
    if claimed || !super::rights::is_tenant(&name) {
        return Err(Bad { found: show(value), remedy: "write the tenant of a key, or one that tokens name".to_owned() });
    }
    Ok(name)
}

/// What keys of one route say about each other. Values that were given must agree; defaults give way.
fn check(s: &Section<'_, '_>, draft: &mut RouteDraft) {
    let route = &mut draft.route;
    for (low, high) in [("min_ttl", "base_ttl"), ("base_ttl", "max_ttl"), ("min_ttl", "max_ttl")] {
        let of = |key| match key {
            "min_ttl" => route.min_ttl,
            "base_ttl" => route.base_ttl,
            _ => route.max_ttl,
        };
        if s.has(low) && s.has(high) && of(low) > of(high) {
            s.wrong(low, format!("longer than {high}"), format!("make it at most {high}"));
        }
    }
    if route.shared && route.purge_by == PurgeBy::Own {
        s.wrong(
            "purge_by",
            "\"own\" on a shared route, where nobody has entries of their own",
            "write \"key\", and purge = true in a table of [[keys]]",
        );
    }
    if route.sla.is_some_and(|sla| sla > route.deadline) {
        s.wrong("sla", "longer than deadline", "make it at most deadline: what takes longer is given up");
    }
    if s.has("min_ttl") && !s.has("max_ttl") {
        route.max_ttl = route.max_ttl.max(route.min_ttl);
    }
    route.min_ttl = route.min_ttl.min(route.max_ttl);
    route.base_ttl = route.base_ttl.clamp(route.min_ttl, route.max_ttl);
    if s.has("buffer_limit") && s.has("max_body") && route.buffer_limit > route.max_body {
        s.wrong("buffer_limit", "larger than max_body", "make it at most max_body");
    }
    route.buffer_limit = route.buffer_limit.min(route.max_body);
}

/// Who chooses a TTL.
pub(crate) fn ttl_by(value: &DeValue<'_>) -> Result<TtlBy, Bad> {
    let remedy = "write \"model\", \"table\", \"rule\" or \"fixed:60s\"";
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| Bad { found: show(value), remedy: remedy.to_owned() })
}
