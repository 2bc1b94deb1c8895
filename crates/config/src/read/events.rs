//! The tables `[events.NAME]`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use farthing_types::Span;

use super::instance::secrets;
use super::l2::reached;
use super::registry;
use super::section::Section;
use super::values as v;
use crate::{EventRule, EventsConfig, EventsFrom, FilledBy, Secret, SigningKey};

/// A read that waits comes back several times within it.
const REDIS_DOWN_AFTER: Span = Span::from_secs(5);
/// Below, a network's hiccup would count as an outage.
const SHORTEST: Span = Span::from_millis(500);
/// A key's bytes, as Standard Webhooks wants them.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Reads every source.
pub(crate) fn read(top: &Section<'_, '_>) -> Vec<EventsConfig> {
    let mut sources = Vec::new();
    for (name, table) in top.tables("events") {
        if !v::is_name(name) {
            top.wrong("events", format!("a source is called \"{name}\""), "use letters, digits, '-', '_' and '.'");
            continue;
        }
        let path = format!("events.{name}");
        sources.push(source(&Section::open(top.doc, table, &path, registry::EVENTS), name, &path));
    }
    sources
}

fn source(s: &Section<'_, '_>, name: &str, path: &str) -> EventsConfig {
    let how = "write kind = \"webhook\" or kind = \"redis\"";
    let redis = s.need("kind", v::word(&[("webhook", false), ("redis", true)]), how).unwrap_or(s.has("stream"));
    let mut down_after = redis.then_some(REDIS_DOWN_AFTER);
    s.set_opt("down_after", v::positive_span, &mut down_after);
    if down_after.is_some_and(|span| span < SHORTEST) {
        s.wrong("down_after", "shorter than 500ms", "make it longer: every hiccup would count");
    }
    let soft_on_gap = s.opt("on_gap", v::word(&[("hard", false), ("soft", true)])).unwrap_or_default();
    let from = if redis { stream(s) } else { webhook(s) };
    let path = format!("{path}.purges");
    let rules: Vec<EventRule> =
        s.array("purges").into_iter().filter_map(|table| rule(&Section::open(s.doc, table, &path, registry::EVENT_RULE))).collect();
    if !s.has("purges") {
        s.wrong("purges", "missing", format!("say what its events purge: [[{path}]] with type and tags, paths or prefixes"));
    }
    EventsConfig { name: name.into(), from, down_after, soft_on_gap, rules }
}

fn rule(s: &Section<'_, '_>) -> Option<EventRule> {
    let purges = super::purges::purges(s, FilledBy::Event);
    let kind = s.need("type", v::arc_text, "write the type of the events, such as \"com.example.product.*\"")?;
    if kind.trim_end_matches('*').contains('*') || kind.ends_with("**") {
        s.wrong("type", format!("found \"{kind}\""), "write one `*`, at the end");
    }
    Some(EventRule { kind, purges })
}

fn stream(s: &Section<'_, '_>) -> EventsFrom {
    foreign(s, &["secrets"], "webhook");
    let server = reached(s);
    let stream = s.need("stream", v::text, "write the key of the stream, such as \"events\"").unwrap_or_default();
    EventsFrom::Redis { server, stream }
}

fn webhook(s: &Section<'_, '_>) -> EventsFrom {
    foreign(s, &["addresses", "cluster", "user", "password", "authorities", "stream"], "redis");
    if !s.has("secrets") {
        s.wrong("secrets", "missing", "write secrets = [{ env = \"NAME\" }]: what is not signed is refused");
    }
    let keys = secrets(s, "secrets").iter().filter_map(|secret| signing_key(s, secret)).collect();
    EventsFrom::Webhook { keys }
}

fn signing_key(s: &Section<'_, '_>, secret: &Secret) -> Option<SigningKey> {
    let bytes = secret.expose().strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok()).filter(|b| KEY_BYTES.contains(&b.len()));
    if bytes.is_none() {
        // Not shown.
        let remedy = "make one: echo whsec_$(openssl rand -base64 32)";
        s.wrong("secrets", "a secret that is not `whsec_` and base64 of 24 to 64 bytes", remedy);
    }
    bytes.map(SigningKey::new)
}

/// Keys of the other kind would be ignored: nobody means that.
fn foreign(s: &Section<'_, '_>, keys: &[&str], kind: &str) {
    for key in keys.iter().filter(|key| s.has(key)) {
        s.wrong(key, format!("only for kind = \"{kind}\""), format!("remove it, or set kind = \"{kind}\""));
    }
}
