//! The table `[telemetry]`.

use std::sync::Arc;

use farthing_types::Span;
use http::{HeaderName, HeaderValue, Uri};

use super::instance::secret;
use super::registry;
use super::section::Section;
use super::values as v;
use crate::{OtlpConfig, Secret, TelemetryConfig};

const HOW: &str = "write endpoint = \"http://host:4318\"";
/// Where a collector takes traces, unless it is said (OTLP 1.7, section "OTLP/HTTP Request").
const TRACES: &str = "/v1/traces";
/// Headers that the delivery itself sets.
const OURS: [&str; 5] = ["content-type", "content-length", "transfer-encoding", "host", "connection"];
/// What each span of an instance bears.
const SERVICE: &str = "service.name";
/// A resource is told with each delivery: it is to stay small.
const MOST_ATTRIBUTES: usize = 64;

/// Reads `[telemetry]`.
pub(crate) fn read(top: &Section<'_, '_>) -> TelemetryConfig {
    let Some(table) = top.table("telemetry") else { return TelemetryConfig::default() };
    let s = Section::open(top.doc, table, "telemetry", registry::TELEMETRY);
    let otlp = s.table("otlp").and_then(|table| otlp(&Section::open(top.doc, table, "telemetry.otlp", registry::OTLP)));
    TelemetryConfig { otlp }
}

fn otlp(s: &Section<'_, '_>) -> Option<OtlpConfig> {
    let endpoint = s.need("endpoint", v::base_url, HOW);
    let _only = s.opt("protocol", v::word(&[("http/protobuf", ())]));
    let mut read = OtlpConfig {
        endpoint: endpoint.clone().map(traces).unwrap_or_default(),
        headers: headers(s),
        sample: 1.0,
        attributes: attributes(s),
        interval: Span::from_secs(5),
        deadline: Span::from_secs(10),
        queue_bytes: 8 << 20,
        authorities: super::l2::authorities(s),
    };
    s.set("sample", v::share(0.0..=1.0), &mut read.sample);
    s.set("interval", v::positive_span, &mut read.interval);
    s.set("deadline", v::positive_span, &mut read.deadline);
    s.set("queue_bytes", v::size(65_536..=1 << 32), &mut read.queue_bytes);
    endpoint.map(|_| read)
}

fn traces(endpoint: Uri) -> Uri {
    if endpoint.path() != "/" {
        return endpoint;
    }
    let mut parts = endpoint.clone().into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static(TRACES));
    Uri::from_parts(parts).unwrap_or(endpoint)
}

fn headers(s: &Section<'_, '_>) -> Vec<(HeaderName, Secret)> {
    let Some(table) = s.table("headers") else { return Vec::new() };
    let all = Section::free(s.doc, table, "telemetry.otlp.headers");
    let read = |name: &str| {
        let header = HeaderName::from_bytes(name.as_bytes()).ok().filter(|header| !OURS.contains(&header.as_str()));
        let Some(header) = header else {
            all.wrong(name, "no header that may be set", "write the name of a header of your own, such as authorization");
            return None;
        };
        let value = secret(&all, name)?;
        if HeaderValue::from_str(value.expose()).is_err() {
            all.wrong(name, "the secret is no value of a header", "put one line of visible characters there");
            return None;
        }
        Some((header, value))
    };
    all.names().filter_map(read).collect()
}

fn attributes(s: &Section<'_, '_>) -> Vec<(Arc<str>, Arc<str>)> {
    let mut read: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    if let Some(table) = s.table("attributes") {
        let all = Section::free(s.doc, table, "telemetry.otlp.attributes");
        read.extend(all.names().filter_map(|name| Some((name.into(), all.opt(name, v::arc_text)?))));
    }
    if read.len() > MOST_ATTRIBUTES {
        s.wrong("attributes", format!("{} of them", read.len()), format!("keep {MOST_ATTRIBUTES} at most: they go with each delivery"));
    }
    if !read.iter().any(|(name, _)| &**name == SERVICE) {
        read.push((SERVICE.into(), "farthing".into()));
    }
    read
}

#[cfg(test)]
mod tests {
    use super::super::registry::OTLP;
    use super::super::tests::{GEO, good, problems};

    fn with(lines: &str) -> String {
        format!("{GEO}[telemetry.otlp]\nendpoint = \"http://collector:4318\"\n{lines}\n")
    }

    #[test]
    fn a_collector_is_read() {
        assert_eq!(good(GEO).telemetry.otlp, None, "nothing is traced unless it is said");
        let lines = "headers = { authorization = { env = \"TOKEN\" } }\nsample = 0.25\nattributes = { \"service.name\" = \"gateway\", zone = \"b\" }";
        let config = good(&with(lines));
        let otlp = config.telemetry.otlp.as_ref().unwrap();
        assert_eq!((otlp.endpoint.to_string(), otlp.sample), ("http://collector:4318/v1/traces".to_owned(), 0.25));
        let named: Vec<_> = otlp.attributes.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(named, [("service.name", "gateway"), ("zone", "b")]);
        let (name, secret) = &otlp.headers[0];
        assert_eq!(name, "authorization");
        assert!(!format!("{config:?}").contains(secret.expose()), "no secret is shown");
        let own = with("").replace(":4318", ":4318/otlp/in");
        assert_eq!(good(&own).telemetry.otlp.unwrap().endpoint.path(), "/otlp/in", "a path that is said is taken");
    }

    #[test]
    fn documented_defaults_are_the_defaults() {
        for key in OTLP.iter().filter(|key| !key.default.is_empty()) {
            assert_eq!(good(&with(&format!("{} = {}", key.name, key.default))), good(&with("")), "{}", key.name);
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_remedy() {
        for (text, says) in [
            (format!("{GEO}[telemetry.otlp]\nsample = 1.0\n"), "telemetry.otlp.endpoint: missing; write endpoint = \"http://host:4318\""),
            (with("protocol = \"grpc\""), "telemetry.otlp.protocol: found \"grpc\"; write one of \"http/protobuf\""),
            (with("sample = 2"), "telemetry.otlp.sample: found 2; write a number from 0 to 1"),
            (
                with("headers = { authorization = \"hunter2\" }"),
                "telemetry.otlp.headers.authorization: found something that is no reference",
            ),
            (
                with("headers = { \"content-type\" = { env = \"TOKEN\" } }"),
                "telemetry.otlp.headers.content-type: no header that may be set",
            ),
            (with("attributes = { zone = 3 }"), "telemetry.otlp.attributes.zone: found 3"),
            (with("queue_bytes = \"1kB\""), "telemetry.otlp.queue_bytes"),
            (with("sampel = 0.1"), "did you mean `sample`?"),
        ] {
            let found = problems(&text).join("\n");
            assert!(found.contains(says), "{text}: {found}");
            assert!(!found.contains("hunter2"), "{found}");
        }
    }
}
