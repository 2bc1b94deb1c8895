//! The tables that are about this instance: ports, memory, log, models, holdout, keys.

use std::collections::BTreeSet;

use toml::de::DeValue;

use super::registry;
use super::section::{Bad, Section, show};
use super::values as v;
use crate::key::ID_LEN;
use crate::{
    AdminConfig, AdminToken, CacheConfig, Config, FarthingKey, HoldoutConfig, ListenConfig, LogConfig, ModelsConfig, PlanConfig,
    PrefetchConfig, Role, Secret, StrategyFlags,
};

/// Reads everything that concerns no route.
pub(crate) fn read(top: &Section<'_, '_>, config: &mut Config) {
    let within = |key: &'static str, keys| top.table(key).map(|table| Section::open(top.doc, table, key, keys));
    if let Some(section) = within("data", registry::DATA) {
        data(&section, &mut config.data);
    }
    if let Some(section) = within("admin", registry::ADMIN) {
        admin(&section, &mut config.admin);
    }
    if let Some(section) = within("cache", registry::CACHE) {
        cache(&section, &mut config.cache);
    }
    config.l2 = within("l2", registry::L2).map(|section| super::l2::read(&section));
    config.fleet = within("fleet", registry::FLEET).map(|section| super::fleet::read(&section));
    if let Some(section) = within("log", registry::LOG) {
        log(&section, &mut config.log);
    }
    if let Some(section) = within("retention", registry::RETENTION) {
        config.retention = super::retention::read(&section);
    }
    if let Some(section) = within("models", registry::MODELS) {
        models(&section, &mut config.models);
    }
    if let Some(section) = within("holdout", registry::HOLDOUT) {
        holdout(&section, &mut config.holdout);
    }
    if let Some(section) = within("audit", registry::AUDIT) {
        section.set("share", v::share(0.0..=0.5), &mut config.audit.share);
        section.set("usd_per_day", v::money, &mut config.audit.per_day);
    }
    if let Some(section) = within("prefetch", registry::PREFETCH) {
        prefetch(&section, &mut config.prefetch);
    }
    if let Some(section) = within("strategies", registry::STRATEGIES) {
        strategies(&section, &mut config.strategies);
        plans(&section, &mut config.plans);
    }
    if let Some(section) = within("overhead", registry::OVERHEAD) {
        section.set("limit", v::span, &mut config.overhead.limit);
    }
    config.keys = keys(top);
}

const GB: u64 = 1_000_000_000;

fn data(s: &Section<'_, '_>, into: &mut ListenConfig) {
    s.set("listen", v::addr, &mut into.addr);
    s.set("header_timeout", v::positive_span, &mut into.header_timeout);
    s.set("body_rate", v::size(0..=GB), &mut into.body_rate);
    s.set("body_grace", v::span, &mut into.body_grace);
    s.set("idle_timeout", v::positive_span, &mut into.idle_timeout);
    s.set("max_connections", v::count(1..=1_000_000), &mut into.max_connections);
    // Below 8 KB hyper refuses to work; above 1 MB a head is an attack.
    s.set("max_header_bytes", v::size(8_192..=1_048_576), &mut into.max_header_bytes);
    s.set("max_headers", v::count(16..=1_024), &mut into.max_headers);
    s.set("max_body", v::size(0..=1_000 * GB), &mut into.max_body);
    s.set("drain_delay", v::span, &mut into.drain_delay);
    s.set("drain", v::span, &mut into.drain);
    s.set("compress", v::list(v::word(v::CODINGS)), &mut into.compress);
    s.set("compress_min", v::size(0..=GB), &mut into.compress_min);
    s.set("interim", v::flag, &mut into.interim);
    into.tls = super::tls::read(s);
}

fn admin(s: &Section<'_, '_>, into: &mut AdminConfig) {
    s.set("listen", v::addr, &mut into.addr);
    into.token = secret(s, "token");
    into.tokens = tokens(s);
    s.set("max_body", v::size(1_000..=GB), &mut into.max_body);
    into.tls = super::tls::read(s);
    if into.is_open() && !into.addr.ip().is_loopback() && !s.has("token") && !s.has("tokens") {
        s.wrong(
            "listen",
            format!("{} can be reached from outside, and there is no token", into.addr),
            "set admin.token, or listen on 127.0.0.1",
        );
    }
}

const ROLES: &[(&str, Role)] = &[("viewer", Role::Viewer), ("operator", Role::Operator), ("admin", Role::Admin)];

fn tokens(admin: &Section<'_, '_>) -> Vec<AdminToken> {
    let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
    let mut tokens = Vec::new();
    for table in admin.array("tokens") {
        let s = Section::open(admin.doc, table, "admin.tokens", registry::ADMIN_TOKEN);
        let how = "write the table that `farthing keys admin --name NAME --role ROLE` prints";
        let (name, role, sha256) = (s.need("name", v::name, how), s.need("role", v::word(ROLES), how), s.need("sha256", v::digest, how));
        let (Some(name), Some(role), Some(sha256)) = (name, role, sha256) else { continue };
        if AdminToken::is_taken(&name) {
            s.wrong("name", format!("\"{name}\" stands for another right in the audit log"), "give it the name of a person or a program");
        }
        if !names.insert(name.clone()) || !digests.insert(sha256) {
            s.wrong("name", format!("\"{name}\" or its digest stands here a second time"), "give each its own token and name");
        }
        tokens.push(AdminToken { name, role, sha256 });
    }
    tokens
}

fn cache(s: &Section<'_, '_>, into: &mut CacheConfig) {
    s.set("l1_bytes", v::size(0..=100_000 * GB), &mut into.l1_bytes);
    s.set("share_buffer", v::size(1_000..=100 * GB), &mut into.share_buffer);
    s.set("in_flight_bytes", v::size(1_000..=100_000 * GB), &mut into.in_flight_bytes);
    s.set("max_followers", v::count(0..=10_000_000), &mut into.max_followers);
    s.set("reader_grace", v::span, &mut into.reader_grace);
    s.set("max_handovers", v::count(0..=100), &mut into.max_handovers);
    s.set("statistics_bytes", v::size(65_536..=100 * GB), &mut into.statistics_bytes);
    if into.share_buffer > into.in_flight_bytes {
        s.wrong("in_flight_bytes", "smaller than cache.share_buffer", "make it at least as large");
    }
}

fn log(s: &Section<'_, '_>, into: &mut LogConfig) {
    s.set("enabled", v::flag, &mut into.enabled);
    s.set("dir", v::path, &mut into.dir);
    s.set("flush", v::positive_span, &mut into.flush);
    s.set("flush_bytes", v::size(10_000..=10 * GB), &mut into.flush_bytes);
    s.set("queue_bytes", v::size(10_000..=100 * GB), &mut into.queue_bytes);
    s.set("row_rate", v::count(1..=u64::from(u32::MAX)), &mut into.row_rate);
    s.set("journal", v::flag, &mut into.journal);
    s.set("journal_sync", v::positive_span, &mut into.journal_sync);
    s.set("journal_reserve", v::size(0..=100 * GB), &mut into.journal_reserve);
}

fn models(s: &Section<'_, '_>, into: &mut ModelsConfig) {
    s.set("dir", v::path, &mut into.dir);
    if let Some(table) = s.table("store") {
        let store = Section::open(s.doc, table, "models.store", registry::MODEL_STORE);
        into.store = Some(super::sinks_s3::model_store(&store));
    }
    s.set_opt("onnxruntime", v::path, &mut into.onnxruntime);
    s.set("deadline", v::positive_span, &mut into.deadline);
    s.set("control_interval", v::positive_span, &mut into.control_interval);
    s.set("canary_share", v::share(0.0..=0.5), &mut into.canary_share);
    s.set("shadow_labels", v::count(20..=10_000_000), &mut into.shadow_labels);
    s.set("drift_acts", v::flag, &mut into.drift_acts);
    s.set("autopilot", v::flag, &mut into.autopilot);
    s.set("autopilot_margin", v::share(0.005..=0.5), &mut into.autopilot_margin);
    s.set("autopilot_within", v::positive_span, &mut into.autopilot_within);
    s.set("trusted_keys", v::list(trusted_key), &mut into.trusted_keys);
    if into.autopilot && into.canary_share == 0.0 {
        s.wrong(
            "autopilot",
            "nothing can be shown of a challenger that decides for no key",
            "set models.canary_share above 0, such as 0.05",
        );
    }
}

/// A public key as `farthing models keygen` prints it.
fn trusted_key(value: &DeValue<'_>) -> Result<[u8; 32], Bad> {
    let mut key = [0; 32];
    let given = value.as_str().and_then(|text| text.strip_prefix("ed25519:"));
    match given.map(|digits| hex::decode_to_slice(digits, &mut key)) {
        Some(Ok(())) => Ok(key),
        _ => Err(Bad {
            found: show(value),
            remedy: "write \"ed25519:\" and 64 hexadecimal digits, as `farthing models keygen` prints it".to_owned(),
        }),
    }
}

fn holdout(s: &Section<'_, '_>, into: &mut HoldoutConfig) {
    s.set("share", v::share(0.0..=0.5), &mut into.share);
    s.set("window", v::positive_span, &mut into.window);
    s.set("max_cost", v::share(0.001..=1.0), &mut into.max_cost);
}

fn prefetch(s: &Section<'_, '_>, into: &mut PrefetchConfig) {
    s.set("horizon", v::positive_span, &mut into.horizon);
    s.set("explore", v::share(0.0..=0.5), &mut into.explore);
    s.set("at_once", v::count(1..=1_000), &mut into.at_once);
}

fn strategies(s: &Section<'_, '_>, into: &mut StrategyFlags) {
    s.set("cache", v::flag, &mut into.cache);
    s.set("dedupe", v::flag, &mut into.dedupe);
    s.set("batch", v::flag, &mut into.batch);
    s.set("prefetch", v::flag, &mut into.prefetch);
    s.set("prompt_cache", v::flag, &mut into.prompt_cache);
    s.set("defer", v::flag, &mut into.defer);
}

fn plans(s: &Section<'_, '_>, into: &mut PlanConfig) {
    s.set("interval", v::positive_span, &mut into.interval);
    s.set("cache_threshold", v::share(0.0..=1.0), &mut into.cache_threshold);
    s.set("batch_threshold", v::share(0.0..=1.0), &mut into.batch_threshold);
    s.set("batch_min_sla", v::span, &mut into.batch_min_sla);
}

fn keys(top: &Section<'_, '_>) -> Vec<FarthingKey> {
    let mut seen = BTreeSet::new();
    let mut keys = Vec::new();
    for table in top.array("keys") {
        let s = Section::open(top.doc, table, "keys", registry::KEY);
        let how = "write the table that `farthing keys new --tenant NAME` prints";
        let (id, sha256, tenant) =
            (s.need("id", v::arc_text, how), s.need("sha256", v::digest, how), s.need("tenant", super::rights::tenant, how));
        let (team, service) = (s.opt("team", v::name), s.opt("service", v::name));
        let tags = s.opt("tags", v::arc_text);
        let (purge, disabled) = (s.opt("purge", v::flag).unwrap_or_default(), s.opt("disabled", v::flag).unwrap_or_default());
        let expires = s.opt("expires", v::instant).and_then(|text| farthing_types::price::effective_from(&text));
        let rights = super::rights::rights(&s);
        let (Some(id), Some(sha256), Some(tenant)) = (id, sha256, tenant) else { continue };
        if id.len() != ID_LEN || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            // Longer, it may be the whole key.
            let found = if id.len() > ID_LEN { "found more than an id".to_owned() } else { format!("found \"{id}\"") };
            s.wrong("id", found, format!("write the {ID_LEN} letters and digits after `fth-`"));
        }
        if !seen.insert(id.clone()) {
            s.wrong("id", format!("\"{id}\" stands here a second time"), "remove one of the two keys");
        }
        keys.push(FarthingKey { id, sha256, tenant, team, service, tags, purge, expires, disabled, rights });
    }
    keys
}

const HOW: &str = "write { env = \"NAME\" } or { file = \"path\" }";

/// A secret by reference: `{ env = "NAME" }` or `{ file = "path" }`.
pub(crate) fn secret(s: &Section<'_, '_>, key: &str) -> Option<Secret> {
    let reference = s.opt(key, reference)?;
    resolved(s, key, &reference)
}

/// A list of secrets by reference.
pub(crate) fn secrets(s: &Section<'_, '_>, key: &str) -> Vec<Secret> {
    let references = s.opt(key, v::list(reference)).unwrap_or_default();
    references.iter().filter_map(|reference| resolved(s, key, reference)).collect()
}

/// Whether it is a variable of the environment, and the name.
type Reference = (bool, String);

fn reference(value: &DeValue<'_>) -> Result<Reference, Bad> {
    let table = value.as_table().filter(|table| table.len() == 1);
    let entry = table.and_then(|table| table.iter().next());
    match entry.map(|(name, value)| (name.get_ref().as_ref(), value.get_ref().as_str())) {
        Some((kind @ ("env" | "file"), Some(name))) => Ok((kind == "env", name.to_owned())),
        // The value is not shown: somebody may have pasted the secret itself.
        _ => Err(Bad { found: "something that is no reference to a secret".to_owned(), remedy: HOW.to_owned() }),
    }
}

/// Whether a name is surely no secret that was pasted in its place: variables are written in one case, with few digits.
fn is_variable(name: &str) -> bool {
    let of = |letter: fn(&u8) -> bool| name.bytes().all(|b| letter(&b) || b.is_ascii_digit() || b == b'_');
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    name.len() <= 64 && digits <= 4 && (of(u8::is_ascii_uppercase) || of(u8::is_ascii_lowercase))
}

/// The same of a path: it begins as one, or is a short name with an ending or in a folder.
fn is_path(name: &str) -> bool {
    let begins = ["/", "./", "../"].iter().any(|start| name.starts_with(start));
    begins || (name.len() <= 32 && name.contains(['.', '/', '\\']))
}

fn resolved(s: &Section<'_, '_>, key: &str, (from_env, name): &Reference) -> Option<Secret> {
    let content = if *from_env {
        let named = if is_variable(name) { name } else { "of that name" };
        s.doc.surroundings.var(name).ok_or_else(|| format!("the environment has no variable {named}"))
    } else {
        let named = if is_path(name) { name } else { "the file" };
        s.doc.surroundings.file(name).map_err(|e| format!("{named} cannot be read: {e}"))
    };
    match content.map(|text| text.trim().to_owned()) {
        Ok(text) if text.is_empty() => s.wrong(key, format!("{name} is empty"), "put the secret there"),
        Ok(text) if text.bytes().any(|b| b.is_ascii_control()) => {
            s.wrong(key, format!("{name} has more than one line"), "put the secret alone there");
        }
        Ok(text) => return Some(Secret::new(text)),
        Err(found) => s.wrong(key, found, "set it, or remove the key"),
    }
    None
}
