//! Provider tables and the files of presets, which have the same keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::imports::{self, Imported};
use super::instance::secret;
use super::prices::{price, prices};
use super::registry;
use super::section::{Bad, Section, meant, show};
use super::values as v;
use super::{presets, resolve::RouteDraft};
use crate::{CredentialPlace, Dialect, HttpProtocol, Provider, Terms, UpstreamConfig};

/// A provider under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProviderDraft {
    pub provider: Provider,
    /// Whether the base URL is known.
    pub based: bool,
    /// The preset's defaults for routes.
    pub route: RouteDraft,
}

/// Reads `[providers.*]`.
pub(crate) fn read(top: &Section<'_, '_>, imported: &[Imported]) -> BTreeMap<Arc<str>, ProviderDraft> {
    top.tables("providers").into_iter().filter_map(|(name, table)| one(top, imported, name, table)).collect()
}

fn one<'a>(top: &Section<'_, 'a>, imported: &[Imported], name: &str, table: &DeTable<'a>) -> Option<(Arc<str>, ProviderDraft)> {
    let path = format!("providers.{name}");
    let s = Section::open(top.doc, table, &path, registry::PROVIDER);
    if !v::is_name(name) {
        top.wrong("providers", format!("a provider is called \"{name}\""), "use letters, digits, '-', '_' and '.'");
        return None;
    }
    let preset = s.opt("preset", v::name);
    if let Some(preset) = preset.as_deref().filter(|preset| presets::text(preset).is_none()) {
        let names = presets::presets().map(|(name, _)| name);
        let remedy = meant(preset, names.clone(), || names.collect::<Vec<_>>().join(", "));
        s.wrong("preset", format!("no preset is called \"{preset}\""), remedy);
    }
    let mut draft = presets::start(preset.as_deref().unwrap_or(name));
    draft.provider.name = name.into();
    imports::lay(top, imported, name, &mut draft.provider.prices);
    fill(&s, &path, &mut draft);
    draft.provider.credential = secret(&s, "credential");
    if draft.provider.credential.is_some() && draft.provider.credential_place == CredentialPlace::None {
        s.wrong(
            "credential",
            "set, but credential_place is \"none\"",
            "set credential_place to \"bearer\", \"header:NAME\" or \"query:NAME\"",
        );
    }
    price(&s, &mut draft.provider.prices);
    s.set("refill", v::multiple, &mut draft.provider.refill);
    s.set("refill_wait", v::positive_span, &mut draft.provider.refill_wait);
    if !draft.based && !s.has("base_url") {
        s.wrong("base_url", "missing", "write the provider's URL, such as base_url = \"https://api.example.com\"");
    }
    Some((name.into(), draft))
}

/// Reads the keys that provider tables and presets share, `path` being the table's own.
pub(crate) fn fill(s: &Section<'_, '_>, path: &str, draft: &mut ProviderDraft) {
    let provider = &mut draft.provider;
    if let Some(url) = s.opt("base_url", v::base_url) {
        provider.base_url = url;
        draft.based = true;
    }
    s.set("credential_place", credential_place, &mut provider.credential_place);
    s.set("dialect", v::word(DIALECTS), &mut provider.dialect);
    s.set("volatile", v::list(v::pointer), &mut provider.volatile);
    if let Some(table) = s.table("terms") {
        terms(&Section::open(s.doc, table, &format!("{path}.terms"), registry::TERMS), &mut provider.terms);
    }
    if let Some(table) = s.table("upstream") {
        upstream(&Section::open(s.doc, table, &format!("{path}.upstream"), registry::UPSTREAM), &mut provider.upstream);
    }
    prices(s, path, &mut provider.prices);
}

const DIALECTS: &[(&str, Dialect)] = &[
    ("generic", Dialect::Generic),
    ("openai", Dialect::OpenAi),
    ("anthropic", Dialect::Anthropic),
    ("google", Dialect::Google),
    ("gemini", Dialect::Gemini),
];

fn credential_place(value: &DeValue<'_>) -> Result<CredentialPlace, Bad> {
    let text = value.as_str().unwrap_or_default();
    let parsed = match text.split_once(':') {
        None if text == "none" => Some(CredentialPlace::None),
        None if text == "bearer" => Some(CredentialPlace::Bearer),
        Some(("header", name)) => name.parse().ok().map(CredentialPlace::Header),
        Some(("query", name)) if v::is_name(name) => Some(CredentialPlace::Query(name.into())),
        _ => None,
    };
    let remedy = "write \"none\", \"bearer\", \"header:NAME\" or \"query:NAME\"";
    parsed.ok_or_else(|| Bad { found: show(value), remedy: remedy.to_owned() })
}

fn terms(s: &Section<'_, '_>, into: &mut Terms) {
    s.set("storable", v::flag, &mut into.storable);
    s.set_opt("max_store", v::positive_span, &mut into.max_store);
    s.set("storable_fields", v::list(v::pointer), &mut into.storable_fields);
    s.set("prefetch", v::flag, &mut into.prefetch);
    s.set("share", v::flag, &mut into.share);
    s.set("source", v::text, &mut into.source);
}

fn upstream(s: &Section<'_, '_>, into: &mut UpstreamConfig) {
    s.set("connect_timeout", v::positive_span, &mut into.connect_timeout);
    s.set("head_timeout", v::positive_span, &mut into.head_timeout);
    s.set_opt("try_timeout", v::positive_span, &mut into.try_timeout);
    if let Some(longer) = into.try_timeout.filter(|span| *span > into.head_timeout) {
        let found = format!("{longer:?} is longer than head_timeout, {:?}", into.head_timeout);
        s.wrong("try_timeout", found, "make it shorter: head_timeout ends an attempt anyway");
    }
    s.set("idle_timeout", v::positive_span, &mut into.idle_timeout);
    s.set("protocol", v::word(PROTOCOLS), &mut into.protocol);
    s.set("attempts", v::count(1..=10), &mut into.attempts);
    s.set("backoff", v::span, &mut into.backoff);
    s.set("retry_share", v::share(0.0..=1.0), &mut into.retry_share);
    s.set("retry_floor", v::count(0..=1_000), &mut into.retry_floor);
    s.set("breaker_share", v::share(0.01..=1.0), &mut into.breaker_share);
    s.set("breaker_cooldown", v::positive_span, &mut into.breaker_cooldown);
    s.set("max_idle", v::count(0..=100_000), &mut into.max_idle);
    s.set("keep_idle", v::span, &mut into.keep_idle);
    s.set("max_concurrent", v::count(1..=1_000_000), &mut into.max_concurrent);
    if let Some(table) = s.table("compress_requests") {
        let path = s.full("compress_requests");
        let s = Section::open(s.doc, table, &path, registry::COMPRESS_REQUESTS);
        let into = into.compress_requests.get_or_insert_default();
        s.set("min", v::size(0..=1_000_000_000), &mut into.min);
        s.set("encoding", v::word(v::CODINGS), &mut into.encoding);
    }
}

const PROTOCOLS: &[(&str, HttpProtocol)] = &[("auto", HttpProtocol::Auto), ("http1", HttpProtocol::Http1), ("http2", HttpProtocol::Http2)];
