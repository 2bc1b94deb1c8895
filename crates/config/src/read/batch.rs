//! `[routes.NAME.batch]`: how calls of a route are made together.

use std::sync::Arc;

use toml::de::DeValue;

use super::registry;
use super::section::{Bad, Section, show};
use super::values as v;
use crate::batch::IdListConfig;
use crate::{BatchConfig, BatchFormat, BatchWindow, OnDisconnect, Route};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Rest,
    IdList,
    GraphqlArray,
    GraphqlMerge,
    Embeddings,
}

const FORMATS: &[(&str, Format)] = &[
    ("rest", Format::Rest),
    ("id-list", Format::IdList),
    ("graphql-array", Format::GraphqlArray),
    ("graphql-merge", Format::GraphqlMerge),
    ("embeddings", Format::Embeddings),
];

/// Keys that mean something for one format alone.
const OF_ONE: &[(&str, Format)] = &[
    ("path", Format::Rest),
    ("single", Format::IdList),
    ("list", Format::IdList),
    ("separator", Format::IdList),
    ("items", Format::IdList),
    ("id", Format::IdList),
    ("missing", Format::IdList),
    ("answer", Format::IdList),
];

/// Most bytes of ids in a URL: not every server takes longer ones.
const MAX_IDS: u64 = 6_000;

/// Reads `batch`, over what `route` holds.
pub(crate) fn fill(s: &Section<'_, '_>, path: &str, route: &mut Route) {
    let Some(table) = s.table("batch") else { return };
    let path = format!("{path}.batch");
    let s = Section::open(s.doc, table, &path, registry::BATCH);
    let format = format(&s);
    let ids = matches!(format, Some(BatchFormat::IdList(_)));
    let most = if ids { MAX_IDS } else { 100_000_000 };
    // What is wrong is named whether or not the format is known.
    let mut batch = BatchConfig::new(format.clone().unwrap_or(BatchFormat::Embeddings));
    batch.max_bytes = batch.max_bytes.min(most);
    s.set("window", window, &mut batch.window);
    s.set("max_size", v::count(2..=2_048), &mut batch.max_size);
    s.set("max_bytes", v::size(100..=most), &mut batch.max_bytes);
    s.set("min_rate", v::share(0.0..=1e6), &mut batch.min_rate);
    s.set("timeout", v::positive_span, &mut batch.timeout);
    s.set("max_answer", v::size(1_000..=1_000_000_000), &mut batch.max_answer);
    s.set("split", v::flag, &mut batch.split);
    if batch.split && !matches!(format, None | Some(BatchFormat::Embeddings | BatchFormat::IdList(_))) {
        s.wrong("split", "a format whose requests carry no lists", "take it out, or write format = \"embeddings\" or \"id-list\"");
    }
    if route.on_disconnect == Some(OnDisconnect::Cancel) {
        s.wrong(
            "format",
            "a batch on a route with on_disconnect = \"cancel\"",
            "take one of them out: a call for many is not broken off for one client",
        );
    }
    route.batch = format.is_some().then_some(batch);
}

fn format(s: &Section<'_, '_>) -> Option<BatchFormat> {
    let remedy = "write what batches look like: \"rest\", \"id-list\", \"graphql-array\", \"graphql-merge\" or \"embeddings\"";
    let path = s.opt("path", target);
    let ids = Ids::read(s);
    let format = s.need("format", v::word(FORMATS), remedy)?;
    for (key, of) in OF_ONE.iter().filter(|(key, of)| s.has(key) && *of != format) {
        let name = FORMATS.iter().find(|(_, format)| format == of).map_or("", |(name, _)| name);
        s.wrong(key, format!("means something for format = \"{name}\" alone"), "take it out, or write that format");
    }
    match format {
        Format::Rest => Some(BatchFormat::Rest { path: path.unwrap_or_else(|| "/batch".into()) }),
        Format::IdList => ids.checked(s).map(BatchFormat::IdList),
        Format::GraphqlArray => Some(BatchFormat::GraphqlArray),
        Format::GraphqlMerge => Some(BatchFormat::GraphqlMerge),
        Format::Embeddings => Some(BatchFormat::Embeddings),
    }
}

/// The keys about lists of ids as they were given.
struct Ids {
    single: Option<Split>,
    list: Option<Split>,
    separator: Option<Arc<str>>,
    items: Option<Arc<str>>,
    id: Option<Arc<str>>,
    missing: Option<Arc<str>>,
    answer: Option<Split>,
}

/// What is before and after a field.
type Split = (Arc<str>, Arc<str>);

impl Ids {
    fn read(s: &Section<'_, '_>) -> Self {
        Self {
            single: s.opt("single", template("{id}")),
            list: s.opt("list", template("{ids}")),
            separator: s.opt("separator", separated),
            items: s.opt("items", v::pointer),
            id: s.opt("id", v::pointer),
            missing: s.opt("missing", json),
            answer: s.opt("answer", answer),
        }
    }

    fn checked(self, s: &Section<'_, '_>) -> Option<IdListConfig> {
        for (key, remedy) in [
            ("single", "write path and query of a single call, such as \"/users/{id}\""),
            ("list", "write path and query of a list, such as \"/users?ids={ids}\""),
        ] {
            if !s.has(key) {
                s.wrong(key, "missing", remedy);
            }
        }
        let or = |given: Option<Arc<str>>, default: &str| given.unwrap_or_else(|| default.into());
        Some(IdListConfig {
            single: self.single?,
            list: self.list?,
            separator: or(self.separator, ","),
            items: or(self.items, ""),
            id: or(self.id, "/id"),
            missing: or(self.missing, "{}"),
            answer: self.answer.unwrap_or_else(|| ("[".into(), "]".into())),
        })
    }
}

/// Path and query.
fn target(value: &DeValue<'_>) -> Result<Arc<str>, Bad> {
    let good = |text: &&str| text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok();
    let remedy = "write a path that starts with '/', as it goes to the provider, such as \"/v1/batch\"";
    value.as_str().filter(good).map(Arc::from).ok_or_else(|| Bad { found: show(value), remedy: remedy.to_owned() })
}

/// Path and query with one field: what is before and after it.
fn template(field: &'static str) -> impl Fn(&DeValue<'_>) -> Result<Split, Bad> {
    move |value| {
        let remedy = || format!("write path and query as they go to the provider, with {field} once, and with no other braces");
        let parts = value.as_str().and_then(|text| text.split_once(field));
        let plain = |text: &str| !text.contains(['{', '}', '#', ' ']);
        let good = parts.filter(|(before, after)| {
            before.starts_with('/')
                && plain(before)
                && plain(after)
                && format!("{before}1{after}").parse::<http::uri::PathAndQuery>().is_ok()
        });
        good.map_or_else(|| Err(Bad { found: show(value), remedy: remedy() }), |(before, after)| Ok((before.into(), after.into())))
    }
}

fn separated(value: &DeValue<'_>) -> Result<Arc<str>, Bad> {
    let good = |text: &&str| !text.is_empty() && text.bytes().all(|b| b",;|~:.%+&=".contains(&b) || b.is_ascii_alphanumeric());
    let remedy = "write what stands between two ids in the URL, such as \",\", \"%2C\" or \"&ids=\"";
    value.as_str().filter(good).map(Arc::from).ok_or_else(|| Bad { found: show(value), remedy: remedy.to_owned() })
}

/// JSON, as text.
fn json(value: &DeValue<'_>) -> Result<Arc<str>, Bad> {
    let good = |text: &&str| serde_json::from_str::<serde_json::Value>(text).is_ok();
    let remedy = "write JSON in single quotes, such as '{\"error\":\"not found\"}'";
    value.as_str().filter(good).map(Arc::from).ok_or_else(|| Bad { found: show(value), remedy: remedy.to_owned() })
}

/// JSON with a field for items: what is before and after it.
fn answer(value: &DeValue<'_>) -> Result<Split, Bad> {
    let remedy = "write a list's answer with {items} once, where the items stand, such as '{\"users\":[{items}]}'";
    let parts = value.as_str().and_then(|text| text.split_once("{items}"));
    let good = |(before, after): &(&str, &str)| {
        let with = |items: &str| serde_json::from_str::<serde_json::Value>(&format!("{before}{items}{after}")).is_ok();
        with("") && with("1,2")
    };
    parts
        .filter(good)
        .map(|(before, after)| (before.into(), after.into()))
        .ok_or_else(|| Bad { found: show(value), remedy: remedy.to_owned() })
}

fn window(value: &DeValue<'_>) -> Result<BatchWindow, Bad> {
    let remedy = "write \"auto\", \"learned\", or a time from 1ms to 10s such as \"50ms\"";
    let window = match value.as_str() {
        Some("auto") => Some(BatchWindow::Auto),
        Some("learned") => Some(BatchWindow::Learned),
        Some(text) => v::parse_span(text).filter(|span| (1..=10_000).contains(&span.as_millis())).map(BatchWindow::Fixed),
        None => None,
    };
    window.ok_or_else(|| Bad { found: show(value), remedy: remedy.to_owned() })
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
