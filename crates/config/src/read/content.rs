//! Keys of a route about what requests and answers hold.

use std::sync::Arc;

use toml::de::DeValue;

use super::registry;
use super::section::{Bad, Section, show};
use super::values as v;
use crate::{CacheableIf, PersonalField, Route};

/// Reads `pii` and `cacheable_if`, over what `route` holds.
pub(crate) fn fill(s: &Section<'_, '_>, path: &str, route: &mut Route) {
    s.set("pii", v::list(personal), &mut route.pii);
    if s.has("cacheable_if") {
        let path = format!("{path}.cacheable_if");
        let tables = s.array("cacheable_if");
        route.cacheable_if =
            tables.iter().filter_map(|table| condition(&Section::open(s.doc, table, &path, registry::CONDITION))).collect();
    }
}

fn condition(s: &Section<'_, '_>) -> Option<CacheableIf> {
    let (mut is, mut not) = (Vec::new(), Vec::new());
    s.set("is", v::list(scalar), &mut is);
    s.set("not", v::list(scalar), &mut not);
    let pointer = s.need("pointer", v::pointer, "write where to look, such as \"/status\"")?;
    Some(CacheableIf { pointer, is, not })
}

pub(super) fn scalar(value: &DeValue<'_>) -> Result<Arc<str>, Bad> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => show(value),
        _ => return Err(Bad { found: show(value), remedy: "write a text, a number or a flag".to_owned() }),
    };
    Ok(text.into())
}

fn personal(value: &DeValue<'_>) -> Result<PersonalField, Bad> {
    let parsed = value.as_str().and_then(|text| text.split_once(':')).and_then(|(place, name)| match place {
        "query" if !name.is_empty() => Some(PersonalField::Query(name.into())),
        "header" => name.parse().ok().map(PersonalField::Header),
        "request" if name.starts_with('/') => Some(PersonalField::Request(name.into())),
        "answer" if name.starts_with('/') => Some(PersonalField::Answer(name.into())),
        _ => None,
    });
    let remedy = "write \"query:NAME\", \"header:NAME\", or a JSON pointer as \"request:/user/email\" or \"answer:/user/email\"";
    parsed.ok_or_else(|| Bad { found: show(value), remedy: remedy.to_owned() })
}
