//! Rules that say what is purged when something happens.

use toml::de::DeValue;

use super::registry;
use super::section::{Bad, Section, show};
use super::values as v;
use crate::{FilledBy, Purges, Route, Template, WriteRule};

/// Reads `purges` of a route.
pub(crate) fn fill(s: &Section<'_, '_>, path: &str, route: &mut Route) {
    if !s.has("purges") {
        return;
    }
    let path = format!("{path}.purges");
    let rules =
        s.array("purges").into_iter().map(|table| write(&Section::open(s.doc, table, &path, registry::WRITE_RULE), route)).collect();
    route.purges = rules;
    if route.idempotent && route.key_body {
        s.wrong(
            "purges",
            "on a route with idempotent = true, where no request is a write",
            "move the rules to a route that takes the writes",
        );
    }
}

fn write(s: &Section<'_, '_>, route: &Route) -> WriteRule {
    let (mut methods, mut below, mut target) = (Vec::new(), "/".into(), route.name.clone());
    s.set("methods", v::list(v::method), &mut methods);
    s.set("below", v::path_prefix, &mut below);
    s.set("route", v::name, &mut target);
    if let Some(safe) = methods.iter().find(|method| method.is_safe()) {
        s.wrong("methods", format!("{safe} is no write"), "name methods such as \"POST\", \"PUT\", \"PATCH\" or \"DELETE\"");
    }
    WriteRule { methods, below, route: target, purges: purges(s, FilledBy::Write) }
}

/// Reads what every rule has.
pub(crate) fn purges(s: &Section<'_, '_>, by: FilledBy) -> Purges {
    let mut out = Purges::default();
    s.set("tags", v::list(|value| template(value, by)), &mut out.tags);
    s.set("paths", v::list(|value| path(value, by)), &mut out.paths);
    s.set("prefixes", v::list(|value| path(value, by)), &mut out.prefixes);
    s.set("soft", v::flag, &mut out.soft);
    if by == FilledBy::Event {
        s.set("keys", v::list(|value| template(value, by)), &mut out.keys);
    }
    let named = ["tags", "paths", "prefixes", "keys"].iter().any(|key| s.has(key));
    if !named {
        s.wrong("tags", "missing", "say what is purged, such as tags = [\"products\"], paths or prefixes");
    }
    out
}

fn template(value: &DeValue<'_>, by: FilledBy) -> Result<Template, Bad> {
    let parsed = value.as_str().ok_or_else(|| "write a text in double quotes".to_owned()).and_then(|text| Template::parse(text, by));
    parsed.map_err(|remedy| Bad { found: show(value), remedy })
}

fn path(value: &DeValue<'_>, by: FilledBy) -> Result<Template, Bad> {
    let parsed = template(value, by)?;
    let remedy = || "begin it with a slash: it is a path below the route's".to_owned();
    if parsed.is_path() { Ok(parsed) } else { Err(Bad { found: show(value), remedy: remedy() }) }
}
