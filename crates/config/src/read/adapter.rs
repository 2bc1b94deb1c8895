//! `[routes.NAME.providers.adapter]`: how a provider of another shape is spoken to.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};
use toml::de::DeValue;

use super::registry;
use super::routing::status;
use super::section::{Bad, Section, show};
use super::values as v;
use crate::{AdapterConfig, ErrorIfConfig};

type Pairs<A = Arc<str>, B = Arc<str>> = Vec<(A, B)>;

/// Reads an adapter.
pub(super) fn read(s: &Section<'_, '_>, path: &str) -> AdapterConfig {
    let mut adapter = AdapterConfig::default();
    s.set_opt("path", taken, &mut adapter.path);
    s.set_opt("to", asked, &mut adapter.to);
    s.set("rename_query", pairs(named, v::arc_text), &mut adapter.rename_query);
    s.set("set_query", pairs(named, plain), &mut adapter.set_query);
    s.set("drop_query", v::list(v::arc_text), &mut adapter.drop_query);
    s.set("set_headers", pairs(header, field), &mut adapter.set_headers);
    s.set("rename_body", pairs(pointed, single), &mut adapter.rename_body);
    s.set("set_body", pairs(pointed, constant), &mut adapter.set_body);
    s.set("answer", pairs(pointed, v::pointer), &mut adapter.answer);
    s.set("set_answer", pairs(pointed, constant), &mut adapter.set_answer);
    s.set("error", pairs(pointed, v::pointer), &mut adapter.error);
    s.set("max_answer", v::size(1_000..=100_000_000), &mut adapter.max_answer);
    let path = format!("{path}.error_if");
    let tables = s.array("error_if");
    adapter.error_if = tables.into_iter().filter_map(|table| error_if(&Section::open(s.doc, table, &path, registry::ERROR_IF))).collect();
    check(s, &adapter);
    adapter
}

fn error_if(s: &Section<'_, '_>) -> Option<ErrorIfConfig> {
    let (mut is, mut code) = (Vec::new(), StatusCode::BAD_GATEWAY);
    s.set("is", v::list(super::content::scalar), &mut is);
    s.set("status", status, &mut code);
    let pointer = s.need("pointer", v::pointer, "write where to look, such as \"/status\"")?;
    Some(ErrorIfConfig { pointer, is, status: code })
}

/// What keys of an adapter say about each other.
fn check(s: &Section<'_, '_>, adapter: &AdapterConfig) {
    for (key, pairs) in [("answer", &adapter.answer), ("error", &adapter.error)] {
        let stars = |pointer: &str| pointer.split('/').filter(|step| *step == "*").count();
        if let Some((ours, theirs)) = pairs.iter().find(|(ours, theirs)| stars(ours) != stars(theirs)) {
            s.wrong(key, format!("\"{ours}\" = \"{theirs}\""), "write `*` as often in both pointers: each stands for the same element");
        }
    }
    let places = |mapped: &[(Arc<str>, Arc<str>)], set: &[(Arc<str>, Arc<str>)]| -> Vec<Arc<str>> {
        mapped.iter().chain(set).map(|(ours, _)| ours.clone()).collect()
    };
    for (key, places) in [("answer", places(&adapter.answer, &adapter.set_answer)), ("error", places(&adapter.error, &[]))] {
        let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
        let clash = places.iter().find_map(|a| places.iter().find(|b| below(a, b)).map(|b| (a, b)));
        if let Some((inner, outer)) = clash {
            s.wrong(key, format!("\"{inner}\" lies within \"{outer}\""), "leave one of them out: a place has one value");
        }
    }
    if !adapter.answer.is_empty() && adapter.error.is_empty() {
        s.wrong("error", "missing beside `answer`", "write where errors say what is wrong, such as { \"/error/message\" = \"/message\" }");
    }
    if !adapter.set_answer.is_empty() && adapter.answer.is_empty() {
        s.wrong("set_answer", "without `answer`", "write `answer`: without it answers pass as they are");
    }
}

/// A table of pairs.
fn pairs<A, B>(
    name: impl Fn(&str) -> Result<A, Bad>,
    parse: impl Fn(&DeValue<'_>) -> Result<B, Bad>,
) -> impl Fn(&DeValue<'_>) -> Result<Pairs<A, B>, Bad> {
    move |value| match value.as_table() {
        Some(table) => table.iter().map(|(ours, theirs)| Ok((name(ours.get_ref())?, parse(theirs.get_ref())?))).collect(),
        None => Err(Bad { found: show(value), remedy: "write pairs in braces, such as { \"/a\" = \"/b\" }".to_owned() }),
    }
}

fn named(name: &str) -> Result<Arc<str>, Bad> {
    Ok(name.into())
}

fn header(name: &str) -> Result<HeaderName, Bad> {
    let ours = name.to_ascii_lowercase().starts_with("x-farthing-");
    let good = name.parse().ok().filter(|_| !ours);
    good.ok_or_else(|| Bad { found: format!("\"{name}\""), remedy: "write the name of a header of the provider's".to_owned() })
}

fn field(value: &DeValue<'_>) -> Result<HeaderValue, Bad> {
    let text = plain(value)?;
    HeaderValue::from_str(&text).map_err(|_| Bad { found: show(value), remedy: "write a text without control characters".to_owned() })
}

/// A text that may be empty.
fn plain(value: &DeValue<'_>) -> Result<Arc<str>, Bad> {
    v::text(value).map(Arc::from)
}

/// The left side of a pair of pointers.
fn pointed(name: &str) -> Result<Arc<str>, Bad> {
    if name.starts_with('/') {
        return Ok(name.into());
    }
    Err(Bad { found: format!("\"{name}\""), remedy: "write JSON pointers on the left, such as \"/temperature\" (RFC 6901)".to_owned() })
}

/// A pointer to one value.
fn single(value: &DeValue<'_>) -> Result<Arc<str>, Bad> {
    let pointer = v::pointer(value)?;
    if pointer.split('/').any(|step| step == "*") {
        return Err(Bad { found: show(value), remedy: "write a pointer without `*`".to_owned() });
    }
    Ok(pointer)
}

/// A value as JSON text.
fn constant(value: &DeValue<'_>) -> Result<Arc<str>, Bad> {
    let text = match value {
        DeValue::String(text) => serde_json::Value::from(&**text).to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        _ => String::new(),
    };
    let good = serde_json::from_str::<serde_json::Value>(&text).is_ok();
    let remedy = || "write a text, a number or a flag".to_owned();
    if good { Ok(text.into()) } else { Err(Bad { found: show(value), remedy: remedy() }) }
}

/// A path of whole segments, each a text or a field.
fn taken(value: &DeValue<'_>) -> Result<Arc<str>, Bad> {
    let segment = |segment: &str| match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(name) => v::is_name(name),
        None => !segment.contains(['{', '}']),
    };
    let good = |text: &&str| text.starts_with('/') && text.split('/').all(segment) && is_path(text);
    let remedy = "write a path whose segments are texts or fields, such as \"/current/{city}\"";
    value.as_str().filter(good).map(Arc::from).ok_or_else(|| Bad { found: show(value), remedy: remedy.to_owned() })
}

/// A path with fields anywhere.
fn asked(value: &DeValue<'_>) -> Result<Arc<str>, Bad> {
    let fields = |text: &str| {
        let mut parts = text.split('{');
        let first = parts.next().is_some_and(|part| !part.contains('}'));
        first && parts.all(|part| part.split_once('}').is_some_and(|(name, rest)| v::is_name(name) && !rest.contains('}')))
    };
    let good = |text: &&str| text.starts_with('/') && fields(text) && is_path(text);
    let remedy =
        "write the provider's path, with fields where values go, such as \"/v2/{city}/now\"; constants of the query go into set_query";
    value.as_str().filter(good).map(Arc::from).ok_or_else(|| Bad { found: show(value), remedy: remedy.to_owned() })
}

fn is_path(text: &str) -> bool {
    let bare = text.replace(['{', '}'], "");
    !text.contains(['?', '#', ' ']) && bare.parse::<http::uri::PathAndQuery>().is_ok()
}
