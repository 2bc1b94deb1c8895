//! The tables `[budgets.NAME]`.

use farthing_types::{BudgetScope, BudgetSpec, BudgetUnit, BudgetWindow, Enforce, Money, OnExceeded, Priority};
use toml::de::DeValue;

use super::registry;
use super::section::{Bad, Section, meant, show};
use super::values as v;
use crate::Config;

const WINDOWS: &[(&str, BudgetWindow)] = &[("day", BudgetWindow::Day), ("month", BudgetWindow::Month), ("ever", BudgetWindow::Ever)];
const UNITS: &[(&str, BudgetUnit)] =
    &[("tenant", BudgetUnit::Tenant), ("team", BudgetUnit::Team), ("service", BudgetUnit::Service), ("key", BudgetUnit::Key)];
const ENFORCE: &[(&str, Enforce)] = &[("hard", Enforce::Hard), ("high-passes", Enforce::HighPasses), ("soft", Enforce::Soft)];
const ACTIONS: &[(&str, OnExceeded)] =
    &[("reject", OnExceeded::Reject), ("queue", OnExceeded::Queue), ("stale", OnExceeded::Stale), ("cheapest", OnExceeded::Cheapest)];
pub(crate) const PRIORITIES: &[(&str, Priority)] = &[
    ("high", Priority::High),
    ("medium", Priority::Medium),
    ("low", Priority::Low),
    ("user-facing", Priority::High),
    ("internal", Priority::Medium),
    ("background", Priority::Low),
];

/// Reads every budget.
pub(crate) fn read(top: &Section<'_, '_>) -> Vec<BudgetSpec> {
    let mut budgets = Vec::new();
    for (name, table) in top.tables("budgets") {
        if !v::is_name(name) {
            top.wrong("budgets", format!("a budget is called \"{name}\""), "use letters, digits, '-', '_' and '.'");
            continue;
        }
        let path = format!("budgets.{name}");
        let s = Section::open(top.doc, table, &path, registry::BUDGET);
        budgets.extend(budget(&s).map(|budget| BudgetSpec { name: name.into(), ..budget }));
    }
    budgets
}

fn budget(s: &Section<'_, '_>) -> Option<BudgetSpec> {
    let mut budget = BudgetSpec::default();
    let limit = s.need("limit", v::money, "write the dollars of one window, such as \"500\"");
    if limit.is_some_and(|limit| limit <= Money::ZERO) {
        s.wrong("limit", "nothing", "write more than 0; without the table there is no budget");
    }
    let window = s.need("window", v::word(WINDOWS), "write window = \"day\", \"month\" or \"ever\"");
    budget.enforce = if window == Some(BudgetWindow::Day) { Enforce::HighPasses } else { Enforce::Hard };
    s.set("enforce", v::word(ENFORCE), &mut budget.enforce);
    s.set("time_zone", zone, &mut budget.zone);
    s.set_opt("per", v::word(UNITS), &mut budget.per);
    s.set("warn_at", v::share(0.01..=1.0), &mut budget.warn_at);
    s.set("on_exceeded", on_exceeded, &mut budget.on_exceeded);
    s.set("unpriced", v::word(&[("refuse", false), ("allow", true)]), &mut budget.unpriced_ok);
    s.set("on_fault", v::word(&[("closed", false), ("open", true)]), &mut budget.fault_ok);
    budget.scope = scope(s);
    Some(BudgetSpec { limit: limit?, window: window?, ..budget })
}

fn scope(s: &Section<'_, '_>) -> BudgetScope {
    let mut scope = BudgetScope::default();
    s.set_opt("tenant", v::arc_text, &mut scope.tenant);
    s.set_opt("team", v::arc_text, &mut scope.team);
    s.set_opt("service", v::arc_text, &mut scope.service);
    s.set_opt("key", v::arc_text, &mut scope.key);
    s.set("routes", v::list(v::name), &mut scope.routes);
    scope
}

pub(super) fn zone(value: &DeValue<'_>) -> Result<std::sync::Arc<str>, Bad> {
    let name = v::arc_text(value)?;
    match jiff::tz::TimeZone::get(&name) {
        Ok(_) => Ok(name),
        Err(_) => Err(Bad { found: show(value), remedy: "write an IANA name such as \"Europe/Berlin\", or \"UTC\"".to_owned() }),
    }
}

/// One word for all, or a word for each priority that is named.
fn on_exceeded(value: &DeValue<'_>) -> Result<[OnExceeded; 3], Bad> {
    let action = v::word(ACTIONS);
    let Some(table) = value.as_table() else { return action(value).map(|action| [action; 3]) };
    let mut actions = [OnExceeded::Reject; 3];
    for (name, value) in table {
        let priority = Priority::parse(name.get_ref()).ok_or_else(|| Bad {
            found: format!("the priority \"{}\"", name.get_ref()),
            remedy: "write { high = \"stale\", medium = \"queue\", low = \"reject\" }".to_owned(),
        })?;
        actions[priority as usize] = action(value.get_ref())?;
    }
    Ok(actions)
}

/// What budgets say of routes and keys must exist: a misspelt name would count nothing.
pub(crate) fn check(top: &Section<'_, '_>, config: &Config) {
    for budget in &config.budgets {
        let key = |name: &str| format!("budgets.{}.{name}", budget.name);
        for route in &budget.scope.routes {
            if config.route(route).is_none() {
                let remedy = meant(route, config.routes.iter().map(|known| &*known.name), || format!("add a table [routes.{route}]"));
                top.doc.problem(None, &key("routes"), format!("no route is called \"{route}\""), remedy);
            }
        }
        let keys = &config.keys;
        if let Some(id) = budget.scope.key.as_deref().filter(|id| !keys.iter().any(|key| *key.id == **id)) {
            let remedy = meant(id, keys.iter().map(|key| &*key.id), || "add it under [[keys]]".to_owned());
            top.doc.problem(None, &key("key"), format!("no key has the id \"{id}\""), remedy);
        }
        let named = |name: &str, wanted: Option<&str>, known: Vec<&str>| {
            // Tenants of passed credentials are digests, and clients name themselves: only what keys say of teams and services is known, and
            // all that they can be where no token says more.
            if let Some(wanted) = wanted.filter(|wanted| config.jwt.is_empty() && !known.contains(wanted)) {
                let remedy = meant(wanted, known.into_iter(), || format!("give a key {name} = \"{wanted}\""));
                top.doc.problem(None, &key(name), format!("no key has the {name} \"{wanted}\""), remedy);
            }
        };
        named("team", budget.scope.team.as_deref(), keys.iter().filter_map(|key| key.team.as_deref()).collect());
        named("service", budget.scope.service.as_deref(), keys.iter().filter_map(|key| key.service.as_deref()).collect());
    }
}
