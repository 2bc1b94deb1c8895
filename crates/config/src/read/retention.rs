//! The table `[retention]`.

use std::collections::BTreeSet;

use farthing_types::Span;

use super::registry;
use super::section::Section;
use super::values as v;
use crate::{RetentionConfig, TenantRetention};

/// Rows are in hourly files, which go as a whole.
const SHORTEST: Span = Span::from_secs(3_600);

/// Reads the table.
pub(crate) fn read(s: &Section<'_, '_>) -> RetentionConfig {
    let mut out = RetentionConfig {
        requests: span(s, "requests"),
        calls: span(s, "calls"),
        decisions: span(s, "decisions"),
        outcomes: span(s, "outcomes"),
        tenants: Vec::new(),
    };
    let mut seen = BTreeSet::new();
    for table in s.array("tenants") {
        for key in ["decisions", "outcomes"] {
            if table.get(key).is_some() {
                s.wrong("tenants", format!("`{key}` of a tenant"), format!("its rows name no tenant: write retention.{key} for all"));
            }
        }
        let own = Section::open(s.doc, table, "retention.tenants", registry::RETENTION_TENANT);
        let (requests, calls) = (span(&own, "requests"), span(&own, "calls"));
        let Some(tenant) = own.need("tenant", v::name, "write the tenant's name as it stands in the log") else { continue };
        if !seen.insert(tenant.clone()) {
            own.wrong("tenant", format!("a second table for \"{tenant}\""), "write one for each tenant");
        }
        if requests.is_none() && calls.is_none() {
            own.wrong("tenant", format!("nothing is said for \"{tenant}\""), "write `requests`, `calls` or both, such as \"30d\"");
        }
        out.tenants.push(TenantRetention { tenant, requests, calls });
    }
    out
}

fn span(s: &Section<'_, '_>, key: &str) -> Option<Span> {
    let span = s.opt(key, v::span)?;
    if span < SHORTEST {
        s.wrong(key, format!("{span:?}"), "write at least \"1h\": the log is kept in hours");
    }
    Some(span)
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, Surroundings};
    use super::*;
    use crate::{Config, ConfigError};

    struct Fake;

    impl Surroundings for Fake {
        fn var(&self, _: &str) -> Option<String> {
            Some("a salt of some length".to_owned())
        }
        fn file(&self, _: &str) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }

    fn parse(lines: &str) -> Result<Config, ConfigError> {
        let text = format!("salt = {{ env = \"SALT\" }}\n[providers.geo]\nbase_url = \"http://h\"\n{lines}\n");
        Config::parse(&text, "test.toml", &Flags::default(), &Fake)
    }

    const DAY: Span = Span::from_secs(86_400);

    #[test]
    fn nothing_is_removed_unless_said() {
        assert!(!parse("").unwrap().retention.removes());
        let text = "[retention]\nrequests = \"90d\"\ncalls = \"400d\"\n[[retention.tenants]]\ntenant = \"acme\"\nrequests = \"30d\"";
        let retention = parse(text).unwrap().retention;
        assert_eq!((retention.requests, retention.calls, retention.decisions), (Some(90 * DAY), Some(400 * DAY), None));
        assert_eq!(retention.tenants, [TenantRetention { tenant: "acme".into(), requests: Some(30 * DAY), calls: None }]);
        assert!(retention.removes());
    }

    #[test]
    fn what_cannot_be_meant_is_said_with_its_remedy() {
        for (lines, wanted) in [
            ("[retention]\nrequests = \"10m\"", "at least \"1h\""),
            ("[retention]\nrequest = \"90d\"", "requests"),
            ("[[retention.tenants]]\nrequests = \"9d\"", "tenant's name"),
            ("[[retention.tenants]]\ntenant = \"a\"", "write `requests`, `calls` or both"),
            ("[[retention.tenants]]\ntenant = \"a\"\ndecisions = \"9d\"", "retention.decisions for all"),
            (
                "[[retention.tenants]]\ntenant = \"a\"\ncalls = \"9d\"\n[[retention.tenants]]\ntenant = \"a\"\ncalls = \"8d\"",
                "one for each",
            ),
        ] {
            let error = parse(lines).unwrap_err().to_string();
            assert!(error.contains(wanted), "{lines}: {error}");
        }
    }
}
