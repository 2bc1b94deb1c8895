//! The tables `[[limits]]`, `[overload]` and `[tiers.NAME]`.

use std::sync::Arc;

use farthing_types::{LimitScope, LimitSpec, OnLimit, Priority, RateSpec, Span};
use toml::de::DeValue;

use super::registry_limits as registry;
use super::section::{Bad, Section, meant, show};
use super::values as v;
use crate::{Config, OverloadConfig, TierConfig};

const SCOPES: &[(&str, LimitScope)] = &[
    ("tenant", LimitScope::Tenant),
    ("team", LimitScope::Team),
    ("service", LimitScope::Service),
    ("key", LimitScope::Key),
    ("route", LimitScope::Route),
    ("provider", LimitScope::Provider),
];
const ACTIONS: &[(&str, OnLimit)] = &[("pass", OnLimit::Pass), ("wait", OnLimit::Wait), ("refuse", OnLimit::Refuse)];
const UNITS: &[(&str, u64)] = &[("s", 1), ("min", 60), ("h", 3_600), ("d", 86_400)];
/// Most of a rate or a burst.
const MOST: u64 = 1_000_000_000_000;

/// Reads every limit.
pub(crate) fn read(top: &Section<'_, '_>) -> Vec<LimitSpec> {
    let mut limits: Vec<LimitSpec> = Vec::new();
    for table in top.array("limits") {
        let s = Section::open(top.doc, table, "limits", registry::LIMIT);
        let Some(limit) = limit(&s) else { continue };
        if limits.iter().any(|other| other.name == limit.name) {
            s.wrong(
                "name",
                format!("two limits are called \"{}\"", limit.name),
                "give each its own name: metrics and answers tell them by it",
            );
            continue;
        }
        limits.push(limit);
    }
    limits
}

fn limit(s: &Section<'_, '_>) -> Option<LimitSpec> {
    let name = s.need("name", v::name, "name it: metrics and answers tell limits by their names");
    let scope = s.need("scope", v::word(SCOPES), "write scope = \"tenant\", \"team\", \"service\", \"key\", \"route\" or \"provider\"");
    let mut limit = LimitSpec::default();
    s.set("match", v::list(v::arc_text), &mut limit.names);
    s.set("shared", v::flag, &mut limit.shared);
    limit.requests = rate(s, ("requests", "burst"), "100/s");
    limit.tokens = rate(s, ("tokens", "token_burst"), "90000/min");
    s.set_opt("concurrency", v::count(1..=1_000_000), &mut limit.concurrency);
    if !["requests", "tokens", "concurrency"].iter().any(|key| s.has(key)) {
        s.wrong("requests", "nothing is limited", "write requests = \"100/s\", tokens = \"90000/min\" or concurrency = 20");
    }
    let said = s.opt("on_limit", on_limit).unwrap_or_default();
    for (action, said) in limit.on_limit.iter_mut().zip(said) {
        *action = said.unwrap_or(*action);
    }
    if s.opt("hard", v::flag) == Some(true) {
        harden(s, &mut limit.on_limit, said[Priority::High as usize]);
    }
    Some(LimitSpec { name: name?, scope: scope?, ..limit })
}

/// High priority does not pass.
fn harden(s: &Section<'_, '_>, actions: &mut [OnLimit; 3], said: Option<OnLimit>) {
    if said == Some(OnLimit::Pass) {
        s.wrong("hard", "true, while on_limit lets high priority pass", "write on_limit = { high = \"wait\" }, or leave hard out");
    }
    let high = &mut actions[Priority::High as usize];
    if *high == OnLimit::Pass {
        *high = OnLimit::Wait;
    }
}

/// A rate and its burst.
fn rate(s: &Section<'_, '_>, (key, burst): (&str, &str), example: &str) -> Option<RateSpec> {
    let Some(mut rate) = s.opt(key, |value| parsed(value, example)) else {
        if s.has(burst) && !s.has(key) {
            s.wrong(burst, format!("without `{key}`"), format!("write {key} = \"{example}\" beside it, or take it out"));
        }
        return None;
    };
    s.set(burst, v::count(1..=MOST), &mut rate.burst);
    // Between two ticks of the timer as much as that comes back; with less room some of it would be lost.
    let least = smallest_burst(rate);
    if rate.burst < least {
        s.wrong(burst, format!("{} is too little for {} in {:?}", rate.burst, rate.count, rate.period), format!("write at least {least}"));
    }
    Some(rate)
}

/// One, and what comes back within a millisecond.
fn smallest_burst(rate: RateSpec) -> u64 {
    let in_a_tick = u128::from(rate.count) * Span::from_millis(1).as_nanos() / rate.period.as_nanos().max(1);
    u64::try_from(in_a_tick).unwrap_or(u64::MAX).saturating_add(1)
}

/// Reads `100/s`. Without a burst what comes back in a second may be used at once, and at least one.
fn parsed(value: &DeValue<'_>, example: &str) -> Result<RateSpec, Bad> {
    let bad = || Bad { found: show(value), remedy: format!("write a whole number and a time, such as \"{example}\": s, min, h or d") };
    let text = value.as_str().ok_or_else(bad)?;
    let (count, unit) = text.split_once('/').ok_or_else(bad)?;
    let count: u64 = count.trim().parse().ok().filter(|count| (1..=MOST).contains(count)).ok_or_else(bad)?;
    let seconds = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(bad)?.1;
    let period = Span::from_secs(seconds);
    Ok(RateSpec { count, period, burst: count.div_ceil(seconds).max(smallest_burst(RateSpec { count, period, burst: 1 })) })
}

/// One word for all, or a word for each priority that is named.
fn on_limit(value: &DeValue<'_>) -> Result<[Option<OnLimit>; 3], Bad> {
    let action = v::word(ACTIONS);
    let Some(table) = value.as_table() else { return action(value).map(|action| [Some(action); 3]) };
    let mut actions = [None; 3];
    for (name, value) in table {
        let priority = Priority::parse(name.get_ref()).ok_or_else(|| Bad {
            found: format!("the priority \"{}\"", name.get_ref()),
            remedy: "write { high = \"pass\", medium = \"wait\", low = \"refuse\" }".to_owned(),
        })?;
        actions[priority as usize] = Some(action(value.get_ref())?);
    }
    Ok(actions)
}

/// Reads the bounds of the whole process, and who has a share of its own.
pub(crate) fn overload(top: &Section<'_, '_>) -> OverloadConfig {
    let mut overload = OverloadConfig::default();
    if let Some(table) = top.table("overload") {
        let s = Section::open(top.doc, table, "overload", registry::OVERLOAD);
        s.set("max_requests", v::count(10..=1_000_000), &mut overload.max_requests);
        s.set("max_bytes", v::size(1_000_000..=1 << 40), &mut overload.max_bytes);
    }
    for (name, table) in top.tables("tiers") {
        if !v::is_name(name) {
            top.wrong("tiers", format!("a tier is called \"{name}\""), "use letters, digits, '-', '_' and '.'");
            continue;
        }
        let path = format!("tiers.{name}");
        let s = Section::open(top.doc, table, &path, registry::TIER);
        overload.tiers.extend(tier(&s, name));
    }
    check_tiers(top, &overload.tiers);
    overload
}

fn tier(s: &Section<'_, '_>, name: &str) -> Option<TierConfig> {
    let tenants: Option<Vec<Arc<str>>> = s.need("tenants", v::list(v::arc_text), "write tenants = [\"acme\"]");
    if tenants.as_ref().is_some_and(Vec::is_empty) {
        s.wrong("tenants", "nobody", "name at least one tenant, or take the table out");
    }
    let share = s.need("share", v::share(0.01..=0.9), "write the share of the bounds that is theirs alone, such as 0.3");
    Some(TierConfig { name: name.into(), tenants: tenants?, share: share? })
}

fn check_tiers(top: &Section<'_, '_>, tiers: &[TierConfig]) {
    let all: f64 = tiers.iter().map(|tier| tier.share).sum();
    if all > 0.9 + 1e-9 {
        top.wrong("tiers", format!("their shares are {all:.2} together"), "leave at least 0.1 to everybody else");
    }
    for (index, tier) in tiers.iter().enumerate() {
        for other in &tiers[..index] {
            if let Some(both) = tier.tenants.iter().find(|tenant| other.tenants.contains(tenant)) {
                let found = format!("\"{both}\" is in [tiers.{}] and [tiers.{}]", other.name, tier.name);
                top.wrong("tiers", found, "a tenant has one tier: take it out of one of them");
            }
        }
    }
}

/// What limits say of routes, providers and keys must exist: a misspelt name would limit nothing.
pub(crate) fn check(top: &Section<'_, '_>, config: &Config) {
    for limit in &config.limits {
        let keys = &config.keys;
        let (known, remedy): (Vec<&str>, &str) = match limit.scope {
            LimitScope::Route => (config.routes.iter().map(|route| &*route.name).collect(), "add a table [routes.NAME]"),
            LimitScope::Provider => (config.providers.iter().map(|provider| &*provider.name).collect(), "add a table [providers.NAME]"),
            LimitScope::Key => (keys.iter().map(|key| &*key.id).collect(), "add it under [[keys]]; its id is meant"),
            // Tokens name others.
            LimitScope::Team | LimitScope::Service if !config.jwt.is_empty() => continue,
            LimitScope::Team => (keys.iter().filter_map(|key| key.team.as_deref()).collect(), "give a key this team"),
            LimitScope::Service => (keys.iter().filter_map(|key| key.service.as_deref()).collect(), "give a key this service"),
            // Tenants of passed credentials are digests, and clients name themselves.
            LimitScope::Tenant => continue,
        };
        for name in limit.names.iter().filter(|name| !known.contains(&&***name)) {
            let remedy = meant(name, known.iter().copied(), || remedy.to_owned());
            top.doc.problem(None, "limits.match", format!("limit \"{}\": no {} is called \"{name}\"", limit.name, limit.scope), remedy);
        }
    }
}
