//! What an answer that passes by the cache says about entries in it: writes drop them, and so does a HEAD that tells of a change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use farthing_cache::Purge;
use farthing_config::{Field, WriteRule};
use farthing_freshness::semantics::Received;
use farthing_freshness::semantics::conditional::head_tells_change;
use farthing_freshness::semantics::invalidation::{Site, also_changed, invalidates};
use farthing_types::{KeyHash, RouteName};
use http::{Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

use crate::canonical;
use crate::purging::{self, Filled};
use crate::request::Planned;
use crate::route::RouteState;
use crate::state::State;
use crate::tags;

/// A route's rule about its writes.
#[derive(Debug)]
pub struct Rule {
    rule: WriteRule,
    /// Said already that it could not be filled in.
    told: AtomicBool,
}

impl Rule {
    /// The rule as configured.
    pub const fn new(rule: WriteRule) -> Self {
        Self { rule, told: AtomicBool::new(false) }
    }
}

/// Whether a request's body has to be held for a rule of its route.
pub fn needs_body(route: &RouteState, method: &Method) -> bool {
    !method.is_safe()
        && route.write_rules.iter().any(|r| r.rule.takes(method) && r.rule.purges.templates().any(farthing_config::Template::needs_body))
}

/// Notes an answer in the cache; returns the key of the request's target when its entry was dropped.
pub fn note(state: &State, planned: &Planned, received: &Received<'_>) -> Option<KeyHash> {
    let method = &planned.account.method;
    if method == Method::HEAD {
        return head(state, planned, received);
    }
    if !is_write(planned) || !invalidates(received.status) {
        return None;
    }
    let target = &planned.outbound.target;
    let site = Site { base: &planned.account.route.provider.base_url, target };
    let key = drop_target(state, planned, target);
    for other in also_changed(site, received.status, received.headers) {
        drop_target(state, planned, &other);
    }
    Some(key)
}

fn is_write(planned: &Planned) -> bool {
    let route = &planned.account.route.route;
    let read = planned.account.method.is_safe() || (route.idempotent && route.key_body);
    !read
}

/// The groups of its origin that a write's answer says have changed (RFC 9875 section 3), whatever its status; of everybody, on all routes.
pub fn grouped(state: &State, planned: &Planned, received: &Received<'_>) -> Vec<Purge> {
    if !is_write(planned) {
        return Vec::new();
    }
    let (tags, over) = tags::changed_groups(received.headers, &planned.account.route.provider.base_url);
    if over > 0 {
        state.counters.unfilled.fetch_add(over, Ordering::Relaxed);
        tracing::warn!(
            over,
            "Cache-Group-Invalidation names more than 256 groups, 16 KiB of them, or 1 KiB of one: the rest are not purged"
        );
    }
    state.counters.ruled.fetch_add(tags.len() as u64, Ordering::Relaxed);
    tags.into_iter().map(Purge::Tag).collect()
}

/// What the rules of its route say about a write that was no error; each with the route that it is about.
pub fn ruled(planned: &Planned) -> Vec<(Filled, RouteName)> {
    let (method, target) = (&planned.account.method, &planned.outbound.target);
    let rules = &planned.account.route.write_rules;
    let about: Vec<&Rule> = rules.iter().filter(|rule| !method.is_safe() && rule.rule.is_about(method, target.path())).collect();
    if about.is_empty() {
        return Vec::new();
    }
    let held: Bytes = planned.outbound.body.as_full().unwrap_or_default();
    let body = canonical::json(&planned.headers, &held);
    let written = Written { target, body: body.as_ref() };
    about.into_iter().map(|rule| (rule.fill(&written, planned), rule.rule.route.clone())).collect()
}

impl Rule {
    fn fill(&self, written: &Written<'_>, planned: &Planned) -> Filled {
        let filled = Filled::new(&self.rule.purges, |field, in_path| written.value(field, in_path));
        if filled.missing > 0 && !self.told.swap(true, Ordering::Relaxed) {
            let route = &*planned.account.route.route.name;
            tracing::warn!(route, "a write had no value for a field of `purges`: that purges nothing; further ones are counted only");
        }
        filled
    }
}

/// Purges that, before the writer has its answer.
pub async fn obey(state: &Arc<State>, ruled: Vec<(Filled, RouteName)>, grouped: Vec<Purge>) {
    if ruled.is_empty() && grouped.is_empty() {
        return;
    }
    let (state, of_groups) = (state.clone(), state.clone());
    let purge = move |(filled, route): (Filled, RouteName)| {
        let purges = filled.purges(&state, std::slice::from_ref(&route));
        purges.iter().for_each(|(purge, soft)| {
            state.purge(purge, *soft);
        });
    };
    purging::apart(move || {
        for purge in &grouped {
            of_groups.purge(purge, false);
        }
        ruled.into_iter().for_each(purge);
    })
    .await;
}

/// A write, as the fields of rules see it.
struct Written<'a> {
    target: &'a Uri,
    body: Option<&'a Value>,
}

impl Written<'_> {
    /// What a field stands for: in a path as paths are written, else as it is meant.
    fn value(&self, field: &Field, in_path: bool) -> Option<String> {
        match field {
            Field::Path(n) => told(self.target.path().split('/').nth(*n)?, in_path),
            Field::Query(name) => {
                let pairs = self.target.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                let (_, value) = pairs.into_iter().find(|(found, _)| percent_decode_str(found).eq(name.bytes()))?;
                told(&value.replace('+', "%20"), in_path)
            }
            Field::Body(pointer) => text_of(self.body?.pointer(pointer)?, in_path),
            Field::Subject | Field::SubjectPart(_) | Field::Data(_) => None,
        }
    }
}

fn told(raw: &str, in_path: bool) -> Option<String> {
    if in_path { Some(raw.to_owned()) } else { percent_decode_str(raw).decode_utf8().ok().map(std::borrow::Cow::into_owned) }
}

/// What may stand in a path as it is, besides letters and digits (RFC 3986 `unreserved`).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text, number or flag, in a path encoded as one segment.
pub fn text_of(value: &Value, in_path: bool) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(if in_path { encoded(&text) } else { text })
}

/// A text as one segment of a path.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// Drops what a GET of `target` would be answered from (RFC 9111 section 4.4).
fn drop_target(state: &State, planned: &Planned, target: &Uri) -> KeyHash {
    let purge = purging::of_target(state, &planned.account.route, planned.owner(), target);
    state.purge(&purge, false);
    match purge {
        Purge::Key(key) => key,
        // For the log: a reader's headers may differ from the writer's.
        _ => purging::key_of_get(state, &planned.account.route, (planned.owner(), target), &planned.forwarded(state)),
    }
}

/// A HEAD answer about another representation than the stored one drops it (RFC 9111 section 4.3.5). One about the same leaves it as it
/// is: an entry is renewed by calls that bring or confirm a body, which alone the log can repeat.
fn head(state: &State, planned: &Planned, received: &Received<'_>) -> Option<KeyHash> {
    planned.cache.ok()?;
    let key = planned.account.key;
    let entry = state.cache.peek(key, &planned.headers)?;
    if !head_tells_change(&entry, received) {
        return None;
    }
    state.purge(&Purge::Key(key), false);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_path_query_and_body() {
        let target: Uri = "/shops/K%C3%B6ln/7?q=a+b&%71x=%2F&e=".parse().unwrap();
        let body = serde_json::json!({"id": 7, "on": true, "name": "a/b c", "list": [], "none": null, "deep": {"a/b": "x"}});
        let written = Written { target: &target, body: Some(&body) };
        let value = |field| (written.value(&field, false), written.value(&field, true));
        let both = |meant: &str, path: &str| (Some(meant.to_owned()), Some(path.to_owned()));
        assert_eq!(value(Field::Path(2)), both("Köln", "K%C3%B6ln"));
        assert_eq!((value(Field::Path(3)), value(Field::Path(4))), (both("7", "7"), (None, None)));
        assert_eq!(value(Field::Query("q".into())), both("a b", "a%20b"));
        assert_eq!(value(Field::Query("qx".into())), both("/", "%2F"));
        assert_eq!((value(Field::Query("e".into())), value(Field::Query("z".into()))), (both("", ""), (None, None)));
        assert_eq!(value(Field::Body("/id".into())), both("7", "7"));
        assert_eq!(value(Field::Body("/on".into())), both("true", "true"));
        assert_eq!(value(Field::Body("/name".into())), both("a/b c", "a%2Fb%20c"));
        assert_eq!(value(Field::Body("/deep/a~1b".into())), both("x", "x"));
        for nothing in ["/list", "/none", "/deep", "/else"] {
            assert_eq!(value(Field::Body(nothing.into())), (None, None), "{nothing}");
        }
        assert_eq!(Written { target: &target, body: None }.value(&Field::Body("/id".into()), false), None);
    }
}
