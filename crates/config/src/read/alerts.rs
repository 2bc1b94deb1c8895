//! The tables `[alerts]` and `[self_cost]`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use farthing_types::Money;
use http::Uri;
use toml::de::DeValue;

use super::instance::secret;
use super::registry;
use super::section::{Bad, Section};
use super::values as v;
use crate::{AlertsConfig, SelfCostConfig, SigningKey};

/// Hours of two months, each a twelfth of 365.25 days: a whole number.
const HOURS_OF_TWO_MONTHS: i64 = 1_461;

/// Reads `[alerts]`.
pub(crate) fn alerts(top: &Section<'_, '_>) -> AlertsConfig {
    let mut into = AlertsConfig::default();
    let Some(table) = top.table("alerts") else { return into };
    let s = Section::open(top.doc, table, "alerts", registry::ALERTS);
    s.set_opt("webhook", webhook, &mut into.webhook);
    into.webhook_key = secret(&s, "webhook_secret").and_then(|secret| {
        let key = key(secret.expose());
        if key.is_none() {
            s.wrong("webhook_secret", "the secret is no `whsec_` and base64 of 24 to 64 bytes", "write one, as for `[events.NAME]`");
        }
        key
    });
    if into.webhook_key.is_some() && into.webhook.is_none() {
        s.wrong("webhook_secret", "there is no webhook to sign for", "set alerts.webhook, or remove the secret");
    }
    s.set("repeat", v::positive_span, &mut into.repeat);
    s.set("deadline", v::positive_span, &mut into.deadline);
    s.set("floor", v::money, &mut into.floor);
    s.set_opt("per_month", v::money, &mut into.per_month);
    s.set("memory_bytes", v::size(100_000..=100_000_000_000), &mut into.memory_bytes);
    into
}

/// Reads `[self_cost]`.
pub(crate) fn self_cost(top: &Section<'_, '_>) -> Option<SelfCostConfig> {
    let s = Section::open(top.doc, top.table("self_cost")?, "self_cost", registry::SELF_COST);
    let (month, hour) = (s.opt("per_month", v::money), s.opt("per_hour", v::money));
    if s.has("per_month") && s.has("per_hour") {
        s.wrong("per_hour", "self_cost.per_month is there, too", "keep one of the two");
    }
    let requests = s.opt("per_million_requests", v::money);
    if !["per_month", "per_hour", "per_million_requests"].iter().any(|key| s.has(key)) {
        top.wrong("self_cost", "empty", "set per_month, per_hour or per_million_requests");
    }
    let of_hours = hour.map(|hour| Money::from_nanos(hour.nanos().saturating_mul(HOURS_OF_TWO_MONTHS) / 2));
    Some(SelfCostConfig { per_month: month.or(of_hours).unwrap_or_default(), per_million_requests: requests.unwrap_or_default() })
}

fn key(text: &str) -> Option<SigningKey> {
    let bytes = STANDARD.decode(text.strip_prefix("whsec_")?).ok()?;
    (24..=64).contains(&bytes.len()).then(|| SigningKey::new(bytes))
}

fn webhook(value: &DeValue<'_>) -> Result<Uri, Bad> {
    let uri: Option<Uri> = value.as_str().and_then(|text| text.parse().ok());
    let usable = |uri: &Uri| {
        let authority = uri.authority().is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
        matches!(uri.scheme_str(), Some("http" | "https")) && authority
    };
    // The value is not shown: such URLs often are secrets themselves.
    uri.filter(usable).ok_or_else(|| Bad {
        found: "something that is no URL of http or https with a host and without credentials".to_owned(),
        remedy: "write one such as \"https://hooks.example.com/alerts\"".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GEO, good, problems};

    #[test]
    fn alerts_and_own_costs_are_read() {
        let config = good(&format!(
            "{GEO}[alerts]\nwebhook = \"https://hooks.example.com/x?y=1\"\nrepeat = \"6h\"\nfloor = \"0.5\"\nper_month = \"1000\"\n\
             [self_cost]\nper_hour = \"0.2\"\nper_million_requests = \"1\"\n"
        ));
        let alerts = &config.alerts;
        assert_eq!(alerts.webhook.as_ref().map(ToString::to_string).as_deref(), Some("https://hooks.example.com/x?y=1"));
        assert_eq!(
            (alerts.repeat.as_secs(), alerts.floor.nanos(), alerts.per_month.map(|m| m.nanos())),
            (21_600, 500_000_000, Some(1_000_000_000_000))
        );
        let own = config.self_cost.unwrap();
        assert_eq!((own.per_month.to_string(), own.per_million_requests.to_string()), ("146.1".to_owned(), "1".to_owned()));
        assert_eq!(good(GEO).self_cost, None, "unknown, not free");
    }

    #[test]
    fn what_is_wrong_is_said_and_secrets_are_not() {
        for (lines, told) in [
            ("[alerts]\nwebhook = \"ftp://h/TOKEN\"", "alerts.webhook: found something that is no URL"),
            ("[alerts]\nwebhook = \"https://user:TOKEN@h/\"", "write one such as"),
            ("[alerts]\nfloor = 5", "write dollars as a text"),
            ("[alerts]\nwebhok = \"https://h/\"", "did you mean `webhook`?"),
            ("[self_cost]\nper_month = \"1\"\nper_hour = \"1\"", "keep one of the two"),
            ("[self_cost]", "set per_month, per_hour or per_million_requests"),
        ] {
            let found = problems(&format!("{GEO}{lines}\n")).join("\n");
            assert!(found.contains(told) && !found.contains("TOKEN"), "{found}");
        }
    }
}
