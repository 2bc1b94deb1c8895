//! What tables say about each other: routes find their providers, terms cut routes, names resolve, the salt is found.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::TryRngCore;
use sha2::{Digest, Sha256};

use super::experiments;
use super::flags::Flags;
use super::instance::secret;
use super::providers::ProviderDraft;
use super::section::{Section, meant};
use super::values as v;
use crate::{
    Config, ConfigError, CredentialMode, CredentialPlace, ExperimentConfig, Mode, PathTemplate, Profile, Provider, PurgeBy, Route, Salt,
    Secret,
};

/// Everything that was read, before it is known to fit.
#[derive(Default)]
pub(crate) struct Draft {
    pub config: Config,
    pub providers: BTreeMap<Arc<str>, ProviderDraft>,
    pub routes: Vec<RouteDraft>,
}

/// A route under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteDraft {
    pub route: Route,
    /// As it was given.
    pub profile: Option<Profile>,
    pub path_prefix: Option<Arc<str>>,
    pub path: Option<PathTemplate>,
    pub strip_prefix: Option<Arc<str>>,
    pub preset_prefix: Option<Arc<str>>,
    pub preset_strip: Option<Arc<str>>,
}

/// Puts the parts together.
///
/// # Errors
/// When the system has no random numbers for a salt; what is wrong in the document goes to the document.
pub(crate) fn finish(top: &Section<'_, '_>, draft: Draft, flags: &Flags) -> Result<Config, ConfigError> {
    let Draft { mut config, providers, mut routes } = draft;
    if providers.is_empty() && !top.has("providers") && flags.upstreams.is_empty() && !top.doc.alone {
        top.doc.problem(None, "providers", "no provider", "add a table [providers.NAME] with base_url, or --upstream NAME=URL");
    }
    add_plain_routes(&providers, &mut routes);
    let mut checked: Vec<Route> = Vec::new();
    for draft in routes {
        let Some(provider) = providers.get(&draft.route.provider) else { continue };
        let profile = draft.profile;
        let mut route = place(top, draft);
        route.mode = flags.mode.unwrap_or(route.mode);
        // `Vary` tells only of GETs whose origin is obeyed: elsewhere every header may change the answer.
        let unbound = route.mode == Mode::Override || route.idempotent;
        route.profile = profile.unwrap_or(if unbound { Profile::Api } else { Profile::Http });
        obey(top, &mut route, &provider.provider);
        super::routing::obey(top, &mut route, &providers);
        super::prompt_cache::obey(top, &route, &provider.provider);
        super::defer::obey(top, &route, &provider.provider);
        super::upgrade::obey(top, &route, &provider.provider);
        super::warm::obey(top, &route, &provider.provider);
        let asked = route.providers().filter_map(|name| providers.get(name));
        asked.for_each(|draft| super::warm::obey_terms(top, &route, &draft.provider));
        super::tune::obey(top, &route);
        if let Some(other) = checked.iter().find(|other| route.matcher.overlaps(&other.matcher)) {
            let key = format!("routes.{}", route.name);
            top.doc.problem(
                None,
                &key,
                format!("takes the same requests as route \"{}\"", other.name),
                "give one of them another path, host or method",
            );
        }
        config.strategies.apply(&mut route);
        checked.push(route);
    }
    // A stable order: the more special first, then by name.
    checked.sort_by(|a, b| a.matcher.rank().cmp(&b.matcher.rank()).then_with(|| a.name.cmp(&b.name)));
    config.routes = checked.into_iter().map(Arc::new).collect();
    config.providers = providers.into_values().map(|draft| Arc::new(draft.provider)).collect();
    check_experiments(top, &config);
    check_purgers(top, &config);
    check_write_rules(top, &config);
    check_events(top, &config);
    super::budgets::check(top, &config);
    super::limits::check(top, &config);
    super::rights::check(top, &config);
    super::fleet::check(top);
    if config.data.addr == config.admin.addr && config.data.addr.port() != 0 {
        top.doc.problem(None, "admin.listen", "the address of the data port", "give them different ports");
    }
    config.state_dir = PathBuf::from(".farthing");
    top.set("state_dir", v::path, &mut config.state_dir);
    (config.salt, config.seed) = identity(top, &config.state_dir)?;
    Ok(config)
}

/// A provider that no route names gets one of its own name.
fn add_plain_routes(providers: &BTreeMap<Arc<str>, ProviderDraft>, routes: &mut Vec<RouteDraft>) {
    for (name, provider) in providers {
        if routes.iter().any(|draft| draft.route.asks(name)) {
            continue;
        }
        let mut draft = provider.route.clone();
        draft.preset_prefix = draft.path_prefix.take();
        draft.preset_strip = draft.strip_prefix.take();
        draft.route.name = name.clone();
        draft.route.provider = name.clone();
        routes.push(draft);
    }
}

/// Settles which paths the route takes and what is cut off them.
fn place(top: &Section<'_, '_>, draft: RouteDraft) -> Route {
    let mut route = draft.route;
    let hosts = !route.matcher.hosts.is_empty();
    let plain: Arc<str> = if hosts { "/".into() } else { format!("/r/{}", route.name).into() };
    let preset = draft.preset_prefix.filter(|_| !hosts);
    let start = draft.path.as_ref().map(|path| path.start().into());
    let prefix = start.or(draft.path_prefix).or(preset).unwrap_or(plain);
    let below = |whole: &str, part: &str| {
        let part = part.trim_end_matches('/');
        whole.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let strip = match (draft.strip_prefix, draft.preset_strip) {
        (Some(strip), _) => {
            if !below(&prefix, &strip) {
                let key = format!("routes.{}.strip_prefix", route.name);
                top.doc.problem(
                    None,
                    &key,
                    format!("\"{strip}\" is no part of \"{prefix}\", with which the route's paths start"),
                    "cut off a part of that, or \"/\" for nothing",
                );
            }
            strip
        }
        (None, Some(strip)) if below(&prefix, &strip) => strip,
        _ if hosts || draft.path.is_some() => "/".into(),
        _ => prefix.clone(),
    };
    route.strip_prefix = strip.trim_end_matches('/').into();
    route.matcher.path_prefix = prefix;
    route.matcher.path = draft.path;
    route
}

/// Lets the provider's terms and credential place act on the route.
pub(super) fn obey(top: &Section<'_, '_>, route: &mut Route, provider: &Provider) {
    let key = |name: &str| format!("routes.{}.{name}", route.name);
    let terms = &provider.terms;
    if route.shared && !terms.share {
        top.doc.problem(None, &key("shared"), format!("true, but the terms of \"{}\" forbid it", provider.name), "set it to false");
    }
    // Of several providers one may need none.
    let needless = route.routing.is_some() && provider.credential_place == CredentialPlace::None;
    // One that is set and cannot be had is a problem of its own, told there.
    let providers = top.table("providers").and_then(|providers| providers.get(&*provider.name)?.get_ref().as_table());
    let told = providers.is_some_and(|table| table.contains_key("credential"));
    if route.credential == CredentialMode::Swap && provider.credential.is_none() && !needless && !told {
        let remedy = format!("set providers.{}.credential, such as {{ env = \"NAME\" }}", provider.name);
        top.doc.problem(None, &key("credential"), "\"swap\", but the provider has no credential", remedy);
    }
    route.cache &= terms.storable;
    route.max_store = terms.max_store;
    if let Some(longest) = terms.max_store {
        route.max_ttl = route.max_ttl.min(longest);
        route.min_ttl = route.min_ttl.min(route.max_ttl);
        route.base_ttl = route.base_ttl.min(route.max_ttl);
    }
    for pointer in &provider.volatile {
        if !route.volatile.contains(pointer) {
            route.volatile.push(pointer.clone());
        }
    }
    if let CredentialPlace::Query(name) = &provider.credential_place
        && !route.strip_query.contains(name)
    {
        route.strip_query.push(name.clone());
    }
}

fn check_experiments(top: &Section<'_, '_>, config: &Config) {
    for (index, experiment) in config.experiments.iter().enumerate() {
        let meets = |other: &&ExperimentConfig| {
            let (a, b) = (&experiment.routes, &other.routes);
            a.is_empty() || b.is_empty() || a.iter().any(|name| b.contains(name))
        };
        // One request carries one draw: what meets on a route shares a layer, in which each unit is in one experiment alone.
        let apart = |other: &&ExperimentConfig| match (&experiment.layer, &other.layer) {
            (Some((mine, from, upto)), Some((layer, begin, end))) => mine == layer && (upto <= begin || end <= from),
            _ => false,
        };
        if let Some(other) = config.experiments.iter().take(index).filter(meets).find(|other| !apart(other)) {
            let key = format!("experiments.{}.routes", experiment.name);
            let remedy = "give them different routes, or parts of one `layer` that do not overlap (layer_from, layer_upto)";
            top.doc.problem(None, &key, format!("shares a route with experiment \"{}\"", other.name), remedy);
        }
        for name in experiment.routes.iter().filter(|name| config.route(name).is_none()) {
            let key = format!("experiments.{}.routes", experiment.name);
            no_route(top, config, (&key, name));
        }
        let routes = config.routes.iter().filter(|route| experiment.is_on(&route.name));
        for (variant, route) in routes.flat_map(|route| experiment.variants.iter().map(move |variant| (variant, route))) {
            for (key, found, remedy) in experiments::unfit(variant, route) {
                let place = format!("experiments.{}.variants.{key}", experiment.name);
                top.doc.problem(None, &place, format!("variant \"{}\": {found}", variant.name), remedy);
            }
        }
    }
}

/// A route that waits for a key which nobody can have would never purge.
fn check_purgers(top: &Section<'_, '_>, config: &Config) {
    if config.keys.iter().any(|key| key.purge) {
        return;
    }
    for route in config.routes.iter().filter(|route| route.purge_by == PurgeBy::Key) {
        let key = format!("routes.{}.purge_by", route.name);
        top.doc.problem(None, &key, "\"key\", but no key may purge", "set purge = true in a table of [[keys]]");
    }
}

fn check_write_rules(top: &Section<'_, '_>, config: &Config) {
    let rules = config.routes.iter().flat_map(|route| route.purges.iter().map(move |rule| (route, rule)));
    for (route, rule) in rules.filter(|(_, rule)| config.route(&rule.route).is_none()) {
        let key = format!("routes.{}.purges.route", route.name);
        no_route(top, config, (&key, &rule.route));
    }
}

fn no_route(top: &Section<'_, '_>, config: &Config, (key, name): (&str, &str)) {
    let remedy = meant(name, config.routes.iter().map(|route| &*route.name), || "name a configured route".to_owned());
    top.doc.problem(None, key, format!("no route is called \"{name}\""), remedy);
}

/// Every route's source exists, and every source has a route.
fn check_events(top: &Section<'_, '_>, config: &Config) {
    for route in &config.routes {
        let Some(name) = route.events.as_ref().filter(|name| config.events.iter().all(|source| source.name != **name)) else { continue };
        let key = format!("routes.{}.events", route.name);
        let remedy = meant(name, config.events.iter().map(|source| &*source.name), || format!("add a table [events.{name}]"));
        top.doc.problem(None, &key, format!("no source of events is called \"{name}\""), remedy);
    }
    for source in &config.events {
        if config.routes.iter().all(|route| route.events.as_ref() != Some(&source.name)) {
            let remedy = format!("set events = \"{}\" on the routes that its events are about", source.name);
            top.doc.problem(None, &format!("events.{}", source.name), "no route names it", remedy);
        }
    }
}

/// The salt as given, as kept, or made up; and the seed that follows from it when none is given.
fn identity(top: &Section<'_, '_>, dir: &Path) -> Result<(Salt, u64), ConfigError> {
    let salt = match secret(top, "salt") {
        Some(secret) => Salt { secret, file: None, fresh: false },
        None => kept(top, dir.join("salt"))?,
    };
    let seed = top.opt("seed", v::seed).unwrap_or_else(|| seed_of(&salt));
    Ok((salt, seed))
}

/// The seed that follows from a salt.
pub(crate) fn seed_of(salt: &Salt) -> u64 {
    let digest = Sha256::new().chain_update("farthing seed 1").chain_update(salt.secret.expose()).finalize();
    digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

fn kept(top: &Section<'_, '_>, file: PathBuf) -> Result<Salt, ConfigError> {
    match top.doc.surroundings.file(&file.to_string_lossy()) {
        Ok(text) if text.trim().len() >= 16 => return Ok(Salt { secret: Secret::new(text.trim()), file: Some(file), fresh: false }),
        Ok(_) => top.wrong("state_dir", format!("{} is damaged", file.display()), "remove the file; a new salt starts new digests"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => top.wrong("state_dir", format!("{} cannot be read: {error}", file.display()), "let this user read it"),
    }
    let mut bytes = [0u8; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|e| ConfigError::Random(e.to_string()))?;
    Ok(Salt { secret: Secret::new(hex::encode(bytes)), file: Some(file), fresh: true })
}
