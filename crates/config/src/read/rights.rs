//! What clients may do: keys that several tables share, the tables `[tenants.NAME]`, and routes that are for some alone.

use std::sync::Arc;

use toml::de::DeValue;

use super::budgets::PRIORITIES;
use super::registry;
use super::section::{Bad, Section, meant, show};
use super::values as v;
use crate::{Config, JwtKeys, Rights, TenantRights, is_reserved_tenant};

/// Reads the keys that tables about clients share.
pub(crate) fn rights(s: &Section<'_, '_>) -> Rights {
    let rights = Rights {
        routes: s.opt("routes", v::list(v::name)),
        priority: s.opt("priority", v::word(PRIORITIES)),
        max_priority: s.opt("max_priority", v::word(PRIORITIES)),
        sla: s.opt("sla", v::positive_span),
    };
    if rights.routes.as_ref().is_some_and(Vec::is_empty) {
        s.wrong("routes", "an empty list: nothing could be called", "name routes, or remove the key to allow all of them");
    }
    rights
}

/// A tenant that somebody vouches for.
pub(crate) fn tenant(value: &DeValue<'_>) -> Result<Arc<str>, Bad> {
    let name = v::name(value)?;
    if is_reserved_tenant(&name) {
        let remedy = "choose another name: this one stands for clients that nobody vouches for (anonymous, unknown, named-..., p-...)";
        return Err(Bad { found: show(value), remedy: remedy.to_owned() });
    }
    Ok(name)
}

/// Reads `[tenants.NAME]`.
pub(crate) fn tenants(top: &Section<'_, '_>) -> Vec<TenantRights> {
    let mut tenants = Vec::new();
    for (name, table) in top.tables("tenants") {
        if !is_tenant(name) || is_reserved_tenant(name) {
            top.wrong("tenants", format!("a tenant is called \"{name}\""), "write the tenant of a key, or one that tokens name");
            continue;
        }
        let path = format!("tenants.{name}");
        tenants.push(TenantRights { tenant: name.into(), rights: rights(&Section::open(top.doc, table, &path, registry::TENANT)) });
    }
    tenants
}

/// Whether a token may name a tenant so.
pub(crate) fn is_tenant(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:@|+=".contains(&b))
}

/// Routes that are named exist, and what is for some alone can be called by somebody.
pub(crate) fn check(top: &Section<'_, '_>, config: &Config) {
    let tables = config.tenants.iter().map(|of| (format!("tenants.{}.routes", of.tenant), &of.rights));
    let keys = config.keys.iter().map(|key| ("keys.routes".to_owned(), &key.rights));
    let issuers = config.jwt.iter().map(|of| ("jwt.routes".to_owned(), &of.rights));
    for (key, rights) in tables.chain(keys).chain(issuers) {
        for name in rights.routes.iter().flatten().filter(|name| config.route(name).is_none()) {
            let remedy = meant(name, config.routes.iter().map(|route| &*route.name), || "name a configured route".to_owned());
            top.doc.problem(None, &key, format!("no route is called \"{name}\""), remedy);
        }
    }
    for route in &config.routes {
        if !(route.tenants.is_empty() && route.teams.is_empty()) && config.keys.is_empty() && config.jwt.is_empty() {
            let key = format!("routes.{}.{}", route.name, if route.tenants.is_empty() { "teams" } else { "tenants" });
            top.doc.problem(None, &key, "the route is for some alone, but nobody can show who it is", "add [[keys]] or [[jwt]]");
        }
    }
    check_issuers(top, config);
}

fn check_issuers(top: &Section<'_, '_>, config: &Config) {
    for (index, issuer) in config.jwt.iter().enumerate() {
        let before = config.jwt.get(..index).unwrap_or_default();
        if before.iter().any(|other| other.name == issuer.name) {
            top.doc.problem(
                None,
                "jwt.name",
                format!("\"{}\" stands here a second time", issuer.name),
                "give each issuer a name of its own",
            );
        }
        if before.iter().any(|other| other.issuer == issuer.issuer) {
            let remedy = "write one table for each issuer, with all its audiences";
            top.doc.problem(None, "jwt.issuer", format!("\"{}\" stands here a second time", issuer.issuer), remedy);
        }
        let secret = matches!(issuer.keys, JwtKeys::Secret(_));
        if secret && config.jwt.iter().any(|other| other.name != issuer.name && other.keys == issuer.keys) {
            let remedy = "give each issuer a secret of its own: each could sign for the other";
            top.doc.problem(None, "jwt.secret", "two issuers share a secret", remedy);
        }
    }
}
